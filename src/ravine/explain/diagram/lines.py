"""The lines of a traced step, each with the nearest lines and leaves that its value is computed from."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ravine.engine.symbols import HostValue, Node
from ravine.explain.diagram.updates import unfolded
from ravine.explain.follow import Told
from ravine.explain.simplify import names_of, simplified
from ravine.explain.symbolic import SymbolicStep
from ravine.explain.typeset import OR, Latex, latex_symbol, symbol, text
from ravine.math import plain

Key = tuple[str, Any]


@dataclass(eq=False)
class Line:
    """One line of a step.

    Attributes:
        symbols: what it gives, one name for each value: two where one call gives two.
        formula: what it computes; None where the rule has no line for a value that it returns.
        section: whose line it is, outermost first.
        values: what it gives, in the graph.
        uses: the lines and leaves that it needs directly.
        also: parameter and states of the same rule that are given its first value too.
    """

    symbols: list[str]
    formula: ast.expr | None
    section: tuple[str, ...]
    values: tuple[Any, ...]
    uses: list[Line | Key] = field(default_factory=list)
    also: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """As Unicode text."""
        left = ", ".join(map(symbol, (*self.symbols, *self.also)))
        return left if self.formula is None else f"{left} ← {text(self.formula)}"

    @property
    def latex(self) -> str:
        """As LaTeX, for math mode."""
        left = ", ".join(map(latex_symbol, (*self.symbols, *self.also)))
        return left if self.formula is None else rf"{left} \leftarrow {OneLine().write(self.formula)}"

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes it the same line in another step."""
        return (*self.section, self.label)


class OneLine(Latex):
    """LaTeX without braces over two lines, for boxes."""

    def choice(self, test: ast.expr, body: ast.expr, orelse: ast.expr) -> str:
        return rf"{self.at(body, OR)}\text{{ if }}{self.at(test, OR)}\text{{ else }}{self.write(orelse)}"


def own(name: str) -> str:
    """A name without its namespace, as the lines of its wrapper write it; λ where it enters the gradient is λ."""
    return "weight_decay" if name == "l2" else name.rsplit(".", 1)[-1]


def key_of(value: Any) -> Key:
    """What a value is known by: two with the same key are the same."""
    if isinstance(value, HostValue):
        return _host_key(value.expression)
    return ("leaf", value.payload) if value.op == "leaf" else ("node", value.index)


def _host_key(expression: Any) -> Key:
    if isinstance(expression, tuple) and expression[0] == "name":
        return ("leaf", expression[1])
    return ("host", expression)


class Lines:
    """The lines of a step in their order. One that only gives a value another name is not among them."""

    def __init__(self, step: SymbolicStep) -> None:
        self.step = step
        self.lines: list[Line] = []
        self.by_key: dict[Key, Line] = {}
        self.values: dict[Key, tuple[Any, ...]] = {}
        self.last: dict[tuple[tuple[str, ...], str], Key] = {}
        told: list[Told] = []
        for each in step.lines:
            told.append(each)
            self._add(unfolded(each, told))

    def _add(self, told: Told) -> None:
        key = key_of(told.value)
        self.last[told.section, told.symbol] = key
        if key in self.by_key:
            self._given_on(self.by_key[key], told)
        if key[0] == "leaf" or key in self.by_key:
            return
        formula = simplified(told.formula, told.names, self._known)
        line = self.lines[-1] if self.lines else None
        if line is None or line.section != told.section or not _is_one_call(line.formula, formula):
            line = Line([], formula, told.section, ())
            self.lines.append(line)
        line.symbols.append(told.symbol)
        line.values = (*line.values, told.value)
        line.uses = [used for used in self._used(line, told) if used is not line]
        self.by_key[key] = line

    def _given_on(self, line: Line, told: Told) -> None:
        """Note that a line's value is also the new parameter or a state: `p = slow = ...`."""
        given = {own(name) for name in (*self.step.rule.state, "p")}
        if told.section == line.section and told.symbol in given - {*line.symbols, *line.also}:
            line.also.append(told.symbol)

    def _known(self, value: Any) -> str | None:
        """The name under which a value stands in the diagram."""
        if not isinstance(value, (Node, HostValue)):
            return None
        key = key_of(value)
        if key[0] == "leaf":
            return own(key[1])
        line = self.by_key.get(key)
        return None if line is None else line.symbols[[key_of(v) for v in line.values].index(key)]

    def _used(self, line: Line, told: Told) -> list[Line | Key]:
        """What the graph below the line's values leads to first, and the settings in its formula that shape it."""
        found = list(self.nearest(line.values))
        written = names_of(line.formula) if line.formula is not None else []
        for name in written:
            value = plain(told.names.get(name))
            if isinstance(value, HostValue) and key_of(value)[0] == "leaf":
                found.append(key_of(value))
            elif isinstance(value, (str, bool)):
                found += [("leaf", full) for full in self.step.rule.defaults if own(full) == name]
        return list(dict.fromkeys(found))

    def nearest(self, values: Iterable[Any]) -> Iterator[Line | Key]:
        """The nearest lines and leaves below some values, these themselves left out."""
        waiting: list[Any] = []
        for value in values:
            waiting += reversed(_below(value.expression if isinstance(value, HostValue) else value))
        seen: set[Key] = set()
        while waiting:
            at = waiting.pop()
            if isinstance(at, Node) and at.op == "slot":
                at = at.payload
            if not isinstance(at, (Node, tuple)):
                continue
            key = key_of(at) if isinstance(at, Node) else _host_key(at)
            if key in seen:
                continue
            seen.add(key)
            if key in self.by_key:
                yield self.by_key[key]
            elif key[0] == "leaf":
                if isinstance(at, Node):
                    self.values[key] = (at,)
                yield key
            else:
                waiting += reversed(_below(at))

    def kept(self) -> list[tuple[Line | Key, str]]:
        """What makes each new state and the new parameter: (line or leaf, symbol), the parameter last."""
        graph, rule = self.step.graph, self.step.rule
        keys: dict[str, Key] = {name: key_of(node) for name, node in graph.outputs.items()}
        keys |= {name: _host_key(expression) for name, expression in graph.host_outputs.items()}
        for name in graph.shared_outputs:
            keys[name] = [key for (_, told), key in self.last.items() if told == own(name)][-1]
        keys.setdefault("p", ("leaf", "p"))
        order = [name for name in (*rule.state, "p") if name == "p" or keys.get(name, ("leaf", name)) != ("leaf", name)]
        return [(self._maker(keys[name], name), name) for name in order]

    def _maker(self, key: Key, name: str) -> Line | Key:
        if key[0] == "leaf":
            return key
        if key not in self.by_key:
            node = self.step.graph.outputs.get(name)
            value = HostValue(self.step.tape, key[1], None) if node is None else node
            line = Line([own(name)], None, (), (value,))
            line.uses = list(self.nearest([value]))
            self.lines.append(line)
            self.by_key[key] = line
        return self.by_key[key]

    def reaching(self, targets: Sequence[Line | Key]) -> set[Line]:
        """The lines among these targets and all that they need."""
        found: set[Line] = set()
        waiting = [target for target in targets if isinstance(target, Line)]
        while waiting:
            line = waiting.pop()
            if line not in found:
                found.add(line)
                waiting += [used for used in line.uses if isinstance(used, Line)]
        return found


def _below(at: Any) -> Sequence[Any]:
    if isinstance(at, Node):
        return [at.payload] if at.op == "slot" else at.args
    return at[1:] if isinstance(at, tuple) else ()


def _is_one_call(first: ast.expr | None, second: ast.expr) -> bool:
    """Whether two formulas are the same call, of which each takes a part."""
    return isinstance(first, ast.Call) and ast.unparse(first) == ast.unparse(second)
