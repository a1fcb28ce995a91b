"""What a reader must be warned of, and what one has to know to read the figures rightly; in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravine.lab.results.finished import Finished
from ravine.lab.results.statistics import listed
from ravine.lab.results.target import HORIZON

ENOUGH_SEEDS = 5
"""The least for a claim: Welch's test finds three standard deviations with power 0.98, at three seeds with 0.68."""

Arms = Mapping[str, Mapping[str, Any]]
"""The arms of `result.json`."""


def warnings(finished: Finished, arms: Arms) -> list[str]:
    """Sentences on what makes the comparison weaker than it should be, the worst first."""
    return [
        *_failures(arms),
        *_unfair(finished, arms),
        *_weak(finished),
        *_edges(arms),
        *_times(finished),
    ]


def notes(finished: Finished, arms: Arms) -> list[str]:
    """How it was done, in sentences."""
    budget = finished.budget
    found = []
    tuned = [arm for arm in finished.arms if arm.tuned]
    if tuned:
        where = {"grid": "on a grid", "tpe": "where its own trials led it"}.get(budget["sampler"], "at shared points")
        found.append(
            f"Each tuned arm had {_count(budget['trials'], 'trial')} on one seed, {where}; its "
            f"{_count(min(budget['retuned'], budget['trials']), 'best setting')} ran on "
            f"{_count(budget['tuning_seeds'], 'tuning seed')}, and the one with the lowest mean was judged."
        )
        found.append(
            "p-values and intervals count the spread of the judged seeds and the luck of tuning: what the same trials "
            "would have chosen with other seeds. They do not count which settings were tried."
        )
    found.append(
        "The judged seeds are fresh and no two arms share one; the judging split was not tuned on. Only the ends of "
        "whole schedules are compared."
    )
    if any(arm["to_target_kind"] == HORIZON for arm in arms.values()):
        found.append("Steps to the target: the shortest whole run whose mean final loss reaches it.")
    else:
        found.append(
            "Steps to the target: first crossing of the evaluated curve, the median of the seeds; those that did not "
            "reach it count as later than the rest. Seconds leave evaluations out."
        )
    found += [
        f"{arm.label} is Schedule-Free: its learning rate warms up and then stays; it is evaluated at its average."
        for arm in finished.arms
        if "schedule_free" in arm.optimizer
    ]
    found += [
        f"{arm.label} was tuned with one β₂ only; .95 and .999 can differ."
        for arm in finished.arms
        if arm.baseline and "beta2" not in arm.tuned
    ]
    for run in finished.runs:
        found += [note for note in run.outcome.get("notes", ()) if note not in found]
    skipped = len(finished.about.get("skipped", ())) + finished.about.get("skipped_not_named", 0)
    if skipped:
        found.append(f"{_count(skipped, 'file')} or parts of files could not be read and were left out.")
    if finished.about.get("capped"):
        found.append("The data was larger than is read; its end was left out.")
    return found


def _failures(arms: Arms) -> list[str]:
    found = []
    for label, arm in arms.items():
        failed = [run["failed"] for run in (*arm["trials"], *arm["runs"]) if run["failed"] is not None]
        if failed:
            found.append(f"{_count(len(failed), 'run')} of {label} failed: {failed[0].rstrip('.')}.")
        searched = [trial for trial in arm["trials"] if trial["phase"] == "search"]
        diverged = sum(trial["diverged"] for trial in searched)
        if diverged * 2 > len(searched):
            found.append(f"{diverged} of {len(searched)} trials of {label} diverged: its space reaches too far.")
    return found


def _unfair(finished: Finished, arms: Arms) -> list[str]:
    given = [arm.label for arm in finished.arms if not arm.tuned]
    found = []
    if given and len(given) < len(arms):
        found.append(
            f"{listed(given)} ran with given settings, the others with the best of {finished.budget['trials']} trials: "
            "the comparison is of settings, not of optimizers."
        )
    if not any(arm.baseline for arm in finished.arms):
        found.append("No arm is a tuned AdamW, the usual baseline: wins over a poorly tuned one mean little.")
    return found


def _weak(finished: Finished) -> list[str]:
    budget = finished.budget
    tuned = any(arm.tuned for arm in finished.arms)
    found = []
    if budget["seeds"] < ENOUGH_SEEDS:
        found.append(f"{_count(budget['seeds'], 'seed')} per arm; {ENOUGH_SEEDS} are the least for a claim.")
    if budget.get("pruner"):
        found.append("A pruner stopped trials early: ranks in the middle of a schedule flip before its end.")
    if tuned and budget["sampler"] == "tpe":
        found.append("The arms were not tried at shared points (TPE): one may have been luckier in where it looked.")
    if tuned and budget["trials"] > 1 and budget["tuning_seeds"] < 2:
        found.append("Settings were chosen on a single seed: the best of many is partly the luckiest.")
    return found


def _edges(arms: Arms) -> list[str]:
    return [
        f"The best {listed(arm['best']['at_edge'])} of {label} is at the edge of what was tried: "
        "a better one may lie beyond, in a wider space."
        for label, arm in arms.items()
        if arm["best"]["at_edge"]
    ]


def _times(finished: Finished) -> list[str]:
    workers = finished.machine.get("workers") or 1
    if workers > 1 and finished.cost is None:
        return [f"{workers} workers shared the machine: seconds and rates are lower bounds of its speed."]
    return []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
