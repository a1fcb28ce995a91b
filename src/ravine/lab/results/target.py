"""How soon an arm gets to a loss: in steps, in data and in seconds.

A loss in the middle of a schedule is not what a run of that length would end with. Where whole shorter runs were made
(`--horizons`), the steps to a target are those of the shortest that reaches it; without them the first crossing of the
evaluated curve stands in, and is called that.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

CROSSING = "first crossing"
HORIZON = "annealed horizon"


def first_crossing(curve: Mapping[str, Sequence[float]], target: float) -> int | None:
    """The index of the first evaluation whose loss is at most the target; None where there is none.

    Example:
        >>> first_crossing({"loss": [3.0, 2.0, 2.1, 1.9]}, 2.05)
        1
    """
    return next((i for i, loss in enumerate(curve["loss"]) if loss <= target), None)


def median_of_all(reached: Sequence[float | None]) -> float | None:
    """The median where those that did not get there (None) count as later than all others; None if it is one of them.

    A mean over those that did would flatter an arm of which few seeds got there, luckily and early.

    Example:
        >>> median_of_all([120, 110, None]), median_of_all([120, None, None])
        (120, None)
    """
    middle = statistics.median_high([math.inf if x is None else x for x in reached])
    return None if math.isinf(middle) else middle


def to_target(runs: Sequence[Mapping[str, Any]], horizons: Sequence[Mapping[str, Any]], goal: float | None) -> dict:
    """The keys of an arm: steps, tokens (in the task's unit) and seconds to the target, how many reached it, and how.

    The first three are None where the target was not reached; `reached_target` counts the judged runs that reached it.

    Args:
        runs: judged runs, as in `result.json`.
        horizons: whole runs of fewer steps, as in `result.json`; empty where there are none.
        goal: the loss; None where there is no target.
    """
    if horizons:
        ends = [run for run in runs if goal is not None and not _lost(run) and run["final_loss"] <= goal]
        found = _shortest([*horizons, *runs], goal) if goal is not None else None
        return _figures(found or (None, None, None), len(ends), HORIZON)
    crossings = [_crossing(run, goal) for run in runs]
    medians = [median_of_all([c and c[axis] for c in crossings]) if crossings else None for axis in range(3)]
    return _figures(medians, sum(c is not None for c in crossings), CROSSING)


def _figures(at: Sequence[float | None], reached: int, kind: str) -> dict[str, Any]:
    names = ("steps_to_target", "tokens_to_target", "seconds_to_target")
    return {**dict(zip(names, at, strict=True)), "reached_target": reached, "to_target_kind": kind}


def _shortest(runs: Sequence[Mapping[str, Any]], goal: float) -> tuple[float, float, float] | None:
    """Steps, units and median seconds of the shortest length whose runs end at the goal or below, in their mean."""
    for steps in sorted({run["steps"] for run in runs}):
        same = [run for run in runs if run["steps"] == steps]
        if not any(map(_lost, same)) and statistics.fmean(run["final_loss"] for run in same) <= goal:
            return steps, statistics.median(r["units"] for r in same), statistics.median(r["seconds"] for r in same)
    return None


def _crossing(run: Mapping[str, Any], goal: float | None) -> tuple[float, float, float] | None:
    """Step, units and seconds of the run's first crossing of the goal."""
    curve = run["curve"]
    index = None if goal is None or _lost(run) else first_crossing(curve, goal)
    return None if index is None else (curve["step"][index], curve["units"][index], curve["seconds"][index])


def _lost(run: Mapping[str, Any]) -> bool:
    return run["diverged"] or run["failed"] is not None
