"""Exponents and lowest points, on curves whose own are known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.explain.claims.fits import exponent, lowest

X = [0.001, 0.01, 0.1, 1.0, 10.0]


@given(st.floats(-3, 3), st.floats(1e-3, 1e3))
def test_the_exponent_of_a_power_law(k: float, factor: float) -> None:
    assert exponent(X, [factor * x**k for x in X]) == pytest.approx(k, abs=1e-9)


def test_one_point_has_no_exponent() -> None:
    assert math.isnan(exponent([2.0, 2.0], [1.0, 3.0]))


@given(st.floats(-2, 0), st.floats(0.1, 10))
def test_the_lowest_point_of_a_parabola(where: float, curvature: float) -> None:
    losses = [curvature * (math.log10(x) - where) ** 2 + 1 for x in X]
    assert lowest(X, losses) == pytest.approx(10**where, rel=1e-6)


@pytest.mark.parametrize("losses", [[0.0, 1, 2, 3, 4], [4.0, 3, 2, 1, 0]], ids=["first", "last"])
def test_at_an_end_lower_ones_may_lie_beyond(losses: list[float]) -> None:
    assert math.isnan(lowest(X, losses))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_beside_a_run_that_diverged_the_lowest_point_itself(broken: float) -> None:
    assert lowest(X, [3.0, 2.0, 1.0, broken, broken]) == 0.1


def test_a_flat_curve_has_no_lowest_point() -> None:
    assert math.isnan(lowest(X, [1.0] * 5))
