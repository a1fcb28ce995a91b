"""A finished study as plain values: what a study hands over, and all that its results are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ravine.lab.study.selection import Phase

TUNING_PHASES: tuple[Phase, ...] = ("search", "retune")
"""The phases whose runs are evaluated on the tuning split: the trials."""


@dataclass(frozen=True)
class ArmInfo:
    """One arm of the study.

    Args:
        label: unique in the study.
        optimizer: as it is written on the command line, wrappers and all.
        settings: those given with the arm, which all its runs have.
        tuned: names of the hyperparameters that were searched for; empty where none were.
        space: of each name in `tuned`, `{"kind": "log" | "linear", "low": .., "high": ..}` or `{"kind": "choice",
            "choices": [..]}`.
        routing: which rule each tensor went to, `[{"name", "shape", "role", "rule", "why"}]`; None where one rule has
            all.
        baseline: whether the arm is a tuned AdamW, as every study should have.
    """

    label: str
    optimizer: str
    settings: Mapping[str, Any]
    tuned: Sequence[str] = ()
    space: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    routing: Sequence[Mapping[str, Any]] | None = None
    baseline: bool = False


@dataclass(frozen=True)
class RunRecord:
    """One counted run.

    Args:
        arm: label of its arm.
        phase: `"search"` and `"retune"` are trials, on the tuning split; `"judge"` and `"horizon"` are evaluated on
            the judging split.
        seed: of weights and data.
        settings: the tuned hyperparameters' values; empty where none are tuned.
        outcome: `ravine.lab.training.Outcome` as a dict.
        steps: optimizer steps of a `"horizon"` run; None for the budget's.
    """

    arm: str
    phase: Phase
    seed: int
    settings: Mapping[str, Any]
    outcome: Mapping[str, Any]
    steps: int | None = None

    @property
    def final_loss(self) -> float | None:
        """None where the run diverged or failed."""
        lost = self.outcome["diverged"] or self.outcome["failed"] is not None
        return None if lost else self.outcome["final_loss"]


@dataclass(frozen=True)
class Finished:
    """A study with all its counted runs.

    Args:
        task_name: `"lm"`.
        loss_name: what the loss is, for axes and tables: "nats per byte".
        unit: what data is counted in: "byte", "token", "image", "point", "step".
        about: `Task.about()`.
        model: `{"parameters": n, "size": .., ...}`.
        study: the study as it is written to its TOML file.
        command: that repeats it; without passwords.
        arms: in the order given.
        runs: in the order of the plan.
        budget: `steps`, `batch`, `units_per_step`, `trials`, `retuned`, `tuning_seeds`, `seeds`, `sampler`, and
            `pruner` where one was used.
        machine: `device`, `name`, `threads`, `processes`, `workers`, `precision`.
        versions: of ravine, torch and the rest.
        hashes: `data` and `study`.
        cost: `ravine.lab.cost.Cost` as a dict, by label; None where it was not measured.
        target: the loss given for steps, units and seconds to it; None: the baseline's mean + 1 standard deviation.
    """

    task_name: str
    loss_name: str
    unit: str
    about: Mapping[str, Any]
    model: Mapping[str, Any]
    study: Mapping[str, Any]
    command: str
    arms: Sequence[ArmInfo]
    runs: Sequence[RunRecord]
    budget: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, Any]
    hashes: Mapping[str, Any]
    cost: Mapping[str, Mapping[str, Any]] | None = None
    target: float | None = None

    def of(self, label: str, *phases: Phase) -> list[RunRecord]:
        """The arm's runs of these phases, in the order of the plan."""
        return [run for run in self.runs if run.arm == label and run.phase in phases]
