"""Formulas of a rule's lines as templates, in which the page puts the numbers of a step.

A template is a list of texts and of small lists: `["n", i, level, follows]` is the i-th number, fenced where it holds
together less tightly than `level`, or follows an operator and begins with a minus; `["w", i]` is all of the i-th
tensor; `["m", parts]` is fenced where what is inside begins with a minus, `["r", parts]` where it is a word;
`["^", level, parts]` is an exponent. The words are those of `ravine.explain.typeset`.

Example:
    >>> from ravine.explain.typeset import expression
    >>> template(expression("beta1 * m"), {}, ["beta1", "m"])
    [['n', 0, 6, False], '·', ['n', 1, 7, True]]
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ravine.engine.symbols import REDUCTIONS
from ravine.explain.typeset import ATOM, Text

OPEN, CLOSE = "\ue000", "\ue001"
MATRIX_WORDS = {"T", "transpose", "orthogonalize", "eigenbasis", "refresh_basis", "take", "inverse_root"}
WHOLE = REDUCTIONS | MATRIX_WORDS

Template = list[Any]


def template(formula: ast.expr, values: Mapping[str, Any], slots: Sequence[str]) -> Template:
    """A formula with places for numbers.

    Args:
        formula: what is assigned.
        values: what is known already: choices and constants of the rule's file.
        slots: the names whose numbers are put in later, in the order of their places.
    """
    return _parsed(_Template(values, slots).write(formula))


class _Template(Text):
    """Writes text in which every slot, and whatever depends on the number in it, is marked."""

    def __init__(self, values: Mapping[str, Any], slots: Sequence[str]) -> None:
        super().__init__(values)
        self.slots = {name: place for place, name in enumerate(slots)}
        self.whole = False

    def is_slot(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self.slots

    def slot(self, node: ast.expr, level: int = 0, follows: bool = False) -> str:
        assert isinstance(node, ast.Name)
        place = self.slots[node.id]
        return _marked(["w", place]) if self.whole else _marked(["n", place, level, follows])

    def at(self, node: ast.expr, level: int, follows: bool = False) -> str:
        if self.is_slot(node):
            return self.slot(node, level, follows)
        written, holds = self.node(node)
        if holds >= level and follows and written.startswith(OPEN):
            return _marked(["m", _parsed(written)])
        return self.fence(written) if holds < level or (follows and written.startswith(self.minus)) else written

    def node(self, node: ast.expr) -> tuple[str, int]:
        if self.is_slot(node):
            return self.slot(node), ATOM
        if self.whole or not _takes_whole(node):
            return super().node(node)
        self.whole = True
        try:
            return super().node(node)
        finally:
            self.whole = False

    def power(self, base: ast.expr, exponent: ast.expr) -> str:
        if self.is_slot(exponent):
            return self.at(base, ATOM) + _marked(["^", -1, _parsed(self.slot(exponent))])
        raised, level = self.node(exponent)
        if OPEN not in raised:
            return super().power(base, exponent)
        return self.at(base, ATOM) + _marked(["^", level, _parsed(raised)])

    def special(self, function: str, argument: ast.expr) -> tuple[str, int]:
        written, level = super().special(function, argument)
        if function == "sqrt" and self.is_slot(argument):
            return f"√{_marked(['r', _parsed(self.at(argument, ATOM))])}", level
        return written, level


def _takes_whole(node: ast.expr) -> bool:
    """Whether an operation looks at all elements at once, so that one element's number would mislead."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.MatMult)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WHOLE


def _marked(part: Template) -> str:
    return OPEN + json.dumps(part) + CLOSE


def _parsed(written: str) -> Template:
    """The parts of a text with marks in it."""
    parts = re.split(f"{OPEN}(.*?){CLOSE}", written)
    return [json.loads(part) if i % 2 else part for i, part in enumerate(parts) if part]
