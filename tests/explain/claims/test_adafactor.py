"""Claim 9: what is kept, when factors are exact, what guessing by frequency costs, and the quick form."""

from __future__ import annotations

import math

import pytest
import torch

from explain.claims.quick import held, made_quickly
from ravine.explain.claims.c09_adafactor import (
    BOTH,
    PostNorm,
    adafactor,
    by_frequency,
    factoring_gap,
    numbers_kept,
    trained,
)


@pytest.mark.parametrize("shape", [(3, 5), (64, 16)], ids=str)
def test_numbers_kept(shape: tuple[int, int]) -> None:
    """Shazeer & Stern 2018, Section 3: n + m; Adam keeps two for each weight."""
    n, m = shape
    assert numbers_kept("adafactor", shape) == n + m
    assert numbers_kept("adamw", shape) == 2 * n * m


def test_factors_are_exact_at_rank_one_and_worse_the_further_from_it() -> None:
    exact, near, far = (factoring_gap(noise, steps=20) for noise in (0.0, 0.01, 0.5))
    assert exact < 1e-13
    assert 1e-4 < near < far


def test_guessing_by_frequency_costs_less_than_guessing_and_more_than_nothing() -> None:
    assert 2.5 < by_frequency(PostNorm("tiny")) < math.log(256) - 1


def test_a_new_transformer_predicts_from_what_came_before_alone() -> None:
    torch.manual_seed(0)
    task = PostNorm("tiny", layers=2)
    model = task.new_model()
    tokens = task.draw(1, torch.Generator().manual_seed(0), 1)["tokens"][:, :-1]
    other = tokens.clone()
    other[:, 20:] = 0
    torch.testing.assert_close(model(tokens)[:, :20], model(other)[:, :20])
    assert not torch.allclose(model(tokens)[:, 20:], model(other)[:, 20:])


def test_runs_at_all_learning_rates() -> None:
    losses = trained(PostNorm("tiny", layers=1), [1e-3, 1e-2], "true", 0.2, 3, seed=1)
    assert len(losses) == 2
    assert all(0 < loss < 10 for loss in losses)


@pytest.mark.slow
def test_the_quick_form() -> None:
    evidence = made_quickly(adafactor)
    assert {"memory", "rank_one"} <= held(adafactor, evidence)
    assert evidence.values["rescued"] < evidence.values["collapse"]
    assert evidence.table is not None
    assert evidence.table[1][-1][0] == BOTH
