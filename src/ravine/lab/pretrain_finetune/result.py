"""The result of the experiment in figures: cells, effects, verdict and cost, from the results of its stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ravine.lab.comparison import Comparison
from ravine.lab.pretrain_finetune.contrast import (
    MISMATCH,
    POST_TRAINING,
    PRETRAINING,
    SWITCHING,
    Contrast,
    Weights,
    contrast,
    least_found,
)
from ravine.lab.report.text import signed
from ravine.lab.results.statistics import Sample, p_text
from ravine.lab.study.store import Store
from ravine.lab.training import Outcome

FORMAT = 1
CLAIM = {"bases": 3, "seeds": 4}
"""Below so many of each optimizer the result warns: they are too few for a claim."""


@dataclass(frozen=True)
class Stage:
    """A comparison that is finished: its result, what its runs cost by optimizer, and its report."""

    result: Mapping[str, Any]
    cost: dict[str, dict[str, Any]]
    report: Path

    @classmethod
    def of(cls, comparison: Comparison, result: Mapping[str, Any], report: Path) -> Stage:
        """With the cost of all its runs, from the trials' storage."""
        study = comparison.study
        with Store.open(comparison.storage, study.name) as store:
            outcomes = store.outcomes()
        made: dict[str, list[Mapping[str, Any]]] = {arm.label: [] for arm in study.arms}
        for slot in study.slots:
            if not outcomes[slot.index].get("skipped"):
                made[study.arms[slot.arm].label].append(outcomes[slot.index])
        joules = {label: arm["joules_per_run"] for label, arm in result["arms"].items()}
        return cls(result, {label: cost_of(runs, joules[label]) for label, runs in made.items()}, report)


@dataclass(frozen=True)
class BaseRun:
    """A base that was pre-trained.

    Args:
        arm: place of its optimizer.
        number: of the base, from 1.
        seed: of its weights and data.
        optimizer: as written, with all its settings.
        checkpoint: where it is.
        outcome: of its pre-training.
    """

    arm: int
    number: int
    seed: int
    optimizer: str
    checkpoint: Path
    outcome: Outcome


def cost_of(runs: Sequence[Mapping[str, Any]], joules_per_run: float | None = None) -> dict[str, Any]:
    """What runs have cost together: seconds of training, of the optimizer in them, data, state, memory and energy."""
    seconds = math.fsum(run["seconds"] for run in runs)
    optimizer = math.fsum(run["spans"]["optimizer"] for run in runs)
    units = sum(run["units"] for run in runs)
    return {
        "runs": len(runs),
        "seconds": seconds,
        "optimizer_share": optimizer / seconds if seconds else None,
        "units_per_second": units / seconds if seconds else None,
        "state_bytes_per_param": max((run["state_bytes_per_param"] for run in runs), default=None),
        "peak_memory_bytes": max((run["peak_memory_bytes"] for run in runs if run["peak_memory_bytes"]), default=None),
        "joules": None if joules_per_run is None else joules_per_run * len(runs),
    }


def result_of(
    labels: Sequence[str], pretraining: Stage, bases: Sequence[BaseRun], compared: Sequence[Stage]
) -> dict[str, Any]:
    """All figures as plain values; losses in the tasks' own, times in seconds of training alone.

    Args:
        labels: of the two optimizers.
        pretraining: the comparison on `lm`.
        bases: in any order.
        compared: the comparison on `sft` for each base.
    """
    by_place = {(base.arm, base.number): stage for base, stage in zip(bases, compared, strict=True)}
    count = max(base.number for base in bases)
    runs = [
        [[_judged(by_place[i, k], label) for k in range(1, count + 1)] for label in labels] for i in range(len(labels))
    ]
    lost = [
        f"{labels[j]} on {labels[i]} base {k + 1}"
        for i in range(2)
        for j in range(2)
        for k in range(count)
        if any(loss is None for loss in runs[i][j][k])
    ]
    losses = None if lost else np.array(runs, dtype=float)
    luck = np.array(
        [[_tuning_std([by_place[i, k + 1] for k in range(count)], label) for label in labels] for i in range(2)]
    )
    found = {name: None if losses is None else contrast(losses, weights, luck) for name, weights in EFFECTS.items()}
    any_stage = compared[0].result
    seeds = any_stage["budget"]["seeds"]
    mismatch = found["mismatch"]
    least = None if mismatch is None else least_found(mismatch.error, mismatch.freedom)
    return {
        "format": FORMAT,
        "optimizers": list(labels),
        "loss_name": any_stage["loss_name"],
        "pretraining_loss_name": pretraining.result["loss_name"],
        "budget": {
            "bases": count,
            "pretraining": dict(pretraining.result["budget"]),
            "post_training": dict(any_stage["budget"]),
        },
        "machine": dict(any_stage["machine"]),
        "model": dict(pretraining.result["model"]),
        "about": dict(any_stage["about"]),
        "cells": _cells(labels, runs, losses, luck),
        "effects": {name: _plain(one) for name, one in found.items()},
        "least_penalty_found": least,
        "verdict": verdict(labels, found, least, lost, any_stage["loss_name"]),
        "pretraining": _compared(pretraining),
        "bases": [
            {
                "pretrained": labels[base.arm], "number": base.number, "seed": base.seed, "optimizer": base.optimizer,
                "loss": base.outcome.final_loss, "metrics": base.outcome.metrics, "seconds": base.outcome.seconds,
                "checkpoint": str(Path("bases", base.checkpoint.parent.name, base.checkpoint.name)),
                "post_training": _compared(stage),
            }
            for base, stage in zip(bases, compared, strict=True)
        ],
        "cost": _costs(labels, pretraining, bases, compared),
        "warnings": _warnings(count, seeds, pretraining, bases, compared, labels),
        "notes": NOTES,
    }  # fmt: skip


EFFECTS: dict[str, Weights] = {
    "mismatch": MISMATCH,
    "switching_first": SWITCHING[0],
    "switching_second": SWITCHING[1],
    "pretraining": PRETRAINING,
    "post_training": POST_TRAINING,
}

NOTES = [
    "The mismatch penalty is the interaction: the two mixed cells minus the two that keep their optimizer. What one "
    "optimizer gains over the other in pre-training, or in post-training, cancels in it.",
    "The bases are the evidence: the spread between bases of one optimizer, and between seeds, decides what chance can "
    "explain. Runs on one base do not count as independent of each other.",
    "Both optimizers are tuned anew on each base with equal budgets. The luck of tuning is counted, as if all bases "
    "of a cell shared it. That of tuning pre-training is not: the bases are those of the settings chosen for them.",
    "Pre-training has read the files of post-training's training split alone.",
    "The interaction is the question asked; p-values of the other effects are not corrected for their number.",
]


def verdict(
    labels: Sequence[str], found: Mapping[str, Contrast | None], least: float | None, lost: Sequence[str], unit: str
) -> dict[str, Any]:
    """Whether the penalty appears (None where that cannot be said), and sentences."""
    mismatch = found["mismatch"]
    if mismatch is None:
        text = f"No verdict: post-training was lost on some seeds, with {'; '.join(lost)}."
        return {"appears": None, "significant": False, "text": text}
    size, (low, high) = abs(mismatch.estimate), mismatch.interval
    side = "higher" if mismatch.estimate > 0 else "lower"
    figures = f"95 % interval of the difference {signed(low)} to {signed(high)}, {p_text(mismatch.p)}"
    ends = f"the two mixed cells together end {size:.3g} {unit} {side} than the two that keep their optimizer"
    appears = mismatch.significant and mismatch.estimate > 0
    if appears:
        text = f"The mismatch penalty appears at this scale: {ends} ({figures})."
    elif mismatch.significant:
        text = f"The mismatch penalty does not appear at this scale, its opposite does: {ends} ({figures})."
    else:
        text = f"The mismatch penalty does not appear at this scale: {ends}, which chance can explain ({figures})."
        if least is not None:
            text += f" A penalty of {least:.3g} or more would most likely have been found."
    for name, stage in (("pretraining", "Pre-training"), ("post_training", "Post-training")):
        effect = found[name]
        if effect is not None and effect.significant:
            better = labels[effect.estimate > 0]
            text += f" {stage} with {better} is better by {abs(effect.estimate):.3g} on average ({p_text(effect.p)})."
        elif effect is not None:
            text += f" {stage} with one or the other makes no significant difference ({p_text(effect.p)})."
    return {"appears": appears, "significant": mismatch.significant, "text": text}


def _plain(found: Contrast | None) -> dict[str, Any] | None:
    return None if found is None else {**asdict(found), "interval": list(found.interval)}


def _judged(stage: Stage, label: str) -> list[float | None]:
    """The final losses by seed, None where a run was lost."""
    runs = sorted(stage.result["arms"][label]["runs"], key=lambda run: run["seed"])
    return [None if run["diverged"] or run["failed"] else run["final_loss"] for run in runs]


def _tuning_std(stages: Sequence[Stage], label: str) -> float:
    """The standard deviation of the luck of tuning on these bases: the root of the mean variance."""
    known = [stage.result["arms"][label]["best"]["tuning_std"] or 0.0 for stage in stages]
    return math.sqrt(math.fsum(std**2 for std in known) / len(known))


def _cells(
    labels: Sequence[str], runs: list[list[list[list[float | None]]]], losses: np.ndarray | None, luck: np.ndarray
) -> list[dict[str, Any]]:
    cells = []
    for i, pretrained in enumerate(labels):
        for j, post_trained in enumerate(labels):
            sample = Sample(tuple(loss for base in runs[i][j] for loss in base if loss is not None))
            only = [[float((row, column) == (i, j)) for column in range(2)] for row in range(2)]
            mean = None if losses is None else contrast(losses, only, luck)
            cells.append(
                {
                    "pretrained": pretrained, "post_trained": post_trained, "keeps": i == j, "mean": sample.mean,
                    "std": sample.std, "n": len(sample.values), "tuning_std": float(luck[i, j]),
                    "interval": None if mean is None else list(mean.interval), "values": runs[i][j],
                }
            )  # fmt: skip
    return cells


def _compared(stage: Stage) -> dict[str, Any]:
    """What a reader wants of a comparison, besides its own report."""
    arms = stage.result["arms"]
    return {
        "verdict": stage.result["verdict"]["text"],
        "report": stage.report.as_posix(),
        "arms": {
            label: {"settings": arm["best"]["settings"], "at_edge": arm["best"]["at_edge"],
                    **{key: arm["final_loss"][key] for key in ("mean", "std", "n", "interval")}}
            for label, arm in arms.items()
        },
    }  # fmt: skip


def _costs(
    labels: Sequence[str], pretraining: Stage, bases: Sequence[BaseRun], compared: Sequence[Stage]
) -> list[dict[str, Any]]:
    """A row for each stage and optimizer."""
    rows = [{"stage": "pre-training compared", "optimizer": label, **pretraining.cost[label]} for label in labels]
    for i, label in enumerate(labels):
        per_run = pretraining.result["arms"][label]["joules_per_run"]
        outcomes = [asdict(base.outcome) for base in bases if base.arm == i]
        rows.append({"stage": "bases pre-trained", "optimizer": label, **cost_of(outcomes, per_run)})
    for label in labels:
        rows.append({"stage": "post-training compared", "optimizer": label, **_sum([s.cost[label] for s in compared])})
    return rows


def _sum(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Costs of several stages together; shares and speeds weighted by time."""
    seconds = math.fsum(cost["seconds"] for cost in costs)

    def weighted(name: str) -> float | None:
        parts = [cost[name] * cost["seconds"] for cost in costs if cost[name] is not None]
        return math.fsum(parts) / seconds if seconds and len(parts) == len(costs) else None

    def largest(name: str) -> Any:
        return max((cost[name] for cost in costs if cost[name] is not None), default=None)

    joules = [cost["joules"] for cost in costs]
    return {
        "runs": sum(cost["runs"] for cost in costs),
        "seconds": seconds,
        "optimizer_share": weighted("optimizer_share"),
        "units_per_second": weighted("units_per_second"),
        "state_bytes_per_param": largest("state_bytes_per_param"),
        "peak_memory_bytes": largest("peak_memory_bytes"),
        "joules": None if None in joules else math.fsum(joules),
    }


def _warnings(
    bases: int, seeds: int, pretraining: Stage, made: Sequence[BaseRun], compared: Sequence[Stage],
    labels: Sequence[str],
) -> list[str]:  # fmt: skip
    found = [
        f"{count} {name} per optimizer; {CLAIM[name]} are the least for a claim."
        for name, count in (("bases", bases), ("seeds", seeds))
        if count < CLAIM[name]
    ]
    stages = [("pre-training", pretraining)]
    stages += [(f"post-training on {labels[b.arm]} base {b.number}", s) for b, s in zip(made, compared, strict=True)]
    found += [
        f"In {name} the best {' and '.join(arm['best']['at_edge'])} of {label} lies at the edge of what was searched."
        for name, stage in stages
        for label, arm in stage.result["arms"].items()
        if arm["best"]["at_edge"]
    ]
    return found
