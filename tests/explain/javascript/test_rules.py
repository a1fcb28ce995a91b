"""Every rule as JavaScript is the rule: the same path over 100 steps as on NumPy's float64, and the same lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.explain.javascript.cases import cases, settings_of
from tests.explain.javascript.running import STEPS, Case, Run, by_node, by_numpy, differences

from ravine.explain.javascript import Emitted, add_function, emit
from ravine.explain.javascript.formula import WHOLE
from ravine.explain.landscape.functions import LANDSCAPES
from ravine.registry import available, lookup

EQUAL = 1e-12
TOLD = 3

# A step of SOAP divides by what rounding leaves of an average of zeros, plus eps: only a large eps has figures that are
# the same wherever they are computed. Its own test is below.
ILL_CONDITIONED = {"soap"}
# The roots of matrices whose condition number is 1e8 have half of their digits; the steps made of them have all.
ROOTS = {"L_root", "R_root"}

Found = tuple[list[Case], list[dict[str, Any]]]


def emitted(*names: str, **options: Any) -> Emitted:
    made = emit([lookup(name) for name in names], **options)
    for one in LANDSCAPES.values():
        add_function(made, one.name, one.value)
    return made


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Found]:
    """The cases of a rule with Node's results; all rules are run at once."""
    folder = tmp_path_factory.mktemp("node")
    given = [case for name in available() for case in cases(lookup(name), told=TOLD)]
    results = by_node(emitted(*available()), given, folder)

    def of(name: str) -> Found:
        mine = [i for i, case in enumerate(given) if case.rule == name]
        return [given[i] for i in mine], [results[i] for i in mine]

    return of


@pytest.mark.parametrize("name", sorted(set(available()) - ILL_CONDITIONED))
def test_a_rule_takes_the_same_path(name: str, found: Callable[[str], Found]) -> None:
    ran = 0
    for case, result in zip(*found(name), strict=True):
        if "wrong" in result:
            assert lookup(name).check is not None
            continue
        off = differences(result, by_numpy(lookup(name), case))
        assert max(v for k, v in off.items() if k not in ROOTS) <= EQUAL, (case, off)
        ran += case.steps == STEPS
    assert ran >= 5


def is_of_single_elements(formula: str) -> bool:
    """Whether each number in a line's formula is one element's."""
    words = (*(f"{word}(" for word in WHOLE), "‖", "Σ", "ᵀ", "_root", "Q_")
    return not any(word in formula for word in words)


@pytest.mark.parametrize("name", available())
def test_the_lines_have_the_words_and_numbers_of_the_rule_as_it_is_followed(
    name: str, found: Callable[[str], Found]
) -> None:
    compared = 0
    for case, result in zip(*found(name), strict=True):
        if "wrong" in result or not case.told:
            continue
        expected: Run = by_numpy(lookup(name), Case(case.rule, case.settings, case.start, case.landscape, TOLD, TOLD))
        for ours, theirs in zip(result["told"], expected.told, strict=True):
            # The frame's own line of weight decay comes before those of the rule.
            ours = [line for line in ours if line[1]]
            assert [line[:3] for line in ours] == [line[:3] for line in theirs]
            for one, other in zip(ours, theirs, strict=True):
                if is_of_single_elements(one[2]):
                    assert one[3] == other[3], (case, one)
                    compared += 1
    assert compared > 3 * TOLD


def test_soap_takes_the_same_path_where_rounding_does_not_decide(tmp_path: Any) -> None:
    rule = lookup("soap")
    given = [
        Case("soap", settings_of(rule) | {"eps": 0.1, "every": every, "lr": 0.02}, (0.5, -1.0)) for every in (1, 3, 10)
    ]
    for case, result in zip(given, by_node(emitted("soap"), given, tmp_path), strict=True):
        off = differences(result, by_numpy(rule, case))
        assert off["p"] <= EQUAL
        assert max(v for k, v in off.items() if not k.startswith("Q")) <= EQUAL
