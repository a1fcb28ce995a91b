"""The verdict is honest: over surrogate studies it seldom tells an optimizer from itself, and finds what is there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.lab.results.surrogate import (
    JUDGED_SEEDS,
    Surrogate,
    any_optimizer,
    shared_points,
    tuned_and_judged,
    twins,
)

from ravine.lab.results.statistics import SIGNIFICANCE, Sample
from ravine.lab.results.verdict import Evidence, judge

Draw = Callable[[np.random.Generator], tuple[Surrogate, int]]


def told_apart(draw: Draw, studies: int, seed: int, sigmas: float = 0.0) -> tuple[float, float]:
    """The share of studies in which twins are told apart, by the verdict and by Welch's test alone.

    `sigmas` is how many standard deviations of the seeds the second one is better by.
    """
    random = np.random.default_rng(seed)
    verdicts, alone = 0, 0
    for _ in range(studies):
        arm, trials = draw(random)
        judgement = judge(twins(arm, trials, random, sigmas * arm.noise))
        verdicts += judgement.verdict.significant
        alone += (judgement.pairs[0].p_settings or 0.0) < SIGNIFICANCE
    return verdicts / studies, alone / studies


def kind(curvature: float, dims: int, trials: int) -> Draw:
    """One of the kinds, its best place anywhere; the curvature is in standard deviations of the seeds."""
    return lambda random: (Surrogate(curvature, tuple(random.random(dims)), noise=1.0), trials)


def test_an_optimizer_is_seldom_told_from_itself() -> None:
    """400 studies, curvature, noise, trials and settings all drawn. Over many seeds the share is 4 %, 7.5 % at most."""
    alarms, _ = told_apart(any_optimizer, 400, seed=1)
    assert alarms <= 0.075


def test_nor_where_the_luck_of_tuning_is_largest() -> None:
    """The kind in which Welch's test alone fares worst, with 10 % over many studies: this is a test that can fail."""
    alarms, alone = told_apart(kind(curvature=10.0, dims=2, trials=8), 400, seed=2)
    assert alarms <= 0.075 < alone


def test_three_equal_optimizers_are_seldom_told_apart() -> None:
    random = np.random.default_rng(3)
    alarms = 0
    for _ in range(200):
        arm, trials = any_optimizer(random)
        points = shared_points(trials, len(arm.best), random)
        alarms += any(p.significant for p in judge({k: tuned_and_judged(arm, points, random) for k in "abc"}).pairs)
    assert alarms / 200 <= 0.075


def test_three_standard_deviations_are_found() -> None:
    """In 94 % of studies over many seeds; in 97 % if luck of tuning were not counted."""
    found, _ = told_apart(any_optimizer, 300, seed=4, sigmas=3.0)
    assert found >= 0.9


def test_a_hundredth_of_the_best_learning_rate_is_found_in_every_study() -> None:
    """Two decades are the whole space: there even a flat optimizer loses thirty standard deviations of its seeds."""
    random = np.random.default_rng(5)
    for _ in range(100):
        arm = Surrogate(curvature=10 ** random.uniform(1.5, 3), best=(random.random(),), noise=1.0)
        best = tuned_and_judged(arm, shared_points(int(random.integers(3, 9)), 1, random), random)
        far = arm.loss({"lr": arm.best[0] - 1.0}) + random.standard_normal(JUDGED_SEEDS)
        assert judge({"adamw": best, "adamw:lr=3e-5": Evidence(Sample(tuple(far)))}).verdict.winner == "adamw"


def test_twins_on_the_same_seeds_could_not_fail() -> None:
    """Why the tuning seeds of two arms are disjoint: the same points and seeds give the same trials to the bit."""
    arm = Surrogate(curvature=3.0, best=(0.4,), noise=1.0)
    points = shared_points(5, 1, np.random.default_rng(0))
    first, second = (tuned_and_judged(arm, points, np.random.default_rng(6)) for _ in range(2))
    assert first == second
    studies = [twins(arm, 5, np.random.default_rng(seed)) for seed in range(20)]
    assert any(study["adamw"].trials != study["adamw#2"].trials for study in studies)
