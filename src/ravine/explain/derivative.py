"""Derivatives of arithmetic expressions: exact values by dual numbers, and formulas as one would write them.

An expression is a syntax tree of numbers, names, + - * / **, the words of `FUNCTIONS`, and `sum` and `mean` over the
elements of an array; the exponent of a power is constant.

Example:
    >>> import ast
    >>> ast.unparse(differentiate(ast.parse("(x - 1)**2", mode="eval").body, "x"))
    '2 * (x - 1)'
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ravine.math import ZERO, has


class Dual(NamedTuple):
    """A value and its derivative in some direction; the derivative of a constant is `ZERO`, which vanishes."""

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
    "sign": (np.sign, lambda u, y: 0.0 * y),
}
# The same derivatives as a reader writes them, times the derivative of the argument.
DERIVATIVES: Mapping[str, str] = {
    "sqrt": "1 / (2 * sqrt(u))",
    "exp": "exp(u)",
    "log": "1 / u",
    "sin": "cos(u)",
    "cos": "-sin(u)",
    "abs": "sign(u)",
    "sign": "0",
}
OVER_ELEMENTS: Mapping[str, Callable[[Any], Any]] = {"sum": np.sum, "mean": np.mean}


def evaluate(node: ast.expr, names: Mapping[str, Dual]) -> Dual:
    """The value and derivative of an expression, its names having the values and derivatives given."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return Dual(np.float64(value), ZERO)
        case ast.Name(id=name):
            return names[name]
        case ast.UnaryOp(ast.USub(), operand):
            u = evaluate(operand, names)
            return Dual(-u.value, -u.slope)
        case ast.UnaryOp(_, operand):
            return evaluate(operand, names)
        case ast.Call(ast.Name(name), [argument]) if name in OVER_ELEMENTS:
            u = evaluate(argument, names)
            over = OVER_ELEMENTS[name]
            return Dual(over(u.value), over(u.slope) if has(u.slope) else ZERO)
        case ast.Call(ast.Name(name), [argument]):
            u = evaluate(argument, names)
            function, derivative = FUNCTIONS[name]
            y = function(u.value)
            return Dual(y, derivative(u.value, y) * u.slope if has(u.slope) else ZERO)
        case ast.BinOp(left, op, right):
            return _combine(op, evaluate(left, names), evaluate(right, names))
    raise AssertionError(f"not an expression that can be evaluated: {ast.dump(node)}")


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
    c = v.value  # the exponent is constant
    if c == 0.0 or not has(u.slope):
        return Dual(u.value**c, ZERO)
    return Dual(u.value**c, c * u.value ** (c - 1.0) * u.slope)


def differentiate(node: ast.expr, of: str, elements: int = 1, element: str | None = None) -> ast.expr:
    """The derivative of an expression with respect to a name, as one would write it.

    Args:
        node: the expression.
        of: the name; other names are constants.
        elements: how many a mean is over.
        element: what an element of x is called outside `sum` and `mean`, where that is another name.

    Of `sum(f(x))` with respect to an element of x, it is f′ at this element.
    """

    def d(u: ast.expr) -> ast.expr:
        return differentiate(u, of, elements, element)

    match node:
        case ast.Constant():
            return number(0)
        case ast.Name(id=name):
            return number(1 if name == of else 0)
        case ast.UnaryOp(ast.USub(), operand):
            return _negative(d(operand))
        case ast.UnaryOp(_, operand):
            return d(operand)
        case ast.Call(ast.Name(name), [u]) if name in OVER_ELEMENTS:
            inner = differentiate(u, "x", elements)
            inner = inner if element is None else renamed(inner, {"x": element})
            return inner if name == "sum" or elements == 1 else _over(inner, number(elements))
        case ast.Call(ast.Name(name), [u]):
            outer = Substitution({"u": u}).visit(ast.parse(DERIVATIVES[name], mode="eval").body)
            return _times(outer, d(u))
        case ast.BinOp(u, ast.Add(), v):
            return _plus(d(u), d(v))
        case ast.BinOp(u, ast.Sub(), v):
            return _plus(d(u), _negative(d(v)))
        case ast.BinOp(u, ast.Mult(), v):
            return _plus(_times(d(u), v), _times(u, d(v)))
        case ast.BinOp(u, ast.Div(), v):
            du, dv = d(u), d(v)
            if _is(dv, 0):
                return _over(du, v)
            top = _plus(_times(du, v), _negative(_times(u, dv)))
            return ast.BinOp(top, ast.Div(), ast.BinOp(v, ast.Pow(), number(2)))
        case ast.BinOp(u, ast.Pow(), v):
            c = constant(v)
            power = u if c == 2 else number(1) if c == 1 else ast.BinOp(u, ast.Pow(), number(c - 1))
            return _times(_times(number(c), power), d(u))
    raise AssertionError(f"not an expression that can be differentiated: {ast.dump(node)}")


def number(value: float) -> ast.expr:
    """A number as a tree: a minus sign is an operation."""
    value = int(value) if float(value).is_integer() else value
    return ast.UnaryOp(ast.USub(), ast.Constant(-value)) if value < 0 else ast.Constant(value)


def constant(node: ast.expr) -> float:
    """The value of an expression without names."""
    return float(evaluate(node, {}).value)


def renamed(node: ast.expr, names: Mapping[str, str]) -> ast.expr:
    """A copy of the expression with other names."""
    copy = ast.parse(ast.unparse(node), mode="eval").body
    by = {name: ast.Name(other, ast.Load()) for name, other in names.items()}
    made: ast.expr = Substitution(by).visit(copy)
    return made


class Substitution(ast.NodeTransformer):
    """Puts expressions in the place of names."""

    def __init__(self, by: Mapping[str, ast.expr]) -> None:
        self.by = by

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.by.get(node.id, node)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant)


def _is(node: ast.expr, value: float) -> bool:
    return _is_number(node) and constant(node) == value


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


def _over(u: ast.expr, v: ast.expr) -> ast.expr:
    return u if _is(u, 0) else ast.BinOp(u, ast.Div(), v)


def _times(u: ast.expr, v: ast.expr) -> ast.expr:
    if _is(u, 0) or _is(v, 0):
        return number(0)
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
        return number(constant(u) * constant(v))
    if _is_number(u) and isinstance(v, ast.BinOp) and isinstance(v.op, ast.Mult) and _is_number(v.left):
        return _times(number(constant(u) * constant(v.left)), v.right)
    return ast.BinOp(u, ast.Mult(), v)
