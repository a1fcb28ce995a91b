"""Functions of a point of the plane as JavaScript, with their exact derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ravine.engine.symbols import HostValue, Tape
from ravine.explain.derivative import differentiate
from ravine.explain.follow import Told
from ravine.explain.javascript.emit import Emitted, add_line
from ravine.explain.javascript.expressions import expressed, formula, readable, traced
from ravine.explain.javascript.values import whole

NAMES = ("x", "y")
"""The coordinates of a point."""


def add_function(made: Emitted, name: str, function: Callable[..., Any]) -> None:
    """Add a function f(x, y) to what is made: its value, its gradient with lines that tell it,
    and the diagonal of its Hessian.

    Raises:
        ValueError: for a function that is not arithmetic on its arguments.
    """
    tape = Tape(dict.fromkeys(NAMES, 1.0))
    value = traced(function, NAMES)
    slopes = [differentiate(formula(value), variable) for variable in NAMES]
    curvatures = [differentiate(slope, variable) for slope, variable in zip(slopes, NAMES, strict=True)]
    point = {variable: tape.host(variable) for variable in NAMES}
    lines = [
        add_line(made, Told("g", readable(slope), point, HostValue(tape, expressed(slope), 1.0), ()))
        for slope in slopes
    ]
    parts = {
        "value": whole(value),
        "gradient": f"[{', '.join(whole(expressed(slope)) for slope in slopes)}]",
        "curvature": f"[{', '.join(whole(expressed(curvature)) for curvature in curvatures)}]",
    }
    written = ", ".join(f"{part}: ([x, y]) => {source}" for part, source in parts.items())
    made.functions[name] = f"{{ {written}, lines: {lines} }}"
