"""What claims read off their measurements: the exponent of a power law, and where a curve is lowest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """The k of y ∝ x^k: log y over log x, least squares; NaN below two different x.

    Example:
        >>> round(exponent([1, 2, 4], [8, 2, 0.5]), 6)
        -2.0
    """
    a, b = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    if len(set(x)) < 2:
        return math.nan
    a = a - a.mean()
    return float((a * b).sum() / (a * a).sum())


def lowest(x: Sequence[float], y: Sequence[float]) -> float:
    """Where a curve over log x is lowest: the vertex of the parabola through its lowest point and both neighbours.

    NaN where the lowest point is the first or the last, since lower ones may lie beyond. Beside a point that is not
    finite, the lowest point itself.

    Example:
        >>> round(lowest([1, 10, 100], [1.0, 0.0, 1.0]), 6)
        10.0
        >>> lowest([1, 10, 100], [0.0, 1.0, 2.0])
        nan
    """
    losses = [value if math.isfinite(value) else math.inf for value in y]
    i = losses.index(min(losses))
    if not 0 < i < len(losses) - 1:
        return math.nan
    near = losses[i - 1 : i + 2]
    if math.inf in near or len(set(near)) == 1:
        return float(x[i])
    curvature, slope, _ = np.polyfit(np.log(np.asarray(x[i - 1 : i + 2], float) / x[i]), near, 2)
    return float(x[i] * np.exp(-slope / (2 * curvature)))
