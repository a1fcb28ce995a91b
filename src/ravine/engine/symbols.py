"""Symbols: the values with which a rule is called when it is traced instead of computed.

Two kinds meet in a rule. Tensors become `Node`s of a graph. Host scalars (the step, the hyperparameters) become
`HostValue`s, which know their value now and how to compute it again; where a rule branches on one (`if t == 1:`),
the question and its answer are noted, so that the same graph serves as long as the answers stay the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravine.engine.batch import Unsupported
from ravine.math import Arithmetic, Totals, apply, sweeping
from ravine.math import sweep as sweep_module

Expression = Any  # ("name", str), a number, or (operation, *expressions)

COMPARISONS = {"greater", "less", "greater_equal", "less_equal", "equal", "not_equal"}
LOGIC = {"and", "or", "not"}
REDUCTIONS = {"sum", "mean", "norm", "rms", "total"}
ELEMENTWISE = {
    "add", "subtract", "multiply", "divide", "negative", "sqrt", "abs", "sign", "exp", "log", "maximum", "minimum",
    "where", *COMPARISONS, *LOGIC,
}  # fmt: skip


class Tape:
    """What one call of a rule with symbols leaves behind: its nodes and the questions it asked of host values."""

    def __init__(self, environment: Mapping[str, Any]) -> None:
        self.environment = environment
        self.questions: list[tuple[Expression, bool]] = []
        self.totals = Totals({})
        self._nodes: dict[Any, Node] = {}
        self._answers: dict[Expression, bool] = {}

    def node(
        self, op: str, args: tuple[Node, ...], payload: Any = None, kind: str = "full", type_: str = "work"
    ) -> Node:
        """The node of this operation, made once."""
        key = (op, tuple(a.index for a in args), payload, type(payload), kind)
        if key not in self._nodes:
            self._nodes[key] = Node(self, op, args, payload, kind, type_, len(self._nodes))
        return self._nodes[key]

    def leaf(self, name: str) -> Node:
        """A tensor that the rule is given."""
        return self.node("leaf", (), name)

    def host(self, name: str) -> HostValue:
        """A host scalar that the rule is given."""
        return HostValue(self, ("name", name), self.environment[name])

    def answer(self, expression: Expression, value: bool) -> bool:
        """Note a question that the rule asked, once."""
        if expression not in self._answers:
            self._answers[expression] = value
            self.questions.append((expression, value))
        return value

    def lift(self, value: Any) -> Node:
        """A value as an argument of a node."""
        if isinstance(value, Node):
            return value
        if isinstance(value, HostValue):
            return self.node("slot", (), value.expression, "host", "double")
        return self.node("constant", (), float(value), "host", "double")

    def sweep(self) -> Any:
        """The block within which the rule is called, so that its totals have names."""
        return sweeping(self.totals)


class HostValue(Arithmetic):
    """A host scalar: its value at this step, and the expression that gives it at any step."""

    __ravine_rank__ = 1
    __slots__ = ("expression", "tape", "value")

    def __init__(self, tape: Tape, expression: Expression, value: Any) -> None:
        self.tape = tape
        self.expression = expression
        self.value = value

    def __ravine__(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        values = [a.value if isinstance(a, HostValue) else a for a in arguments]
        expressions = [a.expression if isinstance(a, HostValue) else a for a in arguments]
        return HostValue(self.tape, (operation, *expressions), apply(operation, *values))

    def __bool__(self) -> bool:
        return self.tape.answer(self.expression, bool(self.value))

    def __index__(self) -> int:
        self.tape.answer(("equal", self.expression, self.value), True)
        return int(self.value)

    def __float__(self) -> float:
        raise TypeError("a rule may not turn a hyperparameter into a plain float; use ravine.math on it")

    def __repr__(self) -> str:
        return f"HostValue({self.expression!r} = {self.value!r})"


class Node(Arithmetic):
    """A tensor-valued operation of a traced rule.

    `kind` says how many values it has: `full` one per element, `scalar` one per parameter, `global` one per
    optimizer, `host` one that is known before the step. `type_` is `work`, `bool`, or `double` (global and host).
    """

    __ravine_rank__ = 2
    __slots__ = ("args", "index", "kind", "op", "payload", "tape", "type_")

    def __init__(
        self, tape: Tape, op: str, args: tuple[Node, ...], payload: Any, kind: str, type_: str, index: int
    ) -> None:
        self.tape, self.op, self.args, self.payload = tape, op, args, payload
        self.kind, self.type_, self.index = kind, type_, index

    @property
    def ndim(self) -> int:
        return int(self.tape.environment["ndim"])

    def __bool__(self) -> bool:
        raise TypeError(f"a rule may not branch on a tensor's values (here: {self.op}); use where()")

    def __repr__(self) -> str:
        return f"%{self.index} = {self.op}{[a.index for a in self.args]} {self.payload or ''} ({self.kind})"

    def __ravine__(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        tape = self.tape
        if operation in ("rows", "columns"):
            return tape.host(operation)
        if operation == "power":
            base, exponent = arguments
            if isinstance(exponent, (int, float)) and exponent == 2 and isinstance(base, Node):
                return base * base
            raise TypeError(f"a rule may raise tensors to the power 2 only, got {exponent!r}; write products")
        if operation in REDUCTIONS:
            return self._reduction(operation)
        if operation not in ELEMENTWISE:
            raise Unsupported(f"compiled engines cannot run {operation} yet; engine='reference' can")
        if operation == "multiply" and any(isinstance(a, (int, float)) and a == 1 for a in arguments):
            return next(a for a in arguments if isinstance(a, Node))
        args = tuple(tape.lift(a) for a in arguments)
        kinds = {a.kind for a in args}
        kind = next(k for k in ("full", "scalar", "global", "host") if k in kinds)
        if operation == "where" and kind in ("full", "scalar") and all(a.kind == "host" for a in args[1:]):
            raise TypeError("where() needs a tensor in one of its branches when the condition is a tensor")
        arithmetic = "double" if kind == "global" else "work"
        type_ = "bool" if operation in COMPARISONS | LOGIC else arithmetic
        return tape.node(operation, args, None, kind, type_)

    def _reduction(self, operation: str) -> Node:
        if self.kind != "full":
            raise Unsupported(f"compiled engines cannot take the {operation} of a value that is one per parameter")
        if operation == "total":
            with self.tape.sweep():
                name = sweep_module.name()
            return self.tape.node("total", (self,), name, "global", "double")
        return self.tape.node(operation, (self,), None, "scalar", "work")
