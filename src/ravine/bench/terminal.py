"""What `ravine bench` prints: Rich in a terminal, plain text elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ravine.bench.bounds import COLD_SECONDS, WARM_SECONDS, Check
from ravine.bench.ceiling import READS, WRITES
from ravine.bench.measure import Measurement, Row
from ravine.bench.peers import LIBRARIES, PEERS, version_of
from ravine.bench.problems import elements_of, shapes_of

PLAIN_WIDTH = 160  # a file or a pipe has no edge at which lines should break


def console() -> Console:
    """The console of this moment's standard output."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


@contextmanager
def progress_bar(units: int) -> Iterator[Callable[[str], None]]:
    """Progress on standard error, a bar in a terminal and a line for each unit elsewhere.

    The function it gives is told what begins.
    """
    console = Console(stderr=True, highlight=False)
    begun = 0
    if not console.is_terminal:

        def say(what: str) -> None:
            nonlocal begun
            begun += 1
            console.print(Text(f"{begun}/{units} {what}"))

        yield say
        return
    what = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(), what)
    # Drawn seldom: what draws it takes time from what is timed.
    with Progress(*columns, console=console, transient=True, refresh_per_second=1) as bar:
        task = bar.add_task("", total=units)

        def progress(what: str) -> None:
            nonlocal begun
            bar.update(task, description=what, completed=begun, refresh=True)
            begun += 1

        yield progress


def print_measurement(measurement: Measurement, console: Console) -> None:
    """The machine, a table for each set of shapes, the first steps, the peers, and what is to be noted."""
    machine = measurement.machine
    if machine is not None:
        console.print(
            f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb} GB; {machine.device}, "
            f"{machine.threads} threads; torch {machine.torch}, ravine {machine.ravine}"
        )
    if measurement.ceiling is not None and measurement.ceiling.best:
        speed = measurement.ceiling.best / 1e9
        console.print(f"Streaming ceiling of this machine: {speed:.1f} GB/s ({READS} reads + {WRITES} writes)")
    quick = measurement.settings.quick
    for shapes in dict.fromkeys(row.shapes for row in measurement.rows):
        rows = [row for row in measurement.rows if row.shapes == shapes]
        tensors, elements = len(shapes_of(shapes, quick)), elements_of(shapes, quick)
        _heading(
            console,
            f"{shapes}: {tensors} tensors, {elements / 1e6:.3g} M parameters, {measurement.settings.dtype}; "
            f"torch's fused AdamW = 1.00",
        )
        console.print(_table_of(rows))
    if quick:
        console.print(
            Text("Quick sizes fit in the cache: the ratios say that everything runs, not how fast.", "yellow")
        )
    _print_first_steps(measurement, console)
    if measurement.settings.peers:
        _heading(console, "Other libraries")
        console.print("; ".join(_peer(library) for library in LIBRARIES))
    for note in measurement.notes:
        console.print(Text(f"Note: {note}.", style="yellow"))


def _table_of(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for header in ("optimizer", "library", "engine"):
        table.add_column(header)
    for header in ("× torch", "min–max", "ms", "torch's ms", "bytes/param", "of ceiling"):
        table.add_column(header, justify="right")
    for row in rows:
        own = row.library == "ravine"
        table.add_row(
            Text(row.optimizer, style="bold cyan" if own else "cyan"), row.library, row.engine,
            Text(f"{row.ratio.median:.2f}", style="bold" if own else ""), f"{row.ratio.min:.2f}–{row.ratio.max:.2f}",
            f"{row.milliseconds:.3g}", f"{row.baseline_milliseconds:.3g}",
            "" if row.bytes_per_param is None else f"{row.bytes_per_param:g}",
            "" if row.ceiling_share is None else f"{row.ceiling_share:.0%}",
        )  # fmt: skip
    return table


def _print_first_steps(measurement: Measurement, console: Console) -> None:
    if not measurement.first_steps:
        return
    _heading(console, "First step in a fresh process, seconds")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("optimizer")
    table.add_column("no kernel cached", justify="right")
    table.add_column("kernel cached", justify="right")
    for step in measurement.first_steps:
        table.add_row(Text(step.optimizer, style="cyan"), f"{step.cold_seconds:.2f}", f"{step.warm_seconds:.3f}")
    console.print(table)


def _peer(library: str) -> str:
    version = version_of(library)
    if version is None:
        return f"{library}: not installed"
    known = any(peer.library == library for them in PEERS.values() for peer in them)
    return f"{library} {version}" + ("" if known else " (has none of these algorithms)")


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """Each bound, and whether it was met."""
    _heading(console, f"Bounds (first step: {COLD_SECONDS} s cold, {WARM_SECONDS} s warm)")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("what")
    for header in ("measured", "at most", ""):
        table.add_column(header, justify="right")
    for check in checks:
        verdict = Text("met", style="green") if check.met else Text("missed", style="bold red")
        table.add_row(check.what, f"{check.measured:.3f}", f"{check.bound:g}", verdict)
    console.print(table)


def _heading(console: Console, words: str) -> None:
    console.print()
    console.print(Text(words, style="bold"))
