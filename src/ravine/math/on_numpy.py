"""The vocabulary on NumPy arrays: the arithmetic that every engine must reproduce to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine.math import sweep

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


def orthogonalize(x: Array, steps: int, coefficients: tuple[float, float, float]) -> Array:
    a, b, c = coefficients
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = transpose(x)
    x = x / (np.sqrt(np.sum(x * x, axis=(-1, -2), keepdims=True)) + 1e-7)
    for _ in range(int(steps)):
        gram = x @ transpose(x)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return transpose(x) if tall else x


def eigenbasis(x: Array) -> Array:
    return np.linalg.eigh(x)[1][..., ::-1]


def refresh_basis(x: Array, basis: Array) -> tuple[Array, Array]:
    image = x @ basis
    order = np.argsort(-np.sum(basis * image, axis=0), kind="stable")
    return np.linalg.qr(image[:, order])[0], order


def take(x: Array, order: Array, axis: int) -> Array:
    return np.take(x, order, axis)


def inverse_root(x: Array, k: int) -> Array:
    values, vectors = np.linalg.eigh(_double(x))
    tiny = np.finfo(np.float64).tiny
    return ((vectors * np.maximum(values, tiny) ** (-1 / k)) @ vectors.T).astype(x.dtype)
