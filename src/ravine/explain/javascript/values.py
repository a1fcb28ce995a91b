"""The values of traced graphs as JavaScript, each written once however many graphs compute it.

Example:
    >>> values = Values()
    >>> values.host(("subtract", 1, ("name", "beta1")))
    1
    >>> values.sources
    ['x.beta1', '1-v(0)']
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ravine.engine.symbols import COMPARISONS, ELEMENTWISE, LOGIC, REDUCTIONS, Expression, HostValue, Node, Tape
from ravine.math.newton_schulz import TINY, schedule

SIGNS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "greater": ">", "less": "<", "greater_equal": ">=",
    "less_equal": "<=", "equal": "===", "not_equal": "!==", "and": "&&", "or": "||",
}  # fmt: skip
"""The operations on host scalars that JavaScript writes between its operands."""

CALLS = {"power": "Math.pow", "modulo": "modulo", "floor_divide": "floorDivide", "whole": "Math.trunc"}
MATRICES = {"matmul", "transpose", "eigenbasis", "refresh_basis"}


class Values:
    """A table of JavaScript expressions. `v(i)` in one of them is the i-th of the table, `x` what a step is given.

    Attributes:
        sources: the expressions, each after those that it needs.
    """

    def __init__(self) -> None:
        self.sources: list[str] = []
        self._places: dict[str, int] = {}
        self._hosts: dict[Any, str] = {}
        self._tape: Tape | None = None
        self._nodes: dict[int, str] = {}

    def of(self, value: Any) -> int:
        """The place of a value of any kind: a node, a host scalar, a number."""
        if isinstance(value, Node):
            return self.place(self.node(value))
        return self.place(self.host_text(value.expression if isinstance(value, HostValue) else value))

    def host(self, expression: Expression) -> int:
        """The place of a host scalar's expression; `("value", i)` in it is what stands at place i."""
        return self.place(self.host_text(expression))

    def place(self, text: str) -> int:
        """The place of an expression in the table."""
        reference = re.fullmatch(r"v\((\d+)\)", text)
        if reference:
            return int(reference[1])
        if text not in self._places:
            self._places[text] = len(self.sources)
            self.sources.append(text)
        return self._places[text]

    def kept(self, text: str) -> str:
        """A reference to an expression, which is put into the table."""
        return f"v({self.place(text)})"

    def host_text(self, expression: Expression) -> str:
        """A host scalar as an operand: a literal, or a reference."""
        if not isinstance(expression, tuple):
            return literal(expression)
        key = (expression, _types(expression))
        if key not in self._hosts:
            operation, *operands = expression
            if operation == "name":
                self._hosts[key] = self.kept(named(operands[0]))
            elif operation == "value":
                self._hosts[key] = f"v({operands[0]})"
            else:
                self._hosts[key] = self.kept(_host(operation, [self.host_text(e) for e in operands]))
        return self._hosts[key]

    def node(self, node: Node) -> str:
        """A node as an operand; what it depends on is put into the table before it."""
        if node.tape is not self._tape:
            self._tape, self._nodes = node.tape, {}
        if node.index not in self._nodes:
            self._nodes[node.index] = self._written(node)
        return self._nodes[node.index]

    def _written(self, node: Node) -> str:
        if node.op == "constant":
            return literal(node.payload)
        if node.op == "slot":
            return self.host_text(node.payload)
        if node.op == "leaf":
            return self.kept(named(node.payload))
        operands = [self.node(a) for a in node.args]
        return self.kept(f"{_function(node)}({','.join([*operands, *_payload(node)])})")


def _function(node: Node) -> str:
    if node.op in ELEMENTWISE | COMPARISONS | LOGIC | REDUCTIONS | MATRICES:
        return {"not": "negation", "and": "both", "or": "either"}.get(node.op, camel(node.op))
    return {"part": "part", "take": "take", "inverse_root": "inverseRoot", "orthogonalize": "orthogonalize"}[node.op]


def _payload(node: Node) -> list[str]:
    """What an operation is given besides tensors."""
    if node.op == "orthogonalize":
        steps, coefficients = node.payload
        safety, triples = schedule(coefficients, steps)
        return [literal(safety), literal(TINY), json.dumps(triples, separators=(",", ":"))]
    if node.op in ("part", "take"):
        return [literal(node.payload)]
    return [literal(x) for x in node.payload] if node.op == "inverse_root" else []


def _host(operation: str, operands: list[str]) -> str:
    if operation in SIGNS:
        left, right = operands
        return f"{left}{SIGNS[operation]}{f'({right})' if right.startswith('-') else right}"
    if operation == "negative":
        return f"-({operands[0]})"
    if operation in ("truth", "not"):
        return f"{'!!' if operation == 'truth' else '!'}{operands[0]}"
    return f"{CALLS.get(operation, camel(operation))}({','.join(operands)})"


def whole(expression: Expression) -> str:
    """A host expression as one expression of JavaScript, in the names as they are.

    >>> whole(("multiply", 0.5, ("power", ("name", "x"), 2)))
    '(0.5*Math.pow(x,2))'
    """
    if not isinstance(expression, tuple):
        return literal(expression)
    operation, *operands = expression
    if operation == "name":
        return str(operands[0])
    written = _host(operation, [whole(e) for e in operands])
    return f"({written})" if operation in SIGNS else written


def _types(expression: Expression) -> Any:
    """1, 1.0 and True are equal as keys and are not the same."""
    return tuple(map(_types, expression)) if isinstance(expression, tuple) else type(expression)


def named(name: str) -> str:
    """What a step is given, by its name."""
    return f"x.{name}" if re.fullmatch(r"[A-Za-z_]\w*", name) else f"x[{json.dumps(name)}]"


def literal(value: float | int | bool) -> str:
    """A number as JavaScript writes it, to the bit."""
    if isinstance(value, bool):
        return str(value).lower()
    number = float(value)
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return repr(int(number)) if number.is_integer() and abs(number) < 1e15 and str(number) != "-0.0" else repr(number)


def camel(name: str) -> str:
    """A name of ours as JavaScript spells it.

    >>> camel("row_mean")
    'rowMean'
    """
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
