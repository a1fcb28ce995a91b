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


@contextmanager
def progress_bar(console: Console) -> Iterator[OnProgress]:
    """A bar over the steps of all runs, with the time that remains; it goes when the study ends."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left:"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("reading", total=None)

        def show(what: str, done: int, total: int) -> None:
            progress.update(task, description=escape(what), completed=done, total=total)

        yield show


def print_result(result: Mapping[str, Any], report: Path, console: Console) -> None:
    """The verdict, the table, the target and where the report is."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    shown.add_column("arm", overflow="fold")
    for name, _ in COLUMNS:
        shown.add_column(name, justify="right")
    for label, cells in table(result).items():
        shown.add_row(Text(label, style="bold"), *map(Text, cells))
    if not console.is_terminal:
        console = Console(file=console.file, width=PLAIN_WIDTH)
    console.print(Text(result["verdict"]["text"], style="bold"))
    console.print()
    console.print(shown)
    console.print()
    if result["target"]["loss"] is not None:
        console.print(
            Text(
                f"Target: loss {result['target']['loss']:.3f} ({result['target']['source']}); to it: first crossing, "
                "median over the seeds.",
                style="dim",
            )
        )
    console.print(Text(f"Report: {report}"), soft_wrap=True)
