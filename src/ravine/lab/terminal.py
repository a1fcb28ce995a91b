"""What a study shows in a terminal: how far it is, the verdict and the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ravine.lab.report import columns, table
from ravine.lab.study.execute import OnProgress as OnProgress
from ravine.lab.study.execute import Running as Running

PLAIN_WIDTH = 240  # a file or a pipe has no edge at which lines should break

MOST_RUNNING = 8
"""Runs that are shown one by one."""

Clock = Callable[[], float]


@dataclass
class Estimate:
    """How long the rest will take: as the runs that were seen to progress, all taken to be alike.

    Args:
        clock: seconds.
    """

    clock: Clock = time.monotonic
    _began: float | None = field(default=None, init=False)
    _before: float = field(default=0.0, init=False)

    def left(self, done: float, total: int) -> float | None:
        """Seconds that are left; None until something was seen to progress.

        What was done before the first call, by an earlier call of the study, tells nothing about the time.
        """
        now = self.clock()
        if self._began is None:
            self._began, self._before = now, done
        if done <= self._before:
            return None
        return (now - self._began) / (done - self._before) * (total - done)


def console(stderr: bool = False) -> Console:
    """The console of this moment's standard output, or standard error."""
    made = Console(highlight=False, stderr=stderr)
    return made if made.is_terminal else Console(highlight=False, stderr=stderr, width=PLAIN_WIDTH)


@contextmanager
def progress_bar(
    quiet: bool = False, screen: Console | None = None, clock: Clock = time.monotonic
) -> Iterator[OnProgress]:
    """Progress on standard error: what runs and how long it will take, or without a terminal a line for each new run.

    Args:
        quiet: show nothing.
        screen: where; default standard error.
        clock: for the time that is left.
    """
    screen = screen or console(stderr=True)
    if quiet:
        yield _nothing
    elif not screen.is_terminal:
        yield _lines(screen, Estimate(clock))
    else:
        with Live(console=screen, transient=True, refresh_per_second=2) as live:
            yield _live(live, Estimate(clock))


def duration(seconds: float | None) -> str:
    """A time for people.

    Example:
        >>> duration(75), duration(4000), duration(0.2), duration(None)
        ('1:15', '1:06:40', '0:00', '?')
    """
    if seconds is None:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _nothing(
    done: int, total: int, running: Sequence[Running] = (), best: Mapping[str, float | None] | None = None
) -> None:
    """What a quiet study shows."""


def _live(live: Live, estimate: Estimate) -> OnProgress:
    def show(
        done: int, total: int, running: Sequence[Running] = (), best: Mapping[str, float | None] | None = None
    ) -> None:
        worked = done + sum(run.part for run in running)
        bar = Table.grid(padding=(0, 2, 0, 0))
        bar.add_row(
            Text(f"{done}/{total} runs"), ProgressBar(total=total, completed=worked, width=30),
            Text(f"{total - done} to go, {duration(estimate.left(worked, total))} left", style="dim"),
        )  # fmt: skip
        shown: list[RenderableType] = [bar]
        if running:
            at_work = Table.grid(padding=(0, 2, 0, 0))
            for run in running[:MOST_RUNNING]:
                steps = f"step {run.step}/{run.steps}" if run.steps else "starting"
                at_work.add_row(Text(f"  {run.what}"), Text(steps, style="dim"), Text(_loss(run.loss)))
            shown.append(at_work)
            if len(running) > MOST_RUNNING:
                shown.append(Text(f"  and {len(running) - MOST_RUNNING} more", style="dim"))
        if best:
            shown.append(Text(f"  best so far: {_best(best)}", style="dim"))
        live.update(Group(*shown))

    return show


def _lines(screen: Console, estimate: Estimate) -> OnProgress:
    said: set[str] = set()
    last = -1

    def show(
        done: int, total: int, running: Sequence[Running] = (), best: Mapping[str, float | None] | None = None
    ) -> None:
        nonlocal last
        left = estimate.left(done + sum(run.part for run in running), total)
        begun = [run.what for run in running if run.what not in said]
        said.update(begun)
        if not begun and (done == last or done < total):
            return
        last = done
        words = [f"{done / total if total else 1:4.0%}  {done}/{total} runs"]
        words += [f"{duration(left)} left"] if left is not None and done < total else []
        words += [f"started {', '.join(begun)}"] if begun else []
        words += [f"best so far: {_best(best)}"] if best else []
        screen.print(Text("; ".join(words)))

    return show


def _best(best: Mapping[str, float | None]) -> str:
    known = sorted(((loss, label) for label, loss in best.items() if loss is not None))
    return ", ".join(f"{label} {loss:.4g}" for loss, label in known) or "none yet"


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"loss {loss:.4g}"


def print_result(result: Mapping[str, Any], report: Path, console: Console) -> None:
    """The verdict, the warnings, a table with a column for each arm, the best first, and where the report is."""
    arms = table(result)
    shown = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    shown.add_column(style="dim", no_wrap=True)
    for label in arms:
        shown.add_column(Text(label), justify="right", overflow="fold")
    for column, cells in zip(columns(result), zip(*arms.values(), strict=True), strict=True):
        shown.add_row(column.name, *(Text(cell.text) for cell in cells))
    target = result["target"]
    console.print(Text(result["verdict"]["text"], style="bold"))
    for warning in result["warnings"]:
        console.print(Text(f"Warning: {warning}", style="yellow"))
    console.print()
    console.print(shown)
    console.print()
    if target["loss"] is not None:
        kind = next((arm["to_target_kind"] for arm in result["arms"].values() if arm["to_target_kind"]), None)
        console.print(Text(f"target: loss {target['loss']:.4g}, {target['source']}" + (f"; {kind}" if kind else "")))
    console.print(Text(f"report: {report}"), soft_wrap=True)
