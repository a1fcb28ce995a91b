"""Traces and worksheets as pages that need nothing else: no script, no network, formulas typeset by the browser."""

from __future__ import annotations

import functools
import re
from html import escape
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ravine.explain import traced
from ravine.explain.mathml import CSS, mathml
from ravine.explain.trace import Trace
from ravine.explain.trace_markdown import ASKED
from ravine.explain.traced import Said
from ravine.explain.worksheet import Worksheet

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Nothing runs and nothing is fetched, whatever text the page is made of."""
MOST_STEPS = 200


def html(trace: Trace) -> str:
    """A trace: problem, start, settings, and a table for each step.

    Raises:
        ValueError: for more than 200 steps, which no browser would like.
    """
    if len(trace.steps) > MOST_STEPS:
        raise ValueError(f"--html: a page has at most {MOST_STEPS} steps, got {len(trace.steps)}")
    return _page(trace, None, f"{trace.rule.title}, line by line")


def worksheet(sheet: Worksheet) -> str:
    """An exercise to print: given, asked, check, and the solution on a page of its own."""
    return _page(sheet.trace, sheet, sheet.title)


def _page(trace: Trace, sheet: Worksheet | None, title: str) -> str:
    environment = Environment(
        loader=PackageLoader("ravine.explain"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"math": _math, "value": traced.value_of, "prose": _prose}
    style = (files("ravine.explain") / "templates" / "paper.css").read_text(encoding="utf-8")
    page = environment.get_template("trace.html.jinja").render(
        trace=trace,
        sheet=sheet,
        title=title,
        policy=POLICY,
        style=Markup(style + CSS),
        where=traced.where(trace),
        formula=traced.problem(trace),
        start=traced.start(trace),
        settings=traced.settings(trace),
        nested=traced.is_nested(trace),
        headed=traced.headed,
        symbol_of=traced.symbol_of,
        formula_of=traced.formula,
        substituted=traced.substituted,
        command=traced.command(trace),
        asked=ASKED,
        theta=traced.symbol_of("p"),
        loss_of_theta=Said("L(θ)", r"L(\theta)"),
    )
    return page.lstrip()


def _math(said: Said | str, display: bool = False) -> Any:
    """A formula, typeset."""
    latex = said if isinstance(said, str) else said.latex
    return _typeset(latex, display) if latex else ""


@functools.lru_cache(1024)
def _typeset(latex: str, display: bool) -> Markup:
    """The same formulas come in every step."""
    return Markup(mathml(latex, display))


def _prose(text: str) -> Any:
    """Prose with `code` in it."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text)))
