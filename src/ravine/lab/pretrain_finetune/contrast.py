"""Contrasts of the four cells, with the luck of the bases, of the seeds and of tuning all counted.

The design is two experiments in one. Pre-training is applied to whole bases: a base's luck is shared by every run that
begins with it, so that runs on one base are no independent evidence about the optimizer it was pre-trained with.
Post-training is applied within a base, and its seeds (the order of the examples) are the same on every base. A run's
loss is therefore

    cell mean + luck of its base + luck of its seed + the rest

where the luck of a base may differ from one post-training optimizer to the other, and that of a seed from one
pre-training optimizer to the other. The variance of a contrast Σ w (mean of cell) is estimated by the spread of its
parts by base, plus the spread of its parts by seed, minus the rest, which both contain (as in two-way clustering:
Cameron, Gelbach and Miller 2011); never less than either of the first two. The degrees of freedom are Satterthwaite's
(1946) for a sum of mean squares. With one seed's luck nil, this is Welch's test between the two groups of bases.

Tuning is repeated on each base, so that much of its luck is in the spread by base. What the bases share of it, since
they are tuned with the same seeds, is not: the variance of the luck of tuning is added as if all of it were shared, by
the bases of a cell or by all bases, whichever makes the contrast less certain.

Measured on simulated experiments with three bases and five seeds (`tests/lab/pretrain_finetune/test_contrast.py`; 6000
of each kind, no penalty, main effects present): a penalty is found in 1.4 % where runs differ by nothing but noise, and
in 3 to 4.5 % where bases, seeds or both have luck of their own; with two bases in at most 4.3 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from ravine.lab.results.statistics import CONFIDENCE, POWER, SIGNIFICANCE

Weights = Sequence[Sequence[float]]
"""Of the cells: a row for each pre-training optimizer, a column for each post-training optimizer."""

MISMATCH: Weights = ((-1, 1), (1, -1))
"""The mixed cells minus those that keep their optimizer: the interaction."""

PRETRAINING: Weights = ((0.5, 0.5), (-0.5, -0.5))
"""Pre-trained with the first minus with the second, over both post-training optimizers."""

POST_TRAINING: Weights = ((0.5, -0.5), (0.5, -0.5))
"""Post-trained with the first minus with the second, over both pre-training optimizers."""

SWITCHING: tuple[Weights, Weights] = (((-1, 1), (0, 0)), ((0, 0), (1, -1)))
"""What changing the optimizer costs a base of the first, and of the second: their sum is the interaction."""


@dataclass(frozen=True)
class Contrast:
    """A sum of cell means with weights.

    Args:
        estimate: of the sum.
        error: its standard error.
        freedom: degrees of freedom.
        interval: 95 %.
        p: two-sided, of no difference.
    """

    estimate: float
    error: float
    freedom: float
    interval: tuple[float, float]
    p: float

    @property
    def significant(self) -> bool:
        """Whether p is below 0.05."""
        return self.p < SIGNIFICANCE


def contrast(losses: np.ndarray, weights: Weights, tuning_std: np.ndarray | None = None) -> Contrast:
    """A contrast of the cells' means.

    Args:
        losses: (2, 2, bases, seeds): by pre-training optimizer, post-training optimizer, base and seed; two bases and
            two seeds at least. The same seed of a post-training optimizer stands in the same place for all bases.
        weights: of the cells.
        tuning_std: (2, 2), standard deviation of the luck of tuning in each cell; None for none.

    Raises:
        ValueError: for another shape, or losses that are not finite.

    Example:
        >>> same = np.array([2.0, 2.1, 1.9])[:, None] + np.array([0.01, -0.01, 0.02])
        >>> losses = np.stack([np.stack([same, same + 0.5]), np.stack([same + 0.3, same])])
        >>> losses[0, 0] += 0.01 * np.eye(3)
        >>> found = contrast(losses, MISMATCH)
        >>> round(found.estimate, 2), found.significant
        (0.8, True)
    """
    y, w = np.asarray(losses, dtype=float), np.asarray(weights, dtype=float)
    if y.ndim != 4 or y.shape[:2] != (2, 2) or min(y.shape[2:]) < 2:
        raise ValueError(f"losses must have the shape (2, 2, bases, seeds), two of each at least, got {y.shape}")
    if not np.isfinite(y).all():
        raise ValueError("losses must be finite")
    bases, seeds = y.shape[2:]
    by_base = _spread(np.einsum("ij,ijks->iks", w, y).mean(axis=2))
    by_seed = _spread(np.einsum("ij,ijks->jsk", w, y).mean(axis=2))
    means = y.mean(axis=3, keepdims=True), y.mean(axis=2, keepdims=True), y.mean(axis=(2, 3), keepdims=True)
    rest = ((y - means[0] - means[1] + means[2]) ** 2).sum(axis=(2, 3)) / ((bases - 1) * (seeds - 1))
    rest = w**2 * rest / (bases * seeds)
    parts = [(by_base, bases - 1), (by_seed, seeds - 1), (-rest.ravel(), (bases - 1) * (seeds - 1))]
    larger = max(parts[:2], key=lambda part: float(part[0].sum()))
    variance = sum(float(part.sum()) for part, _ in parts)
    if variance < larger[0].sum():
        variance, parts = float(larger[0].sum()), [larger]
    estimate = float((w * y.mean(axis=(2, 3))).sum())
    further = 0.0 if tuning_std is None else _shared_luck(w, np.asarray(tuning_std, dtype=float))
    least = float(min(bases, seeds) - 1)
    # Rounding alone is no spread.
    tiny = (1e-12 * float(np.abs(y).max())) ** 2
    if variance + further <= tiny:
        return Contrast(estimate, 0.0, least, (estimate, estimate), float(estimate**2 <= tiny))
    squares = sum(float((part**2).sum()) / freedom for part, freedom in parts)
    freedom = variance**2 / squares if variance > tiny else least
    error = math.sqrt(variance + further)
    half = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(special.stdtr(freedom, -abs(estimate) / error))
    return Contrast(estimate, error, freedom, (estimate - half, estimate + half), p)


def least_found(error: float, freedom: float) -> float:
    """The contrast that the test finds with probability 0.8, at this standard error and these degrees of freedom.

    Example:
        >>> round(least_found(1.0, 4), 1)
        3.8
    """
    if error == 0:
        return 0.0
    limit = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))
    found = optimize.brentq(lambda shift: float(stats.nct.sf(limit, freedom, shift)) - POWER, 0.0, 2 * limit + 10)
    return error * float(found)


def _spread(parts: np.ndarray) -> np.ndarray:
    """The squared standard error of the mean of each row."""
    squared: np.ndarray = parts.var(axis=1, ddof=1) / parts.shape[1]
    return squared


def _shared_luck(w: np.ndarray, std: np.ndarray) -> float:
    """The variance of the luck of tuning: of each cell's own, or that of a post-training optimizer on all bases."""
    return max(float(((w * std) ** 2).sum()), float(((w * std).sum(axis=0) ** 2).sum()))
