"""Which settings of an arm are tuned on, and which one is judged: from the ends of whole schedules alone.

A run's loss on the way never counts: ranks in the middle of a schedule flip before its end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Phase = Literal["search", "retune", "judge", "horizon"]
"""Trials at many settings; the best again on more seeds; the chosen one on fresh seeds; the same in fewer steps."""

SHORTLIST = 2
"""How many settings of an arm are tuned on further seeds."""


@dataclass(frozen=True)
class Trial:
    """A run on the tuning split.

    Args:
        settings: the tuned hyperparameters' values.
        loss: at the end; None where the run diverged or failed.
        seed: one of the arm's tuning seeds.
    """

    settings: Mapping[str, Any]
    loss: float | None
    seed: int = 1


def shortlist(trials: Sequence[Trial], count: int = SHORTLIST) -> list[Mapping[str, Any]]:
    """The best settings after the search, best first; fewer than `count` where fewer were tried.

    Example:
        >>> shortlist([Trial({"lr": 0.1}, 2.0), Trial({"lr": 0.3}, None), Trial({"lr": 0.03}, 1.9)])
        [{'lr': 0.03}, {'lr': 0.1}]
    """
    return [group[0].settings for group in _ranked(trials)[:count]]


def chosen(trials: Sequence[Trial]) -> Mapping[str, Any]:
    """The setting to judge, from all trials of search and retuning: the lowest mean over the tuning seeds.

    Only settings that were tried on most seeds take part: one that was lucky on a single seed was not tuned further
    because others were better. One that was lost on any of its seeds comes after those that never were.

    Raises:
        ValueError: without trials.

    Example:
        >>> chosen([Trial({"lr": 0.1}, 2.0, seed=1), Trial({"lr": 0.2}, 1.9, seed=1), Trial({"lr": 0.3}, 1.9, seed=1),
        ...         Trial({"lr": 0.1}, 2.0, seed=2), Trial({"lr": 0.2}, 2.2, seed=2)])
        {'lr': 0.1}
    """
    if not trials:
        raise ValueError("chosen needs at least one trial")
    groups = _ranked(trials)
    most = max(len(group) for group in groups)
    return next(group[0].settings for group in groups if len(group) == most)


def by_setting(trials: Sequence[Trial]) -> list[list[Trial]]:
    """The trials of each setting, settings in the order in which they were first tried."""
    groups: dict[tuple[tuple[str, Any], ...], list[Trial]] = {}
    for trial in trials:
        groups.setdefault(tuple(sorted(trial.settings.items())), []).append(trial)
    return list(groups.values())


def _ranked(trials: Sequence[Trial]) -> list[list[Trial]]:
    """By the number of lost runs, then by the mean of the others; of equals, as where all were lost, the smaller lr."""

    def key(group: list[Trial]) -> tuple[int, float, float]:
        losses = [trial.loss for trial in group if trial.loss is not None]
        mean = math.fsum(losses) / len(losses) if losses else math.inf
        return len(group) - len(losses), mean, float(group[0].settings.get("lr", 0.0))

    return sorted(by_setting(trials), key=key)
