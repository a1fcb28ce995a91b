"""Vectors and matrices as they are written and read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravine.explain.mathml import mathml
from ravine.explain.typeset import expression
from ravine.explain.vectors import FEW, argument, latex, put_in, read, text, written, written_in_latex
from ravine.math import norm, rows

from .reading import value_of

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VECTORS = st.lists(NUMBERS, min_size=2, max_size=FEW).map(np.array)
MATRICES = st.integers(1, 3).flatmap(
    lambda n: st.lists(st.lists(NUMBERS, min_size=n, max_size=n), min_size=2, max_size=3).map(np.array)
)


@settings(deadline=None)
@given(NUMBERS | VECTORS | MATRICES)
def test_what_an_argument_says_is_read_to_the_bit(value: Any) -> None:
    found = read(argument(value))
    assert np.shape(found) == np.shape(value) and np.array_equal(found, value)


@settings(deadline=None)
@given(VECTORS | MATRICES.filter(lambda x: x.shape[1] > 1))
def test_what_is_written_is_read_to_six_digits(value: Any) -> None:
    np.testing.assert_allclose(value_of(written(value)), value, rtol=1e-5)
    assert mathml(written_in_latex(value)).count("<mtd>") == value.size


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "a number is wanted"),
        ("two", "a number is wanted, got 'two'"),
        ("1,b", "numbers are wanted, as in 2,-1 or 1,2;3,4, got '1,b'"),
        ("1,2;3", "the rows of a matrix must have the same length"),
        ("1,,2", "numbers are wanted"),
        (",".join("1" * 101), "at most 100 numbers are read, got 101"),
    ],
)
def test_what_is_not_read(source: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(source)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.array([1.0, -2.5]), "(1, −2.5)"),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), "[1, 2; 3, 4]"),
        (np.array([[1.0], [2.0]]), "[1; 2]"),
        (np.array([[1.0, 2.0]]), "[1, 2]"),
        (np.array([True, False]), "(true, false)"),
        (np.arange(10.0), "(0, 1, 2, …)"),
        (np.arange(16.0).reshape(4, 4), "[0, 1, 2, …; 4, 5, 6, …; 8, 9, 10, …; …]"),
        (np.array([[0.5]]), "0.5"),
        (1e-8, "1e-8"),
    ],
)
def test_how_values_are_written(value: Any, shown: str) -> None:
    assert written(value) == shown


def test_values_take_the_place_of_names() -> None:
    names = {"g": np.array([[1.0, 2.0], [3.0, 4.0]]), "L": np.eye(2), "b": 0.9, "kind": "jordan", "rows": rows}
    tree = put_in(expression("b * L + (1 - b) * g @ T(g)"), names)
    assert text(tree) == "0.9·[1, 0; 0, 1] + (1 − 0.9)·[1, 2; 3, 4] @ [1, 2; 3, 4]ᵀ"
    assert text(put_in(expression("rows(g) * f(g, kind)"), names)) == "2·f([1, 2; 3, 4], 'jordan')"
    assert text(put_in(expression("x + g"), names)) == "x + [1, 2; 3, 4]"


def test_products_of_tables_are_told_apart() -> None:
    names = {"g": np.array([[1.0, 2.0], [3.0, 4.0]])}
    assert r"\odot" in latex(put_in(expression("g * g"), names))
    assert r"\odot" not in latex(put_in(expression("g @ g"), names))
    assert r"\odot" not in latex(put_in(expression("2 * g"), names))


def test_a_formula_is_not_changed_by_its_values() -> None:
    tree = expression("norm(g) / b")
    put_in(tree, {"g": np.array([3.0, 4.0]), "b": 2.0, "norm": norm})
    assert text(tree) == "‖g‖ / b"
