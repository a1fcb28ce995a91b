"""A landscape of the user's own: a function of two torch numbers in a Python file that the command line names."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from ravine.explain.landscape.functions import Landscape, Point, named, written
from ravine.lab.models import python_file

Span = tuple[float, float]

RANGE: Span = (-2.0, 2.0)
"""What is drawn of x and of y, where no ranges are given."""

STEPS = 200

DIFFERENCE = 1e-5
"""Of x and y, in widths of the landscape, between which a slope is measured."""

SLOPE_TOLERANCE = 0.01
"""By how much, relative to the larger, the slope may differ from the gradient."""


def read(on: str, x: Span | None = None, y: Span | None = None, start: Point | None = None) -> tuple[Landscape, Point]:
    """The landscape of this name, or one of the user's own, with the ranges and the start that are wanted.

    Args:
        on: a name of `LANDSCAPES`, or `"FILE.py:FUNCTION"`: this runs the file. The function takes x and y, torch
            scalars of type float64, and gives one.
        x, y: what is drawn; default the landscape's ranges, or `RANGE`.
        start: where all begin; default the landscape's, or an eighth from the left and the top.

    Raises:
        ValueError: for an unknown name, with the nearest; a range or start that will not do; a file or function that
            cannot be run; a function that is not differentiable at the start, or not finite there.
    """
    for axis, span in (("x", x), ("y", y)):
        if span is not None and not (all(map(math.isfinite, span)) and span[0] < span[1]):
            raise ValueError(f"{axis} must be a finite number and a greater one, got {span[0]:g} and {span[1]:g}")
    landscape = _own(on, x or RANGE, y or RANGE) if ".py:" in on else named(on)
    landscape = replace(landscape, x=x or landscape.x, y=y or landscape.y)
    at = landscape.start if start is None else start
    if not all(map(math.isfinite, at)):
        raise ValueError(f"start must be two finite numbers, got {written(at)}")
    _require_slope(landscape, at)
    return landscape, at


def _own(on: str, x: Span, y: Span) -> Landscape:
    place, _, function = on.rpartition(":")
    path = Path(place).expanduser().resolve()
    value = python_file.find(path, python_file.read(path, "on"), function, ("x", "y"))
    start = (x[0] + (x[1] - x[0]) / 8, y[1] - (y[1] - y[0]) / 8)
    return Landscape(
        f"{path.name}:{function}", "", value, x, y, start, STEPS, about="A function of one's own.", of_arrays=False
    )


def _require_slope(landscape: Landscape, start: Point) -> None:
    """Refuse a function whose gradient is not its slope: a part of it was not computed by torch."""
    with warnings.catch_warnings():
        # torch's word on float(x) is said below, with the point.
        warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad", category=UserWarning)
        ((value,), (gradient,)) = landscape.slopes([start], strictly=True)
    widths = np.array([landscape.x[1] - landscape.x[0], landscape.y[1] - landscape.y[0]]) * DIFFERENCE
    sides = [[np.asarray(start) + sign * step for sign in (1, -1)] for step in np.diag(widths)]
    slope = np.array([landscape.height(after) - landscape.height(before) for after, before in sides]) / (2 * widths)
    # Differences of values this large are exact to about 1e-16 of them.
    rounding = 1e-12 * (abs(value) + 1) / widths
    if (np.abs(slope - gradient) > SLOPE_TOLERANCE * np.maximum(np.abs(slope), np.abs(gradient)) + rounding).any():
        raise ValueError(
            f"on: {landscape.name} is not differentiable at {written(start)}: torch gives the gradient "
            f"{written(gradient)}, and its slope is {written(slope)}; write it with torch's operations, and start "
            "where it is smooth"
        )


def lowest(landscape: Landscape, x: np.ndarray, y: np.ndarray, heights: np.ndarray) -> tuple[float, Point]:
    """The lowest value found in the drawn ranges, and where: Nelder and Mead's search from the five lowest of a grid.

    It looks at values alone, for a minimum may be where the function has no gradient.

    Args:
        landscape: a function whose minimum is not known.
        x, y: the grid.
        heights: the values on it, (len(y), len(x)).
    """
    from scipy.optimize import minimize

    best = np.inf, (0.0, 0.0)
    for flat in np.argsort(heights, axis=None)[:5]:
        row, column = np.unravel_index(flat, heights.shape)
        found = minimize(
            landscape.height, (x[column], y[row]), method="Nelder-Mead", bounds=(landscape.x, landscape.y),
            options={"xatol": 1e-9, "fatol": 1e-15},
        )  # fmt: skip
        candidates = [(float(heights[row, column]), (x[column], y[row])), (float(found.fun), tuple(found.x))]
        best = min(best, *candidates, key=lambda one: one[0])
    return best[0], (float(best[1][0]), float(best[1][1]))
