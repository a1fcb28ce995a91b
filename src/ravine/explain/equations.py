"""The equations of a rule, read from its source.

Example:
    >>> for line in equations("lion")[0].lines:
    ...     print(line.text)
    u ← sign(β₁·m + (1 − β₁)·g)
    θ ← θ − η·(u + λ·θ)
    m ← β₂·m + (1 − β₂)·g
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ravine.catalogue import A_MATRIX, FLOAT32_BYTES, Info, info
from ravine.explain.decay import FORMS
from ravine.explain.source import calls_base, definition, own_function, own_name, own_symbols, parts, readable
from ravine.explain.typeset import expression, latex, latex_symbol, symbol, text
from ravine.registry import lookup
from ravine.rule import Rule, State


@dataclass(frozen=True)
class Equation:
    """One line of an algorithm: as Unicode text, as LaTeX for math mode, and how deep it stands inside conditions."""

    text: str
    latex: str
    indent: int = 0


@dataclass(frozen=True)
class Section:
    """The lines of one rule or wrapper."""

    name: str
    lines: tuple[Equation, ...]


@dataclass(frozen=True)
class StateRow:
    """One state: its symbol as the rule writes it, its key in a state dict, bytes per parameter, and when it exists."""

    symbol: str
    key: str
    bytes_per_param: int
    kind: str
    present: bool


@dataclass(frozen=True)
class DecayRow:
    """One form of weight decay: its name, the line it adds if any, what it means, and whether it is customary."""

    name: str
    line: Equation | None
    meaning: str
    customary: bool


@dataclass(frozen=True)
class Shown:
    """Everything that `ravine show` tells of a rule."""

    info: Info
    sections: tuple[Section, ...]
    hyper: dict[str, Any]
    states: tuple[StateRow, ...]
    decays: tuple[DecayRow, ...]
    parent: str | None
    reason: str | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.info.name,
            "title": self.info.title,
            "summary": self.info.summary,
            "paper": self.info.paper,
            "preset_of": self.info.preset_of,
            "parent": self.parent,
            "reason": self.reason,
            "defaults": dict(self.info.defaults),
            "state_bytes_per_param": self.info.state_bytes_per_param,
            "decay": self.info.decay,
            "states": [{"symbol": s.symbol, "key": s.key, "kind": s.kind, "present": s.present} for s in self.states],
            "equations": [
                {"section": section.name, "lines": [vars(line) for line in section.lines]} for section in self.sections
            ],
        }


def show(name: str | Rule) -> Shown:
    """The equations of a rule with its defaults, states, and forms of weight decay.

    Raises:
        KeyError: for an unknown rule, with the nearest name.
        ValueError: if the rule's source cannot be found.
    """
    rule = lookup(name) if isinstance(name, str) else name
    absent = rule.absent_states(rule.defaults, A_MATRIX)
    states = tuple(
        StateRow(key, state.name, _bytes_per_param(state), state.kind, key not in absent)
        for key, state in rule.state.items()
    )
    decays = tuple(
        DecayRow(
            form,
            None if line.symbol is None else assignment(line.symbol, expression(line.source)),
            line.meaning,
            form == rule.decay,
        )
        for form, line in FORMS.items()
        if "weight_decay" in rule.defaults
    )
    return Shown(info(rule), equations(rule), dict(rule.defaults), states, decays, rule.parent, rule.reason)


def _bytes_per_param(state: State) -> int:
    if state.kind in ("host", "shared"):
        return 0
    return FLOAT32_BYTES * math.prod(state.shape(A_MATRIX)) // math.prod(A_MATRIX)


def equations(name: str | Rule) -> tuple[Section, ...]:
    """The lines of a rule as equations: the outermost wrapper's first, the rule's own last; see `show` for errors."""
    rule = lookup(name) if isinstance(name, str) else name
    own = Section(own_name(rule), tuple(_lines(rule)))
    return (own, *(equations(rule.base) if rule.base is not None else ()))


def _lines(rule: Rule) -> Iterator[Equation]:
    yield from block(definition(own_function(rule)).body, rule, 0)


def block(statements: Sequence[ast.stmt], rule: Rule, indent: int) -> Iterator[Equation]:
    for statement in statements:
        match statement:
            case ast.Assign(targets, value):
                yield from _assignments(targets, value, rule, indent)
            case ast.AnnAssign(target, _, value) if value is not None:
                yield from _assignments([target], value, rule, indent)
            case ast.AugAssign(target, op, value):
                yield from _assignments([target], ast.BinOp(target, op, value), rule, indent)
            case ast.If(test, body, orelse):
                yield _heading("if", test, rule, indent)
                yield from block(body, rule, indent + 1)
                if orelse:
                    yield Equation("else:", r"\textbf{else:}", indent)
                    yield from block(orelse, rule, indent + 1)
            case ast.For(target, iterable, body, _):
                heading = f"for {text(target)} in {text(readable(iterable, rule))}:"
                yield Equation(
                    heading, rf"\textbf{{for }} {latex(target)} \in {latex(readable(iterable, rule))}:", indent
                )
                yield from block(body, rule, indent + 1)
            case ast.Return(value) if value is not None:
                yield from _returned(value, rule, indent)
            case ast.Pass() | ast.Assert() | ast.Import() | ast.ImportFrom():
                pass
            case _:
                source = ast.unparse(statement)
                yield Equation(source, rf"\texttt{{{source}}}", indent)


def _heading(word: str, test: ast.expr, rule: Rule, indent: int) -> Equation:
    test = readable(test, rule)
    return Equation(f"{word} {text(test)}:", rf"\textbf{{{word} }} {latex(test)}:", indent)


def _assignments(targets: list[ast.expr], value: ast.expr, rule: Rule, indent: int) -> Iterator[Equation]:
    """`a, b = x, y` is two lines; `a = b = x` is b ← x, a ← b; what a base call only passes through is left out."""
    *others, last = targets
    formulas = parts(value, len(last.elts)) if isinstance(last, ast.Tuple) else None
    if isinstance(last, ast.Tuple) and formulas:
        for target, part in zip(last.elts, formulas, strict=True):
            yield _equation(target, part, rule, indent)
        return
    if isinstance(last, ast.Tuple):
        named = [e for e in last.elts if not isinstance(e, ast.Starred) and not _passed_through(e, value)]
        last = named[0] if len(named) == 1 else ast.Tuple(named)
    yield _equation(last, value, rule, indent)
    for target in reversed(others):
        yield _equation(target, last, rule, indent)


def _passed_through(target: ast.expr, value: ast.expr) -> bool:
    return calls_base(value) and isinstance(target, ast.Name) and target.id == "states"


def _returned(value: ast.expr, rule: Rule, indent: int) -> Iterator[Equation]:
    """What a `return` computes: each element that is not the symbol itself, under the symbol it becomes."""
    elements = value.elts if isinstance(value, ast.Tuple) else [value]
    for name, element in zip(own_symbols(rule), elements, strict=False):
        if isinstance(element, ast.Starred):
            return
        if not (isinstance(element, ast.Name) and element.id == name):
            yield assignment(name, readable(element, rule), indent)


def _equation(target: ast.expr, value: ast.expr, rule: Rule, indent: int) -> Equation:
    value = readable(value, rule)
    return Equation(f"{text(target)} ← {text(value)}", rf"{latex(target)} \leftarrow {latex(value)}", indent)


def assignment(name: str, value: ast.expr, indent: int = 0) -> Equation:
    """The line that gives a symbol a value."""
    return Equation(f"{symbol(name)} ← {text(value)}", rf"{latex_symbol(name)} \leftarrow {latex(value)}", indent)
