"""What the final losses allow one to say: Welch's test for every pair, Holm's correction, and a verdict in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEAST_SEEDS = 4
"""Below this many seeds an arm the verdict is that they are not enough."""

SIGNIFICANCE = 0.05
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Sample:
    """The final losses of one arm's judged runs that did not diverge, and how many did."""

    values: tuple[float, ...]
    diverged: int = 0

    @property
    def mean(self) -> float | None:
        """None without values."""
        return float(np.mean(self.values)) if self.values else None

    @property
    def std(self) -> float | None:
        """The sample's standard deviation (n − 1); None below two values."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % confidence interval of the mean; None below two values."""
        if self.mean is None or self.std is None:
            return None
        n = len(self.values)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * self.std / math.sqrt(n)
        return self.mean - half, self.mean + half

    @property
    def ranked(self) -> bool:
        """Whether it takes part in the tests: what is left after a divergence is not a fair sample."""
        return not self.diverged and len(self.values) > 1


@dataclass(frozen=True)
class Pair:
    """Two arms compared: mean of a minus mean of b with its 95 % interval, Welch's p, and p after Holm's correction.

    `p`, `p_corrected` and `interval` are None where an arm has fewer than two values or a diverged run.
    """

    a: str
    b: str
    difference: float | None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_corrected: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the corrected p is below 0.05."""
        return self.p_corrected is not None and self.p_corrected < SIGNIFICANCE


@dataclass(frozen=True)
class Verdict:
    """`winner` is the arm that is significantly better than every other ranked one, or None.

    `significant` is whether there is one. Differences further down the ranking are in the pairs and in the text.
    """

    winner: str | None
    significant: bool
    text: str


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Welch's t-test for unequal variances (Welch 1947): two-sided p, and the 95 % interval of mean(a) − mean(b).

    Without any spread in either, p is 1 for equal means and 0 for others.

    Example:
        >>> p, (low, high) = welch([2.1, 2.0, 2.2, 2.1], [2.6, 2.5, 2.7, 2.8])
        >>> p < 0.001 and low < -0.55 < high
        True
    """
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        difference = float(a[0] - b[0])
        return float(difference == 0), (difference, difference)
    test = stats.ttest_ind(a, b, equal_var=False)
    low, high = test.confidence_interval(CONFIDENCE)
    return float(test.pvalue), (float(low), float(high))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down method (Holm 1979), in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def compare_pairs(samples: Mapping[str, Sample]) -> list[Pair]:
    """All pairs of arms; Holm's correction is over those that could be tested."""
    pairs, tests = [], []
    for a, b in itertools.combinations(samples, 2):
        x, y = samples[a], samples[b]
        difference = None if x.mean is None or y.mean is None else x.mean - y.mean
        tests.append(welch(x.values, y.values) if x.ranked and y.ranked else None)
        pairs.append(Pair(a, b, difference))
    corrected = iter(holm([test[0] for test in tests if test]))
    return [
        Pair(pair.a, pair.b, pair.difference, test[1], test[0], next(corrected)) if test else pair
        for pair, test in zip(pairs, tests, strict=True)
    ]


def judge(samples: Mapping[str, Sample], pairs: Sequence[Pair], at_edge: Sequence[str] = ()) -> Verdict:
    """The verdict on the arms' final losses, lower being better.

    Args:
        samples: by arm.
        pairs: of `compare_pairs`.
        at_edge: arms whose best learning rate lies on the edge of those tried; the text warns of it.
    """
    remarks = [
        f"{label} diverged in {s.diverged} of {s.diverged + len(s.values)} seeds and is not ranked."
        for label, s in samples.items()
        if s.diverged
    ]
    if at_edge:
        named = _listed(at_edge)
        remarks.append(
            f"The best learning rate of {named} is the smallest or largest that was tried: "
            "with more trials a better one may turn up."
        )
    seeds = min(len(s.values) + s.diverged for s in samples.values())
    ranking = sorted((label for label, s in samples.items() if s.ranked), key=lambda label: samples[label].mean or 0.0)
    winner = None
    if seeds < LEAST_SEEDS:
        text = f"Not enough seeds: {seeds} per arm, and a verdict needs {LEAST_SEEDS} at least (5 is the default)."
    elif len(ranking) < 2:
        text = "Nothing to compare: fewer than two arms finished all their seeds."
    else:
        winner, text = _ranked(ranking, pairs)
    return Verdict(winner, winner is not None, " ".join([text, *remarks]))


def _ranked(ranking: Sequence[str], pairs: Sequence[Pair]) -> tuple[str | None, str]:
    by_arms = {frozenset((pair.a, pair.b)): pair for pair in pairs}
    best, *others = ranking
    worse = [arm for arm in others if by_arms[frozenset((best, arm))].significant]
    alike = [arm for arm in others if arm not in worse]

    def against(arm: str) -> str:
        pair = by_arms[frozenset((best, arm))]
        return f"{arm} (by {abs(pair.difference or 0.0):.3f}, {p_text(pair.p_corrected)})"

    if not alike:
        return best, f"{best} trained best, for these tuned settings: its final loss is lower than that of " + (
            f"{_listed([against(arm) for arm in worse])}."
        )
    if not worse and len(alike) == 1:
        return None, f"No significant difference between {best} and {against(alike[0])}, for these tuned settings."
    text = f"No significant difference, for these tuned settings, between {best}, which has the lowest mean, and "
    text += _listed([against(arm) for arm in alike]) + "."
    if worse:
        text += f" {best} is significantly better than {_listed([against(arm) for arm in worse])}."
    return None, text


def p_text(p: float | None) -> str:
    """A p-value for people: `p = 0.031`, `p < 0.001`."""
    if p is None:
        return "not tested"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
