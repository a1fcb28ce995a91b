"""The tables: for each arm, its quality and what it cost, as text and as what rows are sorted by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ravine.lab.report.costs import PARTS, milliseconds
from ravine.lab.report.text import UNKNOWN, mean_and_spread, number, plural, quantity, settings, size


class Cell(NamedTuple):
    """What is shown, and what the column is sorted by: None comes last."""

    text: str
    order: float | str | None = None


class Column(NamedTuple):
    """A heading, what it means, and an arm's cell. `{units}` stands for the plural of what data is counted in."""

    name: str
    meaning: str
    cell: Callable[[Mapping[str, Any]], Cell]


Table = dict[str, list[Cell]]
"""Cells by arm, best arm first."""


def _final(arm: Mapping[str, Any]) -> Cell:
    final = arm["final_loss"]
    if final["mean"] is None:
        return Cell(UNKNOWN)
    return Cell(f"{mean_and_spread(final['mean'], final['std'])} ({final['n']})", final["mean"])


def _settings(arm: Mapping[str, Any]) -> Cell:
    best = arm["best"]
    written = settings({**arm["settings"], **best["settings"]}) or "defaults"
    edge = f" (at edge: {', '.join(best['at_edge'])})" if best["at_edge"] else ""
    return Cell(written + ("" if best["tuned"] else " (given)") + edge, written)


def _of(name: str, form: str = ",.0f") -> Callable[[Mapping[str, Any]], Cell]:
    return lambda arm: Cell(number(arm[name], form), arm[name])


def _reached(arm: Mapping[str, Any]) -> Cell:
    return Cell(f"{arm['reached_target']}/{len(arm['runs'])}", arm["reached_target"])


def _diverged(arm: Mapping[str, Any]) -> Cell:
    trials, seeds = arm["diverged_trials"], arm["diverged_seeds"]
    failed = arm["failed_trials"] + sum(run["failed"] is not None for run in arm["runs"])
    text = f"{trials} / {seeds}" + (f", {failed} failed" if failed else "")
    return Cell(text, trials + seeds + failed)


COLUMNS = (
    Column("final loss", "mean ± standard deviation over the seeds (how many)", _final),
    Column("settings", "the best of the trials, or as given", _settings),
    Column("steps to target", "to the target's loss, see below", _of("steps_to_target")),
    Column("{units} to target", "the same, in data", _of("tokens_to_target")),
    Column("seconds to target", "the same, in seconds of training", _of("seconds_to_target", ",.3g")),
    Column("reached", "seeds that reached the target", _reached),
    Column("{units}/s", "median over the judged runs, evaluations left out", _of("tokens_per_second")),
    Column("optimizer", "its part of the time of a step", _of("optimizer_share", ".1%")),
    Column("state bytes", "optimizer state per parameter", _of("state_bytes_per_param", ".3g")),
    Column(
        "peak memory",
        "of the process, or of tensors on the GPU",
        lambda arm: Cell(size(arm["peak_memory_bytes"]), arm["peak_memory_bytes"]),
    ),
    Column("diverged", "trials / judged seeds that diverged; runs that failed", _diverged),
)
"""Of the table of results; figures of the task's own stand after the final loss."""


def columns(result: Mapping[str, Any]) -> list[Column]:
    """The columns of this result's table: headings in the task's unit, and a column for each figure of the task."""
    metrics = dict.fromkeys(name for arm in result["arms"].values() for name in arm["metrics"] if name != "loss")
    first, *others = COLUMNS
    first = first._replace(meaning=f"{first.meaning}, {result['loss_name']}")
    units = plural(result["unit"])
    if units == "steps":
        others = [column for column in others if column.name != "{units} to target"]
    return [
        column._replace(name=column.name.format(units=units)) for column in (first, *map(_metric, metrics), *others)
    ]


def table(result: Mapping[str, Any]) -> Table:
    """For each arm, best first, the cells of `columns`."""
    shown = columns(result)
    return {label: [column.cell(result["arms"][label]) for column in shown] for label in ranking(result)}


def ranking(result: Mapping[str, Any]) -> list[str]:
    """The arms, lowest mean first; those with lost seeds after all others."""

    def key(label: str) -> tuple[bool, float]:
        arm = result["arms"][label]
        mean = arm["final_loss"]["mean"]
        lost = arm["diverged_seeds"] > 0 or any(run["failed"] is not None for run in arm["runs"])
        return lost or mean is None, math.inf if mean is None else mean

    return sorted(result["arms"], key=key)


def hardware(result: Mapping[str, Any]) -> tuple[list[tuple[str, str]], Table]:
    """Headings with their meanings, and cells, of the table of costs; columns that no arm has a figure for left out."""
    unit = result["unit"]
    spent = {label: milliseconds(result, label) for label in result["arms"]}
    shown: list[tuple[str, str, Callable[[str, Mapping[str, Any]], Cell]]] = [
        (f"{part}, ms", f"{meaning}, milliseconds", _spent(spent, part))
        for part, meaning in [("step", "a whole step"), *((part, f"of a step: {part}") for part in PARTS)]
    ]
    plain: Sequence[tuple[str, str, str, Callable[[Any], str]]] = [
        ("optimizer", "its part of the time of a step", "optimizer_share", lambda v: number(v, ".1%")),
        (f"{plural(unit)}/s", "median over the judged runs", "tokens_per_second", lambda v: number(v, ",.0f")),
        ("seconds per run", "evaluations left out", "seconds_per_run", lambda v: number(v, ",.3g")),
        ("peak memory", "of the process, or of tensors on the GPU", "peak_memory_bytes", size),
        ("state per parameter", "bytes of optimizer state", "state_bytes_per_param", lambda v: number(v, ".3g")),
    ]
    shown += [(name, meaning, _plain(key, form)) for name, meaning, key, form in plain]
    shown.append(("state by type", "bytes of optimizer state", lambda _, arm: _by_dtype(arm["state_bytes_by_dtype"])))
    plain = [
        (f"FLOP per {unit}", "forward and backward", "flops_per_unit", quantity),
        ("MFU", "share of the FLOP/s that this machine reaches", "mfu", lambda v: number(v, ".1%")),
        ("joules per run", "of processor or GPU", "joules_per_run", lambda v: number(v, ",.3g")),
    ]
    shown += [(name, meaning, _plain(key, form)) for name, meaning, key, form in plain]
    cells = [[cell(label, result["arms"][label]) for _, _, cell in shown] for label in ranking(result)]
    known = [i for i in range(len(shown)) if any(row[i].order is not None for row in cells)]
    headings = [(shown[i][0], shown[i][1]) for i in known]
    return headings, {label: [row[i] for i in known] for label, row in zip(ranking(result), cells, strict=True)}


def _plain(key: str, form: Callable[[Any], str]) -> Callable[[str, Mapping[str, Any]], Cell]:
    return lambda _, arm: Cell(form(arm[key]), arm[key])


def _spent(spent: Mapping[str, Mapping[str, float] | None], part: str) -> Callable[[str, Mapping[str, Any]], Cell]:
    def cell(label: str, arm: Mapping[str, Any]) -> Cell:
        value = (spent[label] or {}).get(part)
        return Cell(number(value), value)

    return cell


def _by_dtype(by_dtype: Mapping[str, int] | None) -> Cell:
    if not by_dtype:
        return Cell(UNKNOWN)
    return Cell(", ".join(f"{dtype} {size(count)}" for dtype, count in by_dtype.items()), sum(by_dtype.values()))


def _metric(name: str) -> Column:
    def cell(arm: Mapping[str, Any]) -> Cell:
        figure = arm["metrics"].get(name) or {"mean": None, "std": None}
        return Cell(mean_and_spread(figure["mean"], figure["std"]), figure["mean"])

    # A name from a task is no template.
    return Column(name.replace("{", "{{").replace("}", "}}"), "of the task, mean ± standard deviation", cell)
