"""The vocabulary on host scalars: Python floats, with IEEE results where Python would raise."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from ravine.math import sweep

OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "modulo": operator.mod,
    "floor_divide": operator.floordiv,
    "matmul": operator.matmul,
    "negative": operator.neg,
    "not": operator.invert,
    "greater": operator.gt,
    "less": operator.lt,
    "greater_equal": operator.ge,
    "less_equal": operator.le,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "and": operator.and_,
    "or": operator.or_,
}


def sqrt(x: float) -> float:
    return math.sqrt(x) if x >= 0 else math.nan


def abs(x: float) -> float:
    return math.fabs(x)


def sign(x: float) -> float:
    return 1.0 if x > 0 else -1.0 if x < 0 else x


def exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


def maximum(a: float, b: float) -> float:
    return a if a > b or a != a else b


def minimum(a: float, b: float) -> float:
    return a if a < b or a != a else b


def where(condition: bool, a: float, b: float) -> float:
    return a if condition else b


def sum(x: float) -> float:
    return float(x)


mean = row_mean = column_mean = sum


def norm(x: float) -> float:
    return math.fabs(float(x))


rms = norm


def total(x: float) -> Any:
    return sweep.ask(float(x))


def rows(x: float) -> float:
    return 1.0


columns = rows


def transpose(x: float) -> float:
    return x


def _needs_a_matrix(word: str) -> Callable[..., Any]:
    def refuse(*arguments: Any) -> Any:
        raise TypeError(f"{word} needs a matrix, got the number {arguments[0]!r}")

    return refuse


orthogonalize = _needs_a_matrix("orthogonalize")
eigenbasis = _needs_a_matrix("eigenbasis")
refresh_basis = _needs_a_matrix("refresh_basis")
take = _needs_a_matrix("take")
inverse_root = _needs_a_matrix("inverse_root")
