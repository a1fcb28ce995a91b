"""Claim 17: scaled gradients, bytes of state, and the quick form."""

from __future__ import annotations

import pytest

from explain.claims.quick import held, made_quickly
from ravine.explain.claims.c17_lion import lion, scale_gap, state_bytes


@pytest.mark.parametrize("factor", [2.0**-40, 1 / 3, 1e6])
def test_lion_does_not_feel_the_gradients_scale(factor: float) -> None:
    assert scale_gap("lion", factor) == 0


def test_adamw_feels_it_by_its_epsilon_and_sgd_fully() -> None:
    assert scale_gap("adamw", 2.0**-40) > 1
    assert 0 < scale_gap("adamw", 2.0**40) < 0.1
    assert scale_gap("sgd", 2.0**40) > 1e9


def test_bytes_of_state() -> None:
    assert state_bytes("adamw") == 8
    assert state_bytes("lion") == 4
    assert state_bytes("sgd") == 0


@pytest.mark.slow
def test_the_quick_form() -> None:
    evidence = made_quickly(lion)
    assert {"powers", "factors", "state"} <= held(lion, evidence)
    assert evidence.values["rate"] > 1
