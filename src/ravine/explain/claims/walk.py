"""A rule at work on NumPy arrays in float64: what the claims about arithmetic are made with.

Example:
    >>> from ravine.rules.adam import adam
    >>> walk = Walk(adam, np.zeros(2), lr=0.1)
    >>> walk.step(np.array([5.0, -0.01])).round(6)
    array([-0.1,  0.1])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine.rule import Rule


class Walk:
    """A point that a rule moves, with the rule's states.

    Attributes:
        p: where it is, float64 of any shape; elements know nothing of each other under an elementwise rule.
        states: of the rule, by symbol, those that exist under these settings.
        t: the steps that were taken.

    Args:
        rule: any but those for matrices.
        start: where it begins.
        hyper: the rule's settings, under its own names.
    """

    def __init__(self, rule: Rule, start: np.ndarray, **hyper: Any) -> None:
        self.rule, self.hyper = rule, hyper
        self.p = np.array(start, dtype=np.float64)
        self.t = 0
        settings = {**rule.defaults, **hyper}
        absent = rule.absent_states(settings, self.p.shape)
        self.states = {
            symbol: np.full(self.p.shape, settings[state.init] if isinstance(state.init, str) else state.init)
            for symbol, state in rule.state.items()
            if symbol not in absent
        }

    def step(self, gradient: np.ndarray | float, **changes: Any) -> np.ndarray:
        """One step.

        Args:
            gradient: of the shape of `p`, or one number for all.
            changes: settings of this step that differ.

        Returns:
            The new `p`.
        """
        self.t += 1
        g = np.broadcast_to(np.asarray(gradient, dtype=np.float64), self.p.shape)
        self.p, *states = self.rule(self.p, g, *self.states.values(), t=self.t, **{**self.hyper, **changes})
        self.states = dict(zip(self.states, states, strict=True))
        return self.p
