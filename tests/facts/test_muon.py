"""Muon and NorMuon: what their authors write, what torch and other libraries do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

import ravine
from conformance.support import Target, targets

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)
SHAPES = ((6, 6), (4, 9), (9, 4), (5, 2, 3))
JORDAN = (3.4445, -4.7750, 2.0315)


def newton_schulz(x: np.ndarray) -> np.ndarray:
    """Jordan et al. 2024, in float64: five steps of aX + (bA + cA²)X, A = XXᵀ, of X/(‖X‖ + 1e-7)."""
    a, b, c = JORDAN
    if x.shape[0] > x.shape[1]:
        return newton_schulz(x.T).T
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x


def starts(dtype: torch.dtype = torch.float64, device: str = "cpu") -> list[Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(device, dtype)) for s in SHAPES]


def gradients(steps: int, size: float = 1.0) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [[size * torch.randn(s, generator=generator, dtype=torch.float64) for s in SHAPES] for _ in range(steps)]


def follow(optimizer: torch.optim.Optimizer, params: list[Parameter], steps: list[list[Tensor]]) -> None:
    for grads in steps:
        for p, g in zip(params, grads, strict=True):
            p.grad = g.to(p.device, p.dtype)
        optimizer.step()


@ENGINES
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
def test_muon_is_its_algorithm(target: Target, nesterov: bool, scale: str) -> None:
    """Jordan et al. 2024; scale `match_rms_adamw`: Liu et al. 2025, arXiv:2502.16982, section 2.2."""
    params = starts(device=target.device)
    optimizer = ravine.Muon(params, lr=0.02, nesterov=nesterov, scale=scale, engine=target.engine)
    steps = gradients(6)
    follow(optimizer, params, steps)
    for i, p in enumerate(starts()):
        w = p.detach().numpy().reshape(len(p), -1).copy()
        m = np.zeros_like(w)
        for grads in steps:
            g = grads[i].numpy().reshape(w.shape)
            m = 0.95 * m + 0.05 * g
            u = newton_schulz(0.95 * m + 0.05 * g if nesterov else m)
            n, k = w.shape
            factor = math.sqrt(max(1.0, n / k)) if scale == "original" else 0.2 * math.sqrt(max(n, k))
            w = w - 0.02 * 0.1 * w - 0.02 * factor * u
        found = params[i].detach().cpu().numpy().reshape(w.shape)
        np.testing.assert_allclose(found, w, rtol=0, atol=1e-10)
        np.testing.assert_allclose(optimizer.state[params[i]]["momentum_buffer"].cpu().numpy().reshape(w.shape), m)


@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_torchs_muon_but_for_its_type(scale: str, nesterov: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.optim.Muon orthogonalizes in bfloat16. With the iteration in float64 put in its place, the rest is equal.

    Its norm is clamped at 1e-7 where Jordan's adds 1e-7: a relative difference of 1e-7 over the gradient's norm.
    """
    muon = pytest.importorskip("torch.optim._muon")
    exact = lambda x, *_: torch.from_numpy(newton_schulz(x.numpy()))  # noqa: E731
    monkeypatch.setattr(muon, "_zeropower_via_newtonschulz", exact)
    ours, theirs = starts()[:3], starts()[:3]
    steps = [grads[:3] for grads in gradients(30, size=1e3)]
    settings = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.2, "nesterov": nesterov}
    follow(ravine.Muon(ours, scale=scale, engine="reference", **settings), ours, steps)
    follow(torch.optim.Muon(theirs, adjust_lr_fn=scale, **settings), theirs, steps)
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-10)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon before 2.9")
@ENGINES
def test_torchs_muon_as_it_is(target: Target) -> None:
    """Same defaults, same way: after ten steps, apart by no more than bfloat16 is wrong on such matrices, 3 %."""
    ours, theirs = starts(torch.float32, target.device)[:3], starts(torch.float32)[:3]
    steps = [grads[:3] for grads in gradients(10)]
    follow(ravine.Muon(ours, engine=target.engine), ours, steps)
    optimizer = torch.optim.Muon(theirs)
    follow(optimizer, theirs, steps)
    for p, q, start in zip(ours, theirs, starts(torch.float32), strict=False):
        assert (p.detach().cpu() - q).norm() <= 0.03 * (q - start).norm()
    for name in ("lr", "weight_decay", "momentum", "nesterov"):
        assert ravine.rules.muon.defaults[name] == optimizer.defaults[name]


@ENGINES
def test_an_update_has_the_size_that_its_scale_says(target: Target) -> None:
    """‖u‖ is √min(n, k) times what Newton–Schulz leaves of ones (0.682 to 1.134), times the scale."""
    for shape in ((40, 10), (10, 40), (20, 20), (8, 4, 3, 3)):
        n, k = shape[0], math.prod(shape[1:])
        for scale, factor in (("original", max(1, n / k) ** 0.5), ("match_rms_adamw", 0.2 * max(n, k) ** 0.5)):
            p = Parameter(torch.zeros(shape, device=target.device))
            p.grad = torch.randn(shape, generator=torch.Generator().manual_seed(4)).to(target.device)
            ravine.Muon([p], lr=1.0, scale=scale, engine=target.engine).step()
            assert 0.67 <= p.detach().norm().item() / (factor * min(n, k) ** 0.5) <= 1.15


@ENGINES
@pytest.mark.parametrize("name", ["muon", "normuon"])
def test_decay_is_by_the_unscaled_learning_rate(name: str, target: Target) -> None:
    """A zero gradient has a zero update, so weights shrink by lr·λ a step, whatever the scale."""
    for scale in ("original", "match_rms_adamw"):
        p = Parameter(torch.full((8, 2), 3.0, dtype=torch.float64, device=target.device))
        p.grad = torch.zeros_like(p)
        optimizer = ravine.create(name, [p], lr=0.5, weight_decay=0.1, scale=scale, engine=target.engine)
        for _ in range(3):
            optimizer.step()
        torch.testing.assert_close(p.detach(), torch.full_like(p, 3.0 * 0.95**3), rtol=1e-12, atol=0)


def test_query_key_and_value_are_three_matrices() -> None:
    """Jordan et al. 2024: fused, one of them takes the singular values of all; apart, each has its own."""
    parts = [torch.randn(8, 8, generator=torch.Generator().manual_seed(i)) * 10.0**-i for i in range(3)]
    fused, apart = Parameter(torch.zeros(24, 8)), [Parameter(torch.zeros(8, 8)) for _ in parts]
    fused.grad = torch.cat(parts)
    for p, g in zip(apart, parts, strict=True):
        p.grad = g
    for params in ([fused], apart):
        ravine.Muon(params, lr=1.0, weight_decay=0.0, engine="reference").step()
    sizes = [p.detach().norm() for p in apart]
    assert max(sizes) < 1.3 * min(sizes)
    assert fused.detach()[:8].norm() > 30 * fused.detach()[16:].norm()


@pytest.mark.parametrize("name", ["muon", "normuon"])
def test_vectors_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="takes matrices"):
        ravine.create(name, [Parameter(torch.ones(7))])
    rule, x = ravine.lookup(name), np.ones(7)
    with pytest.raises(ValueError, match="needs a matrix"):
        rule(x, x, *([x] * len(rule.state)), t=1)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"steps": 0}, "steps must be in"),
        ({"steps": 2.5}, "steps must be in"),
        ({"coefficients": "jordon"}, "coefficients must be one of 'jordan', 'polar_express'"),
        ({"scale": "spectral"}, "scale must be one of 'original', 'match_rms_adamw'"),
        ({"momentum": 1.0}, "momentum must be in"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], match: str) -> None:
    for optimizer in (ravine.Muon, ravine.NorMuon):
        with pytest.raises(ValueError, match=match):
            optimizer([Parameter(torch.ones(2, 2))], **settings)


def normuon(w: np.ndarray, steps: list[np.ndarray], factor: float | None, lr: float) -> np.ndarray:
    """Li et al. 2025, Algorithm 1, in float64; with a factor the norm is kept, as in the authors' code."""
    m, v = np.zeros_like(w), np.zeros((len(w), 1))
    for g in steps:
        m = 0.95 * m + 0.05 * g
        u = newton_schulz(0.95 * m + 0.05 * g)
        v = 0.95 * v + 0.05 * (u * u).mean(1, keepdims=True)
        normalised = u / (np.sqrt(v) + 1e-10)
        size = 0.2 * math.sqrt(w.size) if factor is None else factor * np.linalg.norm(u)
        w = w - lr * size / np.linalg.norm(normalised) * normalised
    return w


@ENGINES
@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
def test_normuon_is_its_algorithm(target: Target, scale: str) -> None:
    params = starts(device=target.device)
    steps = gradients(6)
    follow(ravine.NorMuon(params, lr=0.02, scale=scale, engine=target.engine), params, steps)
    for i, p in enumerate(starts()):
        w = p.detach().numpy().reshape(len(p), -1)
        n, k = w.shape
        factor = math.sqrt(max(1.0, n / k)) if scale == "original" else 0.2 * math.sqrt(max(n, k))
        expected = normuon(w, [grads[i].numpy().reshape(w.shape) for grads in steps], factor, 0.02)
        np.testing.assert_allclose(params[i].detach().cpu().numpy().reshape(w.shape), expected, rtol=0, atol=1e-9)


def test_normuons_paper_has_the_size_of_adamws_update() -> None:
    """Its 0.2·√(nk)/‖û‖ and `match_rms_adamw` differ by how far the iteration ends from ones: within [0.682, 1.134]."""
    w = np.zeros((6, 10))
    grads = [g[0].numpy() for g in ([torch.randn(6, 10, generator=torch.Generator().manual_seed(3)).double()],)]
    paper = normuon(w, grads, None, 1.0)
    assert np.sqrt((paper**2).mean()) == pytest.approx(0.2, rel=1e-12)
    p = Parameter(torch.zeros(6, 10, dtype=torch.float64))
    p.grad = torch.from_numpy(grads[0])
    ravine.NorMuon([p], lr=1.0, scale="match_rms_adamw", engine="reference").step()
    ratio = p.detach().numpy() / paper
    assert ratio.min() >= 0.682 and ratio.max() <= 1.134
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-9)


@ENGINES
def test_normuon_gives_every_neuron_the_same_share(target: Target) -> None:
    """Li et al. 2025: rows of Muon's update differ in norm; of NorMuon's they are equal (at once where β₂ = 0).

    The norm of the whole is Muon's.
    """
    g = torch.randn(12, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64).to(target.device)
    moved = {}
    for name, settings in (("muon", {}), ("normuon", {"beta2": 0.0})):
        p = Parameter(torch.zeros_like(g))
        p.grad = g.clone()
        ravine.create(name, [p], lr=1.0, weight_decay=0.0, engine=target.engine, **settings).step()
        moved[name] = p.detach()
    rows = {name: x.norm(dim=1) for name, x in moved.items()}
    assert rows["muon"].max() > 1.5 * rows["muon"].min()
    torch.testing.assert_close(rows["normuon"], rows["normuon"].mean().expand(12), rtol=1e-6, atol=0)
    torch.testing.assert_close(moved["normuon"].norm(), moved["muon"].norm(), rtol=1e-6, atol=0)


def test_normuons_second_moment_is_one_number_a_row() -> None:
    p = Parameter(torch.ones(8, 2, 3))
    p.grad = torch.randn(8, 2, 3)
    optimizer = ravine.NorMuon([p], engine="reference")
    optimizer.step()
    assert optimizer.state[p]["second_momentum_buffer"].shape == (8, 1)


@pytest.mark.parametrize("name", ["Muon", "NorMuon"])
def test_pytorch_optimizers_versions(name: str) -> None:
    """Its iteration is in bfloat16: apart by no more than that after ten steps, 3 %."""
    peers = pytest.importorskip("pytorch_optimizer")
    ours, theirs = starts(torch.float32)[:3], starts(torch.float32)[:3]
    steps = [grads[:3] for grads in gradients(10)]
    follow(ravine.create(name.lower(), ours, lr=0.02, weight_decay=0.0, engine="reference"), ours, steps)
    group = {"params": theirs, "use_muon": True}
    peer = getattr(peers, name)([group], lr=0.02, weight_decay=0.0, momentum=0.95, ns_coeffs="original")
    follow(peer, theirs, steps)
    for p, q, start in zip(ours, theirs, starts(torch.float32), strict=False):
        assert (p.detach() - q).norm() <= 0.03 * (q - start).norm()
