"""What the command line shows of claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ravine.explain.claims.claim import FAILS, HOLDS, WITH_LIMITS, Claim
from ravine.explain.claims.page import INDEX, MARKS, counted, criterion_texts
from ravine.explain.claims.record import Record

STYLES = {HOLDS: "green", WITH_LIMITS: "yellow", FAILS: "red"}


def listed(claims: Sequence[Claim], records: Mapping[str, Record | None]) -> list[dict[str, Any]]:
    """All claims for JSON: `[].{number, slug, title, source, needs, missing, verdict, error, form, date}`.

    `missing` is what it needs that is not here; `verdict`, `error`, `form` and `date` are of the last run, or null.
    """
    return [
        {
            "number": claim.number,
            "slug": claim.slug,
            "title": claim.title,
            "source": claim.source,
            "needs": list(claim.needs),
            "missing": list(claim.missing),
            **{key: (records.get(claim.slug) or {}).get(key) for key in ("verdict", "error", "form", "date")},
        }
        for claim in claims
    ]


def print_list(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """All claims, from `listed`."""
    table = _table("", "slug", "title", "source", "last verdict")
    for row in rows:
        table.add_row(
            str(row["number"]), Text(row["slug"]), Text(row["title"]), Text(row["source"], style="dim"), _said(row)
        )
    console.print(table)


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """What a run gave: the verdicts, the criteria that do not hold, what failed, and where the pages are."""
    table = _table("", "claim", "verdict", "took")
    for one in result["claims"]:
        took = "kept" if one["kept"] else f"{one['seconds']:.0f} s"
        table.add_row(str(one["number"]), Text(one["title"]), _said(one), Text(took, style="dim"))
        for each in one["criteria"] if one["error"] is None else ():
            if not each["holds"]:
                what, has_to_be, value = criterion_texts(each)
                table.add_row("", Text(f"  {what}: {value}, has to be {has_to_be}", style="dim"), "", "")
    for one in result["cannot_run_here"]:
        said = Text(f"cannot run here: needs {', '.join(one['needs'])}", style="dim")
        table.add_row(str(one["number"]), Text(one["slug"]), said, "")
    console.print(table)
    console.print(Text(counted(result["claims"])))
    console.print(Text(f"pages: {result['folder']}/{INDEX}"), soft_wrap=True)


def described(claim: Claim) -> dict[str, Any]:
    """A claim for JSON, before it is run: the keys of a record that are the claim's own, and `needs`."""
    return {
        "number": claim.number,
        "slug": claim.slug,
        "title": claim.title,
        "says": claim.says,
        "source": claim.source,
        "experiment": claim.experiment,
        "needs": list(claim.needs),
        "criteria": [asdict(each) for each in claim.criteria],
    }


def print_claim(described: Mapping[str, Any], console: Console) -> None:
    """What is claimed, what is done, and the criteria, from `described`."""
    console.print(Text(f"{described['number']}. {described['title']}", style="bold"))
    console.print(Text(f"\n{described['says']}\n\nSource: {described['source']}\n\n{described['experiment']}\n"))
    table = _table("criterion", "has to be")
    for each in described["criteria"]:
        what, has_to_be, _ = criterion_texts({**each, "value": None})
        table.add_row(Text(what), has_to_be)
    console.print(table)


def _table(*head: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for name in head:
        table.add_column(name, justify="right" if name == "" else "left", no_wrap=name in ("", "slug"))
    return table


def _said(row: Mapping[str, Any]) -> Text:
    if row["error"] is not None:
        return Text(f"failed: {row['error']}", style="bold red")
    if row["verdict"] is None:
        return Text(f"cannot run here: needs {', '.join(row['missing'])}" if row["missing"] else "", style="dim")
    return Text(f"{MARKS[row['verdict']]} {row['verdict']}", style=STYLES[row["verdict"]])
