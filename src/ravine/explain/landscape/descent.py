"""A rule on a landscape: its own function on NumPy's float64 arrays, the arithmetic that every engine is held to.

Several runs that differ in their settings go in step, so that one evaluation gives the gradients of all of them.

Example:
    >>> from ravine.explain.landscape.functions import LANDSCAPES
    >>> from ravine.registry import lookup
    >>> (run,) = descend(LANDSCAPES["ravine"], lookup("sgd"), [{"lr": 0.01}], start=(-10.0, 1.0), steps=1)
    >>> run.points.tolist(), run.losses.round(4).tolist()
    ([[-10.0, 1.0], [-9.9, 0.5]], [75.0, 55.255])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ravine.explain.landscape.functions import Landscape, Point
from ravine.rule import Rule, State

FARTHEST = 1e6
"""A run that is further from the start than this, in widths of the landscape, has diverged."""

ESTIMATE_EVERY = 10
"""Steps from one estimate of the Hessian's diagonal to the next, for rules that take one (Liu et al. 2023)."""


@dataclass(frozen=True)
class Descent:
    """One run.

    Args:
        points: the weights that the rule evaluates at, at the start and after each step, (steps + 1, 2).
        losses: there, (steps + 1,).
        diverged_at: the step after which the run was too far away or its loss was not finite; what came then is left
            out. None where it took all its steps.
    """

    points: np.ndarray
    losses: np.ndarray
    diverged_at: int | None


def descend(
    landscape: Landscape,
    rule: Rule,
    runs: Sequence[Mapping[str, Any]],
    *,
    start: Point,
    steps: int,
    schedule: str = "constant",
    noise: float = 0.0,
    seed: int = 1,
) -> list[Descent]:
    """Run a rule on a landscape, once for each of several settings.

    Args:
        landscape: where.
        rule: what steps. One for matrices sees the point as a matrix of one row.
        runs: settings of each run, as an optimizer takes them; the rest are at their defaults.
        start: where all begin.
        steps: of each run.
        schedule: of the learning rate, by name.
        noise: standard deviation of what is added to each component of the gradient, the same for all runs.
        seed: of the noise, and of the signs in estimates of the Hessian's diagonal.

    Raises:
        TypeError, ValueError: for settings that the rule does not take; for a point within the landscape at which the
            function or its gradient is not finite.
    """
    from ravine.explain.schedules import draw

    shape = draw(schedule, steps).lr
    alive = [_Walker(rule, settings, start) for settings in runs]
    points = [[np.asarray(start, dtype=np.float64)] for _ in runs]
    losses, gradients = landscape.slopes([start] * len(runs), strictly=True)
    recorded = [[loss] for loss in losses]
    ended: list[int | None] = [None] * len(runs)
    random = np.random.default_rng(seed)
    far = FARTHEST * max(landscape.x[1] - landscape.x[0], landscape.y[1] - landscape.y[0])
    for t in range(1, steps + 1):
        going = [i for i in range(len(runs)) if ended[i] is None]
        if not going:
            break
        drift = noise * random.standard_normal(2)
        signs = random.choice((-1.0, 1.0), size=2)
        for i in going:
            walker = alive[i]
            estimates = {}
            if rule.inputs and t % ESTIMATE_EVERY == 1:
                estimates = dict.fromkeys(rule.inputs, signs * landscape.curvature(walker.point, signs))
            walker.step(gradients[i] + drift, t, shape[t - 1], estimates)
        at = [alive[i].point for i in going]
        evaluated_at = [alive[i].evaluated for i in going]
        found, slopes = landscape.slopes(at)
        shown = found if not rule.at_eval else landscape.slopes(evaluated_at)[0]
        for i, where, loss, slope in zip(going, evaluated_at, shown, slopes, strict=True):
            if not (np.isfinite(loss) and np.isfinite(slope).all() and np.abs(where).max() < far):
                ended[i] = t
                continue
            points[i].append(where)
            recorded[i].append(loss)
            gradients[i] = slope
    return [
        Descent(np.array(path), np.array(values), end)
        for path, values, end in zip(points, recorded, ended, strict=True)
    ]


class _Walker:
    """A rule at a point, with its states."""

    def __init__(self, rule: Rule, settings: Mapping[str, Any], start: Point) -> None:
        from ravine.optim.settings import defaults_of, normalized

        self.rule = rule
        self.group = {**defaults_of(rule), **normalized(rule, settings)}
        if "lr" in self.group:
            self.group["max_lr"] = self.group["lr"]
        p = np.array(start, dtype=np.float64)
        self.p = p[None] if rule.steps_matrices else p
        hyper = self._hyper(1.0)
        absent = rule.absent_states(hyper, self.p.shape)
        self.states = {s: self._initial(declared, hyper) for s, declared in rule.state.items() if s not in absent}

    @property
    def point(self) -> np.ndarray:
        """Where the gradient is taken, (2,)."""
        return self.p.reshape(2)

    @property
    def evaluated(self) -> np.ndarray:
        """The weights that the rule evaluates at, (2,)."""
        at = self.rule.at_eval
        if at is None:
            return self.point
        weights = self.states[at] if isinstance(at, str) else at(self.p, self.states, self._hyper(1.0))
        return np.asarray(weights, dtype=np.float64).reshape(2)

    def step(self, gradient: np.ndarray, t: int, factor: float, estimates: Mapping[str, np.ndarray]) -> None:
        """One step, at this factor of the learning rate."""
        inputs = {name: value.reshape(self.p.shape) for name, value in estimates.items()}
        p, *states = self.rule(
            self.p, gradient.reshape(self.p.shape), *self.states.values(), t=t, **self._hyper(factor), **inputs
        )
        self.p = np.asarray(p, dtype=np.float64)
        for (symbol, before), value in zip(self.states.items(), states, strict=True):
            self.states[symbol] = float(value) if isinstance(before, float) else value

    def _hyper(self, factor: float) -> dict[str, Any]:
        from ravine.optim.settings import given_to_rule

        group = (
            self.group if factor == 1.0 or "lr" not in self.group else {**self.group, "lr": factor * self.group["lr"]}
        )
        return given_to_rule(self.rule, group)

    def _initial(self, declared: State, hyper: Mapping[str, Any]) -> Any:
        shape = declared.shape(self.p.shape)
        if declared.init == "p":
            return self.p.copy()
        if declared.init == "identity":
            return np.eye(shape[-1])
        begin = float(hyper[declared.init] if isinstance(declared.init, str) else declared.init)
        return begin if declared.kind in ("host", "shared") else np.full(shape, begin)
