"""Results as studies leave them, made up: a rich one, the least there can be, and one that means harm."""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
from collections.abc import Sequence
from typing import Any

from ravine.lab.results import combined as together
from ravine.lab.results.statistics import Sample, holm, welch

STEPS, UNITS, SEEDS, TRIALS = 300, 2048, 5, 8

HOSTILE = """<script>document.title='owned'</script>"'`&amp;%{x} <b>bold</b>
${7*7} {{ 7*7 }} </script><img src=x onerror=alert(1)>"""


def full() -> dict[str, Any]:
    """Four arms: AdamW, Muon and SGD tuned in two or three settings, and one that always diverges."""
    draw = random.Random(0)
    arms = {
        "adamw": _arm(draw, "adamw", 1.962, 3e-3, {"beta2": (0.95, 0.999)}, optimizer_ms=6.1),
        "muon": _arm(draw, "muon", 1.781, 6e-3, {"weight_decay": (1e-3, 1.0)}, optimizer_ms=19.4),
        "sgd:momentum=0.9": _arm(draw, "sgd", 2.43, 0.3, {}, optimizer_ms=2.2, diverged=2),
        "lion:lr=10": _arm(draw, "lion", None, 10.0, None, optimizer_ms=4.0, diverged=SEEDS),
    }
    arms["sgd:momentum=0.9"]["settings"] = {"momentum": 0.9}
    arms["lion:lr=10"]["settings"] = {"lr": 10.0}
    arms["muon"]["best"]["at_edge"] = ["lr"]
    arms["muon"]["routing"] = [
        {"name": f"blocks.{i}.{part}.weight", "shape": [256, 256 * k], "role": "matrix", "rule": "muon",
         "why": "a hidden matrix"}
        for i in range(4) for part, k in (("attention.qkv", 3), ("attention.out", 1), ("mlp.up", 4), ("mlp.down", 4))
    ] + [
        {"name": "embedding.weight", "shape": [256, 256], "role": "embedding", "rule": "adamw", "why": "an embedding"},
        {"name": "norm.weight", "shape": [256], "role": "norm", "rule": "adamw", "why": "fewer than two dimensions"},
    ]  # fmt: skip
    return _result(arms)


def minimal() -> dict[str, Any]:
    """Two arms as given, one seed each and one of them lost; None wherever it may be."""
    draw = random.Random(1)
    arms = {label: _arm(draw, label, 2.0, 1e-3, None, optimizer_ms=1.0, seeds=1) for label in ("adamw", "sgd")}
    for arm in arms.values():
        arm |= dict.fromkeys(
            ("tokens_per_second", "seconds_per_run", "optimizer_share", "state_bytes_per_param", "peak_memory_bytes",
             "flops_per_unit", "mfu", "joules_per_run", "steps_to_target", "tokens_to_target", "seconds_to_target"),
        )  # fmt: skip
        arm |= {"spans": {}, "state_bytes_by_dtype": {}, "metrics": {}, "settings": {}, "reached_target": 0}
        arm["best"] = {"settings": {}, "tuned": [], "at_edge": [], "tuning_loss": {"mean": None, "n": 0}}
    lost = arms["sgd"]
    lost["final_loss"] = {"mean": None, "std": None, "n": 0, "values": [], "interval": None}
    lost["runs"][0] |= {"final_loss": None, "failed": "out of memory", "metrics": {}, "seconds": 0.0}
    lost["runs"][0] |= {
        key: {"step": [], "units": [], "seconds": [], "loss": []} for key in ("curve", "training_curve")
    }
    result = _result(arms)
    return result | {
        "target": {"loss": None, "source": "none: every run was lost"}, "about": {}, "model": {}, "hashes": {},
        "study": {}, "cost": None, "warnings": [], "notes": [], "minimum_detectable_difference": None,
        "verdict": {"winner": None, "significant": False, "text": "Not enough seeds.", "tuning_probability": None},
        "pairs": [{"a": "adamw", "b": "sgd", "difference": None, "interval": None, "p": None, "p_corrected": None}],
    }  # fmt: skip


def hostile() -> dict[str, Any]:
    """The full one, with text that would do harm as HTML, as a template or as Plotly's markup."""
    text = json.dumps(full())
    for harmless in ("sgd:momentum=0.9", "docs/", "blocks.0.mlp.up.weight", "a hidden matrix", "nats per byte"):
        text = text.replace(harmless, json.dumps(f"{harmless} {HOSTILE}")[1:-1])
    result: dict[str, Any] = json.loads(text)
    result["command"] += f" {HOSTILE}"
    result["warnings"].append(HOSTILE)
    result["verdict"]["text"] += f" {HOSTILE}"
    return result


def combined() -> dict[str, Any]:
    """Two studies as one result, with different numbers of trials."""
    one, other = full(), full()
    other["budget"]["trials"] = 12
    made: dict[str, Any] = together([one, other], ["one", "other"])
    return made


def _arm(
    draw: random.Random,
    name: str,
    loss: float | None,
    lr: float,
    searched: dict[str, tuple[float, float]] | None,
    optimizer_ms: float,
    diverged: int = 0,
    seeds: int = SEEDS,
) -> dict[str, Any]:
    step_ms = 3 + 31 + 58 + optimizer_ms
    seconds = STEPS * step_ms / 1000
    trials = [] if searched is None else _trials(draw, loss or 2.0, lr, searched)
    best = min((t for t in trials if not t["diverged"]), key=lambda t: t["loss"], default=None)
    if best is not None:
        trials += [
            {**best, "seed": seed, "phase": "retune", "loss": best["loss"] + draw.gauss(0, 0.012)} for seed in (2, 3)
        ]
    runs = [_run(draw, seed, loss if seed >= diverged else None, seconds) for seed in range(seeds)]
    values = [run["final_loss"] for run in runs if not run["diverged"]]
    sample = Sample(tuple(values), diverged=diverged)
    crossed = [run for run in runs if not run["diverged"] and run["final_loss"] < 1.97]
    return {
        "optimizer": name,
        "settings": {},
        "final_loss": {
            "mean": sample.mean, "std": sample.std, "n": len(values), "values": values,
            "interval": sample.interval and list(sample.interval),
        },
        "metrics": {
            "loss": {"mean": sample.mean, "std": sample.std},
            "accuracy": {"mean": None if loss is None else 0.9 - loss / 5, "std": None if loss is None else 0.004},
        },
        "best": {
            "settings": {"lr": lr} if best is None else best["settings"],
            "tuned": [] if searched is None else ["lr", *searched],
            "at_edge": [],
            "tuning_loss": {"mean": None if best is None else best["loss"] + 0.01, "n": 0 if best is None else 3},
        },
        "trials": trials,
        "runs": runs,
        "steps_to_target": 240 if len(crossed) > 2 else None,
        "tokens_to_target": 240 * UNITS if len(crossed) > 2 else None,
        "seconds_to_target": 0.8 * seconds if len(crossed) > 2 else None,
        "reached_target": len(crossed),
        "to_target_kind": "first crossing",
        "tokens_per_second": UNITS * 1000 / step_ms,
        "seconds_per_run": seconds,
        "optimizer_share": optimizer_ms / step_ms,
        "spans": {"data": 3 / step_ms, "forward": 30 / step_ms, "backward": 57 / step_ms,
                  "optimizer": optimizer_ms / step_ms},
        "state_bytes_per_param": {"adamw": 8.0, "muon": 4.6, "sgd": 4.0}.get(name, 4.0),
        "state_bytes_by_dtype": {"float32": 3_480_000} | ({"int64": 128} if name == "muon" else {}),
        "peak_memory_bytes": int(5.1e8 + 1e7 * optimizer_ms),
        "flops_per_unit": 5.2e6,
        "mfu": 0.31,
        "joules_per_run": 14.5 * seconds,
        "diverged_trials": sum(trial["diverged"] for trial in trials),
        "diverged_seeds": diverged,
        "failed_trials": 0,
        "failed_seeds": 0,
        "horizons": [],
        "routing": None,
    }  # fmt: skip


def _trials(draw: random.Random, loss: float, lr: float, searched: dict[str, tuple[float, float]]) -> list[dict]:
    """A bowl over log lr and each other setting, too steep on its right side."""
    trials = []
    for i in range(TRIALS):
        place = (i * 0.618 + 0.31) % 1
        settings = {"lr": float(f"{lr * 10 ** (2 * place - 1):.3g}")}
        worse = abs(2 * place - 1) ** 2 * 0.6
        for k, (name, (low, high)) in enumerate(searched.items()):
            part = (i * 0.755 + 0.17 * k) % 1
            settings[name] = (low, high)[part > 0.5] if name == "beta2" else float(f"{low * (high / low) ** part:.3g}")
            worse += (part - 0.5) ** 2 * 0.3
        lost = place > 0.9
        trials.append(
            {"settings": settings, "loss": None if lost else loss + worse + draw.gauss(0, 0.012), "diverged": lost,
             "failed": None, "seed": 1, "phase": "search"}
        )  # fmt: skip
    return trials


def _run(draw: random.Random, seed: int, loss: float | None, seconds: float) -> dict[str, Any]:
    end = None if loss is None else loss + draw.gauss(0, 0.013)
    marks = [1, *range(25, STEPS + 1, 25)]
    curve: dict[str, list[Any]] = {
        "step": marks, "units": [UNITS * m for m in marks], "seconds": [seconds * m / STEPS for m in marks],
        "loss": [
            (end or 3.0) + (5.54 - (end or 3.0)) * math.exp(-m / 40) + 0.1 * (1 - m / STEPS) + draw.gauss(0, 0.01)
            for m in marks[:-1]
        ] + [end],
    }  # fmt: skip
    if end is None:
        curve = {axis: values[:3] for axis, values in curve.items()}
    return {
        "seed": 1_000_000 + seed, "steps": STEPS, "units": STEPS * UNITS, "seconds": seconds, "final_loss": end,
        "diverged": end is None, "diverged_at": 61 if end is None else None, "failed": None,
        "metrics": {"loss": end, "accuracy": None if end is None else 0.9 - end / 5}, "curve": curve,
        "training_curve": copy.deepcopy(curve),
        "spans": {"data": 0.9, "forward": 9.0, "backward": 17.1, "optimizer": 1.8},
    }  # fmt: skip


def _pairs(arms: dict[str, Any]) -> list[dict[str, Any]]:
    pairs: list[dict[str, Any]] = []
    for a, b in itertools.combinations(arms, 2):
        x, y = arms[a], arms[b]
        means = x["final_loss"]["mean"], y["final_loss"]["mean"]
        pair = {"a": a, "b": b, "difference": None if None in means else means[0] - means[1], "interval": None,
                "p": None, "p_corrected": None}  # fmt: skip
        if not (x["diverged_seeds"] or y["diverged_seeds"]) and min(x["final_loss"]["n"], y["final_loss"]["n"]) > 1:
            pair["p"], interval = welch(x["final_loss"]["values"], y["final_loss"]["values"])
            pair["interval"] = list(interval)
        pairs.append(pair)
    tested = [pair for pair in pairs if pair["p"] is not None]
    for pair, corrected in zip(tested, holm([pair["p"] for pair in tested]), strict=True):
        pair["p_corrected"] = corrected
    return pairs


def _result(arms: dict[str, Any]) -> dict[str, Any]:
    labels: Sequence[str] = list(arms)
    parts = {"adamw": 6.1, "muon": 19.4, "sgd:momentum=0.9": 2.2, "lion:lr=10": 4.0}
    return {
        "format": 1,
        "task": "lm",
        "loss_name": "nats per byte",
        "unit": "byte",
        "baseline": "adamw",
        "study": {
            "study": {"arms": list(labels), "baseline": True}, "task": {"task": "lm", "size": "small", "data": "docs/"},
            "budget": {"trials": TRIALS, "seeds": SEEDS, "steps": None}, "search": {"over": ["lr", "beta2"]},
        },
        "command": f"ravine compare {' '.join(labels)} --data docs/ --trials 8 --seeds 5",
        "budget": {"steps": STEPS, "batch": 16, "units_per_step": UNITS, "trials": TRIALS, "retuned": 2,
                   "tuning_seeds": 3, "seeds": SEEDS, "sampler": "quasi-random", "over": ["lr", "beta2"]},
        "target": {"loss": 1.975, "source": "mean + 1 standard deviation of adamw"},
        "about": {
            "data": {
                "name": "docs/", "tokenizer": "bytes", "tokens": 4_123_456, "bytes": 4_123_456, "capped": False,
                "kinds": {"text": {"files": 31, "bytes": 3_000_000}, "PDF": {"files": 2, "bytes": 1_123_456}},
                "read": [{"path": f"docs/page-{i}.md", "kind": "Markdown", "bytes": 1000 + i} for i in range(12)],
                "skipped": [{"path": "docs/scan.pdf", "why": "a scanned page, and there is no OCR"}],
            },
            "model": "transformer",
        },
        "model": {"size": "small", "parameters": 870_912, "width": 128, "layers": 4, "heads": 4, "context": 128},
        "machine": {"device": "cpu", "name": "x86_64", "threads": 2, "processes": 1, "workers": 1,
                    "precision": "bfloat16"},
        "versions": {"ravine": "0.1.0", "torch": "2.13.0"},
        "hashes": {"data": "3f" * 32, "study": "9ab2c4d8"},
        "arms": arms,
        "cost": {
            label: {"milliseconds": {"data": 3.0, "forward": 30.0, "backward": 57.0, "optimizer": ms,
                                     "step": 92.0 + ms}}
            for label, ms in parts.items() if label in arms
        },
        "pairs": _pairs(arms),
        "minimum_detectable_difference": 0.027,
        "verdict": {
            "winner": "muon", "significant": True,
            "text": "muon trained best: its final loss is lower than that of adamw (by 0.182, p < 0.001). "
                    "sgd:momentum=0.9 diverged in 2 of 5 seeds and is not ranked. "
                    "lion:lr=10 diverged in 5 of 5 seeds and is not ranked.",
            "tuning_probability": {"adamw": 0.02, "muon": 0.98},
        },
        "warnings": ["The best lr of muon is at the edge of what was tried: a better one may lie beyond."],
        "notes": [
            "Each tuned arm had 8 trials on one seed, at shared points; its 2 best settings ran on 3 tuning seeds.",
            "The judged seeds are fresh and no two arms share one; the judging split was not tuned on.",
        ],
    }  # fmt: skip
