"""The luck of tuning: what the same trials would have chosen with other seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from tests.lab.results.made import around

from ravine.lab.results.statistics import Sample
from ravine.lab.results.tuning import generator, seed_noise, tuned_again
from ravine.lab.study.selection import Trial


def trials(losses: dict[float, list[float | None]]) -> list[Trial]:
    return [Trial({"lr": lr}, loss, seed) for lr, group in losses.items() for seed, loss in enumerate(group, 1)]


def random() -> np.random.Generator:
    return np.random.default_rng(5)


def test_two_settings_on_one_seed_by_hand() -> None:
    """The other is chosen where its loss, 0.02 above, comes out lower: with noise 0.02 each, P(N(0, 1) > 1 / √2)."""
    changes = tuned_again(trials({0.1: [2.0], 0.2: [2.02]}), 0.02, random(), 100_000)
    assert set(changes.round(9)) == {0.0, 0.02}
    assert np.mean(changes > 0) == pytest.approx(stats.norm.sf(1 / math.sqrt(2)), abs=0.005)


def test_two_settings_on_three_seeds_by_hand() -> None:
    """The means of three seeds have the variance 0.02² / 3 each."""
    tried = trials({0.1: [2.0, 2.01, 1.99], 0.2: [2.02, 2.03, 2.01]})
    changes = tuned_again(tried, 0.02, random(), 100_000)
    assert np.mean(changes > 0) == pytest.approx(stats.norm.sf(1 / math.sqrt(2 / 3)), abs=0.005)


def test_the_shortlist_is_drawn_again_too() -> None:
    """Against simulation of the whole protocol, setting by setting and seed by seed."""
    means = [2.0, 2.01, 2.02, 2.04]
    tried = trials({0.1: [2.0] * 3, 0.2: [2.01] * 3, 0.3: [2.02], 0.4: [2.04]})
    changes = tuned_again(tried, 0.02, random(), 20_000)
    numbers, picked = np.random.default_rng(11), []
    for _ in range(20_000):
        runs = np.array(means)[:, None] + 0.02 * numbers.standard_normal((4, 3))
        first, second = np.argsort(runs[:, 0])[:2]
        picked.append(means[min(first, second, key=lambda i: runs[i].mean())])
    for mean in means:
        expected = np.mean(np.array(picked) == mean)
        assert np.mean(np.isclose(changes, mean - 2.0)) == pytest.approx(expected, abs=0.012)


def test_a_clear_choice_has_no_luck_in_it() -> None:
    tried = trials({0.1: [2.0, 2.01, 1.99], 0.2: [2.5, 2.51, 2.49], 0.3: [9.0]})
    assert not tuned_again(tried, 0.01, random()).any()


def test_losing_a_lucky_choice_makes_the_loss_higher_or_lower() -> None:
    """The judged setting has the lowest mean of the retuned; the search may have had a lower one."""
    tried = trials({0.1: [2.0, 2.04], 0.2: [2.0, 2.06], 0.3: [2.005]})
    changes = tuned_again(tried, 0.03, random())
    assert changes.min() == pytest.approx(2.005 - 2.02)
    assert changes.max() == pytest.approx(0.01)


@pytest.mark.parametrize(
    "losses",
    [
        {0.1: [2.0]},
        {0.1: [2.0, 2.1, 2.0]},
        {0.1: [None], 0.2: [None], 0.3: [None]},
        {0.1: [2.0, 2.1], 0.2: [None, None]},
        {0.1: [2.0, None], 0.2: [2.0, None], 0.3: [2.1]},
    ],
)
def test_without_a_choice_there_is_no_luck(losses: dict[float, list[float | None]]) -> None:
    assert not tuned_again(trials(losses), 0.1, random()).any()


def test_a_setting_that_diverged_is_never_chosen() -> None:
    changes = tuned_again(trials({0.1: [2.0, 2.0], 0.2: [2.01, 2.01], 0.3: [None], 0.4: [None]}), 0.5, random())
    assert np.isfinite(changes).all()
    assert set(changes.round(9)) == {0.0, 0.01}


def test_without_noise_the_same_is_chosen() -> None:
    assert not tuned_again(trials({0.1: [2.0], 0.2: [2.0001]}), 0.0, random()).any()


def test_the_noise_is_pooled_from_judged_and_retuned_runs() -> None:
    tried = trials({0.1: [2.0, 2.02, 2.04], 0.2: [3.0, 3.02, 3.04], 0.3: [9.0], 0.4: [None, None]})
    # Sums of squares 0.001 (4 degrees of freedom) and twice 0.0008 (2 each).
    assert seed_noise(around(2.0).sample, tried) == pytest.approx(math.sqrt((0.001 + 0.0016) / 8))
    assert seed_noise(Sample((2.0,)), trials({0.1: [2.0], 0.2: [3.0]})) == 0.0


def test_draws_depend_on_the_label_alone() -> None:
    first = generator("adamw").standard_normal(4)
    assert (generator("adamw").standard_normal(4) == first).all()
    assert (generator("muon").standard_normal(4) != first).all()
