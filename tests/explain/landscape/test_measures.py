"""What is measured of a path: the oscillation of known paths, what leaves it alone, and when a loss has arrived."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ravine.explain.landscape.measures import moves, oscillation, steps_to, target

paths = st.integers(2, 30).flatmap(
    lambda count: arrays(np.float64, (count, 2), elements=st.floats(-1e3, 1e3, allow_subnormal=False))
)
losses = st.lists(st.floats(0, 1e6) | st.just(math.nan) | st.just(math.inf), min_size=1, max_size=30)


@given(paths)
def test_it_is_a_part_of_the_path(path: np.ndarray) -> None:
    assert 0.0 <= oscillation(path) <= 1.0


@given(paths, st.floats(0, 2 * math.pi), st.floats(0.01, 100), st.floats(-50, 50))
def test_turning_scaling_and_shifting_leave_it_alone(
    path: np.ndarray, angle: float, scale: float, shift: float
) -> None:
    # Steps that cancel all digits of their ends have no direction left to speak of.
    path = np.round(path, 3)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert oscillation(scale * (path @ turn.T) + shift) == pytest.approx(oscillation(path), abs=1e-6)


@given(st.floats(0.1, 10), st.floats(0.001, 0.98), st.integers(2, 40))
def test_descent_along_one_curvature_takes_back_what_it_overshoots(
    curvature: float, overshoot: float, steps: int
) -> None:
    lr = (1 + overshoot) / curvature
    path = [(1.0, 0.0)]
    for _ in range(steps):
        path.append((path[-1][0] * (1 - lr * curvature), 0.0))
    assert oscillation(path) == pytest.approx(1.0)
    assert moves(path)[1:] / moves(path)[:-1] == pytest.approx(overshoot)


def test_a_zigzag_across_is_weighed_by_length() -> None:
    # Each step goes 1 along and 2 across, back and forth: against the step before it by (4 − 1) / √5 of √5.
    path = [(i, 2.0 * (i % 2)) for i in range(9)]
    assert oscillation(path) == pytest.approx(3 / 5)


@pytest.mark.parametrize("path", [[(1.0, 2.0)], [(0, 0), (1, 1)], [(2, 2)] * 5, [(0, 0), (1, 0), (1, 0), (2, 0)]])
def test_what_does_not_turn_has_none(path: list[tuple[float, float]]) -> None:
    assert oscillation(path) == 0.0


@given(losses, st.floats(0, 1e6))
def test_a_loss_has_arrived_where_it_never_rises_again(found: list[float], level: float) -> None:
    arrived = steps_to(found, level)
    if arrived is None:
        assert not found[-1] <= level
    else:
        assert all(loss <= level for loss in found[arrived:])
        assert arrived == 0 or not found[arrived - 1] <= level


def test_the_target_is_a_part_of_the_height() -> None:
    assert target(start=10.0, minimum=-10.0, part=0.25) == -5.0
    assert steps_to([10.0, -6.0, 0.0, -5.0], target(10.0, -10.0, 0.25)) == 3


@pytest.mark.parametrize("path", [[], [1.0, 2.0], np.zeros((3, 0)), np.zeros((2, 2, 2))])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(ValueError, match="path must be points in order"):
        oscillation(path)  # type: ignore[arg-type]
