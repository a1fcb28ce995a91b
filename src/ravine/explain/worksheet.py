"""A trace as an exercise to do by hand: given, asked, how to check, and the solution apart.

Example:
    >>> from ravine.explain.trace import trace
    >>> sheet = worksheet(trace("lion", "x**2", x0=2.0))
    >>> [equation.text.text for equation in sheet.equations]
    ['g ← L′(θ) = 2·θ', 'u ← sign(β₁·m + (1 − β₁)·g)', 'θ ← θ − η·(u + λ·θ)', 'm ← β₂·m + (1 − β₂)·g']
    >>> sheet.words
    {'sign': '1, −1, or `x` itself where it is ±0 or NaN.'}
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import ravine.compose
import ravine.math
from ravine.explain import traced
from ravine.explain.source import own_function
from ravine.explain.trace import Line, Trace
from ravine.explain.traced import Said
from ravine.explain.typeset import latex_symbol, symbol
from ravine.explain.vectors import Summary
from ravine.registry import available, wrappers
from ravine.rule import Rule

MOST_STEPS = 20
PLAIN = {
    "sqrt", "abs", "norm", "T", "transpose", "maximum", "minimum", "exp", "log", "where", "has", "max", "min", "sin",
    "cos",
}  # fmt: skip
"""Words that a formula writes as signs that everybody knows."""
BY_COMPUTER = {"orthogonalize", "eigenbasis", "refresh_basis", "inverse_root"}
"""Words for what nobody does with a pencil."""


@dataclass(frozen=True)
class Equation:
    """An equation of the exercise.

    Attributes:
        number: from 1.
        section: the rule or wrapper that it belongs to, where there are several.
        text: the equation.
        steps: the steps that have it, where not all do.
    """

    number: int
    section: str
    text: Said
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A line to be computed at a step.

    Attributes:
        number: of its equation.
        symbol: what is computed.
        substituted: the equation with numbers, part of the solution.
        value: the solution.
        given: whether the value is given, since it takes a computer or numbers that are not on the sheet.
        remark: what of the numbers does not explain itself.
    """

    number: int
    symbol: Said
    substituted: Said
    value: Said
    given: bool
    remark: str


@dataclass(frozen=True)
class Worksheet:
    """An exercise: what is given and asked is drawn from the rule's lines, and so is its solution."""

    trace: Trace
    equations: tuple[Equation, ...]
    steps: tuple[tuple[Row, ...], ...]
    words: Mapping[str, str]

    @property
    def title(self) -> str:
        """What is to be done."""
        count = len(self.steps)
        return f"{'One step' if count == 1 else f'{count} steps'} of {self.trace.rule.title} by hand"


def worksheet(trace: Trace) -> Worksheet:
    """The exercise whose solution is a trace.

    Raises:
        ValueError: for more than 20 steps.
    """
    if len(trace.steps) > MOST_STEPS:
        raise ValueError(f"--exercise: a worksheet has at most {MOST_STEPS} steps, got {len(trace.steps)}")
    steps = [list(_counted(step.lines)) for step in trace.steps]
    order = _merged([[key for key, _ in lines] for lines in steps])
    numbers = {key: number for number, key in enumerate(order, start=1)}
    lines = {key: line for step in reversed(steps) for key, line in step}
    nested = traced.is_nested(trace)
    equations = []
    for key, number in numbers.items():
        having = tuple(step.t for step, keyed in zip(trace.steps, steps, strict=True) if key in dict(keyed))
        section = lines[key].section[-1] if nested and lines[key].section else ""
        some = having if len(having) < len(steps) else ()
        equations.append(Equation(number, section, _equation(lines[key]), some))
    rows = tuple(tuple(_row(numbers[key], line) for key, line in step) for step in steps)
    return Worksheet(trace, tuple(equations), rows, _words(trace.rule, [line for step in steps for _, line in step]))


Key = tuple[tuple[str, ...], str, str, int]


def _counted(lines: Sequence[Line]) -> Iterator[tuple[Key, Line]]:
    """Each line with what tells it from the others of its step, the same in every step."""
    seen: Counter[tuple[tuple[str, ...], str, str]] = Counter()
    for line in lines:
        key = (line.section, line.symbol, line.formula)
        yield (*key, seen[key]), line
        seen[key] += 1


def _merged(steps: Sequence[Sequence[Key]]) -> list[Key]:
    """All lines of all steps, each after the line that it follows where it first comes."""
    order = list(steps[0])
    for keys in steps[1:]:
        place = 0
        for key in keys:
            if key not in order:
                order.insert(place, key)
            place = order.index(key) + 1
    return order


def _equation(line: Line) -> Said:
    formula = traced.formula(line)
    return Said(f"{symbol(line.symbol)} ← {formula.text}", rf"{latex_symbol(line.symbol)} \leftarrow {formula.latex}")


def _row(number: int, line: Line) -> Row:
    registered = {*available(), *wrappers()}
    called = {word for node in ast.walk(line.tree) if (word := _called(node))}
    helpers = {word for word in called if word in BY_COMPUTER or not (_is_known(word) or word in registered)}
    given = bool(line.said or line.remark or isinstance(line.value, Summary) or helpers)
    return Row(
        number, traced.symbol_of(line.symbol), traced.substituted(line), traced.value_of(line.value), given, line.remark
    )


def _called(node: ast.AST) -> str | None:
    """The word that a node calls."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def _is_known(word: str) -> bool:
    return hasattr(ravine.math, word) or hasattr(ravine.compose, word) or word in PLAIN


def _words(rule: Rule, lines: Sequence[Line]) -> dict[str, str]:
    """What the words in the formulas mean, from where they are defined."""
    known = {**vars(ravine.compose), **vars(ravine.math)}
    inside: Rule | None = rule
    while inside is not None:
        known = {**own_function(inside).__globals__, **known}
        inside = inside.base
    found: dict[str, str] = {}
    for line in lines:
        for node in ast.walk(line.tree):
            word = _called(node)
            if word is not None and word not in PLAIN:
                meaning = inspect.getdoc(known[word]) if inspect.isfunction(known.get(word)) else None
                if meaning is not None:
                    found[{"total": "Σ"}.get(word, word)] = meaning.split("\n\n")[0].replace("\n", " ")
    return found
