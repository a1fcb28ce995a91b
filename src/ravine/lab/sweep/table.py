"""What a sweep prints: the best cell of each map, and what is to be noted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ravine.lab.sweep.grid import text


def print_sweep(result: Mapping[str, Any], page: Path, console: Console) -> None:
    """A row for each map, the lowest loss first; best cells on an edge; runs made one by one; and the page."""
    maps = sorted(result["maps"], key=lambda one: (one["best"]["loss"] is None, one["best"]["loss"]))
    shown = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    shown.add_column("map", no_wrap=True)
    for name in ("best loss", *result["over"], "diverged", "seconds"):
        shown.add_column(name, justify="right")
    for one in maps:
        best, cells = one["best"], len(one["x"]) * len(one["y"])
        loss = "all diverged" if best["loss"] is None else f"{best['loss']:.4g}"
        places = ["" if best["loss"] is None else text(best[name]) for name in result["over"]]
        cells_of = [loss, *places, f"{one['diverged']}/{cells}", f"{one['seconds']:.1f}"]
        shown.add_row(Text(one["label"]), *map(Text, cells_of))
    console.print(Text(f"{result['task']}: {result['loss_name']} at the end, tuning split", style="bold"))
    console.print()
    console.print(shown)
    console.print()
    for one in maps:
        if one["at_edge"]:
            console.print(Text(at_edge(one), style="yellow"), soft_wrap=True)
    reasons = dict.fromkeys(one["why_not_batched"] for one in maps if not one["batched"])
    for reason in reasons:
        console.print(Text(f"Cells were trained one by one: {reason}."), soft_wrap=True)
    console.print(Text(f"heat maps: {page}"), soft_wrap=True)


def at_edge(one: Mapping[str, Any]) -> str:
    """What a best cell on the edge of its map means, in a sentence."""
    where = " and ".join(f"{name} {text(one['best'][name])}" for name in one["at_edge"])
    space = " ".join(f"--space {name}=LOW..HIGH" for name in one["at_edge"])
    return f"{one['label']}: the best cell lies on the edge of the grid, {where}; look further with {space}"
