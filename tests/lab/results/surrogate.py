"""Studies without training: a known loss surface, noise of seeds, and tuning by the rules that real studies follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ravine.lab.results.statistics import Sample
from ravine.lab.results.verdict import Evidence
from ravine.lab.study.selection import Trial, chosen, shortlist

TUNING_SEEDS = 3
JUDGED_SEEDS = 5


@dataclass(frozen=True)
class Surrogate:
    """An optimizer whose final loss is `level + Σ curvature · (x − best)²`, plus noise; x spans two decades, in [0, 1].

    Args:
        curvature: of the loss along every coordinate.
        best: the best place; its length is the number of tuned settings.
        noise: standard deviation between seeds.
        common: part of the noise's variance that all settings share at one seed.
        level: loss at the best place.
        tuning_offset: what losses are higher by on the tuning split.
        tuning_shift: how far the best place of the tuning split lies from that of the judging split.
    """

    curvature: float
    best: tuple[float, ...]
    noise: float
    common: float = 0.0
    level: float = 2.0
    tuning_offset: float = 0.0
    tuning_shift: float = 0.0

    def loss(self, settings: Mapping[str, float], tuning: bool = False) -> float:
        """Without noise."""
        shift = self.tuning_shift if tuning else 0.0
        squares = sum((x - best - shift) ** 2 for x, best in zip(settings.values(), self.best, strict=True))
        return self.level + self.tuning_offset * tuning + self.curvature * squares


def shared_points(count: int, dims: int, random: np.random.Generator) -> list[dict[str, float]]:
    """A shifted Kronecker sequence of the unit cube: the same for all arms of a study, another in each study."""
    steps = np.array([0.6180339887498949]) if dims == 1 else np.array([0.7548776662466927, 0.5698402909980532])
    places = (random.random(dims) + np.outer(np.arange(count), steps[:dims])) % 1.0
    return [{f"x{k}": float(x) for k, x in enumerate(place)} for place in places]


def tuned_and_judged(
    arm: Surrogate, points: list[dict[str, float]], random: np.random.Generator, seeds: int = JUDGED_SEEDS
) -> Evidence:
    """Search at the points on one seed, the two best again on two more, the best of them judged on fresh seeds."""

    def trial(settings: Mapping[str, float], seed: int, common: float) -> Trial:
        own = float(np.sqrt(1 - arm.common) * random.standard_normal())
        return Trial(settings, arm.loss(settings, tuning=True) + arm.noise * (common + own), seed)

    trials: list[Trial] = []
    tried = points
    for seed in range(1, TUNING_SEEDS + 1):
        common = float(np.sqrt(arm.common) * random.standard_normal())
        trials += [trial(settings, seed, common) for settings in tried]
        tried = [dict(settings) for settings in shortlist(trials)] if seed == 1 else tried
    loss = arm.loss(chosen(trials))
    return Evidence(Sample(tuple(loss + arm.noise * random.standard_normal(seeds))), tuple(trials))


def twins(arm: Surrogate, trials: int, random: np.random.Generator, advantage: float = 0.0) -> dict[str, Evidence]:
    """An optimizer against itself: shared points, seeds of their own; `advantage` lowers the loss of the second."""
    points = shared_points(trials, len(arm.best), random)
    second = replace(arm, level=arm.level - advantage)
    return {"adamw": tuned_and_judged(arm, points, random), "adamw#2": tuned_and_judged(second, points, random)}


def any_optimizer(random: np.random.Generator) -> tuple[Surrogate, int]:
    """One of many kinds, and a number of trials from 3 to 8.

    Between the ends of the space and its middle the loss rises by a quarter of the curvature: from a quarter of the
    seeds' spread, where all settings are as good, to 250 times that, where one is far better than all others.
    """
    noise = 10 ** random.uniform(-3, -1)
    surrogate = Surrogate(
        curvature=noise * 10 ** random.uniform(0, 3),
        best=tuple(random.random(random.integers(1, 3))),
        noise=noise,
        common=random.choice([0.0, 0.5]),
        tuning_offset=random.normal(0.0, 0.1),
        tuning_shift=random.choice([0.0, 0.05]),
    )
    return surrogate, int(random.integers(3, 9))
