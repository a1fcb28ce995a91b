"""Tracing: from a rule to a graph, and from host scalars to the graph that holds for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ravine.engine.batch import Unsupported
from ravine.engine.symbols import COMPARISONS, Expression, HostValue, Node, Tape
from ravine.math import Zero, on_float
from ravine.rule import Rule

Environment = Mapping[str, Any]


@dataclass(eq=False)
class Graph:
    """A traced rule.

    Attributes:
        outputs: for each leaf that changes, the node of its new value.
        slots: the host scalars that enter the graph, in the order of their places in a kernel's table.
        host_outputs: the new value of each `host` state.
        kinds: the kind of each leaf that is not full.
        shared_outputs: the new value of each `shared` state; totals stand in it by their names.
        totals: the totals that these depend on.
        uses_shape: whether any host scalar depends on the parameter's rows or columns.
    """

    outputs: dict[str, Node]
    slots: list[Expression]
    host_outputs: dict[str, Expression]
    uses_shape: bool
    kinds: dict[str, str]
    shared_outputs: dict[str, Expression]
    totals: list[Node]
    scalars: Callable[[Environment], tuple[float, ...]] = field(repr=False)
    host_states: Callable[[Environment], tuple[float, ...]] = field(repr=False)
    shared_states: Callable[[Environment], tuple[float, ...]] = field(repr=False)

    @property
    def roots(self) -> list[Node]:
        """Everything that a step has to compute."""
        return [*self.outputs.values(), *self.totals]


def goes_by_rows(rule: Rule, hyper: Mapping[str, Any], ndim: int) -> bool:
    """Whether a rule sees rows, columns or matrices in a parameter of so many dimensions, not only single elements."""
    if ndim < 2:
        return False
    if rule.view == "matrix" or any(s.kind in ("row", "column", "left", "right") for s in rule.state.values()):
        return True
    host = {symbol: 1.0 for symbol, s in rule.state.items() if s.kind in ("host", "shared")}
    known = {**hyper, **host, "t": 2, "ndim": 2, "rows": 2.0, "columns": 2.0}
    try:
        _, tape = trace(rule, known, frozenset(rule.state), ())
    except TypeError:
        return True
    return any(n.kind not in ("full", "scalar", "global", "host") for n in tape.nodes)


def counts_no_steps(rule: Rule, hyper: Mapping[str, Any]) -> bool:
    """Whether all steps of a rule but the first are the same: nothing computes with the step, or asks more of it."""
    host = {symbol: 1.0 for symbol, s in rule.state.items() if s.kind in ("host", "shared")}
    known = {**hyper, **host, "t": 2, "ndim": 2, "rows": 2.0, "columns": 2.0}
    graph, tape = trace(rule, known, frozenset(rule.state) - frozenset(rule.absent_states(hyper, (2, 2))), ())
    asked = [q for q, _ in tape.questions if not (q[1][1:] == (("name", "t"), 1) and q[1][0] in COMPARISONS)]
    computed = (*graph.slots, *graph.host_outputs.values(), *graph.shared_outputs.values(), *asked)
    return not any("t" in names_in(expression) for expression in computed)


def is_static(value: Any) -> bool:
    """Whether a hyperparameter's value is part of the structure: flags, choices, None, `ZERO`."""
    return value is None or isinstance(value, (bool, str, tuple, Zero))


def trace(rule: Rule, environment: Environment, present: frozenset[str], inputs: tuple[str, ...]) -> tuple[Graph, Tape]:
    """Call a rule with symbols.

    Args:
        rule: the rule.
        environment: `t`, `ndim`, `rows`, `columns`, hyperparameters and host states, by name.
        present: the symbols of the states that exist.
        inputs: the inputs that are given at this step.

    Raises:
        Unsupported: if the rule needs what compiled engines do not have.
    """
    tape = Tape(environment)
    states: list[Any] = []
    for symbol, declared in rule.state.items():
        if symbol not in present:
            states.append(declared.absent)
        elif declared.kind in ("host", "shared"):
            states.append(tape.host(symbol))
        else:
            states.append(tape.leaf(symbol, declared.kind))
    names = [*rule.defaults, *(["l2"] if "l2" in environment else [])]
    hyper = {k: environment[k] if is_static(environment[k]) else tape.host(k) for k in names}
    given = {name: tape.leaf(name) for name in inputs}
    with tape.sweep():
        p, *new = rule(tape.leaf("p"), tape.leaf("g"), *states, t=tape.host("t"), **hyper, **given)
    outputs = {"p": tape.lift(p)}
    host_outputs: dict[str, Expression] = {}
    shared: dict[str, Any] = {}
    for symbol, value in zip(rule.state, new, strict=True):
        if symbol not in present:
            continue
        if rule.state[symbol].kind == "host":
            host_outputs[symbol] = value.expression if isinstance(value, HostValue) else float(value)
        elif rule.state[symbol].kind == "shared":
            shared[symbol] = value
        else:
            outputs[symbol] = tape.lift(value)
    outputs = {name: node for name, node in outputs.items() if not (node.op == "leaf" and node.payload == name)}
    shared_outputs = {symbol: _on_host(value) for symbol, value in shared.items()}
    below = nodes_below([*outputs.values(), *(v for v in shared.values() if isinstance(v, Node))])
    totals = [n for n in below if n.op == "total"] if shared else []
    slots = list(dict.fromkeys(n.payload for n in below if n.op == "slot"))
    expressions = (*slots, *host_outputs.values(), *shared_outputs.values(), *(q for q, _ in tape.questions))
    used = {name for expression in expressions for name in names_in(expression)}
    kinds: dict[str, str] = {
        symbol: s.kind for symbol, s in rule.state.items() if s.kind in ("row", "column", "left", "right")
    }
    graph = Graph(
        outputs, slots, host_outputs, bool(used & {"rows", "columns"}), kinds, shared_outputs, totals,
        program(slots), program(list(host_outputs.values())), program(list(shared_outputs.values())),
    )  # fmt: skip
    return graph, tape


def _on_host(value: Any) -> Expression:
    """The expression of a value that is one per optimizer, with totals as names.

    Raises:
        Unsupported: for a value that is not the same for all parameters.
    """
    if isinstance(value, HostValue):
        return value.expression
    if not isinstance(value, Node):
        return float(value)
    if value.op == "total":
        return ("name", value.payload)
    if value.op in ("slot", "constant"):
        return value.payload
    if value.kind not in ("global", "host"):
        raise Unsupported("a shared state must be the same for all parameters; build it from total() and host scalars")
    return (value.op, *map(_on_host, value.args))


def nodes_below(roots: list[Node]) -> list[Node]:
    """All nodes that the roots depend on, the roots included, each after its arguments."""
    seen: dict[int, Node] = {}
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node.index not in seen:
            seen[node.index] = node
            waiting.extend(node.args)
    return [seen[index] for index in sorted(seen)]


def names_in(expression: Expression) -> set[str]:
    """The names that a host expression depends on."""
    if not isinstance(expression, tuple):
        return set()
    if expression[0] == "name":
        return {expression[1]}
    return set().union(*(names_in(e) for e in expression[1:]))


_SIGNS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**", "modulo": "%", "floor_divide": "//",
    "greater": ">", "less": "<", "greater_equal": ">=", "less_equal": "<=", "equal": "==", "not_equal": "!=",
    "and": "&", "or": "|",
}  # fmt: skip
_FUNCTIONS = ("sqrt", "abs", "sign", "exp", "log", "maximum", "minimum", "where")
_CALLS = {name: getattr(on_float, name) for name in _FUNCTIONS}


def program(expressions: list[Expression]) -> Callable[[Environment], tuple[Any, ...]]:
    """A function from an environment to the values of host expressions, computed in double as Python writes them."""
    lines: list[str] = []
    known: dict[Expression, str] = {}

    def write(expression: Expression) -> str:
        if not isinstance(expression, tuple):
            return f"({expression!r})" if math.isfinite(expression) else f"float('{expression}')"
        key = (expression, tuple(type(e) for e in expression))
        if key not in known:
            operation, *args = expression
            if operation == "name":
                text = f"e[{args[0]!r}]"
            elif operation in _SIGNS:
                text = f"{write(args[0])} {_SIGNS[operation]} {write(args[1])}"
            elif operation in ("truth", "whole"):
                text = f"{'bool' if operation == 'truth' else 'int'}({write(args[0])})"
            elif operation in ("negative", "not"):
                text = f"{'-' if operation == 'negative' else 'not '}{write(args[0])}"
            else:
                text = f"{operation}({', '.join(write(a) for a in args)})"
            name = f"v{len(lines)}"
            lines.append(f"    {name} = {text}")
            known[key] = name
        return known[key]

    results = [write(e) for e in expressions]
    source = "\n".join(["def compute(e):", *lines, f"    return ({''.join(r + ', ' for r in results)})"])
    scope: dict[str, Any] = dict(_CALLS)
    exec(compile(source, "<host scalars>", "exec"), scope)  # text of our own making, from names and numbers only
    compute: Callable[[Environment], tuple[Any, ...]] = scope["compute"]
    return compute


@dataclass(eq=False)
class _Question:
    ask: Callable[[Environment], tuple[Any, ...]]
    answers: dict[bool | int, Any] = field(default_factory=dict)


class Graphs:
    """The graphs of one rule under fixed flags, found by the answers to the questions the rule asks."""

    def __init__(self, rule: Rule, present: frozenset[str], inputs: tuple[str, ...]) -> None:
        self.rule, self.present, self.inputs = rule, present, inputs
        self._root: dict[bool | int, Any] = {}

    def find(self, environment: Environment) -> Graph:
        """The graph that holds for these host scalars, traced if it is new."""
        at = self._root.get(True)
        while isinstance(at, _Question):
            at = at.answers.get(at.ask(environment)[0])
        if at is None:
            at = self._add(environment)
        graph: Graph = at
        return graph

    def _add(self, environment: Environment) -> Graph:
        graph, tape = trace(self.rule, environment, self.present, self.inputs)
        place: dict[bool | int, Any] = self._root
        answer: bool | int = True
        for expression, value in tape.questions:
            if answer not in place:
                place[answer] = _Question(program([expression]))
            place, answer = place[answer].answers, value
        place[answer] = graph
        return graph


def structure_key(hyper: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of the hyperparameters is structure, to find a rule's graphs by."""
    return tuple((k, type(v), v) for k, v in hyper.items() if is_static(v))
