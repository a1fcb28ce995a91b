"""Adam's family: numbers and statements of its papers, from the rules and from optimizers on every engine."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Parameter

import ravine
from conformance.support import Target, targets
from ravine.rules import adam, adamw, amsgrad

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)


def parameter(value: float, target: Target) -> Parameter:
    return Parameter(torch.tensor([value], dtype=torch.float64, device=target.device))


def test_the_worked_exercise_by_the_rule() -> None:
    """L(θ) = (θ − 1)², θ₀ = 2, η = 0.1, λ = 0.01; Loshchilov & Hutter 2019, Algorithm 2, by hand:

    g = 2, m = 0.2, v = 0.004, m̂ = 2, v̂ = 4, Δ = 0.1·(2/(2 + 1e-8) + 0.02) = 0.102, θ₁ = 1.898, loss 1 → 0.8064.
    """
    theta, m, v = adamw(2.0, 2.0, 0, 0, t=1, lr=0.1, weight_decay=0.01)
    assert (theta, m, v) == pytest.approx((1.898, 0.2, 0.004), rel=1e-9)
    assert (theta - 1) ** 2 == pytest.approx(0.8064, abs=5e-5)
    assert theta == pytest.approx(2 - 0.1 * (2 / (2 + 1e-8) + 0.02), rel=1e-15)


@ENGINES
def test_the_worked_exercise_by_the_optimizer(target: Target) -> None:
    theta = parameter(2.0, target)
    optimizer = ravine.AdamW([theta], lr=0.1, betas=(0.9, 0.999), weight_decay=0.01, engine=target.engine)
    loss = (theta - 1).square().sum()
    loss.backward()
    optimizer.step()
    assert loss.item() == 1.0
    assert theta.item() == pytest.approx(1.898, rel=1e-9)
    assert (theta - 1).square().sum().item() == pytest.approx(0.806404, rel=1e-8)
    state = optimizer.state[theta]
    assert state["exp_avg"].item() == pytest.approx(0.2, rel=1e-15)
    assert state["exp_avg_sq"].item() == pytest.approx(0.004, rel=1e-12)


@given(g=st.floats(-1e6, 1e6), alpha=st.floats(1e-6, 1.0), eps=st.floats(1e-12, 1.0))
def test_adams_first_step(g: float, alpha: float, eps: float) -> None:
    """Kingma & Ba 2015, section 2: with the bias corrected, step 1 moves by −α·g/(|g| + ε), whatever the betas.

    Squares of gradients below 1e-150 vanish in double, and with them the root; they are rounded to 0 here.
    """
    g = 0.0 if abs(g) < 1e-150 else g
    for betas in ({}, {"beta1": 0.5, "beta2": 0.7}):
        moved, _, _ = adam(0.0, g, 0.0, 0.0, t=1, lr=alpha, eps=eps, **betas)
        assert moved == pytest.approx(-alpha * g / (abs(g) + eps), rel=1e-12)


@ENGINES
def test_adams_first_step_by_the_optimizer(target: Target) -> None:
    g = torch.tensor([1e-8, -3e-4, 0.0, 2.0, -1e5], dtype=torch.float64, device=target.device)
    p = Parameter(torch.zeros_like(g))
    p.grad = g.clone()
    ravine.Adam([p], lr=0.01, engine=target.engine).step()
    torch.testing.assert_close(p.detach(), -0.01 * g / (g.abs() + 1e-8), rtol=1e-13, atol=0.0)


def test_one_gradient_after_long_zeros() -> None:
    """Kingma & Ba 2015, section 2.1: α(1 − β₁)/√(1 − β₂) = 3.162α, the largest step, where gradients are sparse."""
    p, _, _ = adam(0.0, 5.0, 0.0, 0.0, t=1_000_000, lr=1.0, eps=0.0)
    assert -p == pytest.approx(0.1 / math.sqrt(0.001), rel=1e-12)
    assert round(-p, 3) == 3.162


def test_the_bias_of_the_first_moment() -> None:
    """Kingma & Ba 2015, section 3: an average from zero is too small by 1 − βᵗ: 0.1 at step 1, 0.878 at step 20."""
    m = v = 0.0
    seen = {}
    for t in range(1, 21):
        _, m, v = adam(0.0, 1.0, m, v, t=t)
        seen[t] = m
        assert m == pytest.approx(1 - 0.9**t, rel=1e-12) and v == pytest.approx(1 - 0.999**t, rel=1e-12)
    assert seen[1] == pytest.approx(0.1, rel=1e-15) and round(seen[20], 3) == 0.878


def moves(eps_form: str, steps: list[int]) -> list[float]:
    """How far Adam goes at these steps, in learning rates, under a constant gradient of 1e-6 and ε = 1e-5."""
    m = v = 0.0
    found = []
    for t in range(1, max(steps) + 1):
        p, m, v = adam(0.0, 1e-6, m, v, t=t, lr=1.0, eps=1e-5, eps_form=eps_form)
        if t in steps:
            found.append(-p)
    return found


def test_the_two_places_of_epsilon() -> None:
    """Kingma & Ba 2015, end of section 2: √(1 − β₂ᵗ)/(1 − β₁ᵗ)·m/(√v + ε̂) is not Algorithm 1 where g is as small as ε.

    The algorithm always moves 1e-6/(1e-6 + 1e-5) = 0.0909α; the other form (TensorFlow's) starts 28.84 times slower.
    """
    steps = [1, 10, 100, 1000, 10000]
    algorithm, hat = moves("torch", steps), moves("hat", steps)
    assert algorithm == pytest.approx([1 / 11] * 5, rel=1e-9)
    assert [float(f"{x:.3g}") for x in hat] == [0.00315, 0.00988, 0.0299, 0.0737, 0.0909]
    assert round(algorithm[0] / hat[0], 2) == 28.84


@ENGINES
def test_the_hat_form_by_the_optimizer(target: Target) -> None:
    p = parameter(0.0, target)
    optimizer = ravine.Adam([p], lr=1.0, eps=1e-5, eps_form="hat", engine=target.engine)
    m = v = position = 0.0
    for t in range(1, 8):
        p.grad = torch.full_like(p, 1e-6 * t)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * 1e-6 * t, 0.999 * v + 0.001 * (1e-6 * t) ** 2
        position -= math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (math.sqrt(v) + 1e-5)
        assert p.item() == pytest.approx(position, rel=1e-12)


def end_of_reddis_cycle(rule: ravine.Rule) -> float:
    """Reddi et al. 2018, section 3: gradient C = 4 every third step, else −1, so that −1 is the best of [−1, 1]."""
    size, x = 4.0, 0.0
    states = [0.0] * (3 if rule is amsgrad else 2)
    for t in range(1, 20_001):
        g = size if t % 3 == 1 else -1.0
        x, *states = rule(x, g, *states, t=t, lr=0.1 / math.sqrt(t), beta1=0.0, beta2=1 / (1 + size**2), eps=1e-16)
        x = min(max(x, -1.0), 1.0)
    return float(x)


def test_adam_goes_the_wrong_way_where_amsgrad_does_not() -> None:
    """Reddi, Kale & Kumar 2018, Theorem 1 and section 3: Adam ends at +1, the worst point; AMSGrad at −1, the best."""
    assert end_of_reddis_cycle(adam) > 0.999
    assert end_of_reddis_cycle(amsgrad) < -0.999


@ENGINES
def test_amsgrad_keeps_the_largest_second_moment(target: Target) -> None:
    """Reddi et al. 2018, Algorithm 2, with the bias corrected after the maximum, as torch has it."""
    p = parameter(1.0, target)
    optimizer = ravine.AMSGrad([p], lr=0.1, engine=target.engine)
    m = v = largest = 0.0
    position = 1.0
    for t, g in enumerate([3.0, -0.1, 0.2, 0.0, 4.0, 0.1], 1):
        p.grad = torch.full_like(p, g)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        largest = max(largest, v)
        position -= 0.1 * m / (1 - 0.9**t) / (math.sqrt(largest / (1 - 0.999**t)) + 1e-8)
        assert p.item() == pytest.approx(position, rel=1e-12)
        assert optimizer.state[p]["max_exp_avg_sq"].item() == pytest.approx(largest, rel=1e-12)


def test_adam_is_invariant_to_the_scale_of_gradients() -> None:
    """Kingma & Ba 2015, section 2.1: rescaling g scales m̂ and √v̂ alike; with ε = 0 nothing changes."""
    rng = np.random.default_rng(0)
    for factor in (2.0**-20, 2.0**20):
        a = b = (1.0, 0.0, 0.0)
        for t in range(1, 30):
            g = rng.normal()
            a, b = (adam(x[0], h, *x[1:], t=t, lr=0.01, eps=0.0) for x, h in ((a, g), (b, factor * g)))
            assert a[0] == pytest.approx(b[0], rel=1e-14)


@ENGINES
def test_lamb_by_its_algorithm(target: Target) -> None:
    """You et al. 2020, Algorithm 2: AdamW's direction, scaled by ‖p‖/‖u‖ for each parameter tensor."""
    rng = np.random.default_rng(1)
    start = rng.normal(size=(4, 3))
    p = Parameter(torch.tensor(start, device=target.device))
    optimizer = ravine.LAMB([p], lr=0.05, weight_decay=0.1, engine=target.engine)
    x, m, v = start, np.zeros_like(start), np.zeros_like(start)
    for t in range(1, 6):
        g = rng.normal(size=start.shape)
        p.grad = torch.tensor(g, device=target.device)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + 0.1 * x
        step = 0.05 * np.linalg.norm(x) / np.linalg.norm(u) * u
        assert np.linalg.norm(step) == pytest.approx(0.05 * np.linalg.norm(x), rel=1e-12)
        x = x - step
        np.testing.assert_allclose(p.detach().cpu().numpy(), x, rtol=1e-12)


@ENGINES
def test_lamb_starts_from_zero_weights(target: Target) -> None:
    """You et al. 2020, section 3: a trust ratio of 1 where ‖p‖ is 0, or such layers could never leave 0."""
    p = Parameter(torch.zeros(3, dtype=torch.float64, device=target.device))
    p.grad = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64, device=target.device)
    ravine.LAMB([p], lr=0.05, weight_decay=0.0, engine=target.engine).step()
    torch.testing.assert_close(p.detach(), -0.05 * torch.sign(p.grad), rtol=1e-5, atol=0.0)
