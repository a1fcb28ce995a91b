"""Claim 7: the grids, the best λ of a map, the network that does not feel the length of its weights, the quick form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from explain.claims.quick import held, made_quickly
from ravine.explain.claims.c07_separable import (
    MAPS,
    TRAINED,
    NoisyDigits,
    Perceptron,
    best_decay,
    edges,
    lowest_cell,
    separable,
    trained,
)
from ravine.explain.claims.fits import exponent
from ravine.lab.tasks.digits import Digits


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5])
def test_the_exponent_of_a_valley(power: float) -> None:
    rates, decays = np.geomspace(1e-3, 1e-1, 9), np.geomspace(1e-6, 1e1, 57)
    valley = 1e-3 * (rates / 1e-2) ** power
    losses = 1 + np.log(decays[:, None] / valley) ** 2
    assert exponent(list(rates), best_decay(list(decays), losses)) == pytest.approx(power, abs=0.05)


@pytest.mark.parametrize("name", MAPS)
def test_a_grid_reaches_as_far_as_what_it_does_to_the_weights(name: str) -> None:
    one = MAPS[name]
    rates, decays = one.axes(5, 4)
    products = (decays[0] * rates[-1], decays[-1] * rates[0])
    assert (decays[0], decays[-1]) if one.decay == "schedule" else products == pytest.approx(one.shrink)
    assert math.log10(decays[1] / decays[0]) == pytest.approx(1 / 4, rel=0.2)


def test_only_the_direction_of_normalised_weights_matters() -> None:
    torch.manual_seed(0)
    model, images = Perceptron(normalised=True).double(), torch.randn(4, 1, 8, 8, dtype=torch.float64)
    seen = []
    for _ in range(3):
        seen.append(model(images))
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(30.0)
    # At first the norms' ε of 1e-5 stands beside small variances; 900 times as large ones leave nothing of it.
    torch.testing.assert_close(seen[2], seen[1], rtol=0, atol=1e-5)
    assert (seen[1] - seen[0]).abs().max() < 0.01


def test_few_labels_are_wrong_and_none_that_are_evaluated() -> None:
    clean, noisy = Digits("tiny").tensors, NoisyDigits("tiny").tensors
    changed = (noisy["training"][1] != clean["training"][1][:TRAINED]).float().mean().item()
    assert 0.2 < changed < 0.35
    assert torch.equal(noisy["tuning"][1], torch.cat([clean["training"][1][TRAINED:], clean["tuning"][1]]))


def test_a_map_is_trained_cell_by_cell() -> None:
    losses = trained(MAPS["adam_decoupled"], [1e-3, 1e-2], [0.1, 0.2, 0.3], 3, seed=1)
    assert losses.shape == (3, 2)
    again = trained(MAPS["adam_decoupled"], [1e-2], [0.2], 3, seed=1)
    assert losses[1, 1] == pytest.approx(again[0, 0], rel=1e-4)


def test_cells_have_edges_between_them_and_the_lowest_is_found() -> None:
    assert edges([1.0, 100.0]) == pytest.approx([0.1, 10.0, 1000.0])
    assert lowest_cell([1.0, 2.0], [3.0, 4.0], np.array([[5.0, 4.0], [9.0, math.inf]])) == (4.0, 2.0, 3.0)


@pytest.mark.slow
def test_the_quick_form() -> None:
    found = held(separable, made_quickly(separable))
    assert {"sgd_decoupled", "sgd_l2", "adam_decoupled", "adam_l2"} <= found
    assert "torch_form" not in found
