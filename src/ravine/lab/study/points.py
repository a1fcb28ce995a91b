"""Where a study looks: points of the unit cube that all arms share, one coordinate a setting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from ravine.lab.study.arms import Arm
from ravine.lab.study.space import COORDINATES, Choice, Range, Value


def quasi_random(count: int, seed: int = 0) -> list[dict[str, float]]:
    """Points of a scrambled Sobol sequence (Owen 1998), with a coordinate for each of `COORDINATES`.

    The first 2ᵏ of them have one in each 2ᵏ-th of every coordinate.

    Example:
        >>> sorted(int(4 * point["lr"]) for point in quasi_random(4))
        [0, 1, 2, 3]
    """
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(COORDINATES), scramble=True, rng=seed)
    drawn = sequence.random_base2(max(0, (count - 1).bit_length()))[:count]
    return [dict(zip(COORDINATES, map(float, point), strict=True)) for point in drawn]


def settings_at(arm: Arm, point: Mapping[str, float]) -> dict[str, Value]:
    """The arm's settings at a point; a setting without a coordinate of its own takes those of the others by turns."""
    parts = {name: point.get(name, _other(name, point)) for name in arm.space}
    return {name: place.at(parts[name]) for name, place in arm.space.items()}


def grid(arm: Arm, count: int) -> list[dict[str, Value]]:
    """The `count` cells of a grid over the arm's space: all choices, and equally many numbers of each range.

    Raises:
        ValueError: where no such grid has this many cells; the next smaller one that has is named.

    Example:
        >>> from ravine.lab.study.arms import parse
        >>> [point["lr"] for point in grid(parse(["lion"])[0], 3)]
        [0.0001, 0.001, 0.01]
    """
    ranges = sum(isinstance(place, Range) for place in arm.space.values())
    choices = math.prod(len(place.values) for place in arm.space.values() if isinstance(place, Choice))
    each = int((count / choices) ** (1 / max(1, ranges)) + 1e-9)
    cells = choices * max(1, each) ** ranges
    if cells != count:
        raise ValueError(f"no grid over {', '.join(arm.space)} of {arm.label} has {count} cells; give trials={cells}")
    values = [place.grid(each) for place in arm.space.values()]
    return [dict(zip(arm.space, cell, strict=True)) for cell in itertools.product(*values)]


def _other(name: str, point: Mapping[str, float]) -> float:
    """A coordinate for a setting that has none: a rotation of the point, the same for every arm."""
    shift = sum(map(ord, name)) * 0.6180339887498949
    return (sum(point.values()) + shift) % 1.0
