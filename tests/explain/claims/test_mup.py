"""Claim 13: the networks of both parametrizations, the steepest exponent, and the quick form."""

from __future__ import annotations

import math

import pytest
import torch

from explain.claims.quick import held, made_quickly
from ravine.explain.claims.c13_mup import BASE, KINDS, mup, network, steepest, trained
from ravine.lab.tasks.digits import Digits


def test_at_the_base_width_both_are_the_same_network() -> None:
    losses = [trained(Digits("tiny"), kind, BASE, 0.01, seed=1, steps=3) for kind in KINDS]
    assert losses[0] == losses[1]


def test_learning_rates_of_a_network_four_times_as_wide() -> None:
    """Yang et al. 2022, Table 8: hidden matrices get lr over the width's factor, all others keep it."""
    torch.manual_seed(0)
    model, optimizer = network("mup", 4 * BASE, 0.01)
    rates = {name: g["lr"] for g in optimizer.param_groups for name in g["param_names"]}
    assert rates.pop("hidden.1.weight") == pytest.approx(0.0025)
    assert set(rates.values()) == {0.01}
    assert len(rates) == len(list(model.parameters())) - 1


def test_the_readout_can_begin_at_zero() -> None:
    model, _ = network("mup", 2 * BASE, 0.01, zero=True)
    assert not model(torch.randn(3, 1, 8, 8)).any()


def test_the_steepest_exponent() -> None:
    assert steepest({"a": 0.1, "b": -0.3}) == 0.3
    assert steepest({"a": 0.1, "b": math.nan}) == math.inf


@pytest.mark.slow
def test_the_quick_form() -> None:
    assert held(mup, made_quickly(mup)) == {each.name for each in mup.criteria}
