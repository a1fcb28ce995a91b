"""Contrasts of the cells: against the split-plot analysis of variance and Welch's test, and in simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ravine.lab.pretrain_finetune.contrast import (
    MISMATCH,
    POST_TRAINING,
    PRETRAINING,
    SWITCHING,
    Contrast,
    contrast,
    least_found,
)

BASES, SEEDS = 3, 5
EXPERIMENTS = 4000


def simulated(
    random: np.random.Generator,
    *,
    penalty: float = 0.0,
    base: float = 3.0,
    base_by_post: float = 0.0,
    seed: float = 0.0,
    seed_by_pretraining: float = 0.0,
    bases: int = BASES,
) -> np.ndarray:
    """Losses with noise of one and these standard deviations of luck; main effects are always there."""

    def luck(std: float, *shape: int) -> np.ndarray:
        return std * random.standard_normal(shape)

    cells = np.array([[0.0, penalty / 2], [penalty / 2, 0.0]]) + np.array([[0.0], [4.0]]) + np.array([0.0, -2.0])
    return (
        cells[:, :, None, None]
        + luck(base, 2, 1, bases, 1)
        + luck(base_by_post, 2, 2, bases, 1)
        + luck(seed, 1, 2, 1, SEEDS)
        + luck(seed_by_pretraining, 2, 2, 1, SEEDS)
        + luck(1.0, 2, 2, bases, SEEDS)
    )


def by_hand(difference_by_base: np.ndarray) -> tuple[float, float]:
    """Welch's test of the bases of one optimizer against those of the other: p, and degrees of freedom."""
    test = stats.ttest_ind(*difference_by_base, equal_var=False)
    return float(test.pvalue), float(test.df)


def without_luck_of_seeds(random: np.random.Generator) -> np.ndarray:
    """Losses whose seeds have no luck that bases share: within a base and a cell they are exactly as far apart."""
    means = random.standard_normal((2, 2, BASES))
    return means[..., None] + np.zeros(SEEDS)


@pytest.mark.parametrize("name", ["mismatch", "pretraining"])
def test_without_luck_of_seeds_it_is_welchs_test_between_bases(name: str) -> None:
    losses = without_luck_of_seeds(np.random.default_rng(1))
    found = contrast(losses, MISMATCH if name == "mismatch" else PRETRAINING)
    means = losses.mean(axis=3)
    by_base = means[:, 1] - means[:, 0] if name == "mismatch" else means.mean(axis=1)
    p, freedom = by_hand(by_base)
    assert found.p == pytest.approx(p, rel=1e-9) and found.freedom == pytest.approx(freedom, rel=1e-9)
    assert found.estimate == pytest.approx(by_base[0].mean() - by_base[1].mean())


def test_equal_spreads_give_the_f_test_of_a_split_plot() -> None:
    """Interaction of whole plots and subplots against the mean square of subplots by bases, 2 (B − 1) below."""
    difference = np.array([[0.1, 0.3, -0.1], [1.0, 1.2, 0.8]])  # the same spread in both groups
    means = np.stack([np.zeros((2, BASES)), difference], axis=1) + np.array([5.0, 1.0, 3.0])
    found = contrast(np.repeat(means[..., None], SEEDS, axis=3), MISMATCH)
    within = difference.var(axis=1, ddof=1).mean() / 2
    between = BASES * (difference[0].mean() - difference[1].mean()) ** 2 / 4
    assert found.freedom == pytest.approx(2 * (BASES - 1))
    assert (found.estimate / found.error) ** 2 == pytest.approx(between / within)
    assert found.p == pytest.approx(stats.f.sf(between / within, 1, 2 * (BASES - 1)))


def test_the_figures_of_one_experiment_by_hand() -> None:
    losses = np.array([[[[2.0, 2.2], [2.4, 2.6]], [[2.9, 3.1], [2.5, 2.7]]], [[[3.0, 3.0]] * 2, [[1.0, 1.0]] * 2]])
    found = contrast(losses, MISMATCH)
    assert found.estimate == pytest.approx((2.8 + 3.0) - (2.3 + 1.0))
    # By base 0.9 and 0.1 of the first optimizer, none of the second. By seed each optimizer 0.2 apart; nothing is left.
    by_base = 0.8**2 / 2 / 2
    by_seed = 2 * 0.2**2 / 2 / 2
    assert found.error == pytest.approx(math.sqrt(by_base + by_seed))
    assert found.freedom == pytest.approx((by_base + by_seed) ** 2 / (by_base**2 + by_seed**2 / 2))
    half = stats.t.ppf(0.975, found.freedom) * found.error
    assert found.interval == pytest.approx((found.estimate - half, found.estimate + half))


def test_what_switching_costs_adds_up_to_the_penalty() -> None:
    losses = simulated(np.random.default_rng(2), penalty=3.0, base_by_post=0.5)
    parts = [contrast(losses, weights).estimate for weights in SWITCHING]
    assert sum(parts) == pytest.approx(contrast(losses, MISMATCH).estimate)


def test_the_luck_of_a_base_cancels_in_the_penalty() -> None:
    losses = simulated(np.random.default_rng(3))
    moved = losses + 100 * np.random.default_rng(4).standard_normal((2, 1, BASES, 1))
    before, after = contrast(losses, MISMATCH), contrast(moved, MISMATCH)
    assert after.estimate == pytest.approx(before.estimate) and after.error == pytest.approx(before.error)
    assert contrast(moved, PRETRAINING).error > 10 * contrast(losses, PRETRAINING).error


def test_the_luck_of_tuning_widens_the_interval() -> None:
    losses = simulated(np.random.default_rng(5), penalty=5.0)
    alone = contrast(losses, MISMATCH)
    own = contrast(losses, MISMATCH, np.full((2, 2), 0.5))
    assert own.error == pytest.approx(math.hypot(alone.error, 1.0)) and own.freedom == pytest.approx(alone.freedom)
    # On all bases alike it cancels between those of the two optimizers; the effect of post-training has it whole.
    assert contrast(losses, POST_TRAINING, np.full((2, 2), 0.5)).error == pytest.approx(
        math.hypot(contrast(losses, POST_TRAINING).error, math.sqrt(0.5))
    )


def test_equal_losses_are_no_difference_and_exact_ones_are_certain() -> None:
    same = np.full((2, 2, BASES, SEEDS), 2.1)
    assert contrast(same, MISMATCH) == Contrast(0.0, 0.0, BASES - 1, (0.0, 0.0), 1.0)
    same[0, 1] += 0.5
    found = contrast(same, MISMATCH)
    assert found.p == 0.0 and found.interval == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    "luck",
    [
        {},
        {"base_by_post": 1.0},
        {"base_by_post": 5.0},
        {"seed": 2.0},
        {"seed_by_pretraining": 1.0},
        {"base_by_post": 1.0, "seed": 1.0, "seed_by_pretraining": 1.0},
        {"bases": 2, "base_by_post": 1.0},
    ],
    ids=str,
)
def test_no_penalty_is_rarely_called_one(luck: dict[str, float]) -> None:
    random = np.random.default_rng(6)
    wrong = sum(contrast(simulated(random, **luck), MISMATCH).significant for _ in range(EXPERIMENTS))
    assert wrong / EXPERIMENTS < 0.055


@pytest.mark.parametrize("luck", [{"seed": 1.0}, {"seed": 3.0}, {"base_by_post": 1.0, "seed": 1.0}], ids=str)
def test_seeds_shared_by_all_bases_make_no_effect_of_post_training(luck: dict[str, float]) -> None:
    random, wrong = np.random.default_rng(7), 0
    for _ in range(EXPERIMENTS):
        losses = simulated(random, **luck)
        losses[:, 1] += 2.0  # without the effect
        wrong += contrast(losses, POST_TRAINING).significant
    assert wrong / EXPERIMENTS < 0.055


def test_a_penalty_is_found_as_often_as_said() -> None:
    """Welch's degrees of freedom for two groups of three bases lie between 2 and 4."""
    random, luck = np.random.default_rng(8), {"base_by_post": 1.0}
    penalty = least_found(2 * math.sqrt((1.0 + 1 / SEEDS) / BASES), 3)
    found = [contrast(simulated(random, penalty=penalty, **luck), MISMATCH) for _ in range(EXPERIMENTS)]
    assert 0.77 < sum(one.significant and one.estimate > 0 for one in found) / EXPERIMENTS < 0.85
    large = [contrast(simulated(random, penalty=20.0, **luck), MISMATCH).significant for _ in range(200)]
    assert sum(large) >= 195


def test_intervals_cover_the_penalty() -> None:
    random = np.random.default_rng(9)
    found = [
        contrast(simulated(random, penalty=3.0, base_by_post=1.0, seed_by_pretraining=0.7), MISMATCH)
        for _ in range(EXPERIMENTS)
    ]
    assert sum(one.interval[0] <= 3.0 <= one.interval[1] for one in found) / EXPERIMENTS > 0.925


@pytest.mark.parametrize("shape", [(2, 2, 1, 5), (2, 2, 3, 1), (2, 3, 3, 5), (2, 2, 15)])
def test_what_is_no_experiment_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"losses must have the shape \(2, 2, bases, seeds\)"):
        contrast(np.zeros(shape), MISMATCH)


def test_lost_runs_are_refused() -> None:
    losses = np.zeros((2, 2, 3, 5))
    losses[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="must be finite"):
        contrast(losses, MISMATCH)
