"""Wrapped rules as JavaScript, nested too, and the weights that are evaluated at."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.explain.javascript.cases import cases, settings_of
from tests.explain.javascript.running import Case, by_node, by_numpy, differences
from tests.explain.javascript.test_rules import EQUAL

from ravine.explain.javascript import Emitted, add_function, emit
from ravine.explain.landscape.functions import LANDSCAPES
from ravine.registry import lookup, lookup_wrapper, wrappers

BASES = ("sgd", "adamw", "muon", "mars")
NESTED = (
    "lookahead(cautious(adamw))", "rectified(schedule_free(adamw))", "ema(clip_norm(nadam))",
    "lookahead(maximize(adopt))", "clip_norm(lookahead(mars))", "lookahead(centralized(muon))",
)  # fmt: skip


def wrapped(name: str) -> list[str]:
    """The specs of a wrapper around those bases that it accepts."""
    specs = []
    for base in BASES:
        try:
            specs.append(lookup_wrapper(name)(lookup(base)).spec)
        except TypeError:
            continue
    return specs


def made_of(specs: list[str]) -> Emitted:
    made = emit([lookup(spec) for spec in specs], flags=False)
    for one in LANDSCAPES.values():
        add_function(made, one.name, one.value)
    return made


def hold(specs: list[str], folder: Path) -> None:
    given = [case for spec in specs for case in cases(lookup(spec), flags=False)]
    for case, result in zip(given, by_node(made_of(specs), given, folder), strict=True):
        if "wrong" not in result:
            off = differences(result, by_numpy(lookup(case.rule), case))
            assert max(off.values()) <= EQUAL, (case, off)


@pytest.mark.parametrize("name", wrappers())
def test_a_wrapper_takes_the_same_path_around_several_rules(name: str, tmp_path: Path) -> None:
    specs = wrapped(name)
    assert len(specs) >= 2
    hold(specs, tmp_path)


def test_nested_wrappers_take_the_same_path(tmp_path: Path) -> None:
    hold(list(NESTED), tmp_path)


def test_every_branch_of_lookahead_and_of_the_rule_inside_is_there(tmp_path: Path) -> None:
    """Also where both ask at one step: `t == 1` inside, and a k of 1."""
    rule = lookup("lookahead(mars)")
    given = [Case(rule.spec, settings_of(rule) | {"lookahead.k": k}, (0.5, -1.0), steps=40) for k in (1, 2, 7, 30)]
    for case, result in zip(given, by_node(made_of([rule.spec]), given, tmp_path), strict=True):
        assert max(differences(result, by_numpy(rule, case)).values()) <= EQUAL
