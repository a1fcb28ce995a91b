"""The verdict: every pair of arms tested, with the spread of seeds and the luck of tuning both counted, and in words.

The difference of two arms' mean final losses is tested by Welch's t with the variance

    s_a² / n_a + s_b² / n_b + τ_a² + τ_b²

where s is the spread between judged seeds and τ the standard deviation of the luck of tuning (`tuning.py`); the
p-values of all pairs are corrected together by Holm's method. The degrees of freedom stay Welch's, from the judged
seeds alone: τ rests on the same spread and on the retuned settings besides, so that it is known no worse.

Measured on surrogate studies (`tests/lab/results/surrogate.py`; 3 to 8 trials, 1 or 2 settings, the loss between the
middle and the end of a space from a quarter of the seeds' spread to 250 times that), five judged seeds:

    an optimizer against itself, called different     this test   Welch's alone
        12 000 studies of all kinds                       4.1 %           6.2 %
        the worst of 36 kinds, 1200 studies each          5.8 %          10.0 %
    a difference of three standard deviations found
        4000 studies of all kinds                          94 %            97 %
        the worst of 36 kinds                              85 %            93 %

The estimate of τ is no better than the trials that it comes from. Where exactly one of eight settings is one and a half
to two standard deviations better than seven that are all alike, which no smooth curve brings about, an optimizer still
differs from itself in 11 % of studies (Welch's test alone: 23 %).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ravine.lab.results.statistics import (
    SIGNIFICANCE,
    Sample,
    holm,
    listed,
    minimum_detectable_difference,
    p_text,
    pooled_std,
    welch,
)
from ravine.lab.results.tuning import generator, seed_noise, tuned_again
from ravine.lab.study.selection import Trial, by_setting

LEAST_SEEDS = 4
"""Below this many seeds an arm the verdict is that they are not enough."""


@dataclass(frozen=True)
class Evidence:
    """What the verdict on an arm rests on: its judged runs, and the trials that its setting was chosen by."""

    sample: Sample
    trials: tuple[Trial, ...] = ()

    @property
    def tuned(self) -> bool:
        """Whether there was a choice between settings."""
        return len(by_setting(self.trials)) > 1


@dataclass(frozen=True)
class Pair:
    """Two arms compared: mean of a minus mean of b with its 95 % interval, p, and p after Holm's correction.

    `p`, `p_corrected` and `interval` count the luck of tuning; `p_settings` is Welch's p for these settings, corrected
    too, as if they had not been chosen by trials. All are None where an arm has fewer than two values or a lost run.
    """

    a: str
    b: str
    difference: float | None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_corrected: float | None = None
    p_settings: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the corrected p is below 0.05."""
        return self.p_corrected is not None and self.p_corrected < SIGNIFICANCE


@dataclass(frozen=True)
class Verdict:
    """`winner` is the arm that is significantly better than every other ranked one, or None.

    `significant` is whether there is one. Differences further down the ranking are in the pairs and in the text.
    `tuning_probability` is the share of resamplings, of trials and of judged seeds, in which each ranked arm comes out
    best; None where no arm was tuned or fewer than two are ranked. It is a description: nothing is decided by it.
    """

    winner: str | None
    significant: bool
    text: str
    tuning_probability: dict[str, float] | None = None


@dataclass(frozen=True)
class Judgement:
    """All pairs, the verdict, each tuned arm's luck of tuning (τ), and the least difference that would be found."""

    pairs: list[Pair]
    verdict: Verdict
    tuning_std: dict[str, float | None] = field(default_factory=dict)
    minimum_detectable_difference: float | None = None


def judge(arms: Mapping[str, Evidence]) -> Judgement:
    """The judgement on the arms' final losses, lower being better; the order of the arms does not matter.

    Example:
        >>> near, far = Sample((2.0, 2.1, 2.2, 2.1)), Sample((3.0, 3.1, 3.2, 3.1))
        >>> judge({"adamw": Evidence(far), "muon": Evidence(near)}).verdict.text
        'muon trained best, for these settings: its final loss is lower than that of adamw (by 1, p < 0.001).'
    """
    again = {
        label: tuned_again(arm.trials, seed_noise(arm.sample, arm.trials), generator(label))
        for label, arm in arms.items()
        if arm.tuned
    }
    luck = {label: float(np.std(again[label])) if label in again else None for label in arms}
    pairs = compare_pairs({label: arm.sample for label, arm in arms.items()}, luck)
    return Judgement(pairs, _verdict(arms, pairs, again), luck, _detectable(arms, luck))


def compare_pairs(samples: Mapping[str, Sample], tuning_std: Mapping[str, float | None]) -> list[Pair]:
    """All pairs of arms; Holm's correction is over those that could be tested.

    Args:
        samples: by arm.
        tuning_std: by arm, the standard deviation of the luck of tuning; None or missing for an arm that has none.
    """
    pairs, tests, alone = [], [], []
    for a, b in itertools.combinations(samples, 2):
        x, y = samples[a], samples[b]
        pairs.append(Pair(a, b, None if x.mean is None or y.mean is None else x.mean - y.mean))
        luck = sum((tuning_std.get(label) or 0.0) ** 2 for label in (a, b))
        tested = x.ranked and y.ranked
        tests.append(welch(x.values, y.values, luck) if tested else None)
        alone.append(welch(x.values, y.values) if tested else None)
    corrected = iter(holm([test[0] for test in tests if test]))
    for_these = iter(holm([test[0] for test in alone if test]))
    return [
        Pair(pair.a, pair.b, pair.difference, test[1], test[0], next(corrected), next(for_these)) if test else pair
        for pair, test in zip(pairs, tests, strict=True)
    ]


def _detectable(arms: Mapping[str, Evidence], luck: Mapping[str, float | None]) -> float | None:
    ranked = {label: arm.sample for label, arm in arms.items() if arm.sample.ranked}
    spread = pooled_std([sample.values for sample in ranked.values()])
    if len(ranked) < 2 or spread is None:
        return None
    further = 2 * float(np.mean([(luck[label] or 0.0) ** 2 for label in ranked]))
    fewest = min(len(sample.values) for sample in ranked.values())
    return minimum_detectable_difference(spread, fewest, math.comb(len(ranked), 2), further)


def _verdict(arms: Mapping[str, Evidence], pairs: Sequence[Pair], again: Mapping[str, np.ndarray]) -> Verdict:
    samples = {label: arm.sample for label, arm in arms.items()}
    seeds = min(len(s.values) + s.lost for s in samples.values())
    ranking = sorted(
        (label for label, s in samples.items() if s.ranked), key=lambda label: (samples[label].mean, label)
    )
    winner = None
    if seeds < LEAST_SEEDS:
        text = f"Not enough seeds: {seeds} per arm, and a verdict needs {LEAST_SEEDS} at least (5 is the default)."
    elif len(ranking) < 2:
        text = "Nothing to compare: fewer than two arms finished all their seeds."
    else:
        winner, text = _ranked(ranking, pairs, qualified=not any(label in again for label in ranking))
    text = " ".join([text, *_lost(samples)])
    return Verdict(winner, winner is not None, text, _probability({k: samples[k] for k in sorted(ranking)}, again))


def _ranked(ranking: Sequence[str], pairs: Sequence[Pair], qualified: bool) -> tuple[str | None, str]:
    """The winner and the text; `qualified` where no arm was tuned, so that it speaks of the settings given."""
    by_arms = {frozenset((pair.a, pair.b)): pair for pair in pairs}
    best, *others = ranking
    against = {arm: by_arms[frozenset((best, arm))] for arm in others}
    worse = [arm for arm in others if against[arm].significant]
    alike = [arm for arm in others if arm not in worse]
    scope = ", for these settings" if qualified else ""

    def by(names: Sequence[str]) -> str:
        return listed(
            [f"{a} (by {abs(against[a].difference or 0.0):.3g}, {p_text(against[a].p_corrected)})" for a in names]
        )

    if not alike:
        return best, f"{best} trained best{scope}: its final loss is lower than that of {by(worse)}."
    lowest = ", which has the lowest mean," if len(others) > 1 else ""
    text = f"No significant difference between {best}{lowest} and {by(alike)}{scope}."
    if worse:
        text += f" {best} is significantly better than {by(worse)}."
    by_luck = [arm for arm in alike if (against[arm].p_settings or 1.0) < SIGNIFICANCE]
    if by_luck:
        text += f" The setting chosen for {best} did better than that for {listed(by_luck)}, "
        text += "but the luck of tuning can explain it."
    return None, text


def _lost(samples: Mapping[str, Sample]) -> list[str]:
    """A sentence for each arm that is not ranked."""
    return [
        f"{label} {listed([f'{word} in {count}' for word, count in kinds if count])} "
        f"of {s.lost + len(s.values)} seeds and is not ranked."
        for label, s in samples.items()
        if (kinds := (("diverged", s.diverged), ("failed", s.failed))) and s.lost
    ]


def _probability(samples: Mapping[str, Sample], again: Mapping[str, np.ndarray]) -> dict[str, float] | None:
    """The share of resamplings in which each arm has the lowest mean, had tuning and judging been repeated."""
    if len(samples) < 2 or not any(label in again for label in samples):
        return None
    draws = len(next(iter(again.values())))
    repeated = []
    for label, sample in samples.items():
        error = (sample.std or 0.0) / math.sqrt(len(sample.values))
        # Not the numbers that the trials were drawn with: judged seeds are others.
        noise = generator(f"{label}, judged").standard_normal(draws)
        repeated.append((sample.mean or 0.0) + again.get(label, 0.0) + error * noise)
    losses = np.stack(repeated)
    best = losses == losses.min(axis=0)
    shares = (best / best.sum(axis=0)).mean(axis=1)  # a tie is shared
    return {label: float(share) for label, share in zip(samples, shares, strict=True)}
