"""Timing side by side: the order of the steps, and the arithmetic of ratios on times that are known."""

from __future__ import annotations

import gc
import itertools
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.bench.timing import Round, Spread, interleave, steps_for, whole_periods


class FakeClock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, *seconds: float) -> Callable[[], None]:
        durations = itertools.cycle(seconds)

        def work() -> None:
            self.now += next(durations)

        return work


def test_steps_alternate() -> None:
    said: list[str] = []
    interleave(lambda: said.append("A"), lambda: said.append("B"), rounds=2, steps=3)
    assert "".join(said) == "AB" * 6


def test_the_device_is_waited_for_before_and_after_each_step() -> None:
    said: list[str] = []
    interleave(lambda: said.append("A"), lambda: said.append("B"), 1, 1, synchronize=lambda: said.append("|"))
    assert "".join(said) == "|A||B|"


def test_a_round_is_the_mean_of_its_steps() -> None:
    clock = FakeClock()
    dear_now_and_then = clock.taking(1.0, 1.0, 1.0, 1.0, 6.0)
    rounds = interleave(clock.taking(2.0), dear_now_and_then, rounds=3, steps=5, clock=clock)
    assert rounds == [Round(2.0, 2.0)] * 3
    assert [r.ratio for r in rounds] == [1.0] * 3


@given(
    st.lists(st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3)), min_size=1, max_size=6),
    st.integers(1, 4),
)
def test_ratios_are_those_of_the_times(times: list[tuple[float, float]], steps: int) -> None:
    clock = FakeClock()
    first = clock.taking(*(a for a, _ in times for _ in range(steps)))
    second = clock.taking(*(b for _, b in times for _ in range(steps)))
    rounds = interleave(first, second, len(times), steps, clock=clock)
    # The clock's reading grows to the sum of all times, and a difference of two readings is off by an ulp of that.
    slack = 2 * clock.now * 2**-52 * steps * len(times)
    for measured, (a, b) in zip(rounds, times, strict=True):
        assert measured.baseline == pytest.approx(a, rel=1e-9, abs=slack)
        assert measured.other == pytest.approx(b, rel=1e-9, abs=slack)
        assert measured.ratio == measured.other / measured.baseline


@given(st.lists(st.floats(1e-9, 1e9), min_size=1))
def test_the_spread_is_of_the_values(values: list[float]) -> None:
    spread = Spread.of(iter(values))
    assert (spread.median, spread.min, spread.max) == (statistics.median(values), min(values), max(values))


@given(st.floats(0, 10), st.integers(1, 30))
def test_rounds_are_whole_periods_long_enough_and_not_endless(step_seconds: float, period: int) -> None:
    steps = steps_for(step_seconds, period)
    assert steps % period == 0
    assert 10 <= steps < 1000 + period
    assert steps * step_seconds >= 0.1 or steps >= 1000


def test_steps_are_raised_to_whole_periods() -> None:
    assert [whole_periods(steps, 5) for steps in (1, 5, 6, 10)] == [5, 5, 10, 10]


def test_garbage_is_collected_again_after_a_failure() -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        interleave(fail, fail, 1, 1)
    assert gc.isenabled()
