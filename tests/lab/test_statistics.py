"""Statistics against hand-computed numbers and SciPy, and the verdict's words case by case."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ravine.lab.statistics import Pair, Sample, Verdict, compare_pairs, holm, judge, welch

A = (2.10, 2.20, 2.15, 2.05, 2.25)
B = (2.40, 2.60, 2.50, 2.45, 2.55)


def verdict(at_edge: tuple[str, ...] = (), **samples: Sample) -> Verdict:
    return judge(samples, compare_pairs(samples), at_edge)


def around(mean: float, n: int = 5, diverged: int = 0) -> Sample:
    return Sample(tuple(mean + 0.01 * (i - (n - 1) / 2) for i in range(n)), diverged)


def test_welch_by_hand() -> None:
    # Means 2.15 and 2.5, both variances 0.00625, n = 5: t = -0.35 / sqrt(2 * 0.00625 / 5) = -7, df = 8.
    p, (low, high) = welch(A, B)
    assert p == pytest.approx(2 * stats.t.sf(7.0, 8), rel=1e-9)
    half = stats.t.ppf(0.975, 8) * 0.05
    assert (low, high) == pytest.approx((-0.35 - half, -0.35 + half), rel=1e-9)


def test_welch_counts_degrees_of_freedom_for_unequal_variances() -> None:
    a, b = (1.0, 2.0, 3.0, 4.0), (2.0, 2.1, 2.2, 2.3, 2.4)
    va, vb = np.var(a, ddof=1) / 4, np.var(b, ddof=1) / 5
    df = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 4)
    t = (np.mean(a) - np.mean(b)) / math.sqrt(va + vb)
    assert welch(a, b)[0] == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-9)


def test_without_any_spread_equal_is_equal() -> None:
    assert welch([2.0] * 4, [2.0] * 4) == (1.0, (0.0, 0.0))
    assert welch([2.0] * 4, [3.0] * 4) == (0.0, (-1.0, -1.0))


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


@given(st.lists(st.integers(0, 1000).map(lambda n: n / 1000), max_size=8), st.floats(0.001, 0.999))
def test_corrected_values_reject_what_the_procedure_rejects(p_values: list[float], level: float) -> None:
    assert {i for i, p in enumerate(holm(p_values)) if p <= level} == step_down(p_values, level)


def test_a_sample_has_its_mean_spread_and_interval() -> None:
    sample = Sample(A)
    assert sample.mean == pytest.approx(2.15)
    assert sample.std == pytest.approx(math.sqrt(0.00625))
    half = 2.7764451 * math.sqrt(0.00625 / 5)
    assert sample.interval == pytest.approx((2.15 - half, 2.15 + half), rel=1e-6)
    assert (Sample(()).mean, Sample((1.0,)).std, Sample((1.0,)).interval) == (None, None, None)


def test_all_pairs_are_tested_and_corrected_together() -> None:
    samples = {"a": Sample(A), "b": Sample(B), "c": Sample(tuple(x + 0.03 for x in A))}
    pairs = compare_pairs(samples)
    assert [(p.a, p.b) for p in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    raw = [stats.ttest_ind(samples[p.a].values, samples[p.b].values, equal_var=False).pvalue for p in pairs]
    assert [p.p for p in pairs] == pytest.approx(raw)
    assert [p.p_corrected for p in pairs] == pytest.approx(holm(raw))
    assert pairs[0].difference == pytest.approx(-0.35)
    assert [p.significant for p in pairs] == [True, False, True]


def test_an_arm_that_diverged_is_not_tested() -> None:
    pairs = compare_pairs({"a": Sample(A), "b": Sample(B[:4], diverged=1), "c": Sample((), diverged=5)})
    assert all(p.p is None and p.p_corrected is None and p.interval is None for p in pairs)
    assert pairs[0].difference is not None and pairs[1].difference is None


def test_the_winner_beats_every_other() -> None:
    found = verdict(a=around(2.5), b=around(2.0), c=around(3.0))
    assert (found.winner, found.significant) == ("b", True)
    assert found.text.startswith(
        "b trained best, for these tuned settings: its final loss is lower than that of a (by 0.5"
    )
    assert "c (by 1.000, p < 0.001)" in found.text


def test_no_difference_is_called_that() -> None:
    found = verdict(a=around(2.5), b=around(2.501))
    assert (found.winner, found.significant) == (None, False)
    # Spread 0.01·sqrt(2.5) in both: the standard error of the difference is 0.01, t = 0.1 with 8 degrees of freedom.
    assert stats.t.sf(0.1, 8) * 2 == pytest.approx(0.9228, abs=1e-4)
    assert found.text == "No significant difference between a and b (by 0.001, p = 0.923), for these tuned settings."


def test_a_tie_at_the_top_has_no_winner_but_says_who_is_behind() -> None:
    found = verdict(a=around(2.5), b=around(2.501), c=around(3.0))
    assert (found.winner, found.significant) == (None, False)
    assert "between a, which has the lowest mean, and b" in found.text
    assert "a is significantly better than c (by 0.500, p < 0.001)." in found.text
    assert "for these tuned settings" in found.text


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_few_seeds_are_not_enough_however_clear_it_looks(seeds: int) -> None:
    found = verdict(a=around(1.0, seeds), b=around(5.0, seeds))
    assert (found.winner, found.significant) == (None, False)
    assert found.text.startswith(f"Not enough seeds: {seeds} per arm")


def test_four_seeds_are_enough() -> None:
    assert verdict(a=around(1.0, 4), b=around(5.0, 4)).winner == "a"


def test_a_divergence_is_said_and_keeps_an_arm_out() -> None:
    found = verdict(a=around(2.5), b=around(1.0, 4, diverged=1), c=around(3.0))
    assert found.winner == "a"
    assert "b diverged in 1 of 5 seeds and is not ranked." in found.text
    alone = verdict(a=around(2.5), b=Sample((), diverged=5))
    assert alone.winner is None and "fewer than two arms finished all their seeds" in alone.text
    assert "b diverged in 5 of 5 seeds" in alone.text


def test_a_best_rate_on_the_edge_is_said() -> None:
    found = verdict(("a", "b"), a=around(2.5), b=around(2.0))
    assert "The best learning rate of a and b is the smallest or largest that was tried" in found.text


def test_the_test_cries_wolf_as_often_as_it_says() -> None:
    """Triplets, 1000 times: of three equal arms some pair is called different in about 5 % of studies, not in more."""
    generator = np.random.default_rng(7)
    alarms = 0
    for _ in range(1000):
        samples = {name: Sample(tuple(generator.normal(2.0, 0.02, 5))) for name in "abc"}
        alarms += any(pair.significant for pair in compare_pairs(samples))
    assert 0.015 < alarms / 1000 < 0.065


def test_a_pair_is_significant_below_five_percent() -> None:
    assert Pair("a", "b", 0.1, (0, 1), 0.01, 0.049).significant
    assert not Pair("a", "b", 0.1, (0, 1), 0.01, 0.05).significant
