"""What is measured of a path over a landscape: how much it zigzags, and when it has arrived.

Example:
    >>> oscillation([(0, 0), (1, 0), (0, 0), (1, 0)])  # back and forth
    1.0
    >>> oscillation([(0, 0), (1, 0), (2, 1), (2, 3)])  # a curve
    0.0
    >>> steps_to([8.0, 0.5, 2.0, 0.9, 0.4], level=1.0)
    3
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def moves(path: ArrayLike) -> np.ndarray:
    """The length of each step of a path, (steps,), in the units of its points.

    Args:
        path: points in order, (steps + 1, dimension).

    Example:
        >>> moves([(0, 0), (3, 4), (3, 4)]).tolist()
        [5.0, 0.0]
    """
    return np.linalg.norm(np.diff(_points(path), axis=0), axis=1)


def oscillation(path: ArrayLike) -> float:
    """The part of a path's length that goes back against the step before it, from 0 to 1.

    With the steps d₁, d₂, … (those of length 0 left out) it is Σ max(0, −⟨dₜ₊₁, dₜ⟩ / ‖dₜ‖) / Σ ‖dₜ₊₁‖. A straight
    path has 0, and so has a curve that turns by less than a right angle a step; a path that goes back and forth along
    one line has 1. Turning the axes, or multiplying all of them, changes nothing.

    Gradient descent on a quadratic with learning rate η takes back the fraction ηλ − 1 of each step along a direction
    of curvature λ > 1/η: this is the zigzag across a ravine.

    Args:
        path: points in order, (steps + 1, dimension).

    Returns:
        The oscillation; 0 for a path of fewer than two steps that go anywhere.
    """
    steps = np.diff(_points(path), axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    steps, lengths = steps[lengths > 0], lengths[lengths > 0]
    if len(steps) < 2:
        return 0.0
    back = np.maximum(0.0, -(steps[1:] * steps[:-1]).sum(axis=1) / lengths[:-1])
    return float(min(1.0, back.sum() / lengths[1:].sum()))


def steps_to(losses: Sequence[float] | np.ndarray, level: float) -> int | None:
    """The step from which on a loss stays at or below a level.

    A loss that passes below the level and rises again has not arrived; passing through a minimum at speed is no merit.

    Args:
        losses: at the start and after each step; NaN counts as above every level.
        level: what to reach.

    Returns:
        The number of steps, 0 where the loss never was above the level; None where it ends above it.
    """
    above = [i for i, loss in enumerate(losses) if not loss <= level]
    arrived = above[-1] + 1 if above else 0
    return arrived if arrived < len(losses) else None


def target(start: float, minimum: float, part: float = 1e-3) -> float:
    """The loss at which this part of the start's height above the minimum is left.

    Args:
        start: the loss at the start.
        minimum: the lowest there is.
        part: of the height; "steps to 1e-3" are `steps_to(losses, target(losses[0], minimum))`.

    Example:
        >>> target(start=75.0, minimum=0.0)
        0.075
    """
    return minimum + part * (start - minimum)


def _points(path: ArrayLike) -> np.ndarray:
    points = np.asarray(path, dtype=np.float64)
    if points.ndim != 2 or not math.prod(points.shape):
        raise ValueError(f"path must be points in order, (steps + 1, dimension), got shape {points.shape}")
    return points
