"""What an optimizer costs, in bytes: what a step moves over memory, in how many passes, and what is kept."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ravine.catalogue import FLOAT32_BYTES
from ravine.engine.emit import make_program
from ravine.engine.graph import trace
from ravine.engine.plan import Plan
from ravine.rule import Rule, Shape

A_MATRIX = (1024, 1024)
STEPS = range(11, 21)  # past every start, and a whole number of lookahead's and SOAP's periods


@dataclass(frozen=True)
class Cost:
    """What one step costs, by the plan of the compiled engines.

    Attributes:
        bytes_least, bytes_mean, bytes_most: bytes per float32 parameter that a step reads and writes, over ten steps.
        passes: over memory, in the most expensive of them.
        has_matrices: whether matrix operations come on top of it.
        with_inputs: the bytes in a step that is given the rule's inputs; None for a rule without.
    """

    bytes_least: int
    bytes_mean: float
    bytes_most: int
    passes: int
    has_matrices: bool
    with_inputs: int | None


@functools.cache
def cost_of(rule: Rule) -> Cost:
    """What a step of a rule costs on a large matrix, at default settings.

    Raises:
        Unsupported: if the compiled engines cannot run the rule.

    Example:
        >>> from ravine.rules import lamb
        >>> cost_of(lamb).bytes_most, cost_of(lamb).passes
        (40, 2)
    """
    plans = [_plan(rule, t, ()) for t in STEPS]
    moved = [plan.bytes_per_element for plan in plans]
    most = max(plans, key=lambda plan: plan.bytes_per_element)
    with_inputs = _plan(rule, STEPS[0], rule.inputs).bytes_per_element if rule.inputs else None
    mean = sum(moved) / len(moved)
    return Cost(min(moved), mean, max(moved), len(most.passes), most.has_matrices, with_inputs)


def state_bytes(rule: Rule, shape: Shape = A_MATRIX) -> float:
    """Bytes of state per parameter of a float32 parameter of this shape, at default settings."""
    seen = rule.seen_shape(shape)
    absent = rule.absent_states(rule.defaults, seen)
    kept = [state for symbol, state in rule.state.items() if symbol not in absent and state.kind != "shared"]
    return FLOAT32_BYTES * sum(math.prod(state.shape(seen)) for state in kept) / math.prod(shape)


def _plan(rule: Rule, t: int, inputs: Sequence[str]) -> Plan:
    absent = rule.absent_states(rule.defaults, A_MATRIX)
    host = {symbol: 1.0 for symbol, state in rule.state.items() if state.kind in ("host", "shared")}
    sizes = {"t": t, "ndim": len(A_MATRIX), "rows": float(A_MATRIX[0]), "columns": float(A_MATRIX[1])}
    present = frozenset(rule.state) - frozenset(absent)
    graph, _ = trace(rule, {**rule.defaults, **host, **sizes}, present, tuple(inputs))
    names = ["p", "g", *(symbol for symbol in rule.state if symbol in present and symbol not in host), *inputs]
    return make_program(graph, dict.fromkeys(names, torch.float32), torch.float32).plan
