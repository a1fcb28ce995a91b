"""The vocabulary on NumPy arrays: the arithmetic that every engine must reproduce to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine.math import sweep
from ravine.math.newton_schulz import TINY, Triple, schedule

Array = Any


def _is_array(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic))


def _same_type(*values: Any) -> list[Array]:
    """Each value as an array of the type of the arrays among them; Python scalars follow."""
    arrays = [v for v in values if _is_array(v) and v.dtype != np.bool_]
    if not arrays:
        raise TypeError(
            "where() needs a tensor in one of its branches when the condition is a tensor; "
            f"got {values[0]!r} and {values[1]!r}"
        )
    work = np.result_type(*arrays)
    return [np.asarray(v, dtype=work) for v in values]


def sqrt(x: Array) -> Array:
    return np.sqrt(x)


def abs(x: Array) -> Array:
    return np.abs(x)


def sign(x: Array) -> Array:
    one, minus_one, x = _same_type(1.0, -1.0, x)
    return np.where(x > 0, one, np.where(x < 0, minus_one, x))


def exp(x: Array) -> Array:
    return np.exp(x, dtype=np.float64).astype(x.dtype)


def log(x: Array) -> Array:
    return np.log(x, dtype=np.float64).astype(x.dtype)


def maximum(a: Array, b: Array) -> Array:
    a, b = _same_type(a, b)
    return np.where((a > b) | (a != a), a, b)


def minimum(a: Array, b: Array) -> Array:
    a, b = _same_type(a, b)
    return np.where((a < b) | (a != a), a, b)


def where(condition: Array, a: Array, b: Array) -> Array:
    a, b = _same_type(a, b)
    return np.where(condition, a, b)


def _double(x: Array) -> Array:
    return np.asarray(x, dtype=np.float64)


def _rounded(result: Array, like: Array) -> Any:
    """A reduction in double, rounded to the work type; of a condition, a host scalar."""
    if like.dtype == np.bool_:
        return float(result)
    return np.asarray(result).astype(like.dtype)[()]


def sum(x: Array) -> Array:
    return _rounded(np.sum(_double(x)), x)


def mean(x: Array) -> Array:
    return _rounded(np.sum(_double(x)) / np.float64(x.size), x)


def norm(x: Array) -> Array:
    return _rounded(np.sqrt(np.sum(_double(x) ** 2)), x)


def rms(x: Array) -> Array:
    return _rounded(np.sqrt(np.sum(_double(x) ** 2) / np.float64(x.size)), x)


def row_mean(x: Array) -> Array:
    return _double(x).mean(-1, keepdims=True).astype(x.dtype)


def column_mean(x: Array) -> Array:
    return _double(x).mean(-2, keepdims=True).astype(x.dtype)


def total(x: Array) -> Any:
    return sweep.ask(float(np.sum(_double(x))))


def rows(x: Array) -> float:
    return float(x.shape[-2]) if x.ndim > 1 else 1.0


def columns(x: Array) -> float:
    return float(x.shape[-1]) if x.ndim else 1.0


def transpose(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


def orthogonalize(x: Array, steps: int, coefficients: str | Triple) -> Array:
    safety, triples = schedule(coefficients, int(steps))
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = transpose(x)
    norm = np.sqrt(np.sum(_double(x) ** 2, axis=(-1, -2), keepdims=True))
    x = x / (safety * norm + TINY).astype(x.dtype)
    for a, b, c in triples:
        gram = x @ transpose(x)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return transpose(x) if tall else x


def _eigh(x: Array) -> tuple[Array, Array]:
    """Eigenvalues, ascending, and eigenvectors; NaN where LAPACK would refuse a matrix that is not finite."""
    finite = np.isfinite(x).all((-1, -2), keepdims=True)
    values, vectors = np.linalg.eigh(np.where(finite, x, 0.0).astype(x.dtype))
    return np.where(finite[..., 0], values, np.nan), np.where(finite, vectors, np.nan).astype(x.dtype)


def eigenbasis(x: Array) -> Array:
    return _eigh(x)[1][..., ::-1]


def refresh_basis(x: Array, basis: Array) -> tuple[Array, Array]:
    image = x @ basis
    order = np.argsort(-np.sum(basis * image, axis=0), kind="stable")
    return np.linalg.qr(image[:, order])[0], order


def take(x: Array, order: Array, axis: int) -> Array:
    return np.take(x, order, axis)


def inverse_root(x: Array, k: int) -> Array:
    values, vectors = _eigh(_double(x))
    # Below the rounding of x, an eigenvalue may have any sign; none is taken to be smaller than that.
    floor = np.maximum(np.finfo(x.dtype).eps * values[..., -1:], np.finfo(np.float64).tiny)
    powers = np.where(values < floor, floor, values) ** (-1 / k)
    return ((vectors * powers[..., None, :]) @ transpose(vectors)).astype(x.dtype)
