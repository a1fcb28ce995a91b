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
REDUCTIONS = {"sum", "mean", "norm", "rms", "total", "row_mean", "column_mean"}
MATRIX_OPERATIONS = {
    "matmul", "transpose", "orthogonalize", "eigenbasis", "refresh_basis", "part", "take", "inverse_root"
}  # fmt: skip
VECTORS = ("row", "column", "matrix")
SQUARES = ("left", "right")
ELEMENTWISE = {
    "add", "subtract", "multiply", "divide", "negative", "sqrt", "abs", "sign", "exp", "log", "maximum", "minimum",
    "where", *COMPARISONS, *LOGIC,
}  # fmt: skip

SIDES = {
    "full": ("rows", "columns"), "left": ("rows", "rows"), "right": ("columns", "columns"),
    "turned": ("columns", "rows"),
}  # fmt: skip
KIND_OF_SIDES = {sides: kind for kind, sides in SIDES.items()}


class Tape:
    """What one call of a rule with symbols leaves behind: its nodes and the questions it asked of host values."""

    def __init__(self, environment: Mapping[str, Any]) -> None:
        self.environment = environment
        self.questions: list[tuple[Expression, bool | int]] = []
        self.totals = Totals({})
        self._nodes: dict[Any, Node] = {}
        self._answers: dict[Expression, bool | int] = {}

    def node(
        self, op: str, args: tuple[Node, ...], payload: Any = None, kind: str = "full", type_: str = "work"
    ) -> Node:
        """The node of this operation, made once."""
        key = (op, tuple(a.index for a in args), payload, type(payload), kind)
        if key not in self._nodes:
            self._nodes[key] = Node(self, op, args, payload, kind, type_, len(self._nodes))
        return self._nodes[key]

    @property
    def nodes(self) -> list[Node]:
        """All nodes made."""
        return list(self._nodes.values())

    def leaf(self, name: str, kind: str = "full") -> Node:
        """A tensor that the rule is given."""
        return self.node("leaf", (), name, kind)

    def host(self, name: str) -> HostValue:
        """A host scalar that the rule is given."""
        return HostValue(self, ("name", name), self.environment[name])

    def answer(self, expression: Expression, value: Any) -> Any:
        """Note a question that the rule asked, once: the truth of a value, or which whole number it is."""
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
        return bool(self.tape.answer(("truth", self.expression), bool(self.value)))

    def __index__(self) -> int:
        return int(self.tape.answer(("whole", self.expression), int(self.value)))

    def __float__(self) -> float:
        raise TypeError("a rule may not turn a hyperparameter into a plain float; use ravine.math on it")

    def __repr__(self) -> str:
        return f"HostValue({self.expression!r} = {self.value!r})"


class Node(Arithmetic):
    """A tensor-valued operation of a traced rule.

    `kind` says how many values it has: `full` one per element, `row` one per row, `column` one per column, `matrix` one
    per matrix of a stack, `scalar` one per parameter, `global` one per optimizer, `host` one that is known before the
    step; `left` and `right` are square, `turned` is a transpose, `order` an order of columns. `type_` is `work`,
    `bool`, or `double` (global and host).
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

    @property
    def is_matrix_operation(self) -> bool:
        """Whether torch computes this node, matrix by matrix, between two passes over the elements."""
        return self.op in MATRIX_OPERATIONS or (self.op != "leaf" and self.kind in (*SQUARES, "turned"))

    @property
    def is_swept(self) -> bool:
        """Whether this is a reduction that a pass over all elements adds up."""
        return self.op in REDUCTIONS and self.args[0].kind == "full"

    @property
    def is_computed(self) -> bool:
        """Whether passes compute one value of this node per element."""
        return self.kind == "full" and self.op != "leaf" and not self.is_matrix_operation

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
        if operation in MATRIX_OPERATIONS:
            return self._matrix_operation(operation, arguments)
        if operation not in ELEMENTWISE:
            raise Unsupported(f"compiled engines cannot run {operation}; engine='reference' can")
        if operation == "multiply" and any(isinstance(a, (int, float)) and a == 1 for a in arguments):
            return next(a for a in arguments if isinstance(a, Node))
        args = tuple(tape.lift(a) for a in arguments)
        kind = _kind_of(operation, {a.kind for a in args})
        if operation == "where" and kind not in ("global", "host") and all(a.kind == "host" for a in args[1:]):
            raise TypeError("where() needs a tensor in one of its branches when the condition is a tensor")
        arithmetic = "double" if kind == "global" else "work"
        type_ = "bool" if operation in COMPARISONS | LOGIC else arithmetic
        return tape.node(operation, args, None, kind, type_)

    def _reduction(self, operation: str) -> Node:
        along = {"row_mean": "row", "column_mean": "column"}.get(operation)
        if operation == "total" and self.kind == "full":
            with self.tape.sweep():
                name = sweep_module.name()
            return self.tape.node("total", (self,), name, "global", "double")
        if along is not None and self.ndim < 2:
            raise Unsupported(f"{operation} needs a matrix; a parameter here has fewer than two dimensions")
        if along is not None and self.kind in (along, "matrix", "scalar"):
            return self
        if along is not None and self.kind in ("full", "row", "column"):
            return self.tape.node(operation, (self,), None, along if self.kind == "full" else "matrix", "work")
        if along is None and operation != "total" and self.kind in ("full", *VECTORS):
            return self.tape.node(operation, (self,), None, "scalar", "work")
        raise Unsupported(
            f"compiled engines cannot take the {operation} of a value of kind {self.kind!r}; engine='reference' can"
        )

    def _matrix_operation(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        node = self.tape.node
        if operation == "matmul":
            left, right = (_sides(operation, a) for a in arguments)
            if left[1] != right[0]:
                raise TypeError(f"a rule multiplies matrices of {left[0]} × {left[1]} and {right[0]} × {right[1]}")
            return node(operation, arguments, None, KIND_OF_SIDES[left[0], right[1]])
        sides = _sides(operation, self)
        if operation == "transpose":
            return node(operation, (self,), None, KIND_OF_SIDES[sides[1], sides[0]])
        if operation == "orthogonalize":
            _, steps, coefficients = arguments
            return node(operation, (self,), (int(steps), coefficients), self.kind)
        if operation == "refresh_basis":
            pair = node(operation, arguments, None, "pair")
            return node("part", (pair,), 0, self.kind), node("part", (pair,), 1, "order")
        if operation == "take":
            x, order, axis = arguments
            return node(operation, (x, order), int(axis), x.kind)
        return node(operation, (self,), tuple(map(int, arguments[1:])), self.kind)


def _sides(operation: str, value: Any) -> tuple[str, str]:
    if not isinstance(value, Node) or value.kind not in SIDES or value.ndim < 2:
        raise Unsupported(f"compiled engines cannot take {operation} of {value!r}; it needs a matrix")
    return SIDES[value.kind]


def _kind_of(operation: str, kinds: set[str]) -> str:
    """The kind of an elementwise operation on values of these kinds."""
    whole = kinds & {*SQUARES, "turned", "order"}
    if whole:
        if len(whole) > 1 or kinds - whole - {"host"}:
            raise Unsupported(f"compiled engines cannot {operation} values of kinds {', '.join(sorted(kinds))}")
        return whole.pop()
    if "full" in kinds or {"row", "column"} <= kinds:
        return "full"
    return next(k for k in (*VECTORS, "scalar", "global", "host") if k in kinds)
