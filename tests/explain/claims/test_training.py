"""Claims 5, 6, 10 and 11, which train: their quick runs, and the arithmetic in them against the papers' numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from explain.claims.test_arithmetic import column, looked_at
from ravine.explain.claims import c10_rectification as rectification
from ravine.explain.claims.c05_l2_and_decay import l2_and_decay
from ravine.explain.claims.c06_torch_and_paper_adamw import torch_and_paper_adamw
from ravine.explain.claims.c11_epsilon import epsilon
from ravine.explain.claims.claim import Run, verdict
from ravine.explain.claims.paths import path, perceptron, softmax_regression

LIMITS = "holds here with limits"


@pytest.mark.slow
def test_l2_and_decay() -> None:
    evidence = looked_at(l2_and_decay, Run(quick=True))
    assert verdict(l2_and_decay.criteria, evidence.values) == LIMITS
    assert evidence.values["momentum_best"] < 0.1 < evidence.values["momentum"]
    assert min(column(evidence, "SGD").values()) < 1e-12


@pytest.mark.slow
def test_torch_and_paper_adamw() -> None:
    evidence = looked_at(torch_and_paper_adamw, Run(quick=True))
    assert verdict(torch_and_paper_adamw.criteria, evidence.values) == LIMITS
    assert evidence.values["cosine"] < 1e-10 < evidence.values["present"]


@pytest.mark.slow
def test_rectification() -> None:
    evidence = looked_at(rectification.rectification, Run(quick=True))
    assert verdict(rectification.rectification.criteria, evidence.values) == LIMITS


@pytest.mark.slow
def test_epsilon() -> None:
    evidence = looked_at(epsilon, Run(quick=True))
    assert verdict(epsilon.criteria, evidence.values) == LIMITS
    assert evidence.values["first"] == pytest.approx(28.84, abs=5e-3)
    moved = column(evidence, "TensorFlow's")
    assert [f"{moved[t]:.3g}" for t in (1, 10, 100, 1000, 10_000)] == [
        "0.00315",
        "0.00988",
        "0.0299",
        "0.0737",
        "0.0909",
    ]
    assert all(f"{x:.3g}" == "0.0909" for x in column(evidence, "step / lr, PyTorch's form").values())


def test_the_rectifier_is_that_of_the_paper() -> None:
    assert math.isnan(rectification._rectifier(5))
    for t, r in ((6, 0.025821), (100, 0.2153), (1000, 0.6453)):
        assert rectification._rectifier(t) == pytest.approx(r, abs=1e-4)


def test_the_variance_is_that_of_the_paper() -> None:
    """Against the integral over the distribution itself, and the paper's approximation where it is good."""
    chi = np.sqrt(np.random.default_rng(1).chisquare(30, 400_000) / 30)
    assert rectification._variance(30) == pytest.approx(np.var(1 / chi), rel=0.02)
    assert rectification._variance(1000) == pytest.approx(1000 / (2 * 998 * 996), rel=0.01)


def test_the_simulated_rate_is_that_of_adam() -> None:
    variance, spread = rectification._simulated(2000, seed=1)
    assert variance[0] == pytest.approx(rectification._variance(rectification._length(10)), rel=0.3)
    assert spread.max() / spread.min() < 2 < variance.max() / variance.min()


def test_a_path_is_the_same_for_the_same_seed_and_begins_with_the_model() -> None:
    first, second = (path(perceptron(3), torch.optim.AdamW, 3, seed=4) for _ in range(2))
    assert torch.equal(first.weights, second.weights) and first.weights.dtype == torch.float64
    assert first.weights.shape[0] == 4 and first.losses.shape == (3,)
    assert torch.equal(first.weights[0], torch.nn.utils.parameters_to_vector(perceptron(3).parameters()))
    assert not torch.equal(first.weights, path(perceptron(3), torch.optim.AdamW, 3, seed=5).weights)
    assert path(softmax_regression(), torch.optim.AdamW, 1, seed=1).losses[0] == pytest.approx(math.log(10))
