"""One place in an array: formulas with the numbers there, and the results of what looks at whole arrays.

Example:
    >>> import numpy as np
    >>> from ravine.explain.typeset import expression
    >>> from ravine.math import rms
    >>> values = ElementValues({"u": np.array([3.0, 4.0, 0.0, 0.0]), "d": 2.0, "rms": rms}, Element((4,), (1,)))
    >>> text(values.put_in(expression("u / maximum(1.0, rms(u) / d)")))
    '4 / max(1, 2.5 / 2)'
    >>> values.remarks
    ['rms(u) = 2.5, of all 4 numbers']
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ravine.math
from ravine.explain.follow import Told
from ravine.explain.trace import Array, Line, Recorder, computes_arrays
from ravine.explain.typeset import is_scalar, number, scalar
from ravine.explain.vectors import Summary, Values, is_array, text
from ravine.math import Totals, plain, sweeping

ELEMENTWISE = {"sqrt", "abs", "sign", "exp", "log", "maximum", "minimum", "clip", "where", "has"}
"""Words whose result has at one place what their arguments have there; all others look at whole arrays."""


@dataclass(frozen=True)
class Element:
    """A place in a parameter as the rule sees it."""

    shape: tuple[int, ...]
    index: tuple[int, ...]

    def of(self, value: Any) -> Any:
        """What an array has at this place, or a summary of it; rows and columns have one number for all of theirs."""
        value = plain(value)
        if is_scalar(value):
            return scalar(value)
        found = self.at(value)
        return Summary.of(value) if found is None else found

    def at(self, value: Array) -> float | int | bool | None:
        """What an array has at this place; None where it has none."""
        if value.ndim != len(self.shape) or any(n not in (1, m) for n, m in zip(value.shape, self.shape, strict=True)):
            return None
        index = tuple(i if n > 1 else 0 for i, n in zip(self.index, value.shape, strict=True))
        return scalar(value[index])


class ElementRecorder(Recorder):
    """Collects lines with the numbers at one place; what looks at whole arrays is computed on them."""

    def __init__(self, place: Element, totals: Mapping[str, Any]) -> None:
        self.heard = Heard(totals)
        super().__init__(self.heard)
        self.place = place

    def tell(self, told: Told) -> None:
        value = plain(told.value)
        heard, self.heard.answers = self.heard.answers, []
        if not is_scalar(value) and not is_array(value):
            return
        with sweeping(Again(heard)):
            values = ElementValues(told.names, self.place)
            filled = values.put_in(told.formula)
        self.lines.append(
            Line(
                told.symbol, told.formula, filled, self.place.of(value), told.section, computes_arrays(told),
                "; ".join(values.remarks),
            )
        )  # fmt: skip


class Heard(Totals):
    """A sweep in which all totals are known, and which remembers those that were asked for."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        super().__init__(known)
        self.answers: list[Any] = []

    def ask(self, partial: Any) -> Any:
        """The total; it is remembered."""
        self.answers.append(super().ask(partial))
        return self.answers[-1]


class Again(Totals):
    """A sweep that gives the same answers once more, in the same order."""

    def __init__(self, answers: Sequence[Any]) -> None:
        super().__init__({})
        self.answers = iter(answers)

    def ask(self, partial: Any) -> Any:
        """The next answer."""
        return next(self.answers, partial)


class ElementValues(Values):
    """Puts the numbers at one place into a formula, and the results of what looks at whole arrays."""

    def __init__(self, names: Mapping[str, Any], place: Element) -> None:
        super().__init__(names)
        self.place = place
        self.remarks: list[str] = []
        self.outermost: ast.expr | None = None

    def put_in(self, formula: ast.expr) -> ast.expr:
        """The formula with numbers."""
        copy = ast.parse(ast.unparse(formula), mode="eval").body
        self.outermost = copy
        made: ast.expr = self.visit(copy)
        return made

    def shown(self, value: Any) -> Any:
        value = plain(value)
        return self.place.at(value) if is_array(value) else super().shown(value)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        return self.whole(node) if isinstance(node.op, ast.MatMult) else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id in ELEMENTWISE:
            return super().visit_Call(node)
        return self.whole(node)

    def whole(self, node: ast.BinOp | ast.Call) -> ast.expr:
        """What looks at whole arrays: its result where it is part of a formula, itself where it is all of it."""
        arrays = [a for name in _names(node) if is_array(a := plain(self.names.get(name)))]
        if not arrays or not self.is_vocabulary(node):
            return node
        sizes = " × ".join(map(str, max((a.shape for a in arrays), key=math.prod)))
        if node is self.outermost:
            self.remarks.append(f"of all {sizes} numbers")
            return node
        found = compile(ast.Expression(ast.fix_missing_locations(node)), "rule", "eval")
        result = self.shown(eval(found, dict(self.names)))
        if result is None:
            return node
        if not _is_size(node):
            self.remarks.append(f"{text(node)} = {number(result)}, of all {sizes} numbers")
        return ast.Constant(result)

    def is_vocabulary(self, node: ast.expr) -> bool:
        """Whether nothing but words of `ravine.math` is called."""
        called = [inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call)]
        return all(
            isinstance(function, ast.Name) and self.names.get(function.id) is getattr(ravine.math, function.id, None)
            for function in called
        )


def _names(node: ast.expr) -> list[str]:
    return [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)]


def _is_size(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("rows", "columns")
