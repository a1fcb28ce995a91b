"""Finished studies without training, from the losses that their runs ended with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ravine.lab.results.finished import ArmInfo, Finished, RunRecord
from ravine.lab.results.statistics import Sample
from ravine.lab.results.verdict import Evidence
from ravine.lab.study.selection import Phase, Trial
from ravine.lab.training.outcome import Outcome

STEPS = 40
LR = {"lr": {"kind": "log", "low": 1e-3, "high": 1e-1}}

Loss = float | None | str
"""None: diverged; a text: failed, and why."""


def outcome(loss: Loss, steps: int = STEPS, **others: Any) -> dict[str, Any]:
    """Of a run whose loss falls linearly from 5 to its end at four evaluations; ten units and 0.1 seconds a step."""
    failed = loss if isinstance(loss, str) else None
    final = loss if isinstance(loss, float) else None
    marks = [steps * part // 4 for part in (1, 2, 3, 4)]
    curve = {
        "step": marks,
        "units": [10 * mark for mark in marks],
        "seconds": [0.1 * mark for mark in marks],
        "loss": [5.0 + (final - 5.0) * mark / steps for mark in marks] if final is not None else [],
    }
    made = Outcome(
        final_loss=final, metrics={} if final is None else {"loss": final, "accuracy": 1 / (1 + final)},
        diverged=loss is None, diverged_at=7 if loss is None else None, failed=failed, curve=curve,
        seconds=0.1 * steps, spans={"data": 0.0, "forward": 0.025 * steps, "backward": 0.05 * steps,
        "optimizer": 0.02 * steps}, units=10 * steps, units_per_second=100.0, optimizer_share=0.2,
        state_bytes_per_param=8.0, state_bytes_by_dtype={"float32": 80}, parameters=10, peak_memory_bytes=1000,
    )  # fmt: skip
    return {**asdict(made), **others}


def arm(label: str, tuned: bool = True, **others: Any) -> ArmInfo:
    """An arm whose optimizer is what its label begins with."""
    name = label.partition("#")[0].partition(":")[0]
    searched = {"tuned": ["lr"], "space": LR} if tuned else {}
    return ArmInfo(label, name, {}, **{**searched, "baseline": tuned and label == "adamw", **others})


def runs(
    label: str, phase: Phase, losses: Sequence[Loss], settings: Mapping[str, Any], seed: int = 1
) -> list[RunRecord]:
    """One for each loss, on seeds of their own."""
    return [RunRecord(label, phase, seed + i, settings, outcome(loss)) for i, loss in enumerate(losses)]


def searched(label: str, losses: Mapping[float, Loss]) -> list[RunRecord]:
    """Trials by learning rate, all on one seed."""
    return [run for lr, loss in losses.items() for run in runs(label, "search", [loss], {"lr": lr})]


def finished(arms: Sequence[ArmInfo], made: Sequence[RunRecord], **others: Any) -> Finished:
    """A study of `quadratic` with these runs."""
    budget = {
        "steps": STEPS, "batch": 8, "units_per_step": 10, "trials": 3, "retuned": 2, "tuning_seeds": 3, "seeds": 5,
        "sampler": "quasi-random", "over": ["lr"],
    }  # fmt: skip
    known: dict[str, Any] = {
        "task_name": "quadratic", "loss_name": "loss", "unit": "step", "about": {}, "model": {"parameters": 10},
        "study": {"task": {"task": "quadratic"}}, "command": "ravine compare adamw muon --task quadratic",
        "machine": {"device": "cpu", "name": "x", "threads": 1, "processes": 1, "workers": 1, "precision": "float32"},
        "versions": {"torch": "2"}, "hashes": {"data": "d", "study": "s"},
    }  # fmt: skip
    given = {**known, **others, "budget": {**budget, **others.get("budget", {})}}
    return Finished(arms=arms, runs=made, **given)


def usual(worse_by: float = 0.5, **others: Any) -> Finished:
    """AdamW and Muon, three trials each, the two best retuned, five judged seeds; Muon is better by so much."""
    made: list[RunRecord] = []
    for label, level, first in (("adamw", 2.0, 100), ("muon", 2.0 - worse_by, 200)):
        made += searched(label, {0.003: level + 0.5, 0.01: level, 0.05: level + 0.2})
        for lr, loss in ((0.01, level), (0.05, level + 0.2)):
            made += runs(label, "retune", [loss + 0.01, loss - 0.01], {"lr": lr}, seed=2)
        made += runs(label, "judge", [level + 0.01 * i for i in (-2, -1, 0, 1, 2)], {"lr": 0.01}, seed=first)
    return finished([arm("adamw"), arm("muon")], made, **others)


def around(mean: float, n: int = 5, **lost: int) -> Evidence:
    """An arm that was not tuned, its losses 0.01 apart."""
    return Evidence(Sample(tuple(mean + 0.01 * (i - (n - 1) / 2) for i in range(n)), **lost))


def tuned(mean: float, trials: Mapping[float, Sequence[float | None]], n: int = 5) -> Evidence:
    """An arm with the losses of its trials, by learning rate and seed."""
    tried = [Trial({"lr": lr}, loss, seed) for lr, losses in trials.items() for seed, loss in enumerate(losses, 1)]
    return Evidence(around(mean, n).sample, tuple(tried))
