"""The page: one HTML file that needs nothing else and asks nobody for anything."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ravine.lab.report.charts import COLOURS, DARK_COLOURS, DASHES, Chart, recolouring, styles, theme
from ravine.lab.report.costs import pareto, step_split
from ravine.lab.report.curves import curves, final_losses, training_curves
from ravine.lab.report.searches import heat_maps, sensitivity
from ravine.lab.report.table import columns, hardware, table
from ravine.lab.report.text import UNKNOWN, number, signed

BEGINNING = "document.documentElement.dataset.theme = (() => { try { return localStorage.getItem('theme') } catch { return '' } })() || ''"  # noqa: E501
"""Before the first paint: the theme that the reader chose before."""

STROKES = dict(zip(DASHES, ("", "7 4", "2 4", "8 3 2 3"), strict=True))
"""The dashes as SVG has them, for the legend."""


MARKS = {
    "circle": "M15 1a4 4 0 1 0 0 8a4 4 0 1 0 0-8z",
    "square": "M11.5 1.5h7v7h-7z",
    "diamond": "M15 0l5 5l-5 5l-5-5z",
    "triangle-up": "M15 .5l5 8.5h-10z",
    "pentagon": "M15 .5l4.6 3.4l-1.8 5.6h-5.6l-1.8-5.6z",
    "triangle-down": "M15 9.500l5-8.5h-10z",
    "hexagon": "M15 0l4.400 2.500v5l-4.400 2.500l-4.400-2.500v-5z",
}
"""The symbols as SVG has them."""


def charts(result: Mapping[str, Any]) -> dict[str, Chart]:
    """The charts that this result has figures for, by id."""
    makers = (curves, training_curves, final_losses, sensitivity, heat_maps, pareto, step_split)
    return {chart.id: chart for make in makers if (chart := make(result)) is not None}


def html(result: Mapping[str, Any]) -> str:
    """The report as a page.

    Args:
        result: as in `result.json`; of several studies, as `ravine.lab.results.combined` makes one.
    """
    from ravine.lab.results.statistics import p_text  # with SciPy: nobody who only asks for a colour should wait for it

    environment = Environment(
        loader=PackageLoader("ravine.lab.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "number": number, "signed": signed, "p": p_text, "plain": _plain, "words": _words, "breakable": _breakable,
    }  # fmt: skip
    environment.tests["entries"] = lambda value: isinstance(value, Mapping)
    environment.tests["listing"] = lambda value: isinstance(value, (list, tuple))
    scripts = {"plotly": _plotly(), "beginning": BEGINNING, "page": _script("page.js")}
    page = environment.get_template("report.html.jinja").render(
        **_context(result),
        scripts={name: Markup(text) for name, text in scripts.items()},
        # Nothing but these scripts runs and nothing is ever fetched, whatever text the page is made of.
        policy="default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; base-uri 'none'; "
        f"form-action 'none'; script-src {' '.join(map(_digest, scripts.values()))}",
        style=Markup(_script("page.css")),
        palette=list(zip(COLOURS, DARK_COLOURS, strict=True)),
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    return page.lstrip()


def _context(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows, in plain values and text."""
    arms = result["arms"]
    looks = dict(zip(arms, styles(len(arms)), strict=True))
    shown = charts(result)
    headings, cells = hardware(result)
    return {
        "result": result,
        "labels": list(arms),
        "looks": looks,
        "strokes": STROKES,
        "marks": MARKS,
        "columns": [(column.name, column.meaning) for column in columns(result)],
        "rows": table(result),
        "hardware_columns": headings,
        "hardware_rows": cells,
        "charts": shown,
        "contents": _contents(shown, {"routing": bool(_routed(arms)), "hardware": bool(headings)}),
        "drawn": {
            "charts": [
                {"id": c.id, "views": [view.figure for view in c.views], "legend": c.legend} for c in shown.values()
            ],
            "themes": {"light": theme(False), "dark": theme(True)},
            "recolouring": recolouring(),
        },
        "said": _said(result["verdict"]["text"]),
        "chances": _chances(result),
        "pairs": [{**pair, "significant": _significant(pair)} for pair in result["pairs"]],
        "routing": _routed(arms),
        "target_kind": next((a["to_target_kind"] for a in arms.values() if a["to_target_kind"]), None),
        "toml": _toml(result["study"]),
        "facts": _facts(result),
        **_studies(result.get("studies") or [], result["budget"]),
    }


def _contents(shown: Mapping[str, Chart], there: Mapping[str, bool]) -> list[tuple[str, str]]:
    """The sections, by id, in the order of the page."""
    own = {
        "results": "Results",
        "hardware": "Hardware",
        "routing": "Routing",
        "pairs": "Every pair",
        "how": "How it was done",
    }
    order = ("results", "curves", "final", "sensitivity", "heat-maps", "pareto", "step", "hardware", "training",
             "routing", "pairs", "how")  # fmt: skip
    titles = own | {name: chart.title for name, chart in shown.items()}
    return [(name, titles[name]) for name in order if name in titles and there.get(name, True)]


def _said(verdict: str) -> tuple[str, str]:
    """The first sentence, and the others."""
    first, stop, rest = verdict.partition(". ")
    return (f"{first}.", rest) if stop else (first, "")


def _chances(result: Mapping[str, Any]) -> list[tuple[str, float]]:
    chances = result["verdict"]["tuning_probability"] or {}
    return sorted(chances.items(), key=lambda item: -item[1])


def _significant(pair: Mapping[str, Any]) -> bool:
    from ravine.lab.results.statistics import SIGNIFICANCE

    return pair["p_corrected"] is not None and pair["p_corrected"] < SIGNIFICANCE


def _routed(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {label: _routing(arm["routing"]) for label, arm in arms.items() if arm["routing"]}


def _routing(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows, and how many tensors and parameters each rule has."""
    totals: dict[str, list[int]] = {}
    for row in rows:
        count = 1
        for length in row["shape"]:
            count *= length
        total = totals.setdefault(row["rule"], [0, 0])
        total[0] += 1
        total[1] += count
    return {"rows": rows, "totals": totals}


def _facts(result: Mapping[str, Any]) -> list[str]:
    """The line below the title."""
    budget, model, machine = result["budget"], result["model"], result["machine"]
    facts = [f"task {result['task']}"]
    if model.get("parameters") is not None:
        facts.append(f"{model['parameters']:,} parameters")
    forms = ("steps", "{:,} steps"), ("trials", "{} trials per arm"), ("seeds", "{} judged seeds per arm")
    facts += [form.format(budget[name]) for name, form in forms if isinstance(budget.get(name), int)]
    return facts + [machine[name] for name in ("device", "precision") if isinstance(machine.get(name), str)]


def _studies(names: Sequence[str], budget: Mapping[str, Any]) -> dict[str, Any]:
    """Of several studies: what each was given. Where they differ, the budget has a list with one value for each."""
    rows = []
    for key, value in budget.items():
        # Some settings are lists themselves.
        differs = isinstance(value, list) and len(value) == len(names) and (key != "over" or isinstance(value[0], list))
        rows.append((key, [_told(one) for one in (value if differs else [value] * len(names))], differs))
    return {"studies": names, "study_rows": rows if names else []}


def _told(value: Any) -> str:
    """A value of a table's cell; lists and entries on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(key)} {_told(inner)}" for key, inner in value.items())
    return ", ".join(map(_told, value)) if isinstance(value, (list, tuple)) else _plain(value)


def _toml(study: Mapping[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(_without_none(study)) if study else ""


def _without_none(value: Any) -> Any:
    """The same without what TOML does not have."""
    if isinstance(value, Mapping):
        return {str(key): _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(inner) for inner in value if inner is not None]
    return value


def _plain(value: Any) -> str:
    """A plain value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    return UNKNOWN if value is None or value == "" else str(value)


def _breakable(label: str) -> Markup:
    """A label that may be broken between an optimizer and its settings, and between these."""
    return Markup("<wbr>").join(re.split(r"(?<=[:,=_])", label))


def _words(key: object) -> str:
    """A key as words."""
    return str(key).replace("_", " ")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _script(name: str) -> str:
    return (files("ravine.lab.report") / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """How a content security policy names a script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
