"""Pages in Markdown: one for each claim, and an index with all verdicts. GitHub and MkDocs show them alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ravine.explain.claims.claim import FAILS, HOLDS, WITH_LIMITS, Claim
from ravine.explain.claims.record import Record
from ravine.explain.typeset import number

MARKS = {HOLDS: "✓", WITH_LIMITS: "(✓)", FAILS: "✗"}
INDEX = "README.md"


def page(record: Record) -> str:
    """The page of one claim."""
    parts = [
        f"# {record['number']}. {record['title']}",
        f"**Verdict: {_verdict(record)}**",
        f"## What is claimed\n\n{record['says']}\n\nSource: {linked(record['source'])}.",
        f"## What is done\n\n{record['experiment']}",
        f"## What came out\n\n{_criteria(record)}",
    ]
    if record["error"] is None:
        parts.append(f"![{record['title']}]({record['slug']}.svg)")
    if record["table"] is not None:
        parts.append(markdown_table(record["table"]["head"], record["table"]["rows"]))
    if record["remarks"]:
        parts.append("## Remarks\n\n" + "\n".join(f"- {remark}" for remark in record["remarks"]))
    parts.append(f"## How it was made\n\n{_made(record)}")
    return "\n\n".join(parts) + "\n"


def index(claims: Iterable[Claim], records: Mapping[str, Record]) -> str:
    """The page that lists all claims with what came out.

    Args:
        claims: in order.
        records: by slug, of those that have been run.
    """
    rows = [_row(claim, records.get(claim.slug)) for claim in claims]
    machines = sorted({machine_text(record["machine"]) for record in records.values()})
    dates = sorted({record["date"] for record in records.values()})
    parts = [
        "# Claims",
        "What the literature says of optimizers, tried out. The criteria of each experiment are fixed before it runs, "
        "from what the authors say; where an earlier form of an experiment had another one, its page says so. A claim "
        "that does not hold here is shown as such. A quick run is a small one: what it does not show may show in a "
        "full one. Nothing here says what happens at a scale that was not tried.",
        markdown_table(("", "claim", "verdict", "run"), rows),
    ]
    if records:
        when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        parts.append(counted(records.values()))
        parts.append(f"Made on {when} by `ravine claims run` on:")
        parts.append("\n".join(f"- {machine}" for machine in machines))
    return "\n\n".join(parts) + "\n"


def counted(records: Iterable[Record]) -> str:
    """How many claims there are of each verdict.

    Example:
        >>> counted([{"verdict": "holds"}, {"verdict": None}, {"verdict": "holds"}])
        'Of 3 claims: holds, 2; failed, 1.'
    """
    found = Counter(record["verdict"] or "failed" for record in records)
    return f"Of {found.total()} claims: " + "; ".join(f"{v}, {found[v]}" for v in (*MARKS, "failed") if found[v]) + "."


def _row(claim: Claim, record: Record | None) -> tuple[str, ...]:
    if record is None:
        said = f"cannot run here: needs {', '.join(claim.missing)}" if claim.missing else "not run yet"
        return str(claim.number), claim.title, said, ""
    return str(claim.number), f"[{claim.title}]({claim.slug}.md)", _verdict(record), record["form"]


def _verdict(record: Record) -> str:
    if record["error"] is not None:
        return f"none, the experiment failed: {record['error']}"
    return f"{MARKS[record['verdict']]} {record['verdict']}"


def _criteria(record: Record) -> str:
    head = ("criterion, fixed beforehand", "has to be", "came out", "holds")
    return markdown_table(
        head, [(*criterion_texts(each), "yes" if each["holds"] else "no") for each in record["criteria"]]
    )


def criterion_texts(criterion: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a record's criterion is about, its bounds and its value, for people."""
    scope = " (asks how far the claim reaches)" if criterion["scope"] else ""
    value = "—" if criterion["value"] is None else number(criterion["value"])
    return criterion["what"] + scope, bounds(criterion["at_least"], criterion["at_most"]), value


def bounds(low: float | None, high: float | None) -> str:
    """What a value has to be.

    Example:
        >>> bounds(0.1, None), bounds(None, 1e-12), bounds(-0.5, 1.1), bounds(1.0, 1.0)
        ('≥ 0.1', '≤ 1e-12', '−0.5 to 1.1', '1')
    """
    if low is None:
        return f"≤ {number(high)}"
    if high is None:
        return f"≥ {number(low)}"
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _made(record: Record) -> str:
    seeds = len(record["seeds"])
    lines = [
        f"    {record['command']}",
        f"On {record['date']}, in {max(1, round(record['seconds']))} s, in the {record['form']} form, with {seeds} "
        f"seed{'s' * (seeds != 1)} where anything is random, on {machine_text(record['machine'])}.",
    ]
    if record["error"] is None:
        lines.append(f"All numbers: [{record['slug']}.json]({record['slug']}.json).")
    lines.append(f"All claims: [index]({INDEX}).")
    return "\n\n".join(lines)


def machine_text(machine: Mapping[str, Any]) -> str:
    """A machine in a line."""
    return (
        f"{machine['cpu']}, one thread of {machine['cores']}, {machine['memory_gb']:.0f} GB, {machine['system']}; "
        f"Python {machine['python']}, torch {machine['torch']}, ravine {machine['ravine']}"
    )


def linked(source: str) -> str:
    """A source whose arXiv number, DOI or address is a link.

    Example:
        >>> linked("Kingma & Ba 2015, arXiv:1412.6980, Section 3")
        'Kingma & Ba 2015, [arXiv:1412.6980](https://arxiv.org/abs/1412.6980), Section 3'
    """
    source = re.sub(r"(?<![\w/])(https?://[^\s,;)]+)", r"<\1>", source)
    source = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)
    return re.sub(r"doi:(10\.[^\s,;)]+)", r"[doi:\1](https://doi.org/\1)", source)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown, numbers to the right.

    Example:
        >>> print(markdown_table(("rule", "loss"), [("adam|w", 0.123456), ("sgd", None)]))
        | rule | loss |
        | --- | ---: |
        | adam\\|w | 0.1235 |
        | sgd | — |
    """
    rows = [list(row) for row in rows]
    numeric = [any(isinstance(row[i], (int, float)) for row in rows) for i in range(len(head))]
    lines = [head, ["---:" if each else "---" for each in numeric], *rows]
    return "\n".join("| " + " | ".join(cell(x) for x in line) + " |" for line in lines)


def cell(value: Any) -> str:
    """What a table shows of a value: four digits of a number."""
    if value is None:
        return "—"
    if isinstance(value, float):
        return number(value, digits=4)
    return str(value).replace("|", "\\|")
