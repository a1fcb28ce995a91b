"""Which settings are tuned on, and which one is judged."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.lab.study.selection import Trial, chosen, shortlist


def tried(losses: dict[float, list[float | None]]) -> list[Trial]:
    return [Trial({"lr": lr}, loss, seed) for lr, group in losses.items() for seed, loss in enumerate(group, 1)]


def test_the_two_best_are_tuned_on() -> None:
    trials = tried({0.1: [2.0], 0.2: [1.8], 0.3: [1.9], 0.4: [None]})
    assert shortlist(trials) == [{"lr": 0.2}, {"lr": 0.3}]
    assert shortlist(trials, 1) == [{"lr": 0.2}]
    assert shortlist(trials, 9) == [{"lr": lr} for lr in (0.2, 0.3, 0.1, 0.4)]


def test_the_lowest_mean_over_all_seeds_is_judged() -> None:
    assert chosen(tried({0.1: [2.0, 2.0, 2.0], 0.2: [1.8, 2.1, 2.2]})) == {"lr": 0.1}
    assert chosen(tried({0.1: [2.0]})) == {"lr": 0.1}


def test_a_setting_that_was_not_tuned_on_is_not_judged_however_lucky_it_was() -> None:
    assert chosen(tried({0.1: [1.9, 2.5, 2.5], 0.2: [1.8, 2.6, 2.7], 0.3: [2.0]})) == {"lr": 0.1}


def test_one_that_was_lost_on_a_seed_comes_last() -> None:
    assert chosen(tried({0.1: [1.0, 1.0, None], 0.2: [3.0, 3.0, 3.0]})) == {"lr": 0.2}
    assert chosen(tried({0.1: [1.0, None, None], 0.2: [3.0, None, 3.0]})) == {"lr": 0.2}


def test_where_all_were_lost_the_smallest_learning_rate_is_taken() -> None:
    lost = tried({0.3: [None], 0.1: [None], 0.2: [None]})
    assert shortlist(lost) == [{"lr": 0.1}, {"lr": 0.2}]
    assert chosen(lost) == {"lr": 0.1}


def test_of_equals_without_a_learning_rate_the_first_tried_is_taken() -> None:
    assert chosen([Trial({"beta2": 0.999}, 2.0), Trial({"beta2": 0.95}, 2.0)]) == {"beta2": 0.999}


def test_without_trials_nothing_is_chosen() -> None:
    assert shortlist([]) == []
    with pytest.raises(ValueError, match="at least one trial"):
        chosen([])


losses = st.lists(st.none() | st.integers(0, 50).map(float), min_size=1, max_size=6)


@given(losses)
def test_the_order_in_which_trials_ended_does_not_matter(found: list[float | None]) -> None:
    trials = tried({0.1 * (i + 1): [loss] for i, loss in enumerate(found)})
    for order in itertools.islice(itertools.permutations(trials), 24):
        assert shortlist(order) == shortlist(trials)
        assert chosen(order) == chosen(trials)
