"""Losses of vectors and matrices: exact gradients, their formulas, and names for elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravine.explain.loss import Loss
from ravine.explain.vectors import text

from .reading import WORDS, evaluated

LOSSES: list[tuple[str, tuple[int, ...]]] = [
    ("x**2 + 20*y**2", (2,)),
    ("(1 - x)**2 + 100*(y - x**2)**2", (2,)),
    ("sin(x)*exp(y) + x*y*z - log(z)/x", (3,)),
    ("(x[0] - 1)**2 + 20*x[1]**2", (2,)),
    ("x[0]/x[3] + sqrt(x[1])*abs(x[2])", (4,)),
    ("sum((x - 1)**2)", (3,)),
    ("mean(exp(x)) * sum(x**3)", (2, 2)),
    ("sqrt(sum(x**2))", (2, 3)),
    ("sum(sin(x)) + x[0,1]*x[1,0]", (2, 2)),
    ("-mean(x*(2 - x)) / (1 + x[0]**2)", (3,)),
    ("4", (2,)),
]


def starts(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    numbers = st.floats(0.25, 3.0).map(lambda x: round(x, 6))
    size = int(np.prod(shape))
    return st.lists(numbers, min_size=size, max_size=size).map(lambda x: np.array(x).reshape(shape))


@pytest.mark.parametrize(("source", "shape"), LOSSES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_gradient_and_hessian_are_those_of_differences(source: str, shape: tuple[int, ...], data: Any) -> None:
    loss, x = Loss.parse(source, shape), data.draw(starts(shape))
    gradient, diagonal = loss.slope(x), loss.curvature(x)
    assert gradient.shape == diagonal.shape == shape
    h = 1e-6
    for index in np.ndindex(shape):
        ahead, behind = x.copy(), x.copy()
        ahead[index] += h
        behind[index] -= h
        assert gradient[index] == pytest.approx((loss(ahead) - loss(behind)) / (2 * h), rel=1e-5, abs=1e-4)
        second = (loss.slope(ahead)[index] - loss.slope(behind)[index]) / (2 * h)
        assert diagonal[index] == pytest.approx(second, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize(("source", "shape"), LOSSES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_gradient_shown_is_the_one_computed(source: str, shape: tuple[int, ...], data: Any) -> None:
    """Two derivations, dual numbers and rules for formulas, agree."""
    loss, x = Loss.parse(source, shape), data.draw(starts(shape))
    words = dict(WORDS)
    try:
        WORDS.update(loss.values(x))
        shown, second = (np.broadcast_to(evaluated(tree), shape) for tree in (loss.derivative, loss.second_derivative))
        assert evaluated(loss.displayed) == pytest.approx(loss(x))
    finally:
        WORDS.clear()
        WORDS.update(words)
    np.testing.assert_allclose(shown, loss.slope(x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(second, loss.curvature(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("source", "shape", "formula", "gradient"),
    [
        ("x**2 + 20*y**2", (2,), "x² + 20·y²", "(2·x, 40·y)"),
        ("x*y + z", (3,), "x·y + z", "(y, x, 1)"),
        ("x[0]*x[1]", (2,), "x₀·x₁", "(x₁, x₀)"),
        ("x[0,1]**2", (1, 2), "x₀₁²", "(0, 2·x₀₁)"),
        ("x[0,1]*x[1,0]", (2, 2), "x₀₁·x₁₀", "[0, x₁₀; x₀₁, 0]"),
        ("sum((x-1)**2)", (5,), "Σ((θ − 1)²)", "2·(θ − 1)"),
        ("mean(x**2)", (4,), "mean(θ²)", "2·θ / 4"),
    ],
)
def test_it_reads_well(source: str, shape: tuple[int, ...], formula: str, gradient: str) -> None:
    loss = Loss.parse(source, shape)
    assert loss.formula == formula
    assert text(loss.derivative).strip("[]()") == gradient.strip("[]()")


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="xyz0123.+-*/()[], summean", max_size=30),
    st.sampled_from([(2,), (3,), (5,), (2, 2), (1, 3), (12,)]),
)
def test_whatever_is_typed_is_read_or_refused(source: str, shape: tuple[int, ...]) -> None:
    try:
        loss = Loss.parse(source, shape)
    except ValueError as error:
        assert "loss" in str(error) and "\n" not in str(error)
        return
    x = np.full(shape, 1.5)
    assert isinstance(loss(x), float) and loss.slope(x).shape == shape
