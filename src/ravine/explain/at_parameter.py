"""What checkpoints of all kinds have in common: a parameter by its name, a place in it, and its steps as a trace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ravine.explain.trace import Line, Place, Step, Trace
from ravine.explain.typeset import expression, number
from ravine.registry import nearest

if TYPE_CHECKING:
    from torch.nn import Parameter

    from ravine.explain.at_step import ElementStep

SHOWN = 6
ROUNDING = 1e-5
"""Of two results of sums and products in float32, the relative difference."""


def parameter_of(file: str, parameters: Mapping[str, Parameter], name: str | None) -> tuple[str, Parameter]:
    """The parameter of this name.

    Raises:
        ValueError: where there is none, with the nearest name.
    """
    names = list(parameters)
    has = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    if name is None:
        raise ValueError(f"say which parameter with --parameter NAME; {file} has {has}")
    if name not in parameters:
        raise ValueError(f"{file} has no parameter {name!r}{nearest(name, names)} (it has {has})")
    return name, parameters[name]


def element_at(name: str, shape: tuple[int, ...], element: Sequence[int] | None) -> tuple[int, ...] | None:
    """A place in a parameter of this shape, or None where none is asked for.

    Raises:
        ValueError: for one outside of it.
    """
    if element is None:
        return None
    if len(element) != len(shape) or any(not 0 <= i < n for i, n in zip(element, shape, strict=True)):
        size = " × ".join(map(str, shape)) if shape else "one number"
        raise ValueError(f"element {','.join(map(str, element))} is outside of {name}, which is {size}, counted from 0")
    return tuple(element)


def refuse_other_rule(file: str, parameter: str, found: str, named: str | None) -> None:
    """Raise ValueError where a rule is named and the parameter has another."""
    if named is not None and "".join(named.split()) != found:
        raise ValueError(f"{parameter} of {file} is stepped by {found}, not by {named}")


def traced_steps(
    taken: Sequence[ElementStep], losses: Sequence[tuple[float | None, float | None]], said: str, place: Place
) -> Trace:
    """Steps of a run as a trace.

    Args:
        taken: the steps.
        losses: before and after each.
        said: what the gradient is, in words.
        place: where in the run they are.
    """
    g = expression("g")
    steps = [
        Step(step.t, step.before, step.after, *loss, (Line("g", g, g, step.gradient, said=said), *step.lines))
        for step, loss in zip(taken, losses, strict=True)
    ]
    first = taken[0]
    place = replace(place, remarks=(*place.remarks, *filter(None, map(_departure, taken))))
    return Trace(first.rule, None, first.settings, first.decay, first.start, tuple(steps), place)


def _departure(step: ElementStep) -> str | None:
    """A sentence, where the step has ended elsewhere than its lines, by more than rounding in float32."""
    if math.isclose(step.after, step.computed, rel_tol=ROUNDING) or step.after != step.after:
        return None
    ends = f"Step {step.t} ends at {number(step.after)}, its lines at {number(step.computed)}"
    return f"{ends}: the step itself forms products of matrices in a lower precision."
