"""Adafactor by the boxes of its paper, and equal to the implementations of torch and of Hugging Face's transformers."""

from __future__ import annotations

import functools
import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter

import ravine
from conformance.support import Target, create, members, random, targets
from ravine.rules import adafactor

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)
SHAPES = ((5, 3), (7,), (), (2, 3, 4), (1, 6))
STEPS = 100


def starts(target: Target) -> list[Parameter]:
    return [Parameter(random(s, 20 + i, torch.float64).to(target.device)) for i, s in enumerate(SHAPES)]


@functools.cache
def gradient(step: int, i: int) -> torch.Tensor:
    """Noise whose size changes by orders of magnitude from step to step, so that clipping sets in at many of them."""
    size = 10 ** random((), 5000 + step, torch.float64).item()
    return size * random(SHAPES[i], 1000 * step + i, torch.float64)


def follow(optimizer: torch.optim.Optimizer) -> list[np.ndarray]:
    params = members(optimizer)
    for step in range(STEPS):
        for i, p in enumerate(params):
            p.grad = gradient(step, i).to(p.device, p.dtype)
        optimizer.step()
    return [p.detach().cpu().numpy() for p in params]


def assert_follows(optimizer: torch.optim.Optimizer, expected: list[np.ndarray], rtol: float = 1e-12) -> None:
    for ours, theirs in zip(follow(optimizer), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-14)


def papers(
    x: np.ndarray,
    gradients: list[np.ndarray],
    eps: tuple[float, float] = (1e-30, 1e-3),
    clip_threshold: float = 1.0,
    decay_rate: float = -0.8,
    beta1: float | None = None,
    weight_decay: float = 0.0,
    scale_parameter: bool = True,
    relative_step: bool = True,
    warmup_init: bool = False,
    lr: float | None = None,
) -> np.ndarray:
    """Shazeer & Stern 2018, Algorithm 4 (matrices) and 5 (vectors) with the hyperparameters of Algorithm 6.

    R and C are sums over rows and columns as in the paper. The arguments, momentum and weight decay are those that
    Hugging Face documents for `transformers.optimization.Adafactor`.
    """

    def root_mean_square(a: np.ndarray) -> float:
        return math.sqrt(np.sum(a * a) / a.size)

    row_sums = column_sums = v = momentum = 0.0
    for t, g in enumerate(gradients, 1):
        rho = lr
        if relative_step:
            rho = min(1e-6 * t if warmup_init else 1e-2, 1 / math.sqrt(t))
        alpha = rho * max(eps[1], root_mean_square(x)) if scale_parameter else rho
        beta2 = 1 - t**decay_rate
        squares = g * g + eps[0]
        if g.ndim > 1:
            row_sums = beta2 * row_sums + (1 - beta2) * np.sum(squares, -1)
            column_sums = beta2 * column_sums + (1 - beta2) * np.sum(squares, -2)
            v = np.einsum("...i,...j,...->...ij", row_sums, column_sums, 1 / np.sum(row_sums, -1))
        else:
            v = beta2 * v + (1 - beta2) * squares
        u = g / np.sqrt(v)
        u = alpha * u / max(1.0, root_mean_square(u) / clip_threshold)
        if beta1 is not None:
            u = momentum = beta1 * momentum + (1 - beta1) * u
        x = x - alpha * weight_decay * x - u
    return x


HUGGING_FACES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"warmup_init": True}, {"warmup_init": True}),
    ({"eps": (1e-3, 0.1), "weight_decay": 0.2}, {"eps1": 1e-3, "eps2": 0.1, "weight_decay": 0.2}),
    (
        {"lr": 1e-2, "relative_step": False, "beta1": 0.9, "clip_threshold": 0.7, "decay_rate": -0.6},
        {"lr": 1e-2, "relative_step": False, "beta1": 0.9, "d": 0.7, "beta2_decay": -0.6},
    ),
    (
        {"lr": 1e-2, "relative_step": False, "scale_parameter": False, "beta1": 0.5, "weight_decay": 0.1},
        {"lr": 1e-2, "relative_step": False, "scale_parameter": False, "beta1": 0.5, "weight_decay": 0.1},
    ),
]


@ENGINES
@pytest.mark.parametrize(("theirs", "ours"), HUGGING_FACES)
def test_the_boxes_of_the_paper(theirs: dict[str, Any], ours: dict[str, Any], target: Target) -> None:
    """Shazeer & Stern 2018, Algorithms 4 to 6, and Hugging Face's options around them, over 100 steps."""
    many = [[gradient(step, i).numpy() for step in range(STEPS)] for i in range(len(SHAPES))]
    expected = [papers(p.detach().cpu().numpy(), g, **theirs) for p, g in zip(starts(target), many, strict=True)]
    assert_follows(create("adafactor_paper", starts(target), target, **ours), expected)


@pytest.mark.parametrize(("theirs", "ours"), HUGGING_FACES)
def test_hugging_faces_own(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    optimization = pytest.importorskip("transformers.optimization")
    expected = follow(optimization.Adafactor(starts(Target("reference")), **theirs))
    assert_follows(create("adafactor_paper", starts(Target("reference")), **ours), expected)


@ENGINES
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_decay": 0.1, "lr": 0.05},
        {"lr": 0.3, "d": 2.0, "beta2_decay": -0.5},
        {"maximize": True, "d": 1.5, "weight_decay": 0.01},
    ],
)
def test_torchs(settings: dict[str, Any], foreach: bool, target: Target) -> None:
    """`torch.optim.Adafactor` over 100 steps, states included: ε under √v̂, decay by lr, lr as the cap of ρ_t."""
    theirs = torch.optim.Adafactor(starts(Target("reference")), foreach=foreach, **settings)
    ours = ravine.Adafactor(starts(target), engine=target.engine, **settings)
    assert_follows(ours, follow(theirs))
    for p, q in zip(members(ours), members(theirs), strict=True):
        assert set(ours.state[p]) == set(theirs.state[q])
        for key, value in theirs.state[q].items():
            torch.testing.assert_close(ours.state[p][key].to(value.device), value, rtol=1e-12, atol=0.0)


@ENGINES
@pytest.mark.parametrize("eps1", [None, 1e-3])
def test_torchs_epsilon_is_a_floor(eps1: float | None, target: Target) -> None:
    """Gradients below eps1, by default the 2⁻²³ of float32, are not blown up to unit size: u = g/max(√v̂, eps1).

    float32, one step: a handful of roundings of 6e-8 each.
    """
    moved = []
    for make in (torch.optim.Adafactor, ravine.Adafactor):
        params = [Parameter(torch.zeros(4, 3)), Parameter(torch.zeros(5))]
        if make is ravine.Adafactor:
            optimizer = make(params, eps1=eps1, scale_parameter=True, engine=target.engine)
        else:
            optimizer = make(params, eps=(eps1, 1e-3))
        for i, p in enumerate(params):
            p.grad = 1e-9 * random(p.shape, i)
        optimizer.step()
        moved.append(params)
    for p, q in zip(*moved, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=0.0)
        assert 0 < p.abs().max() < 0.02 * 1e-5  # far below the 1e-5 of a whole step from 0


def test_the_signature_begins_as_torchs() -> None:
    """lr, beta2_decay, (eps,) d, weight_decay, with torch's defaults; the eps of torch is (eps1, eps2)."""
    ours = inspect.signature(ravine.Adafactor).parameters
    theirs = inspect.signature(torch.optim.Adafactor).parameters
    shared = [n for n in theirs if n in ours]
    positional = [n for n, q in ours.items() if n in theirs and q.kind is q.POSITIONAL_OR_KEYWORD and n != "eps"]
    assert positional == ["params", "lr", "beta2_decay", "d", "weight_decay"]
    assert all(ours[n].default == theirs[n].default for n in shared if n != "params")
    assert (adafactor.defaults["eps1"], adafactor.defaults["eps2"]) == theirs["eps"].default
