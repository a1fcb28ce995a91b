"""Claim 4: the variance of batches against sums over all batches, descent against torch's, and the quick form."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
import torch

from explain.claims.quick import held, made_quickly
from ravine.explain.claims.c04_mini_batches import SIZES, Descent, descend, mini_batches, variances
from ravine.lab.tasks.digits import Digits


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_formulas_on_all_batches_of_five_examples(size: int) -> None:
    """The mean over every batch there is, with and without replacement: σ²/B, and (N − B)/(N − 1) of it."""
    x = np.array([-2.0, -1.0, 0.5, 1.5, 6.0])
    single = x.var()
    with_replacement = np.var([np.mean(batch) for batch in product(x, repeat=size)])
    without = np.var([np.mean(batch) for batch in combinations(x, size)])
    assert with_replacement == pytest.approx(single / size)
    assert without == pytest.approx(single / size * (5 - size) / 4)


def test_variances_of_drawn_batches() -> None:
    task = Digits("tiny")
    count = len(task.tensors["training"][1])
    single, (drawn, apart) = variances(task, 150, 1)
    # The gradients' variance lies in tens of directions: a standard error below √(2/150/10) = 3.7 %.
    for size, one, other in zip(SIZES, drawn, apart, strict=True):
        assert one == pytest.approx(single / size, rel=0.15)
        assert other == pytest.approx(single / size * (count - size) / (count - 1), rel=0.15)


def test_descent_with_all_examples_is_gradient_descent() -> None:
    task = Digits("tiny")
    images, labels = task.tensors["training"]
    found = descend(task, len(labels), 0.5, 5, seed=3)
    torch.manual_seed(3)
    model = task.new_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(5):
        optimizer.zero_grad()
        task.loss(model, {"images": images, "labels": labels}).backward()
        optimizer.step()
    assert found.losses[-1] == pytest.approx(task.loss(model, {"images": images, "labels": labels}).item(), rel=1e-5)
    assert found.evaluations[-1] == 5 * len(labels)


def test_gradients_until_the_target() -> None:
    assert Descent([1, 2, 3], [0.0] * 3, [2.0, 0.3, 0.1]).to_target == 2
    assert Descent([1, 2, 3], [0.0] * 3, [2.0, 0.4, 0.31]).to_target == math.inf


@pytest.mark.slow
def test_the_quick_form() -> None:
    assert held(mini_batches, made_quickly(mini_batches)) == {each.name for each in mini_batches.criteria}
