"""Functions of named numbers as host expressions and as syntax trees: what is computed, and what is typeset.

Example:
    >>> from ravine.explain.derivative import differentiate
    >>> f = traced(lambda x, y: (x**2 + y) ** 2, ("x", "y"))
    >>> expressed(differentiate(formula(f), "y"))
    ('multiply', 2, ('add', ('power', ('name', 'x'), 2), ('name', 'y')))
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from ravine.engine.symbols import Expression, HostValue, Tape

OPERATORS: dict[str, type[ast.operator]] = {
    "add": ast.Add, "subtract": ast.Sub, "multiply": ast.Mult, "divide": ast.Div, "power": ast.Pow
}  # fmt: skip
OPERATIONS = {operator: operation for operation, operator in OPERATORS.items()}
CALLS = {"sqrt", "exp", "log", "abs", "sign"}


def traced(function: Callable[..., Any], names: Sequence[str]) -> Expression:
    """What a function of so many numbers computes, as a host expression in their names.

    Raises:
        ValueError: for a function that does not answer with arithmetic on its arguments.
    """
    tape = Tape(dict.fromkeys(names, 1.0))
    result = function(*(tape.host(name) for name in names))
    if not isinstance(result, HostValue) or tape.questions:
        raise ValueError("a function for a page must be arithmetic on its arguments, without conditions")
    return result.expression


def formula(e: Expression) -> ast.expr:
    """A host expression as a syntax tree.

    Raises:
        ValueError: for an operation that is neither + − · / nor a power, a root or another word of formulas.
    """
    match e:
        case ("name", name):
            return ast.Name(name, ast.Load())
        case ("negative", u):
            return ast.UnaryOp(ast.USub(), formula(u))
        case (operation, u, v) if operation in OPERATORS:
            return ast.BinOp(formula(u), OPERATORS[operation](), formula(v))
        case (operation, u) if operation in CALLS:
            return ast.Call(ast.Name(operation, ast.Load()), [formula(u)], [])
        case (operation, *_):
            raise ValueError(f"a function for a page may not use {operation!r}")
    return ast.UnaryOp(ast.USub(), ast.Constant(-e)) if e < 0 else ast.Constant(e)


def expressed(node: ast.expr) -> Expression:
    """A syntax tree as a host expression."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name):
            return ("name", name)
        case ast.UnaryOp(ast.USub(), ast.Constant(value=int() | float() as value)):
            return -value
        case ast.UnaryOp(ast.USub(), operand):
            return ("negative", expressed(operand))
        case ast.BinOp(left, op, right):
            return (OPERATIONS[type(op)], expressed(left), expressed(right))
        case ast.Call(ast.Name(name), [argument]):
            return (name, expressed(argument))
    raise ValueError(f"{ast.unparse(node)!r} is not arithmetic")


def readable(node: ast.expr) -> ast.expr:
    """The same with one number in each product, in front.

    >>> ast.unparse(readable(ast.parse("1 - 100 * (2 * y * (2 * x))", mode="eval").body))
    '1 - 400 * y * x'
    """
    match node:
        case ast.BinOp(_, ast.Mult(), _) | ast.UnaryOp(ast.USub(), _):
            number, factors = _factors(node)
            return _product(number, factors)
        case ast.BinOp(left, ast.Add() | ast.Sub() as op, right):
            number, factors = _factors(right)
            flipped: ast.operator = ast.Add() if isinstance(op, ast.Sub) else ast.Sub()
            return ast.BinOp(readable(left), flipped if number < 0 else op, _product(abs(number), factors))
        case ast.BinOp(left, op, right):
            return ast.BinOp(readable(left), op, readable(right))
    return node


def _factors(node: ast.expr) -> tuple[float, list[ast.expr]]:
    """The number in a product, and the other factors."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value, []
        case ast.UnaryOp(ast.USub(), operand):
            number, factors = _factors(operand)
            return -number, factors
        case ast.BinOp(left, ast.Mult(), right):
            (first, left_factors), (second, right_factors) = _factors(left), _factors(right)
            return first * second, left_factors + right_factors
    return 1, [readable(node)]


def _product(number: float, factors: list[ast.expr]) -> ast.expr:
    if not factors:
        return formula(number)
    first, *rest = factors if abs(number) == 1 else [ast.Constant(abs(number)), *factors]
    product = ast.UnaryOp(ast.USub(), first) if number < 0 else first
    for factor in rest:
        product = ast.BinOp(product, ast.Mult(), factor)
    return product
