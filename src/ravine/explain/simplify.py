"""Formulas as they are under given values: what is not there is left out, and a value has one name.

Example:
    >>> from ravine.explain.typeset import expression, text
    >>> from ravine.math import ZERO
    >>> text(simplified(expression("p - lr * (m_hat + weight_decay * p)"), {"weight_decay": ZERO}))
    'θ − η·m̂'
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from ravine.math import Zero, plain

Rename = Callable[[Any], str | None]


def simplified(formula: ast.expr, names: Mapping[str, Any], rename: Rename = lambda value: None) -> ast.expr:
    """A formula without the terms that are `ZERO`, with numbers in place of constants and values under one name.

    Args:
        formula: the formula; it is not changed.
        names: what the names in it stand for, as far as that is known.
        rename: the name under which a value is known to the reader, or None to keep the formula's.
    """
    copy = ast.parse(ast.unparse(formula), mode="eval").body
    shown: ast.expr = Folded().visit(_Named(names, rename).visit(copy))
    return shown


class _Named(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, Any], rename: Rename) -> None:
        self.names, self.rename = names, rename

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.args = [self.visit(argument) for argument in node.args]
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self.names:
            return node
        value = plain(self.names[node.id])
        if isinstance(value, Zero):
            return ast.Constant(0)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return ast.Constant(float(value))
        return ast.Name(self.rename(value) or node.id, node.ctx)


class Folded(ast.NodeTransformer):
    """Takes out sums with 0, products with 0 and 1, and quotients by 1, where these are whole numbers.

    Rules write whole numbers in such places only where a `ZERO` has been put in; their own constants stay.
    """

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        left, right = node.left, node.right
        match node.op:
            case ast.Add() if is_whole(left, 0):
                return right
            case ast.Add() | ast.Sub() if is_whole(right, 0):
                return left
            case ast.Sub() if is_whole(left, 0):
                return ast.UnaryOp(ast.USub(), right)
            case ast.Mult() | ast.MatMult() if is_whole(left, 0) or is_whole(right, 0):
                return ast.Constant(0)
            case ast.Mult() if is_whole(left, 1):
                return right
            case ast.Mult() | ast.Div() if is_whole(right, 1):
                return left
            case ast.Div() | ast.Pow() if is_whole(left, 0):
                return ast.Constant(0)
        return node


def is_whole(node: ast.expr, number: int) -> bool:
    """Whether an expression is this whole number, written so."""
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value == number


def names_of(formula: ast.expr) -> list[str]:
    """The names in a formula, functions' left out, in order, each once."""
    called = {id(node.func) for node in ast.walk(formula) if isinstance(node, ast.Call)}
    found = [node.id for node in ast.walk(formula) if isinstance(node, ast.Name) and id(node) not in called]
    return list(dict.fromkeys(found))
