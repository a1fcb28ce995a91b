"""The verdict case by case: its words, its figures, and what must not change it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.lab.results.made import around, tuned

from ravine.lab.results.statistics import Sample, holm
from ravine.lab.results.verdict import Evidence, Pair, compare_pairs, judge
from ravine.lab.study.selection import Trial

A = (2.10, 2.20, 2.15, 2.05, 2.25)
B = (2.40, 2.60, 2.50, 2.45, 2.55)

NEAR = {0.1: [2.00, 2.01, 1.99], 0.2: [2.02, 2.01, 2.00], 0.3: [2.03]}
"""Trials of which two are as good as each other."""

CLEAR = {0.1: [2.00, 2.01, 1.99], 0.2: [2.52, 2.51, 2.50], 0.3: [2.93]}
"""Trials of which one is the best beyond doubt."""


def test_all_pairs_are_tested_and_corrected_together() -> None:
    samples = {"a": Sample(A), "b": Sample(B), "c": Sample(tuple(x + 0.03 for x in A))}
    pairs = compare_pairs(samples, {})
    assert [(p.a, p.b) for p in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    raw = [stats.ttest_ind(samples[p.a].values, samples[p.b].values, equal_var=False).pvalue for p in pairs]
    assert [p.p for p in pairs] == pytest.approx(raw)
    assert [p.p_corrected for p in pairs] == pytest.approx(holm(raw))
    assert [p.p_settings for p in pairs] == pytest.approx(holm(raw))
    assert pairs[0].difference == pytest.approx(-0.35)
    assert [p.significant for p in pairs] == [True, False, True]


def test_the_luck_of_both_arms_is_counted() -> None:
    (pair,) = compare_pairs({"a": Sample(A), "b": Sample(B)}, {"a": 0.1, "b": 0.2})
    # Variances 0.00625 / 5 each, and 0.01 + 0.04.
    assert pair.p == pytest.approx(2 * stats.t.sf(0.35 / math.sqrt(0.0025 + 0.05), 8))
    assert pair.p_corrected == pair.p
    assert pair.p_settings == pytest.approx(2 * stats.t.sf(7.0, 8))
    assert not pair.significant


def test_an_arm_that_lost_a_run_is_not_tested() -> None:
    samples = {"a": Sample(A), "b": Sample(B[:4], diverged=1), "c": Sample((), diverged=4, failed=1)}
    pairs = compare_pairs(samples, {})
    assert all(p.p is p.p_corrected is p.p_settings is p.interval is None for p in pairs)
    assert pairs[0].difference is not None and pairs[1].difference is None


def test_a_pair_is_significant_below_five_percent() -> None:
    assert Pair("a", "b", 0.1, (0, 1), 0.01, 0.049).significant
    assert not Pair("a", "b", 0.1, (0, 1), 0.01, 0.05).significant


def test_the_winner_beats_every_other() -> None:
    found = judge({"a": around(2.5), "b": around(2.0), "c": around(3.0)}).verdict
    assert (found.winner, found.significant) == ("b", True)
    assert found.text.startswith("b trained best, for these settings: its final loss is lower than that of a (by 0.5, ")
    assert "c (by 1, p < 0.001)" in found.text


def test_no_difference_is_called_that() -> None:
    found = judge({"a": around(2.5), "b": around(2.501)}).verdict
    assert (found.winner, found.significant) == (None, False)
    # Spread 0.01·sqrt(2.5) in both: the standard error of the difference is 0.01, t = 0.1 with 8 degrees of freedom.
    assert stats.t.sf(0.1, 8) * 2 == pytest.approx(0.9228, abs=1e-4)
    assert found.text == "No significant difference between a and b (by 0.001, p = 0.923), for these settings."


def test_tuned_arms_are_compared_and_not_only_their_settings() -> None:
    found = judge({"a": tuned(2.5, CLEAR), "b": tuned(2.0, CLEAR)}).verdict
    assert found.text == "b trained best: its final loss is lower than that of a (by 0.5, p < 0.001)."
    one = judge({"a": around(2.5), "b": tuned(2.0, CLEAR)}).verdict
    assert one.text == found.text


def test_a_tie_at_the_top_has_no_winner_but_says_who_is_behind() -> None:
    found = judge({"a": around(2.5), "b": around(2.501), "c": around(3.0)}).verdict
    assert (found.winner, found.significant) == (None, False)
    assert found.text == (
        "No significant difference between a, which has the lowest mean, and b (by 0.001, p = 0.923), for these "
        "settings. a is significantly better than c (by 0.5, p < 0.001)."
    )


def test_a_difference_that_luck_can_explain_is_none_and_is_said() -> None:
    """Five seeds tell the two apart; but either might as well have been judged with another setting."""
    arms = {"a": tuned(2.0, NEAR), "b": tuned(2.03, NEAR)}
    judgement = judge(arms)
    (pair,) = judgement.pairs
    assert pair.p_settings == pytest.approx(2 * stats.t.sf(3.0, 8)) and pair.p_settings < 0.05
    assert judgement.tuning_std["a"] == pytest.approx(judgement.tuning_std["b"], rel=0.1)
    luck = sum(judgement.tuning_std[label] ** 2 for label in arms)  # type: ignore[operator]
    assert pair.p == pytest.approx(2 * stats.t.sf(0.03 / math.sqrt(0.01**2 + luck), 8))
    wide = judge(
        {"a": tuned(2.0, {0.1: [2.0], 0.2: [2.01]}), "b": tuned(2.027, {0.1: [2.0], 0.2: [2.03], 0.3: [2.03]})}
    )
    assert wide.pairs[0].p_settings < 0.05 < wide.pairs[0].p  # type: ignore[operator]
    assert wide.verdict.winner is None
    assert wide.verdict.text.endswith(
        "The setting chosen for a did better than that for b, but the luck of tuning can explain it."
    )


def test_a_clear_choice_of_settings_leaves_welchs_test_as_it_is() -> None:
    judgement = judge({"a": tuned(2.0, CLEAR), "b": tuned(2.03, CLEAR)})
    assert judgement.tuning_std == {"a": 0.0, "b": 0.0}
    assert judgement.pairs[0].p == judgement.pairs[0].p_settings
    assert judgement.verdict.winner == "a"


def test_an_arm_that_was_not_tuned_has_no_luck_of_tuning() -> None:
    judgement = judge({"a": around(2.0), "b": tuned(2.0, NEAR), "c": tuned(2.0, {0.1: [2.0, 2.1]})})
    assert judgement.tuning_std["a"] is None and judgement.tuning_std["c"] is None
    assert judgement.tuning_std["b"]


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_few_seeds_are_not_enough_however_clear_it_looks(seeds: int) -> None:
    found = judge({"a": around(1.0, seeds), "b": around(5.0, seeds)}).verdict
    assert (found.winner, found.significant) == (None, False)
    assert found.text.startswith(f"Not enough seeds: {seeds} per arm")


def test_four_seeds_are_enough() -> None:
    assert judge({"a": around(1.0, 4), "b": around(5.0, 4)}).verdict.winner == "a"


def test_a_divergence_is_said_and_keeps_an_arm_out() -> None:
    found = judge({"a": around(2.5), "b": around(1.0, 4, diverged=1), "c": around(3.0)}).verdict
    assert found.winner == "a"
    assert found.text.endswith("b diverged in 1 of 5 seeds and is not ranked.")
    alone = judge({"a": around(2.5), "b": around(0.0, 0, diverged=3, failed=2)}).verdict
    assert alone.winner is None and "fewer than two arms finished all their seeds" in alone.text
    assert alone.text.endswith("b diverged in 3 and failed in 2 of 5 seeds and is not ranked.")


def test_the_probability_of_coming_out_best() -> None:
    far = judge({"a": tuned(2.0, CLEAR), "b": tuned(3.0, CLEAR)}).verdict
    assert far.tuning_probability == {"a": 1.0, "b": 0.0}
    even = judge({"a": tuned(2.0, NEAR), "b": tuned(2.0, NEAR), "c": tuned(2.0, NEAR)}).verdict
    assert even.tuning_probability is not None
    assert sum(even.tuning_probability.values()) == pytest.approx(1.0)
    assert all(share == pytest.approx(1 / 3, abs=0.05) for share in even.tuning_probability.values())


def test_the_probability_by_hand() -> None:
    """Without luck of tuning it is that of a normal difference: standard error 0.01, 0.01 apart."""
    found = judge({"a": tuned(2.0, CLEAR), "b": tuned(2.01, CLEAR)}).verdict.tuning_probability
    assert found is not None
    assert found["a"] == pytest.approx(stats.norm.cdf(1.0), abs=0.03)


def test_the_probability_is_of_ranked_and_tuned_arms() -> None:
    assert judge({"a": around(2.0), "b": around(2.0)}).verdict.tuning_probability is None
    assert judge({"a": tuned(2.0, NEAR), "b": around(2.0, 4, diverged=1)}).verdict.tuning_probability is None
    lost = judge({"a": tuned(2.0, NEAR), "b": around(2.0), "c": around(1.0, 4, failed=1)}).verdict.tuning_probability
    assert lost is not None and set(lost) == {"a", "b"}


def test_the_difference_that_would_be_found() -> None:
    # Of the pooled spread 0.01·sqrt(2.5) and n = 5, 2.02 standard deviations of one arm.
    two = judge({"a": around(2.0), "b": around(2.5)}).minimum_detectable_difference
    assert two == pytest.approx(2.02 * 0.01 * math.sqrt(2.5), rel=0.01)
    three = judge({"a": around(2.0), "b": around(2.5), "c": around(2.6)}).minimum_detectable_difference
    lucky = judge({"a": tuned(2.0, NEAR), "b": around(2.5)}).minimum_detectable_difference
    assert two is not None and three is not None and lucky is not None
    assert three > two and lucky > two
    assert judge({"a": around(2.0), "b": around(2.0, 4, diverged=1)}).minimum_detectable_difference is None


exact = st.integers(-2048, 2048).map(lambda n: n / 1024)
groups = st.lists(exact, min_size=3, max_size=3)
arms_of_three = st.lists(
    st.tuples(st.lists(exact, min_size=4, max_size=6), st.lists(groups, min_size=1, max_size=3)), min_size=2, max_size=4
)


def evidence(found: list[tuple[list[float], list[list[float]]]], scale: float = 1.0, shift: float = 0.0):  # type: ignore[no-untyped-def]
    return {
        f"arm {i}": Evidence(
            Sample(tuple(x * scale + shift for x in values)),
            tuple(
                Trial({"lr": float(k)}, loss * scale + shift, seed)
                for k, losses in enumerate(trials)
                for seed, loss in enumerate(losses)
            ),
        )
        for i, (values, trials) in enumerate(found)
    }


@settings(max_examples=40, deadline=None)
@given(arms_of_three, st.integers(-8, 8), st.integers(-5, 5))
def test_shifting_and_scaling_losses_leaves_p_alone(found, shift: int, power: int) -> None:  # type: ignore[no-untyped-def]
    was, is_ = judge(evidence(found)), judge(evidence(found, 2.0**power, float(shift)))
    for a, b in zip(was.pairs, is_.pairs, strict=True):
        assert b.p == pytest.approx(a.p, rel=1e-6, abs=1e-12)
        assert b.p_corrected == pytest.approx(a.p_corrected, rel=1e-6, abs=1e-12)
    assert is_.verdict.winner == was.verdict.winner


@settings(max_examples=40, deadline=None)
@given(arms_of_three, st.integers(-5, 5))
def test_the_unit_of_the_loss_leaves_probabilities_alone(found, power: int) -> None:  # type: ignore[no-untyped-def]
    probability = judge(evidence(found)).verdict.tuning_probability
    assert judge(evidence(found, 2.0**power)).verdict.tuning_probability == probability


@settings(max_examples=40, deadline=None)
@given(arms_of_three)
def test_the_order_of_the_arms_leaves_the_verdict_alone(found) -> None:  # type: ignore[no-untyped-def]
    arms = evidence(found)
    was = judge(arms)
    by_arms = {frozenset((pair.a, pair.b)): pair for pair in was.pairs}
    for order in itertools.islice(itertools.permutations(arms), 1, 4):
        is_ = judge({label: arms[label] for label in order})
        assert is_.verdict == was.verdict
        assert is_.tuning_std == was.tuning_std
        for pair in is_.pairs:
            same = by_arms[frozenset((pair.a, pair.b))]
            assert (pair.p, pair.p_corrected, pair.p_settings) == pytest.approx(
                (same.p, same.p_corrected, same.p_settings), rel=1e-9
            )


def test_the_test_cries_wolf_as_often_as_it_says() -> None:
    """Triplets, 1000 times: of three equal arms some pair is called different in about 5 % of studies, not in more."""
    random = np.random.default_rng(7)
    alarms = 0
    for _ in range(1000):
        samples = {name: Sample(tuple(random.normal(2.0, 0.02, 5))) for name in "abc"}
        alarms += any(pair.significant for pair in compare_pairs(samples, {}))
    assert 0.015 < alarms / 1000 < 0.065
