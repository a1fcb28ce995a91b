"""The ravine against the theory of quadratics: the optimal learning rates, the measured rates, and the zigzag.

μ and L are the least and the largest curvature, κ = L / μ. Polyak 1964; Goh 2017, "Why momentum really works".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ravine.explain.landscape import landscape
from ravine.explain.landscape.descent import Descent, descend
from ravine.explain.landscape.functions import LANDSCAPES
from ravine.explain.landscape.measures import oscillation
from ravine.registry import lookup

RAVINE = LANDSCAPES["ravine"]
assert RAVINE.curvatures is not None
LEAST, LARGEST = RAVINE.curvatures
CONDITION = LARGEST / LEAST


def run(steps: int = 300, **settings: Any) -> Descent:
    (found,) = descend(RAVINE, lookup("sgd"), [settings], start=RAVINE.start, steps=steps)
    return found


def rate(found: Descent, first: int = 100, last: int = 200) -> float:
    """By how much a step shortens the distance from the minimum, late in the run."""
    far = np.linalg.norm(found.points, axis=1)
    return float((far[last] / far[first]) ** (1 / (last - first)))


def test_descent_at_its_best_learning_rate_contracts_as_the_theory_says() -> None:
    best = 2 / (LEAST + LARGEST)
    assert rate(run(lr=best)) == pytest.approx((CONDITION - 1) / (CONDITION + 1), rel=1e-9)
    for lr in (0.9 * best, 1.019 * best):
        assert rate(run(lr=lr)) > rate(run(lr=best))


@pytest.mark.parametrize("lr", [0.001, 0.02, 0.035])
def test_descent_at_any_learning_rate_contracts_by_its_slowest_direction(lr: float) -> None:
    assert rate(run(lr=lr)) == pytest.approx(max(abs(1 - lr * LEAST), abs(1 - lr * LARGEST)), rel=1e-6)


def test_beyond_two_over_the_largest_curvature_it_diverges() -> None:
    below, above = run(2000, lr=0.999 * 2 / LARGEST), run(2000, lr=1.02 * 2 / LARGEST)
    assert below.losses[-1] < below.losses[0] and above.losses[-1] > above.losses[0]
    assert run(2000, lr=1.1 * 2 / LARGEST).diverged_at is not None


def test_the_best_heavy_ball_contracts_as_the_theory_says() -> None:
    root = CONDITION**0.5
    lr, momentum = (2 / (LARGEST**0.5 + LEAST**0.5)) ** 2, ((root - 1) / (root + 1)) ** 2
    found = run(400, lr=lr, momentum=momentum)
    # Both roots of each direction coincide there, so that a distance goes as t·√βᵗ; t is divided out.
    far = np.linalg.norm(found.points, axis=1)
    measured = ((far[100] / 100) / (far[60] / 60)) ** (1 / 40)
    assert measured == pytest.approx((root - 1) / (root + 1), rel=0.01)
    assert far[60] < 1e-3 * np.linalg.norm(run(60, lr=2 / (LEAST + LARGEST)).points[-1])


def test_the_zigzag_is_what_each_step_overshoots() -> None:
    # At 2 / (μ + L) both directions contract alike, so that all steps have one shape: 9.8 along to 49 across.
    lr = 2 / (LEAST + LARGEST)
    along, across = lr * LEAST * 10, lr * LARGEST * 1
    back = (across**2 - along**2) / (across**2 + along**2)
    assert oscillation(run(lr=lr).points) == pytest.approx(back, rel=1e-9) == pytest.approx(0.923, abs=1e-3)


def test_sgd_zigzags_in_the_ravine_and_momentum_does_not() -> None:
    result = landscape("ravine", ["sgd:lr=0.036", "sgd:lr=0.036,momentum=0.9", "sgd", "sgd:momentum=0.9"])
    sgd, momentum, tuned_sgd, tuned_momentum = result.tracks
    assert sgd.oscillation > 0.3 and momentum.oscillation < 0.06
    assert result.steps_to(sgd) == 89 and result.steps_to(momentum) == 67
    assert tuned_sgd.oscillation > 0.6 and tuned_momentum.oscillation < 0.01
    assert tuned_sgd.lr == pytest.approx(2 / (LEAST + LARGEST), rel=0.05)
    assert (result.steps_to(tuned_momentum) or 999) < 0.7 * (result.steps_to(tuned_sgd) or 0)
