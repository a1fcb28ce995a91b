"""Vectors and matrices in formulas: how they are written, read, and put in the place of names.

Example:
    >>> written(read("1,2;3,4"))
    '[1, 2; 3, 4]'
    >>> from ravine.explain.typeset import expression
    >>> tree = put_in(expression("beta1 * m + (1 - beta1) * g"), {"m": read("0,0"), "g": read("2,-40"), "beta1": 0.9})
    >>> text(tree)
    '0.9·(0, 0) + (1 − 0.9)·(2, −40)'
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ravine.explain.typeset import ATOM, MINUS, PRODUCT, Latex, Text, is_scalar, number, scalar
from ravine.math import columns, plain, rows

FEW = 9
"""Elements that are all shown."""
SHOWN = 3
"""Of more elements, those that stand for all."""
MOST = 100
"""Elements that are read."""
SIZES: Mapping[str, Callable[[Any], float]] = {"rows": rows, "columns": columns}
"""Words that a formula shows the value of."""


def read(source: str) -> float | np.ndarray[Any, Any]:
    """A number, a vector or a matrix: `2`, `2,-1` or `1,2;3,4`, rows being apart by semicolons.

    Raises:
        ValueError: for anything else, in one sentence.
    """
    rows = [[_number(word, source) for word in row.split(",")] for row in source.split(";")]
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"the rows of a matrix must have the same length, got {source!r}")
    if sum(map(len, rows)) > MOST:
        raise ValueError(f"at most {MOST} numbers are read, got {sum(map(len, rows))}")
    if len(rows) > 1:
        return np.array(rows)
    return rows[0][0] if len(rows[0]) == 1 else np.array(rows[0])


def _number(word: str, source: str) -> float:
    try:
        return float(word)
    except ValueError:
        wanted = "a number is wanted" if word == source else "numbers are wanted, as in 2,-1 or 1,2;3,4"
        raise ValueError(f"{wanted}, got {source!r}") from None


def argument(value: Any) -> str:
    """A number, a vector or a matrix as it is written on the command line, to the last digit; else the text.

    >>> argument(np.array([[1.0, 0.5], [-3.0, 1e-8]]))
    '1,0.5;-3,1e-08'
    """
    if isinstance(value, np.ndarray):
        return ";".join(",".join(map(argument, row)) for row in np.atleast_2d(value))
    if not isinstance(value, (float, np.floating)):
        return str(value)
    return repr(float(value)).removesuffix(".0")


def is_array(value: Any) -> bool:
    """Whether a value is an array of several numbers."""
    return isinstance(value, np.ndarray) and value.size != 1


def is_few(value: Any) -> bool:
    """Whether a value is a vector or a matrix of few enough elements to show them all."""
    return is_array(value) and value.size <= FEW and value.ndim <= 2


def written(value: Any) -> str:
    """A number, a vector or a matrix to read: `0.2`, `(2, −1)`, `[1, 2; 3, 4]`; of many elements, the first.

    >>> written(np.arange(12.0))
    '(0, 1, 2, …)'
    """
    if isinstance(value, Summary):
        return str(value)
    if is_scalar(value):
        return number(value)
    rows = [", ".join(row) for row in _rows(value, "…")]
    return f"({rows[0]})" if value.ndim == 1 else f"[{'; '.join(rows)}]"


def written_in_latex(value: Any) -> str:
    """The same as LaTeX: a vector is a column."""
    if isinstance(value, Summary):
        return rf"\text{{{value}}}"
    if is_scalar(value):
        return VectorLatex().constant(scalar(value))[0]
    rows = _rows(value, r"\dots", VectorLatex())
    return _table([[cell] for cell in rows[0]] if value.ndim == 1 else rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = r" \\ ".join(" & ".join(row) for row in rows)
    return rf"\left(\begin{{matrix}} {lines} \end{{matrix}}\right)"


def _rows(value: np.ndarray[Any, Any], dots: str, writer: Text | None = None) -> list[list[str]]:
    writer = writer or Text()
    matrix = value.reshape(1, -1) if value.ndim < 2 else value.reshape(-1, value.shape[-1])
    if value.size <= FEW:
        return [[writer.constant(scalar(x))[0] for x in row] for row in matrix]
    rows = [[writer.constant(scalar(x))[0] for x in row[:SHOWN]] for row in matrix[:SHOWN]]
    rows = [[*row, dots] if matrix.shape[1] > SHOWN else row for row in rows]
    return [*rows, [dots]] if len(matrix) > SHOWN else rows


class VectorText(Text):
    """Writes expressions in which constants may be vectors and matrices, and lists stand for them."""

    def node(self, node: ast.expr) -> tuple[str, int]:
        match node:
            case ast.Constant(value=value) if is_array(value):
                return written(value), ATOM
            case ast.List(elements):
                rows = [", ".join(map(self.write, row)) for row in _listed(elements)]
                return f"({rows[0]})" if len(rows) == 1 else f"[{'; '.join(rows)}]", ATOM
            case ast.BinOp(left, ast.MatMult(), right):
                return f"{self.at(left, PRODUCT)} @ {self.at(right, MINUS, follows=True)}", PRODUCT
        return super().node(node)


class VectorLatex(Latex):
    """The same as LaTeX: vectors are columns, and the product of two tables element by element is ⊙."""

    def node(self, node: ast.expr) -> tuple[str, int]:
        match node:
            case ast.Constant(value=value) if is_array(value):
                return written_in_latex(value), ATOM
            case ast.List(elements):
                rows = [[self.write(x) for x in row] for row in _listed(elements)]
                return _table([[cell] for cell in rows[0]] if len(rows) == 1 else rows), ATOM
            case ast.BinOp(left, ast.MatMult(), right):
                return rf"{self.at(left, PRODUCT)} \, {self.at(right, MINUS, follows=True)}", PRODUCT
        return super().node(node)

    def product(self, left: ast.expr, right: ast.expr) -> str:
        if _is_table(left) and _is_table(right):
            return rf"{self.at(left, PRODUCT)} \odot {self.at(right, MINUS, follows=True)}"
        return super().product(left, right)


def _listed(elements: Sequence[ast.expr]) -> list[list[ast.expr]]:
    """The rows of a list of lists, or the one row of a list."""
    if any(isinstance(e, ast.List) for e in elements):
        return [e.elts if isinstance(e, ast.List) else [e] for e in elements]
    return [list(elements)]


def _is_table(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and is_array(node.value)


def text(node: ast.expr) -> str:
    """An expression as Unicode text; its constants may be vectors and matrices."""
    return VectorText().write(node)


def latex(node: ast.expr) -> str:
    """An expression as LaTeX, for math mode; its constants may be vectors and matrices."""
    return VectorLatex().write(node)


def put_in(node: ast.expr, names: Mapping[str, Any]) -> ast.expr:
    """The expression with the values of its names in their place: numbers, texts, and arrays of few elements."""
    made: ast.expr = Values(names).visit(ast.parse(ast.unparse(node), mode="eval").body)
    return made


class Values(ast.NodeTransformer):
    """Puts values in the place of names, but for what is called."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names

    def shown(self, value: Any) -> Any:
        """What a formula shows of a value, or None where it shows the name."""
        value = plain(value)
        if isinstance(value, str) or is_few(value):
            return value
        return scalar(value) if is_scalar(value) else None

    def constant(self, value: Any, node: ast.expr) -> ast.expr:
        shown = self.shown(value)
        return node if shown is None else ast.Constant(shown)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.constant(self.names[node.id], node) if node.id in self.names else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(ast.Name(word), [ast.Name(name)]) if word in SIZES and is_array(plain(self.names.get(name))):
                return ast.Constant(SIZES[word](plain(self.names[name])))
        arguments = [self.visit(a) for a in node.args]
        keywords = [ast.keyword(k.arg, self.visit(k.value)) for k in node.keywords]
        return ast.Call(node.func, arguments, keywords)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        match node:
            case ast.Subscript(ast.Name(table), ast.Name(key)) if table in self.names and key in self.names:
                return self.constant(self.names[table][self.names[key]], node)
        return node


@dataclass(frozen=True)
class Summary:
    """What is said of an array of which no element can be shown.

    >>> str(Summary.of(np.ones((64, 64))))
    '64 × 64 numbers, norm 64'
    """

    shape: tuple[int, ...]
    norm: float

    @classmethod
    def of(cls, value: np.ndarray[Any, Any]) -> Summary:
        """The summary of an array."""
        return cls(value.shape, math.sqrt(float(np.sum(np.square(value, dtype=np.float64)))))

    def __str__(self) -> str:
        return f"{' × '.join(map(str, self.shape))} numbers, norm {number(self.norm)}"
