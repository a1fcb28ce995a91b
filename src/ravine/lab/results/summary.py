"""A finished study in figures: `result.json`, which `--json` prints and reports and frames read."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ravine.lab.results.edge import at_edge
from ravine.lab.results.finished import TUNING_PHASES, ArmInfo, Finished, RunRecord
from ravine.lab.results.remarks import notes, warnings
from ravine.lab.results.statistics import Sample
from ravine.lab.results.target import to_target
from ravine.lab.results.verdict import Evidence, judge
from ravine.lab.study.selection import Trial, chosen
from ravine.registry import lookup

FORMAT = 1
"""Of `result.json`."""

KEPT = (
    "final_loss", "diverged", "diverged_at", "failed", "metrics", "curve", "training_curve", "spans", "seconds",
    "units",
)  # fmt: skip
"""What is told of every judged run's outcome."""


def summarize(finished: Finished) -> dict[str, Any]:
    """All results as plain values, as JSON has them; losses in the task's own, times in seconds of training alone.

    Raises:
        ValueError: for an arm without judged runs.
    """
    arms = {arm.label: _arm(finished, arm) for arm in finished.arms}
    baseline = baseline_of(finished.arms)
    goal = target(finished.target, arms, baseline)
    for arm in arms.values():
        arm |= to_target(arm["runs"], arm["horizons"], goal["loss"])
    return {
        "format": FORMAT,
        "task": finished.task_name,
        "loss_name": finished.loss_name,
        "unit": finished.unit,
        "baseline": baseline,
        "study": finished.study,
        "command": finished.command,
        "budget": dict(finished.budget),
        "target": goal,
        "about": finished.about,
        "model": finished.model,
        "machine": finished.machine,
        "versions": finished.versions,
        "hashes": finished.hashes,
        "arms": arms,
        "cost": finished.cost,
        **judged(arms),
        "warnings": warnings(finished, arms),
        "notes": notes(finished, arms),
    }


def judged(arms: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """`pairs`, `minimum_detectable_difference`, `verdict`; tells each arm its luck of tuning, `best.tuning_std`."""
    judgement = judge({label: evidence(arm) for label, arm in arms.items()})
    for label, arm in arms.items():
        arm["best"]["tuning_std"] = judgement.tuning_std[label]
    return {
        "pairs": [asdict(pair) for pair in judgement.pairs],
        "minimum_detectable_difference": judgement.minimum_detectable_difference,
        "verdict": asdict(judgement.verdict),
    }


def evidence(arm: Mapping[str, Any]) -> Evidence:
    """What the verdict on an arm of `result.json` rests on."""
    trials = (
        Trial(t["settings"], None if t["diverged"] or t["failed"] else t["loss"], t["seed"]) for t in arm["trials"]
    )
    return Evidence(_sample(arm["runs"]), tuple(trials))


def baseline_of(arms: Sequence[ArmInfo]) -> str:
    """The label of the arm that the target is taken from: a tuned AdamW, else any, else the first arm."""
    tuned = [arm.label for arm in arms if arm.baseline]
    plain = [arm.label for arm in arms if arm.optimizer == "adamw"]
    wrapped = [arm.label for arm in arms if lookup(arm.optimizer).innermost.name == "adamw"]
    return (tuned or plain or wrapped or [arms[0].label])[0]


def target(given: float | None, arms: Mapping[str, Mapping[str, Any]], baseline: str) -> dict[str, Any]:
    """The loss to reach, and where it comes from."""
    final = arms[baseline]["final_loss"]
    if given is not None:
        return {"loss": given, "source": "given"}
    if final["mean"] is None:
        return {"loss": None, "source": f"none: no run of {baseline} has a final loss"}
    return {"loss": final["mean"] + (final["std"] or 0.0), "source": f"mean + 1 standard deviation of {baseline}"}


def _sample(runs: Sequence[Mapping[str, Any]]) -> Sample:
    failed = sum(run["failed"] is not None for run in runs)
    kept = tuple(run["final_loss"] for run in runs if run["failed"] is None and not run["diverged"])
    return Sample(kept, diverged=len(runs) - len(kept) - failed, failed=failed)


def _arm(finished: Finished, arm: ArmInfo) -> dict[str, Any]:
    trials = [run for phase in TUNING_PHASES for run in finished.of(arm.label, phase)]
    records = finished.of(arm.label, "judge")
    if not records:
        raise ValueError(f"the arm {arm.label!r} has no judged runs")
    steps = finished.budget["steps"]
    runs = [{"seed": r.seed, "steps": steps, **{key: r.outcome[key] for key in KEPT}} for r in records]
    sample = _sample(runs)
    cost = (finished.cost or {}).get(arm.label, {})
    joules = cost.get("joules_per_step")
    done = [run.outcome for run in records if run.outcome["failed"] is None]
    return {
        "optimizer": arm.optimizer,
        "settings": dict(arm.settings),
        "final_loss": {
            "mean": sample.mean,
            "std": sample.std,
            "n": len(sample.values),
            "values": list(sample.values),
            "interval": sample.interval and list(sample.interval),
        },
        "metrics": _metrics([run for run in runs if run["failed"] is None and not run["diverged"]]),
        "best": _best(arm, trials, records[0].settings),
        "trials": [
            {
                "settings": dict(run.settings),
                "loss": run.outcome["final_loss"],
                "diverged": run.outcome["diverged"],
                "failed": run.outcome["failed"],
                "seed": run.seed,
                "phase": run.phase,
            }
            for run in trials
        ],
        "runs": runs,
        "horizons": [
            {"seed": run.seed, "steps": run.steps, **{k: run.outcome[k] for k in KEPT if "curve" not in k}}
            for run in finished.of(arm.label, "horizon")
        ],
        "tokens_per_second": _median(done, "units_per_second"),
        "seconds_per_run": _median(done, "seconds"),
        "optimizer_share": _median(done, "optimizer_share"),
        "spans": _spans(done),
        "state_bytes_per_param": done[0]["state_bytes_per_param"] if done else None,
        "state_bytes_by_dtype": done[0]["state_bytes_by_dtype"] if done else {},
        "peak_memory_bytes": max((o["peak_memory_bytes"] for o in done if o["peak_memory_bytes"]), default=None),
        "flops_per_unit": cost.get("flops_per_unit"),
        "mfu": cost.get("mfu"),
        "joules_per_run": None if joules is None else joules * steps,
        "diverged_trials": sum(run.outcome["diverged"] for run in trials),
        "failed_trials": sum(run.outcome["failed"] is not None for run in trials),
        "diverged_seeds": sample.diverged,
        "failed_seeds": sample.failed,
        "routing": arm.routing and [dict(row) for row in arm.routing],
    }


def _best(arm: ArmInfo, trials: Sequence[RunRecord], judged_settings: Mapping[str, Any]) -> dict[str, Any]:
    """The setting that was judged: those given with the arm, and those that the trials chose."""
    tried = [Trial(run.settings, run.final_loss, run.seed) for run in trials]
    best = chosen(tried) if tried else judged_settings
    losses = [trial.loss for trial in tried if trial.settings == best and trial.loss is not None]
    return {
        "settings": {**arm.settings, **best},
        "tuned": list(arm.tuned),
        "at_edge": at_edge(tried, best, arm.space) if tried else [],
        "tuning_loss": {"mean": statistics.fmean(losses) if losses else None, "n": len(losses)},
    }


def _metrics(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    found = {}
    for name in runs[0]["metrics"] if runs else ():
        values = [run["metrics"][name] for run in runs]
        known = Sample(tuple(value for value in values if value is not None))
        # A mean over the runs whose figure is finite would flatter the others.
        whole = len(known.values) == len(values)
        found[name] = {"mean": known.mean if whole else None, "std": known.std if whole else None}
    return found


def _spans(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Each part's share of the step."""
    shares = [{name: span / o["seconds"] for name, span in o["spans"].items()} for o in outcomes if o["seconds"]]
    return {name: statistics.median(share[name] for share in shares) for name in (shares[0] if shares else ())}


def _median(outcomes: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return statistics.median(o[name] for o in outcomes) if outcomes else None
