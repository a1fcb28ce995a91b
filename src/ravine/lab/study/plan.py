"""The plan of a study: every run it will have, known before the first one starts.

A study has four phases. In the *search* each arm is run at equally many points; its best settings are *retuned* on
further seeds; the one with the lowest mean is *judged* on seeds and on a split that nothing was tuned on, once at the
whole length and, where they are asked for, at shorter *horizons*. What a slot runs depends on the outcomes of those
before it, but how many there are does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ravine.lab.study.arms import Arm
from ravine.lab.study.selection import Phase
from ravine.lab.study.settings import Settings
from ravine.lab.tasks.task import Evaluated

SEEDS_APART = 1_000_000
"""The seeds of arm i (from 1) are i times this and the numbers after it: disjoint from all others."""

STUDIES_APART = 1_000_000_000
"""The seeds of a study with the seed s begin s times this after those of the one with seed 0."""

TUNING_APART = 500_000
"""An arm's tuning seeds begin this far after its judging seeds. Two arms that shared them would be twins to the bit,
and a comparison of an optimizer with itself could not fail."""


@dataclass(frozen=True)
class Slot:
    """One run of the plan.

    Args:
        index: its place in the plan, by which the storage knows it.
        phase: see the module.
        arm: place of its arm.
        seed: of weights and data.
        number: in the search the point; in retuning the rank of the setting after the search; else 0.
        horizon: part of the steps, 1 for all.
    """

    index: int
    phase: Phase
    arm: int
    seed: int
    number: int = 0
    horizon: float = 1.0

    @property
    def split(self) -> Evaluated:
        """The split that the run is evaluated on."""
        return "tuning" if self.phase in ("search", "retune") else "judging"


def plan(arms: Sequence[Arm], settings: Settings) -> tuple[Slot, ...]:
    """All slots, phase by phase; within one the arms take turns, so that a machine that slows down slows them all."""
    slots: list[Slot] = []

    def add(phase: Phase, arm: int, seed: int, number: int = 0, horizon: float = 1.0) -> None:
        seed += settings.seed * STUDIES_APART + (arm + 1) * SEEDS_APART
        slots.append(Slot(len(slots), phase, arm, seed, number, horizon))

    tuned = [i for i, arm in enumerate(arms) if arm.space]
    for number in range(settings.trials):
        for i in tuned:
            add("search", i, TUNING_APART, number)
    for seed in range(1, settings.tuning_seeds):
        for rank in range(min(settings.retuned, settings.trials)):
            for i in tuned:
                add("retune", i, TUNING_APART + seed, rank)
    for phase, horizons in (("judge", (1.0,)), ("horizon", settings.horizons)):
        for horizon in horizons:
            for seed in range(settings.seeds):
                for i in range(len(arms)):
                    add("judge" if phase == "judge" else "horizon", i, seed, horizon=horizon)
    return tuple(slots)
