"""Statistics against hand-computed numbers and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ravine.lab.results.statistics import (
    Sample,
    holm,
    listed,
    minimum_detectable_difference,
    p_text,
    pooled_std,
    welch,
)

A = (2.10, 2.20, 2.15, 2.05, 2.25)
B = (2.40, 2.60, 2.50, 2.45, 2.55)

samples = st.lists(st.integers(-4096, 4096).map(lambda n: n / 1024), min_size=2, max_size=9)


def test_welch_by_hand() -> None:
    # Means 2.15 and 2.5, both variances 0.00625, n = 5: t = -0.35 / sqrt(2 * 0.00625 / 5) = -7, df = 8.
    p, (low, high) = welch(A, B)
    assert p == pytest.approx(2 * stats.t.sf(7.0, 8), rel=1e-9)
    half = stats.t.ppf(0.975, 8) * 0.05
    assert (low, high) == pytest.approx((-0.35 - half, -0.35 + half), rel=1e-9)


# SciPy warns where one of the samples has no spread; Welch's test is as good there.
@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")
@given(samples, samples)
def test_welch_is_scipys(a: list[float], b: list[float]) -> None:
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        return
    p, interval = welch(a, b)
    theirs = stats.ttest_ind(a, b, equal_var=False)
    assert p == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-300)
    assert interval == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=1e-9, abs=1e-12)


@given(samples, samples, st.integers(-64, 64), st.integers(-6, 6), st.floats(0, 1))
def test_shifting_and_scaling_all_losses_leaves_p_alone(
    a: list[float], b: list[float], shift: int, power: int, further: float
) -> None:
    p, (low, high) = welch(a, b, further)
    scale = 2.0**power
    moved, moved_interval = welch([x * scale + shift for x in a], [x * scale + shift for x in b], further * scale**2)
    assert moved == pytest.approx(p, rel=1e-6, abs=1e-12)
    assert moved_interval == pytest.approx((low * scale, high * scale), rel=1e-6, abs=1e-9)


@given(samples, samples, st.floats(0, 10), st.floats(0, 10))
def test_a_further_variance_makes_p_larger_and_the_interval_wider(
    a: list[float], b: list[float], less: float, more: float
) -> None:
    less, more = sorted((less, more))
    (p, (low, high)), (wider, (lower, higher)) = welch(a, b, less), welch(a, b, more)
    assert wider >= p * (1 - 1e-9)
    assert higher - lower >= (high - low) * (1 - 1e-9)


def test_a_further_variance_by_hand() -> None:
    # Standard error sqrt(0.0025 + 0.0096) = 0.11 in place of 0.05; the degrees of freedom stay 8.
    p, (low, high) = welch(A, B, 0.0096)
    assert p == pytest.approx(2 * stats.t.sf(0.35 / 0.11, 8), rel=1e-9)
    assert high - low == pytest.approx(2 * 0.11 * stats.t.ppf(0.975, 8), rel=1e-9)


def test_without_any_spread_equal_is_equal() -> None:
    assert welch([2.0] * 4, [2.0] * 4) == (1.0, (0.0, 0.0))
    assert welch([2.0] * 4, [3.0] * 4) == (0.0, (-1.0, -1.0))
    # 0.1 is no binary number: what rounding leaves of its spread is none.
    assert welch([0.1] * 3, [0.1] * 3)[0] == 1.0


def test_a_further_variance_counts_where_seeds_do_not_spread() -> None:
    p, _ = welch([2.0] * 5, [3.0] * 5, 0.25)
    assert p == pytest.approx(2 * stats.t.sf(2.0, 4), rel=1e-9)


def test_holm_by_hand() -> None:
    assert holm([]) == []
    assert holm([0.02]) == [0.02]
    # Sorted .005 ×4, .01 ×3, .03 ×2, .04 ×1; then no corrected value below one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def step_down(p_values: list[float], level: float) -> set[int]:
    """Holm's procedure as he gives it: from the smallest p on, reject while p ≤ level / (hypotheses that are left)."""
    rejected: set[int] = set()
    for i in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        if p_values[i] * (len(p_values) - len(rejected)) > level:
            break
        rejected.add(i)
    return rejected


p_lists = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), max_size=8)


@given(p_lists, st.floats(0.001, 0.999))
def test_corrected_values_reject_what_the_procedure_rejects(p_values: list[float], level: float) -> None:
    assert {i for i, p in enumerate(holm(p_values)) if p <= level} == step_down(p_values, level)


@given(p_lists, st.randoms())
def test_the_order_of_p_values_does_not_matter_and_none_gets_smaller(p_values: list[float], random: object) -> None:
    order = list(range(len(p_values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    corrected = holm(p_values)
    assert holm([p_values[i] for i in order]) == [corrected[i] for i in order]
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))


def test_a_sample_has_its_mean_spread_and_interval() -> None:
    sample = Sample(A)
    assert sample.mean == pytest.approx(2.15)
    assert sample.std == pytest.approx(math.sqrt(0.00625))
    half = 2.7764451 * math.sqrt(0.00625 / 5)
    assert sample.interval == pytest.approx((2.15 - half, 2.15 + half), rel=1e-6)
    assert (Sample(()).mean, Sample((1.0,)).std, Sample((1.0,)).interval) == (None, None, None)


def test_what_is_left_after_a_loss_is_not_ranked() -> None:
    assert Sample(A).ranked
    assert not Sample(A, diverged=1).ranked
    assert not Sample(A, failed=1).ranked
    assert not Sample((2.0,)).ranked


def test_the_pooled_spread_leaves_means_out() -> None:
    assert pooled_std([A, [x + 10 for x in A]]) == pytest.approx(math.sqrt(0.00625))
    # 2 and 4 degrees of freedom: (2 · 1 + 4 · 0.00625) / 6.
    assert pooled_std([[1.0, 2.0, 3.0], A, [9.0], []]) == pytest.approx(math.sqrt((2 + 4 * 0.00625) / 6))
    assert pooled_std([[1.0], []]) is None


def test_the_detectable_difference_is_found_in_four_of_five_studies() -> None:
    """By simulation: 4000 pairs of samples that far apart, at the level of Holm's strictest step over three pairs."""
    far = minimum_detectable_difference(0.5, 5, pairs=3)
    random = np.random.default_rng(3)
    found = stats.ttest_ind(random.normal(0, 0.5, (4000, 5)), random.normal(far, 0.5, (4000, 5)), axis=1).pvalue
    assert np.mean(found < 0.05 / 3) == pytest.approx(0.8, abs=0.02)


def test_the_detectable_difference_is_the_textbooks() -> None:
    # Cohen 1988: with power .8, a two-sided level of .05 and n = 64 an effect of half a standard deviation is found.
    assert minimum_detectable_difference(1.0, 64) == pytest.approx(0.5, abs=0.005)


@given(st.floats(0.01, 100), st.integers(2, 50), st.integers(1, 10), st.floats(0, 10))
def test_the_detectable_difference_scales_and_grows(std: float, n: int, pairs: int, further: float) -> None:
    far = minimum_detectable_difference(std, n, pairs)
    assert minimum_detectable_difference(2 * std, n, pairs) == pytest.approx(2 * far, rel=1e-6)
    assert minimum_detectable_difference(std, n + 1, pairs) < far < minimum_detectable_difference(std, n, pairs + 1)
    assert minimum_detectable_difference(std, n, pairs, further) >= far


def test_words() -> None:
    assert [p_text(p) for p in (None, 0.0001, 0.0314)] == ["not tested", "p < 0.001", "p = 0.031"]
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
