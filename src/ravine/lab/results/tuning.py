"""The luck of tuning: how much an arm's final loss would change if the same search were made again with other seeds.

A few trials pick a setting, and the noise of their seeds decides between settings that are nearly as good as each
other. That choice is then frozen: fresh judging seeds measure the chosen setting ever more precisely, and say nothing
about another choice. So two arms with the *same* optimizer can differ, truly and significantly, by the luck of what
was chosen. Where the losses of trials lie about one standard deviation apart, Welch's test alone calls an optimizer
different from itself in up to 10 % of studies; see `verdict.py` for figures.

The cure is to count that luck as what it is, a random effect of tuning on the arm's mean. Its variance is estimated by
a parametric bootstrap of the trials: take each setting's mean tuning loss for the true one, and the spread between
seeds for the noise; draw the trials of the search again, shortlist, draw the further tuning seeds of the shortlist,
choose; and note the loss of the setting chosen. The variance of that loss over the draws is added to the squared
standard error of Welch's test. Where one setting is clearly best it is always chosen again, and nothing is added.

What this does not cover: which settings were tried. All arms search at the same points, so that none is favoured by
them, but a better setting may lie between the points of one and not of the other.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from ravine.lab.results.statistics import Sample, pooled_std
from ravine.lab.study.selection import Trial, by_setting, chosen

DRAWS = 2000
"""Resamplings of an arm's trials; the standard deviation over them is then good to about 3 %."""


def generator(label: str) -> np.random.Generator:
    """Each arm's own, whatever the order of the arms: the same results give the same verdict."""
    return np.random.default_rng(zlib.crc32(label.encode()))


def seed_noise(sample: Sample, trials: Sequence[Trial]) -> float:
    """The standard deviation between seeds at one setting, from judged runs and retuned settings together.

    Zero where no setting has two runs.
    """
    repeated = [[trial.loss for trial in group if trial.loss is not None] for group in by_setting(trials)]
    return pooled_std([sample.values, *repeated]) or 0.0


def tuned_again(trials: Sequence[Trial], noise: float, random: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """By how much the loss at the chosen setting differs from that of the setting judged, had tuning been repeated.

    Args:
        trials: of one arm, search and retuning.
        noise: standard deviation between seeds.
        random: where the draws come from.
        draws: how many.

    Returns:
        `draws` differences of tuning losses (float64), zero where the same setting is chosen again.

    Example:
        >>> near = [Trial({"lr": 0.1}, 2.00), Trial({"lr": 0.2}, 2.01), Trial({"lr": 0.4}, 3.0)]
        >>> changes = tuned_again(near, 0.02, np.random.default_rng(0))
        >>> sorted({float(change.round(2)) for change in changes})
        [0.0, 0.01]
    """
    groups = by_setting(trials)
    lost = [any(trial.loss is None for trial in group) for group in groups]
    best = chosen(trials)
    seeds = max(len(group) for group in groups)
    listed = sum(len(group) == seeds for group in groups)
    means = np.array(
        [np.inf if gone else np.mean([t.loss for t in group]) for group, gone in zip(groups, lost, strict=True)]
    )
    judged = next(mean for group, mean in zip(groups, means, strict=True) if group[0].settings == best)
    if np.isinf(judged) or noise == 0:
        return np.zeros(draws)

    searched = means + noise * random.standard_normal((draws, len(means)))
    if seeds == 1:
        picked = np.argmin(searched, axis=1)
    else:
        shortlist = np.argsort(searched, axis=1)[:, :listed]
        further = means[shortlist] + noise / np.sqrt(seeds - 1) * random.standard_normal(shortlist.shape)
        retuned = (np.take_along_axis(searched, shortlist, axis=1) + (seeds - 1) * further) / seeds
        picked = shortlist[np.arange(draws), np.argmin(retuned, axis=1)]
    changes: np.ndarray = means[picked] - judged
    return changes
