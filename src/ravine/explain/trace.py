"""A rule at work on one number: every line it runs, with the numbers in it.

The lines are the rule's own source, run statement by statement; nothing here knows any optimizer.

Example:
    >>> steps = trace("adamw", "(x-1)**2", x0=2.0, lr=0.1, weight_decay=0.01).steps
    >>> print(steps[0].lines[1].formula, "=", steps[0].lines[1].substituted)
    β₁·m + (1 − β₁)·g = 0.9·0 + (1 − 0.9)·2
    >>> round(steps[0].theta_after, 6)
    1.898
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ravine.explain.decay import FORMS
from ravine.explain.follow import Follower
from ravine.explain.loss import Loss
from ravine.explain.source import own_function, own_name, own_symbols
from ravine.explain.typeset import expression, number, scalar, text
from ravine.math import ZERO, has
from ravine.registry import lookup
from ravine.rule import Decay, Rule

MOST_STEPS = 10_000


@dataclass(frozen=True)
class Line:
    """One assignment: the symbol as the rule writes it, its formula, the formula with numbers, and the value.

    `section` names the rule or wrapper whose line it is, outermost first, and nothing for the frame around them.
    """

    symbol: str
    formula: str
    substituted: str
    value: float | int | bool
    section: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One step of the rule, from `theta_before` to `theta_after`."""

    t: int
    theta_before: float
    theta_after: float
    loss_before: float
    loss_after: float
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Trace:
    """Some steps of a rule on a loss of one number."""

    rule: Rule
    loss: Loss
    hyper: Mapping[str, Any]
    decay: Decay
    start: Mapping[str, float]
    steps: tuple[Step, ...]

    def as_dict(self) -> dict[str, Any]:
        """The trace for JSON: `steps[].{t, theta_before, theta_after, loss_before, loss_after, lines[]}`.

        Lines are `{symbol, formula, substituted, value}`. JSON has no infinity and no NaN: they are null.
        """
        keys = ("symbol", "formula", "substituted", "value")
        return {
            "steps": [
                {f.name: _finite(getattr(step, f.name)) for f in fields(Step) if f.name != "lines"}
                | {"lines": [{key: _finite(getattr(line, key)) for key in keys} for line in step.lines]}
                for step in self.steps
            ]
        }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, eq=False)
class _Followed(Rule):
    """A rule that adds the line of L2 decay to the recorder before it runs."""

    recorder: Recorder | None = None
    section: tuple[str, ...] = ()

    def __call__(self, p: Any, g: Any, *states: Any, t: Any, l2: Any = ZERO, **hyper: Any) -> tuple[Any, ...]:
        if self.wrapper is None and self.recorder is not None and has(l2):
            names = {"p": p, "g": g, "weight_decay": l2}
            self.recorder.add_decay("l2", names, g + l2 * p, self.section)
        return super().__call__(p, g, *states, t=t, l2=l2, **hyper)


class Recorder:
    """Collects the lines of one step."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def add_decay(self, decay: Decay, names: Mapping[str, Any], value: Any, section: tuple[str, ...]) -> None:
        """The line that a form of weight decay adds, if it adds one."""
        form = FORMS[decay]
        if form.symbol is not None:
            source = expression(form.source)
            self.lines.append(Line(form.symbol, text(source), text(source, names), scalar(value), section))

    def listen(self, rule: Rule, outside: tuple[str, ...] = ()) -> Rule:
        """The same rule, each of whose lines is recorded when it runs, and those of all rules inside it."""
        section = (*outside, own_name(rule))

        def add(symbol: str, formula: str, substituted: str, value: Any) -> None:
            self.lines.append(Line(symbol, formula, substituted, value, section))

        follower = Follower(own_function(rule), own_symbols(rule), rule, add)
        if rule.wrapper is not None and rule.base is not None:
            prefix = rule.wrapper.name + "."
            own = {k.removeprefix(prefix): v for k, v in rule.defaults.items() if k.startswith(prefix)}
            return replace(rule.wrapper, function=follower)(self.listen(rule.base, section), **own)
        inherited = {f.name: getattr(rule, f.name) for f in fields(Rule)}
        return _Followed(**{**inherited, "function": follower}, recorder=self, section=section)


def trace(
    rule: Rule | str, loss: Loss | str, x0: float, steps: int = 1, *, decay: Decay | None = None, **hyper: Any
) -> Trace:
    """Run a rule on a loss of one number, and keep every line it runs.

    Args:
        rule: a rule, or its name: `"adamw"`, `"lookahead(adamw)"`.
        loss: an expression in x, see `ravine.explain.loss`.
        x0: where to start.
        steps: how many steps, 1 to 10 000.
        decay: the form of weight decay; the rule's customary one by default. The learning rate is constant, so the
            schedule's maximum is `lr` itself.
        hyper: hyperparameters under the rule's names; those not given take their defaults. A wrapper's are in its
            namespace: `**{"lookahead.k": 2}`.

    Raises:
        KeyError: for an unknown rule, with the nearest name.
        TypeError: for an unknown hyperparameter, with the nearest name, or a value of the wrong type.
        ValueError: for a value outside its range, a loss that cannot be read or is not finite at `x0`, or a rule that
            cannot be followed on a single number.
    """
    from ravine.optim.settings import substituted_decay

    rule = lookup(rule) if isinstance(rule, str) else rule
    loss = Loss.parse(loss) if isinstance(loss, str) else loss
    if not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"steps must be from 1 to {MOST_STEPS}, got {steps}")
    _check_traceable(rule, loss, x0)
    settings = _settings(rule, decay, hyper)
    decay = decay or rule.decay
    given, decays, lr = dict(settings), bool(settings.get("weight_decay")), settings.get("lr", 1.0)
    if decays:
        given |= substituted_decay(decay, settings["weight_decay"], lr, max_lr=lr)
    absent = rule.absent_states(settings, np.shape(rule.lifted(x0)))
    states: list[Any] = [absent.get(symbol, _initial(rule, symbol, x0, settings)) for symbol in rule.state]
    start = {symbol: float(s) for symbol, s in zip(rule.state, states, strict=True) if symbol not in absent}

    theta, made = float(x0), []
    for t in range(1, steps + 1):
        recorder = Recorder()
        g = loss.slope(theta)
        recorder.lines.append(Line("g", text(loss.derivative), text(loss.derivative, {"p": theta}), g))
        if decays and has(given["weight_decay"]):
            recorder.add_decay(decay, {**settings, "max_lr": lr}, given["weight_decay"], ())
        lifted = [rule.lifted(x) if type(x) is float else x for x in (theta, g, *states)]
        followed = recorder.listen(rule)(*lifted, t=t, **given)
        result = rule(theta, g, *states, t=t, **given)
        if not all(a == b or (a != a and b != b) for a, b in zip(followed, result, strict=True)):
            raise RuntimeError(
                f"the trace of {rule.name} departs from the rule at step {t}: {followed} is not {result}"
            )
        after, *new = result
        states = [absent.get(symbol, state) for symbol, state in zip(rule.state, new, strict=True)]
        made.append(Step(t, theta, after, loss(theta), loss(after), tuple(recorder.lines)))
        theta = after
    return Trace(rule, loss, settings, decay, start, tuple(made))


def _settings(rule: Rule, decay: Decay | None, hyper: Mapping[str, Any]) -> dict[str, Any]:
    """All hyperparameters under the rule's names, those given checked as an optimizer checks them."""
    from ravine.optim.settings import normalized, unpacked

    rule.check_names(hyper)
    if decay is not None and "weight_decay" not in rule.defaults:
        raise ValueError(f"{rule.name} has no weight decay, so decay={decay!r} means nothing to it")
    form = {} if decay is None else {"decay": decay}
    checked = unpacked(rule, normalized(rule, {**rule.defaults, **hyper, **form}))
    return {name: checked[name] for name in rule.defaults}


def _check_traceable(rule: Rule, loss: Loss, x0: float) -> None:
    if not math.isfinite(x0):
        raise ValueError(f"x0 must be a finite number, got {x0}")
    for what, value in (("the loss", loss(x0)), ("the loss's derivative", loss.slope(x0))):
        if not math.isfinite(value):
            raise ValueError(
                f"{what} is {number(value)} at x0 = {number(x0)}; start where {loss.source!r} is finite and smooth"
            )


def _initial(rule: Rule, symbol: str, x0: float, hyper: Mapping[str, Any]) -> float:
    init = rule.state[symbol].init
    if not isinstance(init, str):
        return float(init)
    return float(x0) if init == "p" else 1.0 if init == "identity" else float(hyper[init])
