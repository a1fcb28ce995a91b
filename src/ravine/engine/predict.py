"""Prediction: what the planner expects a step to move over memory, without running one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ravine.engine.batch import work_type
from ravine.engine.emit import make_program
from ravine.engine.graph import trace
from ravine.rule import Rule, Shape


def predict_bytes(
    rule: Rule,
    hyper: Mapping[str, Any],
    t: int,
    dtype: torch.dtype = torch.float32,
    shape: Shape = (1024, 1024),
) -> int:
    """Bytes per parameter that a compiled engine reads and writes in one step: parameter, gradient and states.

    Args:
        rule: the rule, wrapped or not.
        hyper: hyperparameters other than the defaults, under the rule's names, as a step is given them (`ZERO` for
            weight decay that is off, `l2` for weight decay in the gradient).
        t: the step, from 1; some rules do more in some steps.
        dtype: the type of parameters, gradients and states.
        shape: the shape of a parameter, for rules that keep other states for vectors than for matrices.

    Raises:
        Unsupported: if the compiled engines cannot run the rule.
        TypeError: for a hyperparameter that the rule does not have.

    Example:
        >>> from ravine.rules import adamw
        >>> predict_bytes(adamw, {}, t=1), predict_bytes(adamw, {"amsgrad": True}, t=1)
        (28, 36)
    """
    rule.check_names({name: value for name, value in hyper.items() if name != "l2"})
    given = {**rule.defaults, **hyper}
    seen = rule.seen_shape(shape)
    absent = rule.absent_states(given, seen)
    present = {symbol: state for symbol, state in rule.state.items() if symbol not in absent}
    host = {symbol: _number(state.init, given) for symbol, state in present.items() if state.kind in ("host", "shared")}
    rows, columns = (float(seen[-2]) if len(seen) > 1 else 1.0), (float(seen[-1]) if seen else 1.0)
    own = {"t": t, "ndim": min(len(seen), 2), "rows": rows, "columns": columns}
    graph, _ = trace(rule, {**given, **host, **own}, frozenset(present), ())
    leaves = {"p": dtype, "g": dtype} | {
        symbol: dtype if state.kind == "full" else work_type(dtype)
        for symbol, state in present.items()
        if symbol not in host
    }
    return make_program(graph, leaves, work_type(dtype)).plan.bytes_per_element


def _number(init: float | str, hyper: Mapping[str, Any]) -> float:
    return float(hyper[init] if isinstance(init, str) else init)
