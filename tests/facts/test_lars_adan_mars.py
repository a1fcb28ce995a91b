"""LARS, Adan and MARS: what their papers write, and what their peers compute."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import ravine
from conformance.support import Target, targets
from facts.boxes import Bowl, descend_together, follow, parameter, twins
from ravine.rules import adan, lars, mars

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)
REFERENCE = Target("reference")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lars", {"momentum": 0.9, "trust_coefficient": 1e-3, "weight_decay": 0.0}),  # the paper; timm's code for decay
        ("adan", {"lr": 1e-3, "betas": (0.98, 0.92, 0.99), "eps": 1e-8, "weight_decay": 0.0}),
        ("mars", {"lr": 3e-3, "betas": (0.95, 0.99), "eps": 1e-8, "gamma": 0.025, "weight_decay": 0.0}),
        ("ademamix", {"lr": 1e-3, "betas": (0.9, 0.999, 0.9999), "alpha": 5.0, "eps": 1e-8, "weight_decay": 0.0}),
        ("stableadamw", {"betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.01}),  # optimi's code
        ("sophia", {"lr": 1e-4, "betas": (0.965, 0.99), "rho": 0.04, "eps": 1e-12, "weight_decay": 0.1}),  # eps: paper
    ],
)
def test_defaults_are_the_authors(name: str, expected: dict[str, object]) -> None:
    """Those of the authors' code, where not said otherwise; alpha 5 is the paper's."""
    assert {k: v for k, v in ravine.info(name).defaults.items() if k in expected} == expected


# LARS


def lars_box(
    x: np.ndarray, bowl: Bowl, lr: float, momentum: float, trust_coefficient: float, weight_decay: float, **_: object
) -> Iterator[np.ndarray]:
    """You, Gitman & Ginsburg 2017, Algorithm 1: γ = lr, m = momentum, η = trust_coefficient, β = weight_decay."""
    v = np.zeros_like(x)
    for t in itertools.count(1):
        g = bowl.gradient(x, t)
        local = trust_coefficient * np.linalg.norm(x) / (np.linalg.norm(g) + weight_decay * np.linalg.norm(x))
        v = momentum * v + lr * local * (g + weight_decay * x)
        x = x - v
        yield x


@ENGINES
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 0.0), (0.9, 0.05), (0.0, 0.05)])
def test_lars_follows_its_box(momentum: float, weight_decay: float, target: Target) -> None:
    settings = {"lr": 2.0, "momentum": momentum, "trust_coefficient": 1e-2, "weight_decay": weight_decay, "eps": 0.0}
    follow("lars", lars_box, settings, target)


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_is_timms(nesterov: bool) -> None:
    """timm's Lars, with the ratio applied to all as in the paper (`always_adapt`); it shares our eps and our lr."""
    peer = pytest.importorskip("timm.optim")
    a, b = twins(REFERENCE)
    settings = {"lr": 0.5, "momentum": 0.8, "weight_decay": 0.02, "nesterov": nesterov}
    ours = ravine.LARS(a, trust_coefficient=0.1, engine="reference", **settings)
    descend_together(ours, peer.Lars(b, trust_coeff=0.1, always_adapt=True, **settings))


def test_lars_on_matrices_is_kozistrs() -> None:
    """kozistr's LARS adds no eps, and leaves vectors to plain momentum."""
    peer = pytest.importorskip("pytorch_optimizer")
    a, b = twins(REFERENCE, ((5, 3), (4, 6)))
    settings = {"lr": 0.5, "momentum": 0.8, "weight_decay": 0.02}
    ours = ravine.LARS(a, trust_coefficient=0.1, eps=0.0, engine="reference", **settings)
    descend_together(ours, peer.LARS(b, trust_coefficient=0.1, **settings))


@ENGINES
def test_lars_does_not_see_the_scale_of_gradients(target: Target) -> None:
    """A layer's rate is divided by ‖∇L‖: gradients 1024 times as large move it to the same bits."""
    small, large = twins(target)
    optimizers = [ravine.LARS(params, lr=1.0, eps=0.0, engine=target.engine) for params in (small, large)]
    for t in range(10):
        for i, (p, q) in enumerate(zip(small, large, strict=True)):
            p.grad = torch.tensor(Bowl(tuple(p.shape), i).noise(tuple(p.shape), t + 2), device=target.device)
            q.grad = 1024 * p.grad
        for optimizer in optimizers:
            optimizer.step()
        assert all(torch.equal(p, q) for p, q in zip(small, large, strict=True))


def test_lars_first_step_is_a_fixed_share_of_the_weights() -> None:
    """Without decay ‖Δ‖ = lr·η·‖w‖, whatever the gradient; zero weights have no norm to share and take the gradient."""
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(4, 6)), 1e5 * rng.normal(size=(4, 6))
    moved, _ = lars(x, g, np.zeros_like(x), t=1, lr=0.5, trust_coefficient=0.02, eps=0.0)
    assert np.linalg.norm(moved - x) == pytest.approx(0.5 * 0.02 * np.linalg.norm(x), rel=1e-12)
    moved, _ = lars(0 * x, g, np.zeros_like(x), t=1, lr=0.5)
    np.testing.assert_allclose(moved, -0.5 * g, rtol=1e-15)


def test_lars_refuses_nesterov_without_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov=True needs momentum"):
        ravine.LARS([parameter(np.ones(2), REFERENCE)], momentum=0.0, nesterov=True)


# Adan


def adan_box(
    x: np.ndarray, bowl: Bowl, lr: float, betas: tuple[float, ...], eps: float, weight_decay: float, no_prox: bool
) -> Iterator[np.ndarray]:
    """Xie et al. 2022, Algorithm 1, whose β are 1 − ours; moments from zero, their bias corrected, as the authors'."""
    b1, b2, b3 = (1 - beta for beta in betas)
    m, v, n = (np.zeros_like(x) for _ in range(3))
    old = None
    for k in itertools.count(1):
        g = bowl.gradient(x, k)
        old = g if old is None else old
        m = (1 - b1) * m + b1 * g
        v = (1 - b2) * v + b2 * (g - old)
        n = (1 - b3) * n + b3 * (g + (1 - b2) * (g - old)) ** 2
        m_hat, v_hat, n_hat = (s / (1 - (1 - b) ** k) for s, b in ((m, b1), (v, b2), (n, b3)))
        step = lr / (np.sqrt(n_hat) + eps) * (m_hat + (1 - b2) * v_hat)
        x = (1 - lr * weight_decay) * x - step if no_prox else (x - step) / (1 + lr * weight_decay)
        old = g
        yield x


@ENGINES
@pytest.mark.parametrize("no_prox", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_adan_follows_its_box(weight_decay: float, no_prox: bool, target: Target) -> None:
    settings = {"lr": 0.05, "betas": (0.98, 0.92, 0.99), "eps": 1e-8, "weight_decay": weight_decay, "no_prox": no_prox}
    follow("adan", adan_box, settings, target)


@pytest.mark.parametrize("no_prox", [False, True])
def test_adan_is_timms(no_prox: bool) -> None:
    peer = pytest.importorskip("timm.optim")
    a, b = twins(REFERENCE)
    settings = {"lr": 0.01, "weight_decay": 0.1, "no_prox": no_prox}
    descend_together(ravine.Adan(a, engine="reference", **settings), peer.Adan(b, **settings))


@pytest.mark.parametrize("no_prox", [False, True])
def test_adan_is_kozistrs(no_prox: bool) -> None:
    peer = pytest.importorskip("pytorch_optimizer")
    a, b = twins(REFERENCE)
    ours = ravine.Adan(a, lr=0.01, weight_decay=0.1, no_prox=no_prox, engine="reference")
    descend_together(ours, peer.Adan(b, lr=0.01, weight_decay=0.1, weight_decouple=no_prox))


@ENGINES
def test_adan_without_differences_is_adam(target: Target) -> None:
    """At β₂ = 0 the difference has no weight in any moment that moves: Adam with (β₁, β₃)."""
    a, b = twins(target)
    ours = ravine.Adan(a, lr=0.01, betas=(0.9, 0.0, 0.99), engine=target.engine)
    descend_together(ours, torch.optim.Adam(b, lr=0.01, betas=(0.9, 0.99)))


def test_adan_moves_by_lr_under_a_constant_gradient() -> None:
    """Nothing changes, so that nothing is extrapolated: m̂ = g and n̂ = g² at every step."""
    p, states = 0.0, (0.0, 0.0, 0.0, 0.0)
    for t in range(1, 31):
        p, *states = adan(p, -2.0, *states, t=t, lr=0.5, eps=0.0)
        assert p == pytest.approx(0.5 * t, rel=1e-12)


def test_adan_looks_ahead_by_the_change_of_the_gradient() -> None:
    """From 1 to 3 with all β = 1/2: m̂ = 7/3, v̂ = (1/2·2)/(3/4) = 4/3, n̂ = (1/4 + 1/2·16)/(3/4) = 11."""
    p, *states = adan(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, t=1, lr=0.0, beta1=0.5, beta2=0.5, beta3=0.5)
    p, *states = adan(0.0, 3.0, *states, t=2, lr=1.0, beta1=0.5, beta2=0.5, beta3=0.5, eps=0.0)
    assert p == pytest.approx(-(7 / 3 + 0.5 * 4 / 3) / 11**0.5, rel=1e-14)
    assert states[-1] == -3.0


@ENGINES
@pytest.mark.parametrize(("no_prox", "factor"), [(False, 1 / (1 + 0.1 * 0.5)), (True, 1 - 0.1 * 0.5)])
def test_adans_own_decay_divides(no_prox: bool, factor: float, target: Target) -> None:
    """Xie et al. 2022, Algorithm 1: weights without a gradient shrink by 1/(1 + ηλ) a step, not by 1 − ηλ."""
    p = parameter(np.array([3.0, -4.0]), target)
    optimizer = ravine.Adan([p], lr=0.1, weight_decay=0.5, no_prox=no_prox, engine=target.engine)
    for _ in range(20):
        p.grad = torch.zeros_like(p)
        optimizer.step()
    np.testing.assert_allclose(p.detach().cpu().numpy(), np.array([3.0, -4.0]) * factor**20, rtol=1e-13)


def test_adan_takes_three_betas() -> None:
    p = parameter(np.ones(2), REFERENCE)
    assert ravine.Adan([p]).param_groups[0]["betas"] == (0.98, 0.92, 0.99)
    with pytest.raises(ValueError, match="betas must be 3 numbers"):
        ravine.Adan([p], betas=(0.9, 0.99))


# MARS


def mars_box(
    x: np.ndarray, bowl: Bowl, lr: float, betas: tuple[float, float], gamma: float, eps: float, weight_decay: float
) -> Iterator[np.ndarray]:
    """Yuan et al. 2024, MARS-AdamW with the last batch's gradient (MARS-approx), from x₁ = x₀: no first correction."""
    b1, b2 = betas
    m, v = np.zeros_like(x), np.zeros_like(x)
    old = bowl.gradient(x, 1)
    for t in itertools.count(1):
        g = bowl.gradient(x, t)
        c = g + gamma * b1 / (1 - b1) * (g - old)
        if np.linalg.norm(c) > 1:
            c = c / np.linalg.norm(c)
        m = b1 * m + (1 - b1) * c
        v = b2 * v + (1 - b2) * c * c
        x = x - lr * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * x)
        old = g
        yield x


@ENGINES
@pytest.mark.parametrize("gamma", [0.0, 0.025, 0.5])
def test_mars_follows_its_box(gamma: float, target: Target) -> None:
    settings = {"lr": 0.02, "betas": (0.95, 0.99), "gamma": gamma, "eps": 1e-8, "weight_decay": 0.1}
    follow("mars", mars_box, settings, target)


def test_mars_is_timms() -> None:
    """timm's Mars leaves vectors to AdamW unless `optimize_1d` is set, and takes a plain first step as we do."""
    peer = pytest.importorskip("timm.optim")
    a, b = twins(REFERENCE)
    ours = ravine.MARS(a, lr=0.01, weight_decay=0.1, engine="reference")
    descend_together(ours, peer.Mars(b, lr=0.01, betas=(0.95, 0.99), weight_decay=0.1, optimize_1d=True))


@ENGINES
def test_mars_without_correction_is_adamw_on_clipped_gradients(target: Target) -> None:
    a, b = twins(target)
    ours = ravine.MARS(a, lr=0.01, gamma=0.0, weight_decay=0.1, engine=target.engine)
    theirs = torch.optim.AdamW(b, lr=0.01, betas=(0.95, 0.99), weight_decay=0.1)
    clipped = 0
    for t in range(50):
        for i, (p, q) in enumerate(zip(a, b, strict=True)):
            g = 0.4 * Bowl(tuple(p.shape), i).noise(tuple(p.shape), t + 2)
            p.grad = torch.tensor(g, device=target.device)
            q.grad = torch.tensor(g / max(np.linalg.norm(g), 1.0), device=target.device)
            clipped += np.linalg.norm(g) > 1
        ours.step()
        theirs.step()
        for p, q in zip(a, b, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    assert 0 < clipped < 150


def test_mars_corrects_by_the_change_and_clips_to_one() -> None:
    """From g = 0.1 to 0.2 with γβ₁/(1 − β₁) = 3: c = 0.2 + 3·0.1 = 0.5; to 0.6 it would be 2.1 and is 1."""
    for g, c in ((0.2, 0.5), (0.6, 1.0), (-0.6, -1.0)):
        p, m, v, old = mars(0.0, 0.1, 0.0, 0.0, 0.0, t=1, beta1=0.75, beta2=0.0, gamma=1.0)
        assert (m, old) == (pytest.approx(0.25 * 0.1, rel=1e-14), 0.1)
        p, m, v, old = mars(p, g, m, v, old, t=2, beta1=0.75, beta2=0.0, gamma=1.0)
        assert (v, old) == (pytest.approx(c**2, rel=1e-14), g)
        assert m == pytest.approx(0.75 * 0.25 * 0.1 + 0.25 * c, rel=1e-14)
