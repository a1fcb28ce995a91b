"""The vocabulary of rules.

A rule is written with Python's operators and the words of this module. Each word looks at what it is given and
means the same for all of it: Python floats (host scalars), NumPy arrays, torch tensors, and symbols that are
being traced into a kernel. Semantics are ravine's own where libraries differ:

* `sign(NaN)` is NaN and `sign(±0)` is ±0;
* `maximum` and `minimum` return NaN when either argument is NaN;
* reductions add in double and round once to the work type; `total` stays double;
* `where` takes at least one tensor among its branches when the condition is a tensor.

Example:
    >>> import numpy as np
    >>> sign(np.array([-2.0, 0.0, 3.0]))
    array([-1.,  0.,  1.])
    >>> sqrt(4.0)
    2.0
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ravine.math import on_float, on_numpy
from ravine.math.sweep import Totals, owner, sweeping
from ravine.math.values import EYE, ZERO, Apart, Arithmetic, Eye, Origin, Zero, has, plain, speaker

__all__ = [
    "EYE", "ZERO", "Apart", "Arithmetic", "Eye", "Origin", "Totals", "Zero", "abs", "apply", "clip", "column_mean",
    "columns", "eigenbasis", "exp", "has", "inverse_root", "log", "maximum", "mean", "minimum", "ndim", "norm",
    "orthogonalize", "owner", "plain", "refresh_basis", "rms", "row_mean", "rows", "sign", "sqrt", "sum", "take",
    "sweeping", "total", "transpose", "T", "where",
]  # fmt: skip


def _library(arguments: tuple[Any, ...]) -> ModuleType:
    torch = sys.modules.get("torch")
    if torch is not None and any(isinstance(a, torch.Tensor) for a in arguments):
        from ravine.math import on_torch

        return on_torch
    if any(isinstance(a, (np.ndarray, np.generic)) for a in arguments):
        return on_numpy
    return on_float


def apply(operation: str, *arguments: Any) -> Any:
    """Apply an operation by its name to values of any kind (`"add"`, `"sqrt"`, `"norm"`, ...)."""
    value = speaker(*arguments)
    if value is not None:
        return value.__ravine__(operation, arguments)
    if operation in on_float.OPERATORS:
        return on_float.OPERATORS[operation](*arguments)
    function: Callable[..., Any] = getattr(_library(arguments), operation)
    return function(*arguments)


# 1. Elementwise


def sqrt(x: Any) -> Any:
    """The square root, correctly rounded (for float64 tensors of torch, within an ulp); NaN below zero."""
    return apply("sqrt", x)


def abs(x: Any) -> Any:
    """The absolute value."""
    return apply("abs", x)


def sign(x: Any) -> Any:
    """1, −1, or `x` itself where it is ±0 or NaN."""
    return apply("sign", x)


def exp(x: Any) -> Any:
    """The exponential, computed in double and rounded once."""
    return apply("exp", x)


def log(x: Any) -> Any:
    """The natural logarithm, computed in double and rounded once."""
    return apply("log", x)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two values, elementwise; NaN if either is NaN."""
    return apply("maximum", a, b)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two values, elementwise; NaN if either is NaN."""
    return apply("minimum", a, b)


def clip(x: Any, low: Any, high: Any) -> Any:
    """`x` limited to [low, high]."""
    return minimum(maximum(x, low), high)


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`."""
    return apply("where", condition, a, b)


# 2. Reductions: over one parameter; row and column means keep their dimension with size 1


def sum(x: Any) -> Any:
    """The sum of all elements."""
    return apply("sum", x)


def mean(x: Any) -> Any:
    """The mean of all elements; of a condition, the share that holds."""
    return apply("mean", x)


def norm(x: Any) -> Any:
    """The Euclidean (Frobenius) norm."""
    return apply("norm", x)


def rms(x: Any) -> Any:
    """The root mean square."""
    return apply("rms", x)


def row_mean(x: Any) -> Any:
    """The mean of each row (over the last dimension), shape (..., rows, 1)."""
    return apply("row_mean", x)


def column_mean(x: Any) -> Any:
    """The mean of each column (over the last dimension but one), shape (..., 1, columns)."""
    return apply("column_mean", x)


def total(x: Any) -> Any:
    """The sum over every element of every parameter of the optimizer, all groups; a double.

    Outside an optimizer's step it is the sum over the elements given.
    """
    return apply("total", x)


# 3. Shape


def ndim(x: Any) -> int:
    """The number of dimensions."""
    return int(getattr(x, "ndim", 0))


def rows(x: Any) -> Any:
    """The size of the last dimension but one, as a host scalar."""
    return apply("rows", x)


def columns(x: Any) -> Any:
    """The size of the last dimension, as a host scalar."""
    return apply("columns", x)


# 4. Matrices


def transpose(x: Any) -> Any:
    """The transpose of the last two dimensions."""
    return x if isinstance(x, (Eye, Zero)) else apply("transpose", x)


T = transpose


def orthogonalize(x: Any, steps: int = 5, coefficients: str | tuple[float, float, float] = "jordan") -> Any:
    """The nearest semi-orthogonal matrix, approximately: `steps` of the quintic Newton–Schulz iteration.

    Args:
        x: a matrix, or a stack of matrices in its last two dimensions.
        steps: a whole number.
        coefficients: `"jordan"`, whose five steps bring singular values from [0.01, 1] (over the Frobenius norm) to
            [0.682, 1.134]; `"polar_express"`, from [0.003, 1] to [0.870, 1.124]; or a triple for every step.

    Raises:
        ValueError: for a vector.

    Source: Jordan et al. 2024, "Muon"; Amsel et al. 2025, arXiv:2505.16932.
    """
    if ndim(x) < 2 and not isinstance(x, (int, float)):
        raise ValueError(
            "orthogonalize needs a matrix, got a vector or a scalar; give these another rule, such as AdamW"
        )
    return apply("orthogonalize", x, steps, coefficients)


def eigenbasis(x: Any) -> Any:
    """The eigenvectors of a symmetric matrix, as columns, largest eigenvalue first."""
    return apply("eigenbasis", x)


def refresh_basis(x: Any, basis: Any) -> tuple[Any, Any]:
    """One step of power iteration and QR towards the eigenbasis of `x`: the basis, and the columns' new order."""
    refreshed: tuple[Any, Any] = apply("refresh_basis", x, basis)
    return refreshed


def take(x: Any, order: Any, axis: int) -> Any:
    """`x` with its rows (axis 0) or columns (axis 1) in the given order."""
    return apply("take", x, order, axis)


def inverse_root(x: Any, k: int) -> Any:
    """`x` to the power −1/k, for a symmetric positive definite matrix; computed in double.

    No eigenvalue is taken to be smaller than the largest times the machine epsilon of x's type, to which it is known.
    """
    return apply("inverse_root", x, k)
