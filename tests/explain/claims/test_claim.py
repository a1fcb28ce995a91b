"""What a claim is: criteria and verdicts, what may be declared, and what all the claims of the package have."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.explain.claims.claim import (
    FAILS,
    HOLDS,
    WITH_LIMITS,
    Criterion,
    Evidence,
    Run,
    claim,
    claims,
    lookup_claim,
    seeds,
    verdict,
)
from ravine.explain.claims.page import linked

numbers = st.floats(allow_nan=False, allow_infinity=False)
CLAIMS = claims()


@given(numbers, numbers, st.floats())
def test_a_criterion_holds_between_its_bounds_and_never_for_nan(a: float, b: float, value: float) -> None:
    low, high = min(a, b), max(a, b)
    assert Criterion("x", "x", low, high).holds(value) is (low <= value <= high)
    assert Criterion("x", "x", at_least=low).holds(value) is (value >= low)
    assert Criterion("x", "x", at_most=high).holds(value) is (value <= high)
    assert not Criterion("x", "x", at_least=low).holds(math.nan)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_the_verdict_counts_what_is_claimed_and_how_far_it_reaches(outcomes: list[tuple[bool, bool]]) -> None:
    criteria = [Criterion(str(i), "x", at_least=0.0, scope=scope) for i, (scope, _) in enumerate(outcomes)]
    values = {str(i): 1.0 if held else -1.0 for i, (_, held) in enumerate(outcomes)}
    claimed = all(held for scope, held in outcomes if not scope)
    reached = all(held for scope, held in outcomes if scope)
    assert verdict(criteria, values) == (FAILS if not claimed else HOLDS if reached else WITH_LIMITS)


@given(numbers, numbers)
def test_bounds_that_no_value_meets_are_refused(a: float, b: float) -> None:
    if a > b:
        with pytest.raises(ValueError, match=r"'x': no value is at least .* and at most"):
            Criterion("x", "x", at_least=a, at_most=b)


def test_a_criterion_without_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="'x' needs at_least, at_most or both"):
        Criterion("x", "x")


def declare(doc: str = "Done.", **changes: object) -> object:
    def function(run: Run) -> Evidence:
        return Evidence({}, lambda figure: None)

    function.__doc__ = doc
    given = {"number": 1, "slug": "a-slug", "title": "t", "says": "s", "source": "s",
             "criteria": (Criterion("x", "x", at_least=0.0),)}  # fmt: skip
    return claim(**{**given, **changes})(function)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"slug": "A slug"}, "small letters, digits and hyphens, got 'A slug'"),
        ({"slug": "-a"}, "small letters"),
        ({"criteria": ()}, "needs a criterion that is not one of scope"),
        ({"criteria": (Criterion("x", "x", at_least=0.0, scope=True),)}, "needs a criterion that is not one of scope"),
        ({"criteria": 2 * (Criterion("x", "x", at_least=0.0),)}, "two criteria of one name"),
        ({"doc": ""}, "needs a docstring"),
    ],
    ids=["slug", "hyphen", "no criterion", "scope alone", "twice", "no docstring"],
)
def test_what_cannot_be_declared(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        declare(**changes)


def test_a_value_for_each_criterion_is_asked_for() -> None:
    with pytest.raises(ValueError, match="has the criteria x, and values for "):
        declare()(Run(quick=True))


def test_a_run_has_seeds_and_chooses() -> None:
    assert Run(quick=True).seeds == seeds(3) == (1, 2, 3)
    assert Run().seeds == tuple(range(1, 11))
    assert (Run(quick=True).choose(1, 2), Run().choose(1, 2)) == (1, 2)
    told = []
    Run(report=lambda done, total: told.append((done, total))).progress(2, 5)
    assert told == [(2, 5)]


@pytest.mark.parametrize("slug", CLAIMS)
def test_every_claim_has_all_that_its_page_needs(slug: str) -> None:
    one = CLAIMS[slug]
    for text in (one.title, one.says, one.source, one.experiment, *(each.what for each in one.criteria)):
        assert text.strip() == text and text
    assert not one.title.endswith(".") and len(one.title) <= 100
    assert one.says.endswith(".") and one.experiment.endswith(".")
    assert re.search(r"\b(19|20)\d\d\b", one.source), "the source has a year"
    assert linked(one.source) != one.source or "arXiv" not in one.source
    assert one.file.name == f"c{one.number:02}_{slug.replace('-', '_')}.py"
    assert len(one.version) == 16


def test_numbers_are_in_order() -> None:
    numbers = [one.number for one in CLAIMS.values()]
    assert numbers == sorted(set(numbers))


def test_an_unknown_claim_gets_the_nearest_name() -> None:
    assert lookup_claim("bias-correction") is CLAIMS["bias-correction"]
    with pytest.raises(KeyError, match="unknown claim 'bias-corection'; did you mean 'bias-correction'"):
        lookup_claim("bias-corection")
