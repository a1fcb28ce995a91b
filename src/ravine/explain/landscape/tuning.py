"""The learning rate of an optimizer on a landscape, where none is given: the best of a grid, the same for all.

First `COARSE`, three a decade; then `FINER` more between the neighbours of the best. Best is what takes the fewest
steps to the target, and of what does not arrive the lowest at the end. A run that leaves the drawn ground counts only
where all do: on a plain enough function a rule with a memory may be thrown far away, and right back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ravine.explain.landscape.descent import Descent
from ravine.explain.landscape.measures import steps_to

COARSE = tuple(float(f"{10 ** (k / 3):.3g}") for k in range(-15, 7))
"""Learning rates from 1e-5 to 100."""

FINER = 6

TAIL = 0.1
"""Part of the steps, the last ones, over which the loss at the end is averaged: noise decides little then."""

Descend = Callable[[Sequence[Mapping[str, Any]]], list[Descent]]
"""From settings to runs."""

Inside = Callable[[np.ndarray], bool]
"""Of a point."""

Score = tuple[bool, float, float, float]


@dataclass(frozen=True)
class Tuned:
    """The best learning rate, and its run.

    Args:
        lr: the learning rate.
        run: what it did.
        at_edge: whether it is the least or the largest of the grid, so that a better one may lie beyond.
    """

    lr: float
    run: Descent
    at_edge: bool


def tune(descend: Descend, settings: Mapping[str, Any], target: float, inside: Inside) -> Tuned:
    """Search for the learning rate.

    Args:
        descend: makes the runs.
        settings: of the optimizer, without its learning rate.
        target: the loss to reach.
        inside: whether a point lies on the drawn ground.
    """

    def tried_at(rates: Sequence[float]) -> list[tuple[Score, float, Descent]]:
        runs = descend([{**settings, "lr": lr} for lr in rates])
        return [((*_score(run, target, inside), lr), lr, run) for lr, run in zip(rates, runs, strict=True)]

    tried = tried_at(COARSE)
    place = min(range(len(tried)), key=lambda i: tried[i][0])
    low, high = COARSE[max(0, place - 1)], COARSE[min(len(COARSE) - 1, place + 1)]
    between = [float(f"{lr:.3g}") for lr in np.geomspace(low, high, FINER + 3)[1:-1]]
    tried += tried_at([lr for lr in between if lr not in COARSE])
    _, lr, run = min(tried, key=lambda one: one[0])
    return Tuned(lr, run, lr in (COARSE[0], COARSE[-1]))


def _score(run: Descent, target: float, inside: Inside) -> tuple[bool, float, float]:
    """Less is better: whether it leaves the ground, the steps to the target, and the loss at the end."""
    if run.diverged_at is not None:
        return True, np.inf, np.inf
    arrived = steps_to(run.losses, target)
    end = float(run.losses[-max(1, round(TAIL * len(run.losses))) :].mean())
    return not all(map(inside, run.points)), np.inf if arrived is None else arrived, end
