"""The vocabulary means the same for floats, NumPy and torch; ZERO and EYE vanish; an Origin remembers."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ravine import math as m
from ravine.math import EYE, ZERO, Origin, Zero

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinities and NaN are the point here

TRICKY = [0.0, -0.0, 1.0, -1.0, 2.5, 5e-324, -5e-324, 1e308, math.inf, -math.inf, math.nan]
ANY = st.floats(width=64) | st.sampled_from(TRICKY)
KINDS: dict[str, Callable[[float], Any]] = {
    "numpy64": lambda x: np.array([x]),
    "numpy32": lambda x: np.array([x], np.float32),
    "torch64": lambda x: torch.tensor([x], dtype=torch.float64),
    "torch32": lambda x: torch.tensor([x], dtype=torch.float32),
}
WIDE = [k for k in KINDS if k.endswith("64")]


def pattern(x: Any) -> bytes:
    """The bits of one number as a double, with one pattern for NaN."""
    value = float(x.item() if hasattr(x, "item") else x)
    return np.float64(math.nan if value != value else value).tobytes()


def assert_agree(word: Callable[..., Any], *numbers: float) -> None:
    """The same bits from floats, NumPy and torch in double; nearest neighbours, where torch's root is not exact."""
    expected = word(*numbers)
    for kind in WIDE:
        found = word(*(KINDS[kind](x) for x in numbers))
        assert pattern(found) == pattern(expected), (kind, numbers, found, expected)


@given(x=ANY)
def test_sign_and_abs(x: float) -> None:
    """sign(NaN) is NaN, sign(±0) is ±0: NumPy says so, torch.sign does not."""
    assert pattern(m.sign(x)) == pattern(math.nan if x != x else x if x == 0 else math.copysign(1.0, x))
    assert_agree(m.sign, x)
    assert_agree(m.abs, x)
    assert pattern(m.abs(x)) == pattern(math.fabs(x))


@given(a=ANY, b=ANY)
def test_maximum_and_minimum_propagate_nan(a: float, b: float) -> None:
    """Python's max(1, nan) is 1 and its max(nan, 1) is nan; here either NaN is NaN. ±0 go one way everywhere."""
    assert_agree(m.maximum, a, b)
    assert_agree(m.minimum, a, b)
    if a != a or b != b:
        assert m.maximum(a, b) != m.maximum(a, b) and m.minimum(a, b) != m.minimum(a, b)
    else:
        assert m.maximum(a, b) == max(a, b) and m.minimum(a, b) == min(a, b)
    for kind, make in KINDS.items():
        for left, right in ((make(a), b), (a, make(b))):
            found = m.maximum(left, right)
            assert type(found) is type(make(a)) and found.dtype == make(a).dtype, kind


@given(x=ANY, low=st.floats(-10, 0), high=st.floats(0, 10))
def test_clip(x: float, low: float, high: float) -> None:
    assert_agree(lambda v: m.clip(v, low, high), x)
    assert m.clip(x, low, high) != m.clip(x, low, high) if x != x else low <= m.clip(x, low, high) <= high


@given(x=ANY)
def test_root_exponential_and_logarithm(x: float) -> None:
    """Floats give IEEE's answers where Python raises: √−1 = NaN, log 0 = −∞, e¹⁰⁰⁰ = ∞. Libraries agree to 2 ulps."""
    with np.errstate(all="ignore"):
        expected = {"sqrt": np.sqrt(x), "exp": np.exp(x), "log": np.log(x)}
        for name, value in expected.items():
            word = getattr(m, name)
            assert isinstance(word(x), float)
            for found in (word(x), *(word(KINDS[kind](x)).item() for kind in WIDE)):
                assert found == pytest.approx(float(value), rel=5e-16, abs=5e-324, nan_ok=True), name
    assert pattern(m.sqrt(x)) == pattern(m.sqrt(np.array([x])))


@given(x=st.floats(-80, 80, width=32))
def test_float32_exponentials_are_rounded_once(x: float) -> None:
    expected = np.float32(np.exp(np.float64(np.float32(x))))
    for kind in ("numpy32", "torch32"):
        found = m.exp(KINDS[kind](x))
        assert found.dtype in (np.float32, torch.float32)
        assert abs(np.float32(found.item()) - expected) <= np.spacing(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_where_takes_numbers_beside_tensors_and_keeps_the_type(kind: str) -> None:
    x = KINDS[kind](2.0)
    for chosen in (m.where(x > 1, x, 0.0), m.where(x > 1, 0.5, x), m.where(x < 1, 1, x), m.where(True, x, 0.0)):
        assert type(chosen) is type(x) and chosen.dtype == x.dtype and chosen.shape == x.shape
    assert m.where(x > 1, 0.5, x).item() == 0.5 and m.where(False, x, 7.0).item() == 7.0
    with pytest.raises(TypeError, match=r"where\(\) needs a tensor in one of its branches"):
        m.where(x > 1, 1.0, 0.0)
    assert m.where(True, 1.0, 0.0) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_comparisons_with_nan_are_false(kind: str) -> None:
    nan, one = KINDS[kind](math.nan), KINDS[kind](1.0)
    for compare in (operator.gt, operator.lt, operator.ge, operator.le, operator.eq):
        assert not compare(nan, one).item() and not compare(nan, nan).item()
        assert m.where(compare(nan, one) | (one > 2), one, 0.0).item() == 0.0


@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reductions_add_in_double_and_round_once(library: Any, dtype: type) -> None:
    """A million tenths in float32: 100000.0015 in double of float32(0.1), far from what float32 sums would give."""
    values = np.full(1_000_000, 0.1, dtype).reshape(1000, 1000)
    x, tenth = library(values), float(dtype(0.1))
    for word, expected in (
        (m.sum, 1e6 * tenth), (m.mean, tenth), (m.norm, 1e3 * tenth), (m.rms, tenth),
    ):  # fmt: skip
        found = word(x)
        assert found.dtype == x.dtype
        assert float(found) == pytest.approx(float(dtype(expected)), rel=1e-12 if dtype == np.float64 else 1e-7)
    for word, shape in ((m.row_mean, (1000, 1)), (m.column_mean, (1, 1000))):
        assert tuple(word(x).shape) == shape and word(x).dtype == x.dtype
        np.testing.assert_allclose(np.asarray(word(x)), tenth, rtol=1e-7)
    total = m.total(x)
    assert type(total) is float and total == pytest.approx(1e6 * tenth, rel=1e-12)
    assert float(m.mean(x > 0.05)) == 1.0 and float(m.mean(x > 0.5)) == 0.0


def test_reductions_of_numbers_and_empty_arrays() -> None:
    assert (m.sum(-2.0), m.mean(-2.0), m.norm(-2.0), m.rms(-2.0), m.total(-2.0), m.row_mean(3.0)) == (
        -2,
        -2,
        2,
        2,
        -2,
        3,
    )
    assert m.mean(True) == 1.0
    for empty in (np.zeros((0,)), torch.zeros((0,))):
        assert float(m.sum(empty)) == 0.0 and float(m.norm(empty)) == 0.0 and m.total(empty) == 0.0
        with np.errstate(all="ignore"):
            assert math.isnan(float(m.mean(empty)))


@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_shapes(library: Any) -> None:
    for shape, sizes in (((), (0, 1, 1)), ((5,), (1, 1, 5)), ((4, 3), (2, 4, 3)), ((2, 4, 3), (3, 4, 3))):
        x = library(np.zeros(shape))
        assert (m.ndim(x), m.rows(x), m.columns(x)) == sizes
        assert type(m.rows(x)) is float
        if len(shape) > 1:
            assert tuple(m.T(x).shape) == (*shape[:-2], shape[-1], shape[-2])
    assert (m.ndim(2.0), m.rows(2.0), m.columns(2.0)) == (0, 1, 1)


# Matrices


def matrices(seed: int, n: int, k: int) -> tuple[np.ndarray, torch.Tensor]:
    x = np.random.default_rng(seed).normal(size=(n, k))
    return x, torch.from_numpy(x)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_newton_schulz_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    """Jordan et al. 2024: five steps bring singular values from [0.01, 1] (of the norm) to [0.682, 1.134]."""
    rng = np.random.default_rng(3)
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in shape)
    inner = np.zeros(shape)
    np.fill_diagonal(inner, np.geomspace(0.02, 1.0, min(shape)))
    x = left @ inner @ right
    for found in (m.orthogonalize(x), m.orthogonalize(torch.from_numpy(x)).numpy()):
        values = np.linalg.svd(found, compute_uv=False)
        assert found.shape == shape and values.min() >= 0.68 and values.max() <= 1.14


def test_eigenbases_roots_and_reordering() -> None:
    x, t = matrices(1, 5, 7)
    gram = x @ x.T
    for g in (gram, torch.from_numpy(gram)):
        basis = np.asarray(m.eigenbasis(g))
        diagonal = basis.T @ gram @ basis
        np.testing.assert_allclose(diagonal, np.diag(np.sort(np.linalg.eigvalsh(gram))[::-1]), atol=1e-10)
        for k in (1, 2, 4):
            root = np.asarray(m.inverse_root(g, k))
            np.testing.assert_allclose(np.linalg.matrix_power(root, k) @ gram, np.eye(5), atol=1e-8)
        start = m.eigenbasis(g)
        refreshed, order = m.refresh_basis(g, start)
        np.testing.assert_allclose(np.abs(np.asarray(refreshed)), np.abs(basis), atol=1e-8)
        assert np.asarray(order).tolist() == list(range(5))
    for values, order in ((x, np.array([2, 0, 1, 4, 3])), (t, torch.tensor([2, 0, 1, 4, 3]))):
        np.testing.assert_array_equal(np.asarray(m.take(values, order, 0)), x[[2, 0, 1, 4, 3]])
    for word in (m.orthogonalize, m.eigenbasis):
        with pytest.raises(TypeError, match=r"needs a matrix, got the number 2\.0"):
            word(2.0)


# Values that vanish


VALUES = [2.5, np.ones((2, 2)), np.float32(3.0), torch.ones(2, 2), Origin(np.ones((2, 2))), ZERO]


@pytest.mark.parametrize("x", VALUES, ids=lambda x: type(x).__name__)
def test_zero_vanishes(x: Any) -> None:
    """No arithmetic is left of it: x + 0 is x itself, 0·x is ZERO, and so a compiled step moves no memory for it."""
    assert x + ZERO is x and ZERO + x is x and x - ZERO is x
    assert ZERO * x is ZERO and x * ZERO is ZERO and ZERO / 3.0 is ZERO and ZERO**2 is ZERO and -ZERO is ZERO
    assert ZERO / x is ZERO or isinstance(x, Zero)
    if not isinstance(x, Origin):
        assert pattern(np.asarray(ZERO - x).reshape(-1)[0]) in (pattern(-np.asarray(x).reshape(-1)[0]), pattern(0.0))
    assert isinstance(ZERO, float) and ZERO == 0.0 and not ZERO


def test_an_absent_basis_is_the_identity() -> None:
    for x in (np.ones((2, 3)), torch.ones(2, 3), Origin(np.ones((2, 3)))):
        assert EYE @ x is x and x @ EYE is x and m.T(EYE) is EYE
        assert m.T(EYE) @ x @ EYE is x
    assert m.T(ZERO) is ZERO


# Origin


@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_an_origin_is_its_value_but_for_p_minus_x(library: Any) -> None:
    p, x = library(np.array([[1.0, 2.0], [3.0, 4.0]])), library(np.array([[0.5, 0.25], [-1.0, 8.0]]))
    origin = Origin(p)
    moved = origin - x - 0.5
    assert isinstance(moved, Origin) and (np.asarray(moved.moved) == np.asarray(x + 0.5)).all()
    assert origin - ZERO is origin
    for found, expected in (
        (2 * origin, 2 * p), (origin * x, p * x), (origin / x, p / x), (x / origin, x / p), (origin + x, p + x),
        (x - origin, x - p), (-origin, -p), (origin**2, p**2), (origin @ x, p @ x), (x @ origin, x @ p),
        (origin > x, p > x), (origin <= x, p <= x), (m.sqrt(origin), m.sqrt(p)), (m.sign(origin), m.sign(p)),
        (m.maximum(origin, x), m.maximum(p, x)), (m.norm(origin), m.norm(p)), (m.row_mean(origin), m.row_mean(p)),
        (m.where(origin > 2, origin, 0.0), m.where(p > 2, p, 0.0)), (m.T(origin), m.T(p)), (abs(origin), abs(p)),
        ((origin - x) * 1.0, p - x), (m.rms(origin - x), m.rms(p - x)),
    ):  # fmt: skip
        assert not isinstance(found, Origin)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    assert (origin.ndim, m.ndim(origin), m.rows(origin), m.columns(origin)) == (2, 2, 2, 2)


def test_unknown_operations_on_values_say_so() -> None:
    with pytest.raises((TypeError, AttributeError), match="cube"):
        m.apply("cube", np.ones(2))
