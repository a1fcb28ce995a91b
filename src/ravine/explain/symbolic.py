"""A rule's lines with symbols in them: which line gives which node of the traced graph.

Flow diagrams and the playground are drawn from this: the graph says what is computed, the lines what it is called.

Example:
    >>> from ravine.registry import lookup
    >>> step = symbolic(lookup("lion"))
    >>> [line.symbol for line in step.lines]
    ['u', 'p', 'm']
    >>> step.lines[0].value.op
    'sign'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ravine.engine.graph import Graph, trace
from ravine.engine.symbols import HostValue, Node, Tape
from ravine.explain.follow import Told, followed
from ravine.explain.typeset import is_scalar
from ravine.math import plain
from ravine.rule import Rule, Shape

A_MATRIX: Shape = (1024, 1024)


@dataclass(frozen=True, eq=False)
class SymbolicStep:
    """One step of a rule, traced.

    Attributes:
        rule: the rule.
        lines: its assignments in the order in which they run, the wrappers' lines between those of what they wrap. A
            value is a `Node` for a tensor, a `HostValue` for what is computed from step and settings.
        graph: what the engines compute.
        tape: the questions asked of host values, and all nodes.
        present: the symbols of the states that exist.
    """

    rule: Rule
    lines: tuple[Told, ...]
    graph: Graph
    tape: Tape
    present: frozenset[str]


def symbolic(
    rule: Rule,
    hyper: Mapping[str, Any] | None = None,
    *,
    t: int = 2,
    shape: Shape = A_MATRIX,
    host: Mapping[str, float] | None = None,
    inputs: tuple[str, ...] = (),
    numbers: bool = False,
) -> SymbolicStep:
    """Trace a rule with symbols, line by line.

    Args:
        rule: the rule.
        hyper: settings under the rule's names, as the rule is called with them (weight decay substituted, `l2` among
            them if the gradient gets it); the defaults stand for those not given.
        t: the step whose branches are taken, from 1.
        shape: the shape of the parameter.
        host: the values of states that live on the host, by symbol; 1 for those not given.
        inputs: the inputs that are given at this step.
        numbers: whether lines whose value is a plain number, whatever the settings are, are kept.

    Raises:
        Unsupported: if compiled engines, and so graphs, do not have what the rule needs.
        ValueError: if the rule's source cannot be found.
    """
    settings = {**rule.defaults, **(hyper or {})}
    seen = rule.seen_shape(shape)
    present = frozenset(rule.state) - frozenset(rule.absent_states(settings, seen))
    on_host = {symbol: 1.0 for symbol, s in rule.state.items() if s.kind in ("host", "shared")} | dict(host or {})
    rows, columns = (float(seen[-2]) if len(seen) > 1 else 1.0), (float(seen[-1]) if seen else 1.0)
    environment = {**settings, **on_host, "t": t, "ndim": len(seen), "rows": rows, "columns": columns}
    lines: list[Told] = []

    def tell(told: Told) -> None:
        value = told.value
        while value is not plain(value):  # around each other, wrappers of the update remember it more than once
            value = plain(value)
        if isinstance(value, (Node, HostValue)) or (numbers and is_scalar(value)):
            lines.append(told._replace(value=value))

    graph, tape = trace(followed(rule, tell), environment, present, inputs)
    return SymbolicStep(rule, tuple(lines), graph, tape, present)
