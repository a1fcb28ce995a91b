"""AdEMAMix, StableAdamW and Sophia: what their papers write, and what their peers compute."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ravine
from conformance.support import Target, targets
from facts.boxes import Bowl, descend_together, follow, parameter, twins
from ravine.rules import adamw, ademamix, sophia, stableadamw

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)
REFERENCE = Target("reference")
NUMBERS = st.floats(-100, 100, allow_subnormal=False)


# AdEMAMix


def ademamix_box(
    x: np.ndarray, bowl: Bowl, lr: float, betas: tuple[float, ...], alpha: float, T: tuple[float, float], decay: float
) -> Iterator[np.ndarray]:
    """Pagliardini et al. 2024, Algorithm 1, with its schedulers f_α and f_β₃; T = (T_α, T_β₃)."""
    b1, b2, b3 = betas
    m1, m2, nu = (np.zeros_like(x) for _ in range(3))
    for t in itertools.count(1):
        g = bowl.gradient(x, t)
        alpha_t = min(t * alpha / T[0], alpha)
        s = t / T[1]
        beta3_t = min(math.exp(math.log(b1) * math.log(b3) / ((1 - s) * math.log(b3) + s * math.log(b1))), b3)
        m1 = b1 * m1 + (1 - b1) * g
        m2 = beta3_t * m2 + (1 - beta3_t) * g
        nu = b2 * nu + (1 - b2) * g * g
        x = x - lr * ((m1 / (1 - b1**t) + alpha_t * m2) / (np.sqrt(nu / (1 - b2**t)) + 1e-8) + decay * x)
        yield x


@ENGINES
@pytest.mark.parametrize("warmups", [(40.0, 25.0), (25.0, 100.0), (1e-9, 1e-9)])
def test_ademamix_follows_its_box(warmups: tuple[float, float], target: Target) -> None:
    """The schedules end within the run, or after it, or there are none: as if they had ended long ago."""
    betas = (0.9, 0.999, 0.9999)
    given_warmups = warmups if warmups[0] >= 1 else (None, None)
    settings = {"lr": 0.02, "betas": betas, "alpha": 5.0, "weight_decay": 0.1}
    settings |= dict(zip(("alpha_warmup", "beta3_warmup"), given_warmups, strict=True))
    follow("ademamix", ademamix_box, settings, target, dict(lr=0.02, betas=betas, alpha=5.0, T=warmups, decay=0.1))


@pytest.mark.parametrize("warmup", [None, 30])
def test_ademamix_is_kozistrs(warmup: int | None) -> None:
    peer = pytest.importorskip("pytorch_optimizer")
    a, b = twins(REFERENCE)
    settings = {"lr": 0.01, "weight_decay": 0.1, "alpha": 8.0}
    ours = ravine.AdEMAMix(a, alpha_warmup=warmup, beta3_warmup=warmup, engine="reference", **settings)
    descend_together(ours, peer.AdEMAMix(b, weight_decouple=True, t_alpha_beta3=warmup, **settings))


@ENGINES
def test_ademamix_without_the_slow_average_is_adamw(target: Target) -> None:
    a, b = twins(target)
    ours = ravine.AdEMAMix(a, lr=0.01, alpha=0.0, beta3_warmup=10, weight_decay=0.1, engine=target.engine)
    descend_together(ours, torch.optim.AdamW(b, lr=0.01, weight_decay=0.1))


def slow_betas(steps: int, **settings: float) -> list[float]:
    """The beta3 of each step from the second on: what is left of the slow average under no gradient."""
    states, betas = (0.0, 0.0, 0.0), []
    for t in range(1, steps + 1):
        _, *states = ademamix(0.0, float(t == 1), *states, t=t, **settings)
        betas.append(states[1])
    return [later / earlier for earlier, later in itertools.pairwise(betas)]


def test_ademamixs_half_life_grows_linearly_from_beta1_to_beta3() -> None:
    """Pagliardini et al. 2024, appendix A.1: 1/ln β₃(t) is linear in t, from 1/ln β₁ at 0 to 1/ln β₃ at T, then still.

    The authors' code writes the same as a half-life, ln ½/ln β − 1, of which 1e-8 is added to β.
    """
    start, end = 1 / math.log(0.9), 1 / math.log(0.9999)
    for t, beta in enumerate(slow_betas(60, beta3_warmup=40), 2):
        done = min(t / 40, 1)
        assert 1 / math.log(beta) == pytest.approx((1 - done) * start + done * end, rel=1e-9)


def test_ademamixs_warmups_end_on_their_values_and_take_any_betas() -> None:
    assert slow_betas(60, beta3_warmup=40)[-1] == pytest.approx(0.9999, rel=1e-14)
    assert slow_betas(12, beta1=0.0, beta3=0.5, beta3_warmup=10)[-1] == pytest.approx(0.5, rel=1e-14)
    assert all(beta <= 0.5 for beta in slow_betas(12, beta1=0.9, beta3=0.5, beta3_warmup=10))
    _, m, slow, _ = ademamix(0.0, 3.0, 1.0, 1.0, 1.0, t=2, beta1=0.0, beta3=0.0, beta3_warmup=10)
    assert (m, slow) == (3.0, 3.0)


@pytest.mark.parametrize(("warmup", "share"), [(None, 1.0), (100, 0.25), (25, 1.0), (10, 1.0)])
def test_ademamixs_alpha_grows_linearly(warmup: int | None, share: float) -> None:
    """f_α(t) = min(tα/T, α) at t = 25, seen where all else is 1: m̂ = v̂ = 1 and a slow average of 1."""
    states = (1 - 0.9**24, 1.0, 1 - 0.999**24)
    p, *_ = ademamix(0.0, 1.0, *states, t=25, lr=1.0, alpha=6.0, alpha_warmup=warmup, eps=0.0)
    assert p == pytest.approx(-(1 + 6 * share), rel=1e-12)


# StableAdamW


def stableadamw_box(
    x: np.ndarray, bowl: Bowl, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> Iterator[np.ndarray]:
    """Wortsman et al. 2023, Algorithm 2, in its notation: v is the first moment and u the second."""
    v, u = np.zeros_like(x), np.zeros_like(x)
    for t in itertools.count(1):
        g = bowl.gradient(x, t)
        b1, b2 = (b * (1 - b ** (t - 1)) / (1 - b**t) for b in betas)
        v = b1 * v + (1 - b1) * g
        u = b2 * u + (1 - b2) * g * g
        rms = math.sqrt((g * g / np.maximum(u, eps * eps)).mean())
        eta = lr / max(1.0, rms)
        x = x - eta * weight_decay * x - eta * v / (np.sqrt(u) + eps)
        yield x


@ENGINES
@pytest.mark.parametrize(("betas", "weight_decay"), [((0.9, 0.99), 0.1), ((0.9, 0.999), 0.0), ((0.0, 0.5), 0.1)])
def test_stableadamw_follows_its_box(betas: tuple[float, float], weight_decay: float, target: Target) -> None:
    settings = {"lr": 0.05, "betas": betas, "eps": 1e-6, "weight_decay": weight_decay}
    follow("stableadamw", stableadamw_box, settings, target)


def test_stableadamw_is_kozistrs() -> None:
    peer = pytest.importorskip("pytorch_optimizer")
    a, b = twins(REFERENCE)
    settings = {"lr": 0.05, "weight_decay": 0.1, "eps": 1e-6}
    ours = ravine.StableAdamW(a, engine="reference", **settings)
    descend_together(ours, peer.StableAdamW(b, kahan_sum=False, **settings))


def test_stableadamw_is_optimis() -> None:
    peer = pytest.importorskip("optimi")
    a, b = twins(REFERENCE)
    settings = {"lr": 0.05, "weight_decay": 0.1}
    ours = ravine.StableAdamW(a, engine="reference", **settings)
    descend_together(ours, peer.StableAdamW(b, kahan_sum=False, foreach=False, triton=False, **settings))


@ENGINES
def test_stableadamw_without_surprises_is_adamw(target: Target) -> None:
    """Under gradients of one size RMS(g/√v) is 1, and corrected betas are the same moments as corrected moments."""
    a, b = twins(target)
    ours = ravine.StableAdamW(a, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1, engine=target.engine)
    theirs = torch.optim.AdamW(b, lr=0.01, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1)
    for t in range(40):
        for i, (p, q) in enumerate(zip(a, b, strict=True)):
            signs = np.sign(Bowl(tuple(p.shape), i).noise(tuple(p.shape), t + 2))
            p.grad, q.grad = (torch.tensor(2 * signs, device=target.device) for _ in range(2))
        ours.step()
        theirs.step()
        for p, q in zip(a, b, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@given(size=st.floats(1e-3, 1e6), eps=st.sampled_from([0.0, 1e-6, 1e-2]), seed=st.integers(0, 1000))
def test_stableadamws_step_has_an_rms_of_lr_at_most(size: float, eps: float, seed: int) -> None:
    """Without momentum the step is lr·g/(√v + ε) over max(1, RMS(g/max(√v, ε))), however much gradients jump."""
    rng = np.random.default_rng(seed)
    x, states = np.zeros(20), (np.zeros(20), np.zeros(20))
    for t in range(1, 12):
        g = rng.normal(size=20) * (size if t % 4 == 0 else 1.0)
        moved, *states = stableadamw(x, g, *states, t=t, lr=0.5, beta1=0.0, beta2=0.99, eps=eps, weight_decay=0.0)
        assert np.sqrt(((moved - x) ** 2).mean()) <= 0.5 * (1 + 1e-12)
        x = moved


def test_stableadamw_takes_a_jump_at_a_tenth_of_adamws_step() -> None:
    """After 999 gradients of 1e-3, one of 1 moves AdamW by lr/√(1 − β₂) = 10 lr; here that is divided out."""
    v = 1e-6 * (1 - 0.99**999)
    p, *_ = adamw(0.0, 1.0, 0.0, v, t=1000, lr=1.0, beta1=0.0, beta2=0.99, weight_decay=0.0)
    q, *_ = stableadamw(0.0, 1.0, 0.0, 1e-6, t=1000, lr=1.0, beta1=0.0, beta2=0.99, weight_decay=0.0)
    assert p == pytest.approx(-10.0, rel=1e-3)
    assert q == pytest.approx(-1.0, rel=1e-5)


# Sophia


def sophia_box(
    x: np.ndarray,
    bowl: Bowl,
    lr: float,
    betas: tuple[float, float],
    rho: float,
    eps: float,
    weight_decay: float,
    k: int,
) -> Iterator[np.ndarray]:
    """Liu et al. 2023, Algorithm 3, with γ = rho: decay before the step, a new h every k steps from the first."""
    b1, b2 = betas
    m, h = np.zeros_like(x), np.zeros_like(x)
    for t in itertools.count(1):
        m = b1 * m + (1 - b1) * bowl.gradient(x, t)
        if t % k == 1:
            h = b2 * h + (1 - b2) * bowl.hessian(t)
        x = x - lr * weight_decay * x
        x = x - lr * np.clip(m / np.maximum(rho * h, eps), -1, 1)
        yield x


@ENGINES
@pytest.mark.parametrize(("rho", "weight_decay"), [(0.5, 0.1), (50.0, 0.0)])
def test_sophia_follows_its_box(rho: float, weight_decay: float, target: Target) -> None:
    settings = {"lr": 0.02, "betas": (0.965, 0.99), "rho": rho, "eps": 1e-12, "weight_decay": weight_decay}
    follow("sophia", sophia_box, settings, target, {**settings, "k": 5}, hessian_every=5)


def test_sophia_is_kozistrs() -> None:
    """kozistr's SophiaH clips m/max(h, ε′) at ±p: our step of lr = lr′·p with rho = p, ε = p·ε′ and λ = λ′/p."""
    peer = pytest.importorskip("pytorch_optimizer")
    a, b = twins(REFERENCE)
    p_clip, peers_lr, eps, decay = 0.5, 0.1, 1e-4, 0.1
    ours = ravine.Sophia(
        a, lr=peers_lr * p_clip, betas=(0.96, 0.99), rho=p_clip, eps=p_clip * eps, weight_decay=decay / p_clip,
        engine="reference",
    )  # fmt: skip
    theirs = peer.SophiaH(
        b, lr=peers_lr, betas=(0.96, 0.99), p=p_clip, eps=eps, weight_decay=decay, update_period=10**9
    )
    bowls = [Bowl(tuple(p.shape), i) for i, p in enumerate(a)]
    for t in range(1, 41):
        for p, q, bowl in zip(a, b, bowls, strict=True):
            g = torch.tensor(bowl.gradient(p.detach().numpy(), t))
            p.grad, q.grad = g, g.clone()
        estimates = [torch.tensor(bowl.hessian(t)) for bowl in bowls] if t % 4 == 1 else None
        if estimates:
            ours.inputs["hessian"] = dict(zip(a, estimates, strict=True))
        ours.step()
        theirs.step(hessian=[h.clone() for h in estimates] if estimates else None)
        for p, q in zip(a, b, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@given(g=NUMBERS, m=NUMBERS, h=NUMBERS, rho=st.floats(0, 100))
def test_sophias_step_is_at_most_lr(g: float, m: float, h: float, rho: float) -> None:
    p, *_ = sophia(0.0, g, m, h, t=3, lr=1.0, rho=rho, weight_decay=0.0)
    assert abs(p) <= 1.0


@given(g=NUMBERS, m=NUMBERS, h=st.floats(-100, 1e-6))
def test_sophia_is_signs_where_curvature_is_small_or_negative(g: float, m: float, h: float) -> None:
    """Liu et al. 2023, section 2.2: where γh is below |m|, and wherever h is negative, Sophia is sign momentum."""
    p, new, _ = sophia(0.0, g, m, h, t=3, lr=1.0, weight_decay=0.0)
    if abs(new) > 0.04 * 1e-6:
        assert p == -np.sign(new)


@ENGINES
def test_sophia_without_a_hessian_is_sign_momentum(target: Target) -> None:
    p = parameter(np.zeros(100), target)
    optimizer = ravine.Sophia([p], lr=2.0**-8, weight_decay=0.0, engine=target.engine)
    average = np.zeros(100)
    for t in range(20):
        before = p.detach().clone()
        g = Bowl((100,), 3).noise((100,), t)
        p.grad = torch.tensor(g, device=target.device)
        optimizer.step()
        average = 0.965 * average + 0.035 * g
        np.testing.assert_array_equal((p - before).detach().cpu().numpy(), -(2.0**-8) * np.sign(average))


@ENGINES
def test_sophia_with_an_exact_hessian_is_newton(target: Target) -> None:
    """Without averages, with γ = 1 and lr 1, m/h is Newton's step, which ends a quadratic at once."""
    curvature, goal = torch.tensor([0.5, 3.0, 100.0]).double().to(target.device), 0.9
    p = parameter(np.array([0.1, 1.5, 0.9]), target)
    optimizer = ravine.Sophia([p], lr=1.0, betas=(0.0, 0.0), rho=1.0, weight_decay=0.0, engine=target.engine)
    (0.5 * curvature * (p - goal) ** 2).sum().backward()
    optimizer.inputs["hessian"] = {p: curvature}
    optimizer.step()
    np.testing.assert_allclose(p.detach().cpu().numpy(), goal, rtol=1e-15)


@ENGINES
def test_sophias_hessian_moves_only_when_it_is_given(target: Target) -> None:
    """h ← β₂h + (1 − β₂)ĥ at the steps with an estimate, and for the parameters that have one; else it stays."""
    p, q = parameter(np.ones(3), target), parameter(np.ones(3), target)
    optimizer = ravine.Sophia([p, q], engine=target.engine)
    expected = 0.0
    for t in range(9):
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
        if t % 3 == 0:
            optimizer.inputs["hessian"] = {p: torch.full_like(p, 2.0 + t)}
            expected = 0.99 * expected + (1 - 0.99) * (2.0 + t)
        optimizer.step()
        np.testing.assert_allclose(optimizer.state[p]["hessian"].cpu().numpy(), expected, rtol=1e-14)
        assert not optimizer.state[q]["hessian"].any()
