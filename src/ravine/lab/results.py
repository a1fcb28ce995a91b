"""A finished study in figures: what `--json` holds and what the report shows."""

from __future__ import annotations

import math
import statistics as plain
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ravine.lab.arms import Arm, at_edge
from ravine.lab.model import Transformer
from ravine.lab.statistics import Sample, compare_pairs, judge
from ravine.lab.study import Finished, Run


def summarize(finished: Finished, target: float | None = None) -> dict[str, Any]:
    """All results as plain values; losses in nats per byte of the judging split, times in seconds of training alone.

    Args:
        finished: the study.
        target: the loss for the steps, tokens and seconds to it; default the baseline's mean + 1 standard deviation.

    Returns:
        `task`, `baseline`, `budget`, `target`, `text`, `model`, `machine`, `versions`, `arms` by label, `pairs`,
        `verdict`, `notes`. The baseline is the first plain `adamw` arm, else the first whose rule is adamw, else the
        first arm.
    """
    study = finished.study
    samples = {arm.label: _sample(finished.of(arm, "judging")) for arm in study.arms}
    edges = [arm.label for arm in study.arms if arm.tuned and at_edge(finished.tried(arm))]
    pairs = compare_pairs(samples)
    verdict = judge(samples, pairs, edges)
    baseline = baseline_of(study.arms)
    reference = samples[baseline]
    goal, source = target, "given"
    if target is None:
        goal = None if reference.mean is None else reference.mean + (reference.std or 0.0)
        source = f"mean + 1 standard deviation of {baseline}" if goal else f"none: every run of {baseline} diverged"
    tokens_per_step = study.recipe.batch * study.architecture.context
    settings = study.settings()
    return {
        "task": "lm",
        "baseline": baseline,
        "budget": {
            "steps": study.recipe.steps,
            "batch": study.recipe.batch,
            "tokens_per_step": tokens_per_step,
            "tokens": tokens_per_step * study.recipe.steps,
            "trials": study.trials,
            "seeds": study.seeds,
            "warmup": study.recipe.warmup,
            "clip": study.recipe.clip,
        },
        "target": {"loss": goal, "source": source},
        "text": {"name": study.corpus.name, "skipped": study.corpus.skipped, **settings["text"]},
        "model": {
            "size": study.size,
            **settings["architecture"],
            "parameters": sum(p.numel() for p in Transformer(study.architecture).parameters()),
        },
        "machine": {**settings["machine"], "precision": finished.precision},
        "versions": settings["versions"],
        "arms": {arm.label: _arm(finished, arm, samples[arm.label], goal, tokens_per_step) for arm in study.arms},
        "pairs": [asdict(pair) for pair in pairs],
        "verdict": asdict(verdict),
        "notes": _notes(finished),
    }


def baseline_of(arms: Sequence[Arm]) -> str:
    """The label of the arm that the target is taken from."""
    plainly = [arm.label for arm in arms if arm.label == "adamw"]
    wrapped = [arm.label for arm in arms if arm.rule.name == "adamw"]
    return (plainly or wrapped or [arms[0].label])[0]


def first_crossing(curve: Mapping[str, Sequence[float]], target: float) -> int | None:
    """The index of the first evaluation whose loss is at most the target; None where there is none.

    Example:
        >>> first_crossing({"loss": [3.0, 2.0, 2.1, 1.9]}, 2.05)
        1
    """
    return next((i for i, loss in enumerate(curve["loss"]) if loss <= target), None)


def median_of_all(reached: Sequence[float | None]) -> float | None:
    """The median where those that did not get there (None) count as later than all others; None if it is one of them.

    A mean over those that did would flatter an arm of which few seeds got there, luckily and early.

    Example:
        >>> median_of_all([120, 110, None]), median_of_all([120, None, None])
        (120, None)
    """
    middle = plain.median_high([math.inf if x is None else x for x in reached])
    return None if math.isinf(middle) else middle


def _sample(runs: Sequence[Run]) -> Sample:
    values = tuple(run.final_loss for run in runs if run.final_loss is not None)
    return Sample(values, diverged=len(runs) - len(values))


def _arm(finished: Finished, arm: Arm, sample: Sample, goal: float | None, tokens_per_step: int) -> dict[str, Any]:
    trials, runs = finished.of(arm, "tuning"), finished.of(arm, "judging")
    crossings = [_crossing(run, goal) for run in runs]
    steps = median_of_all([c and c[0] for c in crossings])
    outcomes = [run.outcome for run in runs]
    memory = [o["peak_memory_bytes"] for o in outcomes if o["peak_memory_bytes"] is not None]
    return {
        "optimizer": arm.optimizer,
        "settings": dict(arm.settings),
        "final_loss": {
            "mean": sample.mean,
            "std": sample.std,
            "n": len(sample.values),
            "values": list(sample.values),
            "interval": sample.interval,
        },
        "best": {
            "lr": runs[0].lr,
            "tuned": arm.tuned,
            "at_edge": at_edge(finished.tried(arm)) if trials else False,
            "trials": [
                {"lr": t.lr, "loss": t.outcome["final_loss"], "diverged": t.outcome["diverged"]} for t in trials
            ],
        },
        "steps_to_target": steps,
        "tokens_to_target": None if steps is None else steps * tokens_per_step,
        "seconds_to_target": median_of_all([c and c[1] for c in crossings]),
        "reached_target": sum(c is not None for c in crossings),
        "tokens_per_second": plain.median(o["tokens_per_second"] for o in outcomes),
        "seconds_per_run": plain.median(o["seconds"] for o in outcomes),
        "optimizer_share": plain.median(o["optimizer_seconds"] / o["seconds"] for o in outcomes),
        "state_bytes_per_param": outcomes[0]["state_bytes_per_param"],
        "peak_memory_bytes": max(memory, default=None),
        "diverged_trials": sum(t.outcome["diverged"] for t in trials),
        "diverged_seeds": sample.diverged,
        "runs": [
            {key: run.outcome[key] for key in ("final_loss", "diverged", "diverged_at", "curve", "training_curve")}
            | {"seed": run.seed}
            for run in runs
        ],
    }


def _crossing(run: Run, goal: float | None) -> tuple[float, float] | None:
    """Step and seconds of the run's first crossing of the goal."""
    curve = run.outcome["curve"]
    index = None if goal is None or run.outcome["diverged"] else first_crossing(curve, goal)
    return None if index is None else (curve["step"][index], curve["seconds"][index])


def _notes(finished: Finished) -> list[str]:
    """What a reader has to know to read the figures rightly."""
    study = finished.study
    notes = [
        f"Each tuned arm had {study.trials} trials of its learning rate and no other setting; what was not given keeps "
        "its default. All trials share one seed. The judged seeds are fresh and disjoint between the arms.",
        "Losses are nats per byte on the judging split, which neither training nor tuning has seen; only the end of "
        "a whole schedule is compared.",
        "Fresh seeds do not undo the luck of tuning: with so few trials a small difference may come from which "
        "learning rates were tried.",
        "To the target: first crossing of the evaluated curve, the median over all seeds; those that did not reach "
        "it count as later than the rest. Seconds leave evaluations out.",
        "Weight decay acts on the matrices inside the blocks, not on embedding, output head and norms.",
    ]
    if not any(arm.rule.innermost.name == "adamw" for arm in study.arms):
        notes.append("No arm is AdamW, the usual baseline: add it to see what the others are worth.")
    if study.corpus.skipped:
        notes.append(f"{study.corpus.skipped} files were left out: they are not UTF-8 text.")
    if study.corpus.capped:
        notes.append("The text was longer than is read; its end was left out.")
    return notes
