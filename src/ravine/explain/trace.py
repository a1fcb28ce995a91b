"""A rule at work: every line it runs, with the numbers in it.

The lines are the rule's own source, run statement by statement; nothing here knows any optimizer.

Example:
    >>> steps = trace("adamw", "(x-1)**2", x0=2.0, lr=0.1, weight_decay=0.01).steps
    >>> print(steps[0].lines[1].formula, "=", steps[0].lines[1].substituted)
    β₁·m + (1 − β₁)·g = 0.9·0 + (1 − 0.9)·2
    >>> round(steps[0].theta_after, 6)
    1.898
    >>> trace("sgd", "x**2 + 20*y**2", x0=[2.0, -1.0], lr=0.01).steps[0].theta_after
    array([ 1.96, -0.6 ])
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ravine.explain import typeset, vectors
from ravine.explain.decay import FORMS
from ravine.explain.follow import Told, followed
from ravine.explain.loss import Loss
from ravine.explain.typeset import expression, is_scalar, scalar
from ravine.explain.vectors import Summary, is_array, put_in, written
from ravine.math import Totals, has, plain, sweeping
from ravine.registry import lookup
from ravine.rule import Decay, Rule, State

MOST_STEPS = 10_000
HESSIAN_EVERY = 10
"""Steps from one Hessian that a rule is given to the next, as the authors of Sophia have it."""

Array = np.ndarray[Any, np.dtype[Any]]
Start = float | Sequence[Any] | Array


@dataclass(frozen=True, eq=False)
class Line:
    """One assignment.

    Attributes:
        symbol: as the rule writes it.
        tree: its formula.
        filled: the formula with numbers.
        value: what came out: a number, or an array.
        section: the rule or wrapper whose line it is, outermost first, and nothing for the frame around them.
        of_arrays: whether arrays are computed with, so that a product of matrices is told from one of numbers.
        remark: what of the numbers does not explain itself.
        said: words in place of a formula, where there is none.
    """

    symbol: str
    tree: ast.expr
    filled: ast.expr
    value: float | int | bool | Array | Summary
    section: tuple[str, ...] = ()
    of_arrays: bool = False
    remark: str = ""
    said: str = ""

    @cached_property
    def formula(self) -> str:
        """The formula as text."""
        if self.said:
            return self.said
        return (vectors.text if self.of_arrays else typeset.text)(self.tree)

    @cached_property
    def substituted(self) -> str:
        """The formula with numbers, as text."""
        if self.said:
            return ""
        return (vectors.text if self.of_arrays else typeset.text)(self.filled)


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the rule, from `theta_before` to `theta_after`: numbers, or arrays of one shape.

    Losses are None where they are not known.
    """

    t: int
    theta_before: float | Array
    theta_after: float | Array
    loss_before: float | None
    loss_after: float | None
    lines: tuple[Line, ...]


@dataclass(frozen=True, eq=False)
class Place:
    """Where in a real training run the steps of a trace are.

    Attributes:
        file: the checkpoint, as it was named.
        parameter: its name in the model.
        shape: of the parameter.
        element: the place of the one number that is followed.
        run: the task, or what else there is to say of the run.
        loss: what its loss is: "nats per byte".
        remarks: sentences that a reader should know.
        arguments: what else the command that shows the trace must say.
        rule: the rule that it must name, where the checkpoint does not.
    """

    file: str
    parameter: str
    shape: tuple[int, ...]
    element: tuple[int, ...]
    run: str
    loss: str | None = None
    remarks: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    rule: str | None = None


@dataclass(frozen=True, eq=False)
class Trace:
    """Some steps of a rule: on a loss, or at a `place` in a real training run.

    `hyper` holds the settings under the rule's names, weight decay as it is meant by `decay`; `start` the states that
    exist before the first step.
    """

    rule: Rule
    loss: Loss | None
    hyper: Mapping[str, Any]
    decay: Decay
    start: Mapping[str, float | Array | Summary]
    steps: tuple[Step, ...]
    place: Place | None = None

    def as_dict(self) -> dict[str, Any]:
        """The trace for JSON: `steps[].{t, theta_before, theta_after, loss_before, loss_after, lines[]}`.

        Lines are `{symbol, formula, substituted, value}`. Vectors are lists, matrices lists of rows; an array of which
        no element is shown is `{shape, norm}`. JSON has no infinity and no NaN: they are null. A trace in a training
        run also has `place`.
        """
        keys = ("t", "theta_before", "theta_after", "loss_before", "loss_after")
        of_line = ("symbol", "formula", "substituted", "value")
        made: dict[str, Any] = {
            "steps": [
                {key: _for_json(getattr(step, key)) for key in keys}
                | {"lines": [{key: _for_json(getattr(line, key)) for key in of_line} for line in step.lines]}
                for step in self.steps
            ]
        }
        if self.place is not None:
            place = {key: list(v) if isinstance(v, tuple) else v for key, v in vars(self.place).items()}
            made["place"] = {key: value for key, value in place.items() if key not in ("arguments", "rule")}
        return made


def _for_json(value: Any) -> Any:
    if isinstance(value, Summary):
        return {"shape": list(value.shape), "norm": _for_json(value.norm)}
    if isinstance(value, np.ndarray):
        return _for_json(value.tolist())
    if isinstance(value, list):
        return [_for_json(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Recorder:
    """Collects the lines of one step, those whose value is a number or an array."""

    def __init__(self, sweep: Totals | None = None) -> None:
        self.lines: list[Line] = []
        self.sweep = sweep or Totals({})

    def tell(self, told: Told) -> None:
        """Keep a line that a rule has run."""
        value = plain(told.value)
        if is_scalar(value) or is_array(value):
            shown = scalar(value) if is_scalar(value) else value.copy()
            filled = put_in(told.formula, told.names)
            self.lines.append(Line(told.symbol, told.formula, filled, shown, told.section, computes_arrays(told)))

    def add_decay(self, decay: Decay, names: Mapping[str, Any], value: Any) -> None:
        """The line that a form of weight decay adds before the rule, if it adds one."""
        form = FORMS[decay]
        if form.symbol is not None:
            self.tell(Told(form.symbol, expression(form.source), names, value, ()))


def computes_arrays(told: Told) -> bool:
    """Whether there is an array in a line or in its value."""
    names = (node.id for node in ast.walk(told.formula) if isinstance(node, ast.Name) and node.id in told.names)
    return any(is_array(plain(value)) for value in (told.value, *(told.names[name] for name in names)))


def trace(
    rule: Rule | str,
    loss: Loss | str | None = None,
    x0: Start = 2.0,
    steps: int = 1,
    *,
    decay: Decay | None = None,
    **hyper: Any,
) -> Trace:
    """Run a rule on a loss, and keep every line it runs.

    Args:
        rule: a rule, or its name: `"adamw"`, `"lookahead(adamw)"`.
        loss: an expression in x, see `ravine.explain.loss`; by default `(x-1)**2`, summed over the elements of x.
        x0: where to start: a number, a vector, or a matrix as a list of rows. A rule for matrices takes a number as a
            matrix of one row and column.
        steps: how many steps, 1 to 10 000.
        decay: the form of weight decay; the rule's customary one by default. The learning rate is constant, so the
            schedule's maximum is `lr` itself.
        hyper: hyperparameters under the rule's names; those not given take their defaults. A wrapper's are in its
            namespace: `**{"lookahead.k": 2}`.

    A rule that takes an estimate of the Hessian's diagonal is given the loss's own at the first step and every ten.

    Raises:
        KeyError: for an unknown rule, with the nearest name.
        TypeError: for an unknown hyperparameter, with the nearest name, or a value of the wrong type.
        ValueError: for a value outside its range, a loss that cannot be read or is not finite at `x0`, or a rule that
            cannot be followed from there.
    """
    from ravine.optim.settings import substituted_decay

    rule = lookup(rule) if isinstance(rule, str) else rule
    theta = _start(x0)
    shape = np.shape(theta)
    if not isinstance(loss, Loss):
        loss = Loss.parse(loss or ("sum((x-1)**2)" if shape else "(x-1)**2"), shape)
    if not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"steps must be from 1 to {MOST_STEPS}, got {steps}")
    _check_traceable(rule, loss, theta)
    settings = _settings(rule, decay, hyper)
    decay = decay or rule.decay
    given, decays, lr = dict(settings), bool(settings.get("weight_decay")), settings.get("lr", 1.0)
    if decays:
        given |= substituted_decay(decay, settings["weight_decay"], lr, max_lr=lr)
    absent = rule.absent_states(settings, shape if shape else np.shape(rule.lifted(0.0)))
    states: list[Any] = [
        absent[symbol] if symbol in absent else _initial(state, theta, settings) for symbol, state in rule.state.items()
    ]
    start = {symbol: s for symbol, s in zip(rule.state, states, strict=True) if symbol not in absent}

    made = []
    for t in range(1, steps + 1):
        recorder = Recorder()
        g = loss.slope(theta)
        recorder.lines.append(_of_loss("g", loss.derivative, loss, theta, g))
        inputs = {}
        if "hessian" in rule.inputs and (t - 1) % HESSIAN_EVERY == 0:
            h = inputs["hessian"] = loss.curvature(theta)
            recorder.lines.append(_of_loss("hessian", loss.second_derivative, loss, theta, h))
        if decays and has(given["weight_decay"]):
            recorder.add_decay(decay, {**settings, "max_lr": lr}, given["weight_decay"])
        result = follow_step(rule, theta, g, states, recorder, t=t, **given, **inputs)
        after, *new = result
        states = [absent.get(symbol, state) for symbol, state in zip(rule.state, new, strict=True)]
        made.append(Step(t, theta, after, loss(theta), loss(after), tuple(recorder.lines)))
        theta = after
    return Trace(rule, loss, settings, decay, start, tuple(made))


def follow_step(
    rule: Rule, p: Any, g: Any, states: Sequence[Any], recorder: Recorder, *, t: int, **given: Any
) -> tuple[Any, ...]:
    """One step of a rule, its lines told to the recorder: the new parameter and states.

    Raises:
        RuntimeError: if the lines do not give what the rule gives.
    """
    # Numbers are lifted as the rule lifts them; beside arrays, a host's float must stay one, or it widens their type.
    lifted = [rule.lifted(x) if type(x) is float and type(p) is float else x for x in (p, g, *states)]
    with sweeping(recorder.sweep) as sweep:
        sweep.next_parameter()
        watched = followed(rule, recorder.tell)(*lifted, t=t, **given)
        sweep.next_parameter()
        result = rule(p, g, *states, t=t, **given)
    if not all(a is b or _equal(a, b) for a, b in zip(watched, result, strict=True)):
        raise RuntimeError(
            f"the trace of {rule.name} departs from the rule at step {t}: {watched[0]} is not {result[0]}"
        )
    return result


def _equal(a: Any, b: Any) -> bool:
    return np.array_equal(np.ravel(a), np.ravel(b), equal_nan=True)


def _of_loss(symbol: str, tree: ast.expr, loss: Loss, theta: Any, value: Any) -> Line:
    return Line(symbol, tree, put_in(tree, loss.values(theta)), value, of_arrays=bool(loss.shape))


def _start(x0: Start) -> Any:
    """A float, or an array of one or two dimensions."""
    theta = np.array(x0, dtype=np.float64)
    if theta.ndim > 2 or theta.size == 0:
        raise ValueError(f"x0 must be a number, a vector or a matrix, got an array of shape {theta.shape}")
    return theta if theta.ndim else float(theta)


def _settings(rule: Rule, decay: Decay | None, hyper: Mapping[str, Any]) -> dict[str, Any]:
    """All hyperparameters under the rule's names, those given checked as an optimizer checks them."""
    from ravine.optim.settings import normalized, unpacked

    rule.check_names(hyper)
    if decay is not None and "weight_decay" not in rule.defaults:
        raise ValueError(f"{rule.name} has no weight decay, so decay={decay!r} means nothing to it")
    form = {} if decay is None else {"decay": decay}
    checked = unpacked(rule, normalized(rule, {**rule.defaults, **hyper, **form}))
    return {name: checked[name] for name in rule.defaults}


def _check_traceable(rule: Rule, loss: Loss, theta: Any) -> None:
    if not np.all(np.isfinite(theta)):
        raise ValueError(f"x0 must be a finite number, got {theta}")
    if rule.steps_matrices and np.ndim(theta) == 1:
        raise ValueError(f"{rule.name} steps matrices, got the vector {written(theta)} as x0; write 1,2;3,4")
    if loss.shape != np.shape(theta):
        raise ValueError(f"the loss is of an x of shape {loss.shape}, and x0 has the shape {np.shape(theta)}")
    for what, value in (("the loss", loss(theta)), ("the loss's derivative", loss.slope(theta))):
        if not np.all(np.isfinite(value)):
            raise ValueError(
                f"{what} is {written(value)} at x0 = {written(theta)}; start where {loss.source!r} is finite and smooth"
            )


def _initial(state: State, theta: Any, hyper: Mapping[str, Any]) -> Any:
    """A state before the first step: a float where the parameter is one."""
    init = hyper.get(state.init, state.init) if isinstance(state.init, str) else state.init
    if init == "p":
        return theta if isinstance(theta, float) else theta.copy()
    value = 1.0 if init == "identity" else float(init)
    if isinstance(theta, float) or state.kind in ("host", "shared"):
        return value
    if state.kind in ("left", "right"):
        return value * np.eye(state.shape(theta.shape)[-1])
    return np.full(state.shape(theta.shape), value)
