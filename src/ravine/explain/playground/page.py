"""The playground's page: one HTML file that needs nothing else and asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from ravine.explain.javascript import Emitted, add, add_function, in_script, runtime
from ravine.explain.landscape.descent import ESTIMATE_EVERY, FARTHEST
from ravine.explain.landscape.functions import LANDSCAPES
from ravine.explain.landscape.result import PART
from ravine.explain.landscape.tuning import COARSE, FINER, TAIL
from ravine.explain.mathml import CSS, mathml
from ravine.registry import available, lookup, lookup_wrapper, wrappers
from ravine.rule import Rule

SCRIPTS = ("setup.js", "runs.js", "ground.js", "losses.js", "lines.js", "panel.js", "page.js")
DEFAULT = ("sgd;lr=0.0383", "momentum;lr=0.0464", "adamw;lr=0.825", "muon;lr=0.147")
"""What the page begins with, on its first landscape, at the learning rates that `ravine landscape` finds there."""

SHOWN = 2
"""Whose lines the page begins with, counted from 0."""

SUGGESTED = ("lion", "rmsprop", "adagrad", "nesterov", "schedule_free(adamw)", "soap", "prodigy")
WRAPPED = ("sgd", "adamw", "lion", "muon")
"""The rules around which the page of all rules offers the wrappers."""

EXCLUDED = {
    "soap": "its first step divides what rounding leaves of zeros, so that no two programs take the same path",
}
"""Rules that the page of all rules does not have, and why; the command line gives them to a page that names them."""

INSTEAD = {"weight_decay": 0.0}
"""Settings that begin at other values than the rules' defaults: weight decay would move every minimum."""

LIGHT = ("#0072B2", "#C44E00", "#00805E", "#B35A8F", "#A86F00", "#2A8FC9", "#882255", "#5A5A5A")
DARK = ("#4AA3E8", "#F2803A", "#2BC596", "#E5A0C8", "#F2BC42", "#A3DAFB", "#DB6A98", "#B5B5B5")
COLOURS = {
    "text": ("#1b2026", "#e2e8ee"), "quiet": ("#59636e", "#9aa6b2"), "ground": ("#f5f6f8", "#0d1117"),
    "surface": ("#ffffff", "#161b22"), "line": ("#dde2e8", "#2d343d"), "edge": ("#8a95a1", "#67727f"),
    "accent": ("#0059a8", "#6cb6ff"), "soft": ("#eaf2fb", "#17263a"), "warn": ("#fff4dc", "#2b2210"),
    "wrong": ("#c2410c", "#f2803a"), "halo": ("#ffffff", "#0d1117"),
    "low": ("#fffdf6", "#111820"), "high": ("#aabccd", "#35506b"), "contour": ("#8aa1b8", "#4a6683"),
}  # fmt: skip
"""By day and by night. Paths have those of Okabe and Ito, darkened or lightened until they stand out."""
BEGINNING = "document.documentElement.dataset.theme = (() => { try { return localStorage.getItem('theme') } catch { return '' } })() || ''"  # noqa: E501
"""Before the first paint: the theme that the reader chose before."""


def rules_of(names: Sequence[str] = ()) -> tuple[list[Rule], dict[str, dict[str, str]], dict[str, str]]:
    """The rules that a page offers, why some wrappers and rules do not go together, and why some rules are not there.

    Args:
        names: of rules, wrapped or not; none for all rules, and all wrappers around those of `WRAPPED`.

    Raises:
        KeyError: for an unknown name, with the nearest.
    """
    if names:
        return [lookup(name) for name in dict.fromkeys(names)], {}, {}
    rules = [lookup(name) for name in available() if name not in EXCLUDED]
    refused: dict[str, dict[str, str]] = {}
    for name in wrappers():
        for base in WRAPPED:
            try:
                rules.append(lookup_wrapper(name)(lookup(base)))
            except TypeError as error:
                refused.setdefault(name, {})[base] = str(error)
    return rules, refused, EXCLUDED


def page(
    names: Sequence[str] = (), setup: Sequence[str] = DEFAULT, on_rule: Callable[[int, int], None] | None = None
) -> str:
    """The playground as a page.

    Args:
        names: the rules that it offers, see `rules_of`.
        setup: the optimizers that it begins with, as in its address: `"adamw;lr=0.3"`.
        on_rule: told how many rules have been traced, and of how many.

    Raises:
        KeyError: for an unknown name, with the nearest.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    rules, refused, excluded = rules_of(names)
    made = Emitted()
    for one in LANDSCAPES.values():
        add_function(made, one.name, one.value)
    for done, rule in enumerate(rules, 1):
        add(made, rule, flags=rule.wrapper is None)
        if on_rule is not None:
            on_rule(done, len(rules))
    made.texts[:] = [[symbol, formula, template, _typeset(latex)] for symbol, formula, template, latex in made.texts]
    about = _about(made, rules, refused, [one for one in setup if one.split(";")[0] in made.rules])
    environment = Environment(
        loader=PackageLoader("ravine.explain.playground"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    script = "\n".join((made.source, runtime(), f"const PAGE = {in_script(about)};", *map(_text, SCRIPTS)))
    scripts = {"beginning": BEGINNING, "page": script}
    return environment.get_template("playground.html.jinja").render(
        scripts={name: Markup(text) for name, text in scripts.items()},
        # Nothing but these scripts runs and nothing is ever fetched.
        policy="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src {' '.join(map(_digest, scripts.values()))}",
        style=Markup(_colours() + CSS + _text("page.css")),
        with_inputs=[rule.title for rule in rules if rule.inputs and rule.wrapper is None],
        excluded={lookup(name).title: reason for name, reason in excluded.items()},
        estimate_every=ESTIMATE_EVERY,
        tuning=about["tuning"],
    )


def _about(made: Emitted, rules: Sequence[Rule], refused: Any, setup: Sequence[str]) -> dict[str, Any]:
    """What the page's own scripts are told."""
    plain = [rule for rule in rules if rule.wrapper is None]
    bases = [rule for rule in rules if rule.base not in plain]
    around = {rule.wrapper.name: rule.wrapper.title for rule in rules if rule.wrapper and rule not in bases}
    return {
        "landscapes": [
            {
                "name": one.name, "formula": one.formula, "x": one.x, "y": one.y, "start": one.start,
                "steps": one.steps, "about": one.about, "minima": one.minima, "minimum": one.minimum,
            }
            for one in LANDSCAPES.values()
        ],
        "bases": [{"name": rule.spec, "title": rule.title} for rule in bases],
        "wrappers": [{"name": name, "title": title} for name, title in sorted(around.items())],
        "refused": refused,
        "facts": {rule.spec: _facts(rule) for rule in rules},
        "optimizers": list(setup) or [bases[0].spec],
        "suggested": [name for name in SUGGESTED if name in made.rules],
        "instead": INSTEAD,
        "shown": SHOWN, "colours": len(LIGHT),
        "gradient": _typeset(r"g \leftarrow \nabla f(\theta)"),
        "estimateEvery": ESTIMATE_EVERY,
        "farthest": FARTHEST,
        "tuning": {"coarse": COARSE, "finer": FINER, "tail": TAIL, "part": PART},
    }  # fmt: skip


def _facts(rule: Rule) -> dict[str, Any]:
    """What is said of a rule: a sentence, what it changes of its parent, and its paper."""
    paper = rule.paper.split("; around ")[0]
    found = re.search(r"arXiv:(\d{4}\.\d{4,5})", paper)
    sentence = rule.summary[:1].upper() + rule.summary[1:]
    return {
        "summary": sentence, "reason": rule.reason, "paper": paper,
        "link": f"https://arxiv.org/abs/{found[1]}" if found else None,
    }  # fmt: skip


def _typeset(latex: str) -> str:
    """A formula as MathML, without what a page need not be told."""
    return re.sub(r' (xmlns|display|stretchy|form|fence)="[^"]*"', "", mathml(latex))


def _colours() -> str:
    """The colours of paths and of heights, by day and by night."""
    pairs = {f"series-{i}": pair for i, pair in enumerate(zip(LIGHT, DARK, strict=True))}
    pairs |= COLOURS
    light = "".join(f"--{name}: {day};" for name, (day, _) in pairs.items())
    dark = "".join(f"--{name}: {night};" for name, (_, night) in pairs.items())
    return (
        f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f":root[data-theme=dark]{{{dark}}}\n"
    )


def _text(name: str) -> str:
    return (files("ravine.explain.playground") / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """How a content security policy names a script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
