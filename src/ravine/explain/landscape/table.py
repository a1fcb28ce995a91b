"""The numbers of a landscape as a table, for the terminal and for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ravine.explain.landscape.result import Result, Track

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

COLUMNS = ("lr", "steps to 1e-3", "oscillation", "loss at the end", "path in the plane")
UNKNOWN = "–"


def rows(result: Result) -> list[tuple[str, dict[str, str]]]:
    """A label for each arm and its cells by column; a column that says nothing of any is left out."""
    told = [(track.label, _cells(result, track)) for track in result.tracks]
    kept = [name for name in COLUMNS if any(cells[name] for _, cells in told)]
    return [(label, {name: cells[name] or UNKNOWN for name in kept}) for label, cells in told]


def _cells(result: Result, track: Track) -> dict[str, str]:
    arrived = result.steps_to(track)
    diverged = f"diverged at step {track.diverged_at}"
    return {
        "lr": "" if track.lr is None else f"{track.lr:.3g}",
        "steps to 1e-3": "" if result.level is None else "not reached" if arrived is None else str(arrived),
        "oscillation": f"{track.oscillation:.2f}",
        "loss at the end": diverged if track.diverged_at is not None else f"{track.losses[-1]:.4g}",
        "path in the plane": "" if track.in_plane is None else f"{track.in_plane:.1%}",
    }


def print_result(result: Result, console: Console) -> None:
    """What it is, a row for each arm, and what a reader has to know."""
    from rich.text import Text

    console.print(Text(result.title, style="bold cyan"))
    console.print(Text(result.about))
    console.print()
    if result.tracks:
        console.print(_table(result))
        console.print()
    for remark in result.remarks:
        console.print(Text(remark, style="dim"))


def _table(result: Result) -> Table:
    from rich.table import Table
    from rich.text import Text

    told = rows(result)
    shown = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    shown.add_column("optimizer", no_wrap=True)
    for name in told[0][1]:
        shown.add_column(name, justify="right", no_wrap=True)
    for label, cells in told:
        shown.add_row(Text(label), *(Text(cell) for cell in cells.values()))
    return shown
