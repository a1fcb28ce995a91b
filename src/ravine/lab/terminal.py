"""What `ravine compare` shows in a terminal: progress, the verdict and the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ravine.lab.report import COLUMNS, table
from ravine.lab.study import OnProgress

PLAIN_WIDTH = 240  # a file or a pipe has no edge at which lines should break


def console(stderr: bool = False) -> Console:
    """The console of this moment's standard output, or standard error."""
    made = Console(highlight=False, stderr=stderr)
    return made if made.is_terminal else Console(highlight=False, stderr=stderr, width=PLAIN_WIDTH)


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """Progress on standard error: a bar with the time that is left, or a line for each run without a terminal."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield _lines(screen)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left:"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )  # fmt: skip
    with Progress(*columns, console=screen, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("starting", total=None)

        def show(what: str, done: int, total: int) -> None:
            progress.update(task, description=escape(what), completed=done, total=total)

        yield show


def _lines(screen: Console) -> OnProgress:
    last = ""

    def show(what: str, done: int, total: int) -> None:
        nonlocal last
        if what != last:
            last = what
            screen.print(Text(f"{done / total:4.0%}  {what}"))

    return show


def print_result(result: Mapping[str, Any], report: Path, console: Console) -> None:
    """The verdict, a table with a column for each arm, the best first, the target and where the report is."""
    arms = table(result)
    shown = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    shown.add_column(style="dim", no_wrap=True)
    for label in arms:
        shown.add_column(Text(label), justify="right", overflow="fold")
    for (name, _), cells in zip(COLUMNS, zip(*arms.values(), strict=True), strict=True):
        shown.add_row(name, *map(Text, cells))
    target = result["target"]
    console.print(Text(result["verdict"]["text"], style="bold"))
    console.print()
    console.print(shown)
    console.print()
    if target["loss"] is not None:
        console.print(
            Text(f"target: loss {target['loss']:.3f}, {target['source']}; first crossing, median of the seeds")
        )
    console.print(Text(f"report: {report}"), soft_wrap=True)
