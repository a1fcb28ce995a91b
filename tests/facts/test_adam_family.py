"""Adadelta, Adamax, NAdam, RAdam, ADOPT: numbers and statements of their papers, from the rules and on every engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Parameter

import ravine
from conformance.support import Target, targets
from facts.test_adam import end_of_reddis_cycle
from ravine.explain.trace import trace
from ravine.rules import adadelta, adamax, adopt, nadam, nadamw, nesterov, radam, sgd

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)
STEPS = 30
Path = Iterator[np.ndarray]


def gradients(steps: int = STEPS) -> np.ndarray:
    """Gradients of five parameters whose sizes lie orders of magnitude apart."""
    return np.random.default_rng(4).normal(size=(steps, 5)) * np.array([1.0, 1e-3, 1e3, 30.0, 1e-6])


def assert_follows(name: str, target: Target, path: Path, **settings: Any) -> None:
    """The optimizer of this name, from ones, goes along `path` under `gradients`, to 1e-12."""
    p = Parameter(torch.ones(5, dtype=torch.float64, device=target.device))
    optimizer = ravine.create(name, [p], engine=target.engine, **settings)
    for g, expected in zip(gradients(), path, strict=True):
        p.grad = torch.tensor(g, device=target.device)
        optimizer.step()
        np.testing.assert_allclose(p.detach().cpu().numpy(), expected, rtol=1e-12, atol=1e-13)


# RAdam


def test_the_length_of_radams_memory() -> None:
    """Liu et al. 2020, Algorithm 2: ρ∞ = 2/(1 − β₂) − 1 and ρ_t = ρ∞ − 2tβ₂ᵗ/(1 − β₂ᵗ), as the rule computes them."""
    lines = [line for step in trace("radam", "x**2", 1.0, 6).steps for line in step.lines]
    assert [line.value for line in lines if line.symbol == "rho_inf"] == pytest.approx([1999.0] * 6, rel=1e-12)
    rho = [line.value for line in lines if line.symbol == "rho"]
    assert rho == pytest.approx([1.0, 1.9995, 2.9987, 3.9975, 4.9960, 5.9942], abs=6e-5)


def rectification(t: int, beta2: float = 0.999) -> float:
    """r_t, read from a step: under a constant gradient of 3, m̂ is 3 and √v̂ is 3."""
    m, v = (1 - 0.9 ** (t - 1)) * 3.0, (1 - beta2 ** (t - 1)) * 9.0
    return -radam(0.0, 3.0, m, v, t=t, lr=1.0, eps=0.0, beta2=beta2)[0]


def test_radam_rectifies_from_its_sixth_step_on() -> None:
    """The authors' code takes ρ > 5, where the paper has 4: for β₂ = 0.999 five steps of lr·m̂, then r_t·m̂/√v̂."""
    assert [rectification(t) for t in range(1, 6)] == pytest.approx([3.0] * 5, rel=1e-12)
    assert rectification(6) == pytest.approx(0.025821, abs=5e-7)
    assert rectification(100) == pytest.approx(0.2153, abs=5e-5)
    assert rectification(1000) == pytest.approx(0.6453, abs=5e-5)
    assert rectification(1_000_000) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("beta2", [0.0, 1 / 3, 0.5, 0.6])
def test_radam_with_a_short_memory_is_momentum(beta2: float) -> None:
    """ρ∞ ≤ 5 where β₂ ≤ 2/3, so the second moment is never trusted; ρ∞ − 2 and ρ∞ − 4 may be 0 then."""
    assert [rectification(t, beta2) for t in (1, 10, 1000)] == pytest.approx([3.0] * 3, rel=1e-12)


@ENGINES
def test_radam_by_its_algorithm(target: Target) -> None:
    """ε is added to the uncorrected √v, as in the authors' code and in torch's."""

    def path() -> Path:
        x, m, v = np.ones(5), np.zeros(5), np.zeros(5)
        for t, g in enumerate(gradients(), 1):
            m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
            u = m / (1 - 0.9**t)
            rho = 199 - 2 * t * 0.99**t / (1 - 0.99**t)
            if rho > 5:
                r = math.sqrt((rho - 4) / 195 * (rho - 2) / 197 * 199 / rho)
                u = u * r * math.sqrt(1 - 0.99**t) / (np.sqrt(v) + 1e-3)
            x = x - 0.01 * u
            yield x

    assert_follows("radam", target, path(), lr=0.01, betas=(0.9, 0.99), eps=1e-3)


# NAdam


def test_nadams_momentum_warms_up() -> None:
    """Dozat 2016: μ_t = β₁(1 − ½·0.96^(tψ)), here ψ = 0.004: half of β₁ at first, β₁ in the end."""
    (step,) = trace("nadam", "x**2", 1.0).steps
    mu = {line.symbol: line.value for line in step.lines if line.symbol in ("mu", "mu_next", "product")}
    assert mu["mu"] == mu["product"] == pytest.approx(0.9 * (1 - 0.5 * math.exp(0.004 * math.log(0.96))), rel=1e-14)
    assert round(mu["mu"], 4) == 0.4501 and round(mu["mu_next"], 4) == 0.4501
    *_, product = nadam(0.0, 1.0, 0.0, 0.0, 1.0, t=100_000)
    assert product == pytest.approx(0.9, rel=1e-7)


@ENGINES
def test_nadam_by_its_algorithm(target: Target) -> None:
    """Dozat 2016, Algorithm 2: m̂ = μ_{t+1}·m/(1 − Πμ_{1..t+1}) + (1 − μ_t)·g/(1 − Πμ_{1..t}), m with β₁."""

    def path() -> Path:
        x, m, v = np.ones(5), np.zeros(5), np.zeros(5)
        mu = 0.9 * (1 - 0.5 * 0.96 ** (0.1 * np.arange(1, STEPS + 2)))
        product = np.cumprod(mu)
        for t, g in enumerate(gradients(), 1):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            m_hat = mu[t] * m / (1 - product[t]) + (1 - mu[t - 1]) * g / (1 - product[t - 1])
            x = x - 0.01 * m_hat / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            yield x

    assert_follows("nadam", target, path(), lr=0.01, momentum_decay=0.1)


@given(g=st.floats(1e-3, 1e3), alpha=st.floats(1e-6, 1.0))
def test_the_first_steps_of_nadam_and_nadamw(g: float, alpha: float) -> None:
    """NAdamW's first step is (1 + β₁)α: the momentum that the next step would have is taken already.

    NAdam corrects both parts of m̂ for their bias, and moves μ₂(1 − β₁)/(1 − μ₁μ₂) + 1.
    """
    assert nadamw(0.0, g, 0.0, 0.0, t=1, lr=alpha, eps=0.0, weight_decay=0.0)[0] == pytest.approx(-1.9 * alpha)
    mu1, mu2 = (0.9 * (1 - 0.5 * 0.96 ** (0.004 * t)) for t in (1, 2))
    moved = mu2 * 0.1 / (1 - mu1 * mu2) + 1
    assert nadam(0.0, g, 0.0, 0.0, 1.0, t=1, lr=alpha, eps=0.0)[0] == pytest.approx(-moved * alpha)


@ENGINES
def test_nadamw_by_algoperfs_form(target: Target) -> None:
    """Dahl et al. 2023, AlgoPerf's baseline: AdamW with β₁m + (1 − β₁)g for m in the step, corrected by 1 − β₁ᵗ."""

    def path() -> Path:
        x, m, v = np.ones(5), np.zeros(5), np.zeros(5)
        for t, g in enumerate(gradients(), 1):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            ahead = (0.9 * m + 0.1 * g) / (1 - 0.9**t)
            x = x * (1 - 0.01 * 0.2) - 0.01 * ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            yield x

    assert_follows("nadamw", target, path(), lr=0.01, weight_decay=0.2)


# ADOPT


def test_adopts_first_step_only_looks() -> None:
    """Taniguchi et al. 2024, Algorithm 2: v₀ = g₀², and nothing moves, decay included."""
    assert adopt(2.0, 3.0, 0.0, 0.0, t=1, lr=0.5, weight_decay=0.1) == (2.0, 0.0, 9.0)


def test_adopt_clips_at_the_fourth_root_of_the_steps_before() -> None:
    """c_t = t^¼ for t steps after the first: 1 at step 2, 2 at step 17, 3 at step 82; without clipping any ratio."""
    for t, limit in ((2, 1.0), (17, 2.0), (82, 3.0)):
        for g in (1e6, -1e6):
            _, m, v = adopt(0.0, g, 0.0, 1.0, t=t, beta1=0.0)
            assert m == pytest.approx(math.copysign(limit, g), rel=1e-15)
            assert v == pytest.approx(0.9999 + 0.0001 * 1e12, rel=1e-12)
            assert adopt(0.0, g, 0.0, 1.0, t=t, beta1=0.0, clipped=False)[1] == g
        assert adopt(0.0, 0.5, 0.0, 1.0, t=t, beta1=0.0)[1] == 0.5
    assert adopt(0.0, 1e-9, 0.0, 0.0, t=5, beta1=0.0, clipped=False)[1] == pytest.approx(1e-3)  # g/max(√v, ε)


@ENGINES
@pytest.mark.parametrize("clipped", [True, False])
def test_adopt_by_its_algorithm(target: Target, clipped: bool) -> None:
    """g is divided by the v of the steps before, v is updated last, and there is no bias to correct."""

    def path() -> Path:
        first, *rest = gradients()
        x, m, v = np.ones(5), np.zeros(5), first**2
        yield x
        for t, g in enumerate(rest, 1):
            u = g / np.maximum(np.sqrt(v), 1e-6)
            m = 0.9 * m + 0.1 * (np.clip(u, -(t**0.25), t**0.25) if clipped else u)
            x = x * (1 - 0.01 * 0.3) - 0.01 * m
            v = 0.9999 * v + 0.0001 * g * g
            yield x

    assert_follows("adopt", target, path(), lr=0.01, weight_decay=0.3, clipped=clipped)


def test_adopt_converges_where_adam_does_not() -> None:
    """Taniguchi et al. 2024, section 5: on Reddi's cycle, with any β₂, ADOPT ends at −1, the best point."""
    assert end_of_reddis_cycle(adopt) < -0.999


# Adadelta


def test_adadeltas_first_step() -> None:
    """Zeiler 2012, Algorithm 1: without a past, √ε/√((1 − ρ)g² + ε) of the gradient."""
    p, v, a = adadelta(0.0, 2.0, 0.0, 0.0, t=1)
    assert -p == pytest.approx(math.sqrt(1e-6 / (0.4 + 1e-6)) * 2.0, rel=1e-12)
    assert (v, a) == (pytest.approx(0.4), pytest.approx(0.1 * p * p))


@ENGINES
def test_adadelta_by_its_algorithm(target: Target) -> None:
    """The average of squared steps of the past, divided by that of squared gradients up to now."""

    def path() -> Path:
        x, squares, steps = np.ones(5), np.zeros(5), np.zeros(5)
        for g in gradients():
            squares = 0.95 * squares + 0.05 * g * g
            step = np.sqrt((steps + 1e-6) / (squares + 1e-6)) * g
            steps = 0.95 * steps + 0.05 * step * step
            x = x - 0.5 * step
            yield x

    assert_follows("adadelta", target, path(), lr=0.5, rho=0.95)


def test_adadelta_is_invariant_to_the_scale_of_gradients() -> None:
    """Zeiler 2012, section 3.2: the step has the unit of the parameter. Where g² ≫ ε, its scale does not matter."""
    ends = []
    for scale in (1e3, 1e6):
        p = v = a = 0.0
        for t, (g, *_) in enumerate(gradients(), 1):
            p, v, a = adadelta(p, scale * (2.0 + g), v, a, t=t)
        ends.append(p)
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)


# Adamax


@given(st.lists(st.floats(-100, 100).filter(lambda g: abs(g) > 1e-3), min_size=1, max_size=20))
def test_adamaxs_norm_is_the_largest_faded_gradient(given_gradients: list[float]) -> None:
    """Kingma & Ba 2015, eqs. 10–12: u_t = max(β₂ᵗ⁻¹|g₁|, …, |g_t|), the limit of an Lᵖ norm for p → ∞."""
    p = m = v = 0.0
    for t, g in enumerate(given_gradients, 1):
        p, m, v = adamax(p, g, m, v, t=t, eps=0.0)
        faded = [0.999 ** (t - 1 - i) * abs(h) for i, h in enumerate(given_gradients[:t])]
        assert v == pytest.approx(max(faded), rel=1e-13)


def test_adamaxs_first_step() -> None:
    """Kingma & Ba 2015, section 7.1: α in the direction of −g, whatever the size of g (ε as torch has it: in u)."""
    for g in (1e-4, -3.0, 1e5):
        assert adamax(0.0, g, 0.0, 0.0, t=1, lr=0.5, eps=0.0)[0] == pytest.approx(-math.copysign(0.5, g), rel=1e-14)
    assert adamax(0.0, 1e-8, 0.0, 0.0, t=1, lr=0.5)[0] == pytest.approx(-0.25, rel=1e-12)


# Nesterov


def test_nesterov_is_torchs_sgd_with_its_flag() -> None:
    """A preset: momentum 0.9 and the look-ahead, in torch's form."""
    assert nesterov.preset_of is sgd and nesterov.title == "Nesterov"
    p, q = (Parameter(torch.linspace(-1, 2, 7, dtype=torch.float64)) for _ in range(2))
    ours: Callable[..., Any] = ravine.Nesterov  # type: ignore[attr-defined]
    pair = (ours([p], lr=0.02, engine="reference"), torch.optim.SGD([q], lr=0.02, momentum=0.9, nesterov=True))
    for step in range(100):
        for x, optimizer in zip((p, q), pair, strict=True):
            x.grad = torch.sin(3 * x.detach() + step)
            optimizer.step()
    torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-14)
