"""Timing two things side by side: A B A B, so that whatever disturbs one disturbs the other."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Work = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Spread:
    """The median of some measurements, and the least and the greatest of them."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least one value.

        Example:
            >>> Spread.of([3.0, 1.0, 2.0])
            Spread(median=2.0, min=1.0, max=3.0)
        """
        known = list(values)
        return cls(statistics.median(known), min(known), max(known))


@dataclass(frozen=True)
class Round:
    """Mean seconds a step of the baseline and of the other took, in one round of alternating steps."""

    baseline: float
    other: float

    @property
    def ratio(self) -> float:
        """How long a step of the other takes, in steps of the baseline."""
        return self.other / self.baseline


def interleave(
    baseline: Work,
    other: Work,
    rounds: int,
    steps: int,
    synchronize: Work = lambda: None,
    clock: Clock = time.perf_counter,
) -> list[Round]:
    """Time steps of two optimizers in turn: baseline, other, baseline, other, ...

    Args:
        baseline, other: take one step each.
        rounds: how many rounds; each gives one ratio.
        steps: how many steps of each a round has; its time is their mean, so that a step that is dear now and then
            counts for what it costs.
        synchronize: waits until the device has done what it was given.
        clock: seconds.
    """
    measured = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            spent = [0.0, 0.0]
            for _ in range(steps):
                for side, work in enumerate((baseline, other)):
                    synchronize()
                    start = clock()
                    work()
                    synchronize()
                    spent[side] += clock() - start
            measured.append(Round(spent[0] / steps, spent[1] / steps))
            gc.collect(0)
    finally:
        if collecting:
            gc.enable()
    return measured


def steps_for(step_seconds: float, period: int, least: int = 10, round_seconds: float = 0.1, most: int = 1000) -> int:
    """How many steps a round should have, in whole periods: at least `least`, and enough to fill `round_seconds`.

    Example:
        >>> steps_for(0.04, period=1), steps_for(0.04, period=6), steps_for(0.0005, period=1)
        (10, 12, 200)
    """
    wanted = max(least, min(most, math.ceil(round_seconds / max(step_seconds, 1e-9))))
    return whole_periods(wanted, period)


def whole_periods(steps: int, period: int) -> int:
    """The number of steps, raised to a multiple of the period."""
    return -(-steps // period) * period
