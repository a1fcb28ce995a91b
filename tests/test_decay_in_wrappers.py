"""Wrappers that work on the update leave weight decay out of it, however the rule inside multiplies it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import ravine
from ravine.compose import cautious, clipped_update
from ravine.math import ZERO, Apart, Origin
from ravine.rule import Rule

SPECS = ["adamw", "adan", "adafactor", "adafactor_paper", "lion", "sgd", "rectified(adamw)"]
PLACES = np.array([[1.0, -2.0], [3.0, 0.5]])


def after_some_steps(made: Rule, weight_decay: Any, steps: int = 6) -> np.ndarray:
    """Where a rule is after steps with the same gradient throughout, with which all of its updates agree."""
    hyper = {**made.defaults, "weight_decay": weight_decay, "lr": 0.01}
    absent = made.absent_states(hyper, (2, 2))
    states = []
    for symbol, state in made.state.items():
        init = hyper.get(state.init, state.init) if isinstance(state.init, str) else state.init
        number = state.kind in ("host", "shared")
        states.append(
            absent[symbol] if symbol in absent else float(init) if number else np.full(state.shape((2, 2)), float(init))
        )
    p = PLACES
    for t in range(1, steps + 1):
        p, *states = made(p, np.sign(PLACES), *states, t=t, **hyper)
    return np.asarray(p)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("wrap", [cautious, partial(clipped_update, d=1e9)], ids=["cautious", "clipped_update"])
def test_decay_is_as_strong_as_in_the_rule_itself(wrap: Callable[[Rule], Rule], spec: str) -> None:
    """With gradients that all agree, cautious keeps every element, and with a lenient d nothing is clipped."""
    own = ravine.lookup(spec)
    for weight_decay in (0.1, ZERO):
        found, plain = (after_some_steps(made, weight_decay) for made in (wrap(own), own))
        np.testing.assert_allclose(found, plain, rtol=1e-12)
    assert not np.allclose(after_some_steps(own, 0.1), after_some_steps(own, ZERO), rtol=1e-7)


def test_prodigy_decays_by_its_own_step() -> None:
    """Regression: cautious(prodigy) once shrank weights by lr·λ, 10 % in a step, where prodigy's step was 1e-7."""
    made = ravine.lookup("cautious(prodigy)")
    p = made(2.0, 0.0, 0.0, 0.0, 0.0, 2.0, 1e-6, 1e-6, 0.0, t=1, lr=1.0, weight_decay=0.1)[0]
    assert p == pytest.approx(2.0 * (1 - 1e-7), rel=1e-12)


def test_a_sum_keeps_decay_apart_through_multiples() -> None:
    p = Origin(np.array([8.0]))
    decay = Apart(ZERO, 0.5)
    moved = p - 0.25 * (np.array([2.0]) + decay * p) / 2
    assert isinstance(moved, Origin)
    assert (moved.moved, moved.decayed) == (np.array([0.25]), np.array([0.5]))
    assert moved.value() == np.array([7.25])
    less = p - (-(decay * p) - np.array([1.0]))
    assert (less.moved, less.decayed) == (np.array([-1.0]), np.array([-4.0]))


def test_a_sum_is_the_plain_sum_everywhere_else() -> None:
    both = Apart(np.array([3.0]), np.array([4.0]))
    assert ravine.math.sqrt(both * both) == np.array([7.0])
    assert 14 / both == np.array([2.0])
    assert ravine.math.plain(both) == np.array([7.0])
    assert both.ndim == 1
