"""A loss of one number, written as an expression in x: read by a whitelist, evaluated here, never by `eval`.

Numbers, `x`, `+ - * / **`, parentheses and sqrt, exp, log, sin, cos, abs; the exponent of a power is a constant of at
most 8 in size.

Example:
    >>> loss = Loss.parse("(x - 1)**2")
    >>> loss(2.0), loss.slope(2.0)
    (1.0, 2.0)
    >>> Loss.parse("9**9**9")
    Traceback (most recent call last):
    ...
    ValueError: the exponent 9 in the loss is too large; a power may have a constant exponent from -8 to 8
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ravine.explain.typeset import text
from ravine.math import ZERO, has
from ravine.registry import nearest

LONGEST = 200
DEEPEST = 40
LARGEST_EXPONENT = 8

ALLOWED = "numbers, x, + - * / **, parentheses, and sqrt, exp, log, sin, cos, abs"


class Dual(NamedTuple):
    """A value and its derivative with respect to x; the derivative of a constant is `ZERO`, which vanishes."""

    value: Any
    slope: Any


# Each function with its derivative, given the argument and the function's value.
FUNCTIONS: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "sqrt": (np.sqrt, lambda u, y: 0.5 / y),
    "exp": (np.exp, lambda u, y: y),
    "log": (np.log, lambda u, y: 1.0 / u),
    "sin": (np.sin, lambda u, y: np.cos(u)),
    "cos": (np.cos, lambda u, y: -np.sin(u)),
    "abs": (np.abs, lambda u, y: np.sign(u)),
}
# The same derivatives as a reader writes them, times the derivative of the argument.
DERIVATIVES: Mapping[str, str] = {
    "sqrt": "1 / (2 * sqrt(u))",
    "exp": "exp(u)",
    "log": "1 / u",
    "sin": "cos(u)",
    "cos": "-sin(u)",
    "abs": "sign(u)",
}


@dataclass(frozen=True)
class Loss:
    """A loss L(x): call it for its value, `slope` for its exact derivative. Make it with `Loss.parse`."""

    source: str
    tree: ast.expr

    @classmethod
    def parse(cls, source: str) -> Loss:
        """Read an expression.

        Raises:
            ValueError: in one sentence, for anything but the arithmetic listed in this module's docstring.
        """
        if len(source) > LONGEST:
            raise ValueError(f"the loss is {len(source)} characters long; at most {LONGEST} are read")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise ValueError(f"the loss {source!r} is not an expression; write one like (x-1)**2") from None
        _check(tree, depth=0)
        return cls(source.strip(), tree)

    def __call__(self, x: float) -> float:
        """L(x), NaN or infinite where it is not defined."""
        return float(self._dual(x).value)

    def slope(self, x: float) -> float:
        """dL/dx, exact up to rounding: by dual numbers, not by differences. |x| has the slope 0 at 0."""
        return float(self._dual(x).slope)

    def _dual(self, x: float) -> Dual:
        with np.errstate(all="ignore"):
            return evaluate(self.tree, Dual(np.float64(x), np.float64(1.0)))

    @cached_property
    def formula(self) -> str:
        """The loss as text, in θ: `(θ − 1)²`."""
        return text(_in_theta(self.tree))

    @cached_property
    def derivative(self) -> ast.expr:
        """The derivative as an expression in `p`, for the reader; `slope` is what is computed with."""
        return _in_theta(differentiate(self.tree))


def _check(node: ast.expr, depth: int) -> None:
    """Refuse, in one sentence, whatever is not on the whitelist."""
    if depth > DEEPEST:
        raise ValueError(f"the loss is nested more than {DEEPEST} deep")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if not abs(value) < 1e300:
                raise ValueError(
                    f"the number {ast.unparse(node)[:20]} in the loss is too large; it must stay below 1e300"
                )
        case ast.Name(id="x"):
            pass
        case ast.Name(id=name) if name in FUNCTIONS:
            raise ValueError(f"{name} in the loss is a function and needs an argument; write {name}(x)")
        case ast.Name(id=name):
            raise ValueError(f"unknown name {name!r} in the loss{nearest(name, list(FUNCTIONS))} (the variable is x)")
        case ast.UnaryOp(ast.USub() | ast.UAdd(), operand):
            _check(operand, depth + 1)
        case ast.BinOp(left, ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right):
            _check(left, depth + 1)
            _check(right, depth + 1)
        case ast.BinOp(base, ast.Pow(), exponent):
            _check(base, depth + 1)
            _check_exponent(exponent, depth + 1)
        case ast.Call(ast.Name(name), [argument], []) if name in FUNCTIONS:
            _check(argument, depth + 1)
        case ast.Call(ast.Name(name), arguments, _) if name in FUNCTIONS:
            raise ValueError(f"{name} in the loss takes one argument, got {len(arguments)}; write {name}(x)")
        case ast.Call(ast.Name(name)):
            raise ValueError(
                f"unknown function {name!r} in the loss{nearest(name, list(FUNCTIONS))}; it may hold {ALLOWED}"
            )
        case _:
            raise ValueError(f"{_shortened(node)!r} is not allowed in the loss; it may hold {ALLOWED}")


def _check_exponent(exponent: ast.expr, depth: int) -> None:
    _check(exponent, depth)
    limits = f"a power may have a constant exponent from -{LARGEST_EXPONENT} to {LARGEST_EXPONENT}"
    if any(isinstance(inner, ast.Name) and inner.id == "x" for inner in ast.walk(exponent)):
        raise ValueError(f"the exponent {_shortened(exponent)} in the loss depends on x; {limits}")
    with np.errstate(all="ignore"):
        size = abs(_value(exponent))
    if not size <= LARGEST_EXPONENT:
        raise ValueError(f"the exponent {_shortened(exponent)} in the loss is too large; {limits}")


def _shortened(node: ast.expr) -> str:
    source = ast.unparse(node)
    return source if len(source) <= 40 else source[:37] + "..."


def evaluate(node: ast.expr, x: Dual) -> Dual:
    """The value and derivative of a checked expression."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return Dual(np.float64(value), ZERO)
        case ast.Name():
            return x
        case ast.UnaryOp(ast.USub(), operand):
            u = evaluate(operand, x)
            return Dual(-u.value, -u.slope)
        case ast.UnaryOp(_, operand):
            return evaluate(operand, x)
        case ast.Call(ast.Name(name), [argument]):
            u = evaluate(argument, x)
            function, derivative = FUNCTIONS[name]
            y = function(u.value)
            return Dual(y, derivative(u.value, y) * u.slope if has(u.slope) else ZERO)
        case ast.BinOp(left, op, right):
            return _combine(op, evaluate(left, x), evaluate(right, x))
    raise AssertionError(f"an unchecked expression: {ast.dump(node)}")


def _combine(op: ast.operator, u: Dual, v: Dual) -> Dual:
    match op:
        case ast.Add():
            return Dual(u.value + v.value, u.slope + v.slope)
        case ast.Sub():
            return Dual(u.value - v.value, u.slope - v.slope)
        case ast.Mult():
            return Dual(u.value * v.value, u.slope * v.value + u.value * v.slope)
        case ast.Div():
            y = u.value / v.value
            return Dual(y, (u.slope - y * v.slope) / v.value)
    c = v.value  # a checked power has a constant exponent
    if c == 0.0 or not has(u.slope):
        return Dual(u.value**c, ZERO)
    return Dual(u.value**c, c * u.value ** (c - 1.0) * u.slope)


def differentiate(node: ast.expr) -> ast.expr:
    """The derivative of a checked expression with respect to x, as one would write it."""
    match node:
        case ast.Constant():
            return _number(0)
        case ast.Name():
            return _number(1)
        case ast.UnaryOp(ast.USub(), operand):
            return _negative(differentiate(operand))
        case ast.UnaryOp(_, operand):
            return differentiate(operand)
        case ast.Call(ast.Name(name), [u]):
            outer = _Substitution({"u": u}).visit(ast.parse(DERIVATIVES[name], mode="eval").body)
            return _times(outer, differentiate(u))
        case ast.BinOp(u, ast.Add(), v):
            return _plus(differentiate(u), differentiate(v))
        case ast.BinOp(u, ast.Sub(), v):
            return _plus(differentiate(u), _negative(differentiate(v)))
        case ast.BinOp(u, ast.Mult(), v):
            return _plus(_times(differentiate(u), v), _times(u, differentiate(v)))
        case ast.BinOp(u, ast.Div(), v):
            du, dv = differentiate(u), differentiate(v)
            if _is(dv, 0):
                return du if _is(du, 0) else ast.BinOp(du, ast.Div(), v)
            top = _plus(_times(du, v), _negative(_times(u, dv)))
            return ast.BinOp(top, ast.Div(), ast.BinOp(v, ast.Pow(), _number(2)))
        case ast.BinOp(u, ast.Pow(), v):
            c = _value(v)
            power = u if c == 2 else _number(1) if c == 1 else ast.BinOp(u, ast.Pow(), _number(c - 1))
            return _times(_times(_number(c), power), differentiate(u))
    raise AssertionError(f"an unchecked expression: {ast.dump(node)}")


def _number(value: float) -> ast.expr:
    value = int(value) if float(value).is_integer() else value
    return ast.UnaryOp(ast.USub(), ast.Constant(-value)) if value < 0 else ast.Constant(value)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant)


def _value(node: ast.expr) -> float:
    return float(evaluate(node, Dual(np.float64(0.0), ZERO)).value)


def _is(node: ast.expr, value: float) -> bool:
    return _is_number(node) and _value(node) == value


def _negative(u: ast.expr) -> ast.expr:
    match u:
        case ast.Constant(value=0):
            return u
        case ast.UnaryOp(ast.USub(), inner):
            return inner
    return ast.UnaryOp(ast.USub(), u)


def _plus(u: ast.expr, v: ast.expr) -> ast.expr:
    if _is(u, 0):
        return v
    if _is(v, 0):
        return u
    if isinstance(v, ast.UnaryOp) and isinstance(v.op, ast.USub):
        return ast.BinOp(u, ast.Sub(), v.operand)
    return ast.BinOp(u, ast.Add(), v)


def _times(u: ast.expr, v: ast.expr) -> ast.expr:
    if _is(u, 0) or _is(v, 0):
        return _number(0)
    if _is(u, 1):
        return v
    if _is(v, 1):
        return u
    if isinstance(u, ast.UnaryOp) and isinstance(u.op, ast.USub):
        return _negative(_times(u.operand, v))
    if isinstance(v, ast.UnaryOp) and isinstance(v.op, ast.USub):
        return _negative(_times(u, v.operand))
    if _is_number(v):
        u, v = v, u
    if _is_number(u) and _is_number(v):
        return _number(_value(u) * _value(v))
    if _is_number(u) and isinstance(v, ast.BinOp) and isinstance(v.op, ast.Mult) and _is_number(v.left):
        return _times(_number(_value(u) * _value(v.left)), v.right)
    return ast.BinOp(u, ast.Mult(), v)


class _Substitution(ast.NodeTransformer):
    def __init__(self, by: Mapping[str, ast.expr]) -> None:
        self.by = by

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.by.get(node.id, node)


def _in_theta(node: ast.expr) -> ast.expr:
    """The expression with the rules' name for the parameter in place of x."""
    copy = ast.parse(ast.unparse(node), mode="eval").body
    renamed: ast.expr = _Substitution({"x": ast.Name("p", ast.Load())}).visit(copy)
    return renamed
