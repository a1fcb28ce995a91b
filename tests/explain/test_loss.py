"""The loss expression: exact derivatives, and nothing but arithmetic."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ravine.explain.loss import Loss
from ravine.explain.typeset import text

X = st.floats(0.25, 3.0)


class Written(NamedTuple):
    """An expression as text, and the same function in mpmath, put together side by side."""

    source: str
    function: Callable[[Any], Any]


class Ill(Exception):
    """Near a pole, a kink or the edge of a domain, where rounding decides."""


def away(value: Any, positive: bool = False) -> Any:
    if (value if positive else abs(value)) < 0.1 or abs(value) > 1e4:
        raise Ill
    return value


NUMBERS = st.sampled_from([0.5, 1.0, 2.0, 3.25]).map(lambda c: Written(repr(c), lambda x, c=c: mpmath.mpf(c)))
LEAVES = st.just(Written("x", lambda x: x)) | NUMBERS
OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / away(b),
}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sqrt": lambda u: mpmath.sqrt(away(u, positive=True)),
    "log": lambda u: mpmath.log(away(u, positive=True)),
    "exp": lambda u: mpmath.exp(u) if abs(u) < 8 else away(mpmath.inf),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "abs": lambda u: abs(away(u)),
}


def operation(parts: tuple[Written, str, Written]) -> Written:
    a, op, b = parts
    return Written(f"({a.source} {op} {b.source})", lambda x: OPERATIONS[op](a.function(x), b.function(x)))


def application(parts: tuple[str, Written]) -> Written:
    name, u = parts
    return Written(f"{name}({u.source})", lambda x: FUNCTIONS[name](u.function(x)))


def power(parts: tuple[Written, str]) -> Written:
    u, c = parts
    return Written(
        f"{u.source if u.source == 'x' else f'({u.source})'}**{c}", lambda x: _power(u.function(x), float(c))
    )


def _power(u: Any, c: float) -> Any:
    return away(u, positive=not c.is_integer()) ** (int(c) if c.is_integer() else mpmath.mpf(c))


def negation(u: Written) -> Written:
    return Written(f"-({u.source})", lambda x: -u.function(x))


EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(sorted(OPERATIONS)), inner).map(operation),
        st.tuples(st.sampled_from(sorted(FUNCTIONS)), inner).map(application),
        st.tuples(inner, st.sampled_from(["2", "3", "-1", "0.5", "1", "0"])).map(power),
        inner.map(negation),
    ),
    max_leaves=6,
)


def value_and_slope(function: Callable[[Any], Any], x: float) -> tuple[float, float]:
    """The value and the derivative in 60 digits, by differences whose error is far below a double's."""
    with mpmath.workdps(60):
        try:
            at = away(function(mpmath.mpf(x)) + 1, positive=False) - 1
            h = mpmath.mpf(10) ** -20
            slope = (function(mpmath.mpf(x) + h) - function(mpmath.mpf(x) - h)) / (2 * h)
        except Ill:
            assume(False)
        assume(abs(slope) < 1e4)
        return float(at), float(slope)


@settings(max_examples=400)
@given(EXPRESSIONS, X)
def test_value_and_derivative_are_exact(written: Written, x: float) -> None:
    assume(len(written.source) <= 200)
    value, slope = value_and_slope(written.function, x)
    loss = Loss.parse(written.source)
    assert loss(x) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert loss.slope(x) == pytest.approx(slope, rel=1e-9, abs=1e-9)


@settings(max_examples=400)
@given(EXPRESSIONS, X)
def test_the_derivative_shown_is_the_one_computed(written: Written, x: float) -> None:
    """Two derivations, dual numbers and rules for formulas, agree."""
    assume(len(written.source) <= 200)
    value_and_slope(written.function, x)
    loss = Loss.parse(written.source)
    words = {name: getattr(np, name) for name in (*FUNCTIONS, "sign")} | {"p": np.float64(x)}
    shown = eval(compile(ast.fix_missing_locations(ast.Expression(loss.derivative)), "derivative", "eval"), words)
    assert shown == pytest.approx(loss.slope(x), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("source", "derivative"),
    [
        ("(x-1)**2", "2·(θ − 1)"),
        ("3*x", "3"),
        ("x**4/4", "4·θ³ / 4"),
        ("2*(x-1)**2", "4·(θ − 1)"),
        ("x*(2-x)", "2 − θ − θ"),
        ("exp(-x)", "−exp(−θ)"),
        ("abs(x)", "sign(θ)"),
        ("5", "0"),
    ],
)
def test_the_derivative_reads_well(source: str, derivative: str) -> None:
    assert text(Loss.parse(source).derivative) == derivative


def test_edges_follow_ieee_without_raising() -> None:
    assert Loss.parse("1/x")(0.0) == math.inf
    assert math.isnan(Loss.parse("log(x)")(-1.0))
    assert Loss.parse("x**8")(1e60) == math.inf
    assert Loss.parse("x**0").slope(0.0) == 0.0
    assert Loss.parse("abs(x)").slope(0.0) == 0.0


REFUSED = [
    "__import__('os')", "__import__('os').system('true')", "9**9**9", "x**9", "x**-9", "x**x", "2**x", "x**(9**9)",
    "x.real", "y", "lambda: 1", "[1]", "(1, 2)", "'a'", "x if x else 1", "x and 1", "x == 1", "x % 2", "x // 2",
    "x @ x", "~x", "not x", "True", "1j", "None", "...", "sqrt", "sqrt()", "sqrt(x, 1)", "sqrt(x=1)", "sqrt(*x)",
    "open('f')", "x(1)", "(x)(1)", "eval('1')", "f'{x}'", "x[0]", "(y := 1)", "", " ", "1 +", "x\x00", "x; x",
    "import os", "1e999", "9" * 150 + "." + "9" * 200, "(" * 90 + "x" + ")" * 90 + "+", "-" * 60 + "x",
    "1" * 150 + "e200", "x**1e999", "x**(1/0)", "x**(0/0)", "x # y\n+1 2", "squrt(x)",
]  # fmt: skip


@pytest.mark.parametrize("source", REFUSED)
def test_anything_else_is_refused_in_one_sentence(source: str) -> None:
    with pytest.raises(ValueError, match="loss") as caught:
        Loss.parse(source)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    assert caught.value.__cause__ is None


def test_a_misspelt_function_is_offered_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'sqrt'"):
        Loss.parse("squrt(x)")


ALPHABET = st.text(alphabet="x0123456789.+-*/()e_ sqrtlogaby,'=[]{}:\n\\\"é", max_size=60)


@settings(max_examples=400)
@given(st.text(max_size=60) | ALPHABET)
def test_whatever_is_typed_is_read_or_refused(source: str) -> None:
    try:
        loss = Loss.parse(source)
    except ValueError:
        return
    assert isinstance(loss(1.5), float)
    assert isinstance(loss.slope(1.5), float)
    names = {node.id for node in ast.walk(loss.tree) if isinstance(node, ast.Name)}
    assert names <= {"x", *FUNCTIONS}
