"""The named landscapes: their formulas, minima, starts and gradients."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.explain.landscape.functions import LANDSCAPES, Landscape, named
from ravine.lab.tasks import make

names = pytest.mark.parametrize("name", list(LANDSCAPES))
points = st.tuples(st.floats(-3, 3), st.floats(-3, 3))


def as_python(formula: str) -> str:
    """The Unicode formula as Python."""
    raised = re.sub("[²³⁴]", lambda found: f"**{'²³⁴'.index(found[0]) + 2}", formula)
    plain = raised.replace("−", "-").replace("½", "0.5").replace("¼", "0.25").replace("xy", "x*y")
    return re.sub(r"(?<=[\d.)]) (?=[(xy])", "*", plain)


@names
@given(point=points)
def test_the_formula_is_what_is_computed(name: str, point: tuple[float, float]) -> None:
    one = LANDSCAPES[name]
    x, y = point
    assert one.value(x, y) == pytest.approx(eval(as_python(one.formula), {"x": x, "y": y}), rel=1e-12, abs=1e-12)


@names
def test_the_minima_are_the_lowest_there_is(name: str) -> None:
    one = LANDSCAPES[name]
    assert one.minimum is not None
    for x, y in one.minima:
        assert one.gradient(x, y) == pytest.approx((0.0, 0.0), abs=1e-9)
        assert one.value(x, y) == pytest.approx(one.minimum, abs=1e-12)
        assert one.contains((x, y))
    heights = one.heights(np.linspace(*one.x, 301), np.linspace(*one.y, 301))
    assert heights.min() >= one.minimum - 1e-12
    assert one.contains(one.start) and one.height(one.start) > one.minimum


@names
@given(point=points)
def test_the_gradient_is_the_slope(name: str, point: tuple[float, float]) -> None:
    one, step = LANDSCAPES[name], 1e-6
    x, y = point
    slope = [
        (one.value(x + step, y) - one.value(x - step, y)) / (2 * step),
        (one.value(x, y + step) - one.value(x, y - step)) / (2 * step),
    ]
    assert one.gradient(x, y) == pytest.approx(slope, rel=1e-5, abs=1e-4)


@names
def test_all_at_once_is_one_by_one(name: str) -> None:
    one = LANDSCAPES[name]
    at = [one.start, (0.25, -0.5), (1.5, 1.0)]
    values, gradients = one.slopes(at)
    for point, value, gradient in zip(at, values, gradients, strict=True):
        assert value == pytest.approx(one.value(*point), rel=1e-14)
        assert tuple(gradient) == pytest.approx(one.gradient(*point), rel=1e-14)
        hessian = np.array([one.curvature(point, np.eye(2)[i]) for i in range(2)])
        assert hessian == pytest.approx(hessian.T)


def test_the_ravine_has_the_condition_that_it_says() -> None:
    ravine = LANDSCAPES["ravine"]
    hessian = np.array([ravine.curvature((3.0, -1.0), np.eye(2)[i]) for i in range(2)])
    assert np.linalg.eigvalsh(hessian) == pytest.approx(ravine.curvatures)
    assert ravine.condition == np.linalg.cond(hessian) == 50.0
    assert "50" in ravine.formula and "50" in ravine.about


def test_rosenbrocks_valley_is_the_laboratorys() -> None:
    import torch

    task = make("rosenbrock", size="tiny")
    point = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    assert LANDSCAPES["rosenbrock"].value(-1.2, 1.0) == pytest.approx(task.value(point).item())


@pytest.mark.parametrize(
    ("name", "hint"),
    [("rosenbrok", "did you mean 'rosenbrock'"), ("Saddle", "did you mean 'saddle'"), ("", "there are")],
)
def test_an_unknown_one_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(hint)) as error:
        named(name)
    assert "FILE.py:FUNCTION" in str(error.value) and "\n" not in str(error.value)


def test_what_is_not_finite_on_the_ground_is_refused_with_the_point() -> None:
    one = Landscape("1/x", "", lambda x, y: 1 / x + 0 * y, (-1, 1), (-1, 1), (0.5, 0.5), 10, "", of_arrays=True)
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match=re.escape("1/x is inf at (0, -1)")):
        one.heights(np.array([-1.0, 0.0, 1.0]), np.array([-1.0, 1.0]))
    with pytest.raises(ValueError, match=re.escape("1/x is inf at (0, 0.5)")):
        one.slopes([(0.0, 0.5)])
    values, _ = one.slopes([(0.5, 7.0)])
    assert values == [2.0] and math.isfinite(one.gradient(0.5, 0.5)[0])
