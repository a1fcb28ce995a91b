"""Whether a best setting lies at the edge of what was tried, so that a better one may lie beyond."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ravine.lab.study.selection import Trial, by_setting


def at_edge(trials: Sequence[Trial], best: Mapping[str, Any], space: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names of the hyperparameters whose best value is at an edge of their range.

    It is if it is an end of the range. It also is if nothing was tried further out and the second best value is its
    neighbour, for then losses fall towards the edge. The outermost of a few random points is often the best by
    chance where a hyperparameter matters little; that its neighbour is the second best as well is not.

    Args:
        trials: of one arm.
        best: the setting that is judged.
        space: by name, as in `ArmInfo`; choices have no edge.

    Example:
        >>> space = {"lr": {"kind": "log", "low": 0.001, "high": 1.0}}
        >>> tried = {0.004: 1.9, 0.03: 2.0, 0.2: 2.2}
        >>> at_edge([Trial({"lr": lr}, loss) for lr, loss in tried.items()], {"lr": 0.004}, space)
        ['lr']
    """
    return [
        name
        for name, place in space.items()
        if place["kind"] != "choice" and name in best and _outermost(_losses(trials, name), best[name], place)
    ]


def _losses(trials: Sequence[Trial], name: str) -> dict[float, float]:
    """The lowest loss of each value that was tried, infinite where runs were lost.

    Of the search alone: there all settings had the same seed, and the spread of further ones would blur the order.
    """
    losses: dict[float, float] = {}
    for first, *_ in by_setting(trials):
        value = float(first.settings[name])
        loss = math.inf if first.loss is None else first.loss
        losses[value] = min(loss, losses.get(value, math.inf))
    return losses


def _outermost(losses: Mapping[float, float], best: float, place: Mapping[str, Any]) -> bool:
    if best <= place["low"] or best >= place["high"]:
        return True
    values = sorted(losses)
    if len(values) < 3 or best not in (values[0], values[-1]):
        return False
    outwards = values if best == values[0] else values[::-1]
    # Of equals, as where all others diverged, the neighbour: the order is kept.
    return min(outwards[1:], key=lambda value: losses[value]) == outwards[1]
