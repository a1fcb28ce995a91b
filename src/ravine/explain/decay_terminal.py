"""What `ravine decay` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ravine.explain.converter import MEANINGS, STRENGTHS, Conversion, Schedule


def _columns(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=any(headers), header_style="dim")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def print_meanings(console: Console) -> None:
    """What λ means to whom, a line each."""
    table = _columns("name", "a step does", "whose")
    for meaning in MEANINGS.values():
        table.add_row(Text(meaning.name, style="bold cyan"), STRENGTHS[meaning.form].line, meaning.where)
    console.print(table)


def print_conversion(made: Conversion, console: Console) -> None:
    """The two forms with their λ, whether they do the same, and what to write."""
    table = _columns("", "", "")
    for meaning, strength in ((made.source, made.weight_decay), (made.target, made.converted)):
        table.add_row(Text(meaning.name, style="bold cyan"), STRENGTHS[meaning.form].line, f"λ = {strength:.6g}")
    console.print(table)
    console.print()
    word = "Exact" if made.exact else "Exact at the highest learning rate only"
    console.print(Text.assemble((f"{word}: ", "bold"), made.reason))
    if made.schedule is not None and not made.exact:
        console.print(_over_the_run(made.schedule))
    given = ", ".join(
        f"{key}={value:.6g}" if key != "decay" else f"{key}={value!r}" for key, value in made.in_ravine.items()
    )
    console.print(Text(f"In ravine: {given}", style="dim"))


def _over_the_run(run: Schedule) -> str:
    settings = ", ".join(f"{key}={value!r}" for key, value in run.settings.items())
    return (
        f"Over a run of {run.name}({settings}) it takes {run.share:.3g} times as much from the weights as before; "
        f"λ = {run.same_total:.6g} takes as much in all, and {1 / run.share:.3g} times as much at the peak."
    )
