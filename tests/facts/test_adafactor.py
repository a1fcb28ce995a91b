"""Adafactor: what its paper says of the second moment, of steps, and of each part; numbers at their limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter

import ravine
from conformance.support import Target, advance, assert_same_bits, create, members, parameters, targets
from ravine.rules import adafactor, adafactor_paper

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)


# The second moment


@pytest.mark.parametrize("shape", [(2, 3), (5, 4), (1, 6), (6, 1)])
def test_exact_where_the_second_moment_has_rank_one(shape: tuple[int, int]) -> None:
    """Shazeer & Stern 2018, section 3: R·C/(1ᵀR) is V itself where V has rank one; g² = s_t·a·bᵀ, of either sign."""
    rng = np.random.default_rng(sum(shape))
    a, b = rng.uniform(0.5, 2, (shape[0], 1)), rng.uniform(0.5, 2, (1, shape[1]))
    x = y = rng.normal(size=shape)
    r, c, v = np.zeros_like(a), np.zeros_like(b), np.zeros(shape)
    for t in range(1, 30):
        g = rng.uniform(0.1, 3) * np.sqrt(a * b) * rng.choice([-1, 1], shape)
        x, r, c = adafactor(x, g, r, c, t=t)
        y, v = adafactor(y, g, v, t=t, factored=False)
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(r * c / r.mean(), v, rtol=1e-12)


def test_the_factors_have_the_sums_of_what_they_stand_for() -> None:
    """Section 3: R·C/(1ᵀR) has V's row and column sums, in every matrix of a stack, and is not V elsewhere."""
    rng = np.random.default_rng(1)
    x = y = rng.normal(size=(2, 4, 3))
    r, c, v = np.zeros((2, 4, 1)), np.zeros((2, 1, 3)), np.zeros((2, 4, 3))
    for t in range(1, 10):
        g = rng.normal(size=x.shape)
        x, r, c = adafactor(x, g, r, c, t=t)
        y, v = adafactor(y, g, v, t=t, factored=False)
        product = r * c / r.mean(-2, keepdims=True)
        np.testing.assert_allclose(product.sum(-1), v.sum(-1), rtol=1e-12)
        np.testing.assert_allclose(product.sum(-2), v.sum(-2), rtol=1e-12)
        assert not np.allclose(product, v, rtol=1e-2)


@ENGINES
def test_states_take_n_plus_m(target: Target) -> None:
    """Section 3: n + m numbers for a matrix, instead of n·m; a vector keeps its n; momentum is a matter of beta1."""
    sizes = {}
    for name, settings in (("default", {}), ("whole", {"factored": False}), ("momentum", {"beta1": 0.9})):
        params = [Parameter(torch.ones(s, device=target.device)) for s in ((40, 30), (25,), (2, 20, 10))]
        optimizer = ravine.Adafactor(params, engine=target.engine, **settings)
        advance(optimizer, 1)
        sizes[name] = [sum(x.numel() for k, x in optimizer.state[p].items() if k != "step") for p in params]
    assert sizes == {
        "default": [70, 25, 2 * 30],
        "whole": [1200, 25, 400],
        "momentum": [1270, 50, 460],
    }


def test_the_decay_increases() -> None:
    """Section 7.2: β̂₂ₜ = 1 − t^−0.8: 0 at t = 1, .4257 at 2, .9749 at 100; with exponent −1, V̂ is the plain mean."""
    for t, expected in ((1, 0.0), (2, 0.4257), (100, 0.9749)):
        _, v = adafactor(0.0, 0.0, 1.0, t=t)
        assert round(v, 4) == expected and v == pytest.approx(1 - t**-0.8, abs=1e-15)
    rng, v, squares = np.random.default_rng(3), 0.0, []
    for t in range(1, 20):
        g = rng.normal()
        squares.append(g * g)
        _, v = adafactor(0.0, g, v, t=t, beta2_decay=-1.0)
        assert v == pytest.approx(np.mean(squares), rel=1e-12)


def test_a_fixed_decay_is_adams_with_its_bias_corrected() -> None:
    """Algorithms 1 and 2: Adam with β₁ = 0, the second moment whole or factored, its bias corrected.

    Section 7.1: the same as a decay of β₂(1 − β₂^(t−1))/(1 − β₂^t) without correction.
    """
    rng = np.random.default_rng(4)
    x = y = z = rng.normal(size=(4, 3))
    v, m, w = (np.zeros((4, 3)) for _ in range(3))
    r, c, rows, columns = np.zeros((4, 1)), np.zeros((1, 3)), np.zeros(4), np.zeros(3)
    bare = {"lr": 0.01, "beta2": 0.99, "eps1": 0.0, "clipped": False, "relative_step": False, "scale_parameter": False}
    q = x
    for t in range(1, 30):
        g = rng.normal(size=x.shape)
        x, v = adafactor(x, g, v, t=t, factored=False, **bare)
        y, m, w = ravine.rules.adam(y, g, m, w, t=t, lr=0.01, beta1=0.0, beta2=0.99, eps=0.0)
        np.testing.assert_allclose(x, y, rtol=1e-12)
        z, r, c = adafactor(z, g, r, c, t=t, **bare)
        rows, columns = 0.99 * rows + 0.01 * (g * g).sum(1), 0.99 * columns + 0.01 * (g * g).sum(0)
        q = q - 0.01 * g / np.sqrt(np.outer(rows, columns) / rows.sum() / (1 - 0.99**t))
        np.testing.assert_allclose(z, q, rtol=1e-12)


# Steps


@pytest.mark.parametrize("d", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("size", [1e-3, 0.5, 1e3])
def test_updates_are_clipped_to_d(d: float, size: float) -> None:
    """Section 6: RMS(Û) ≤ d, whatever the gradients; a U that is smaller passes as it is."""
    rng = np.random.default_rng(5)
    x, r, c = rng.normal(size=(4, 3)), np.full((4, 1), 0.5), np.full((1, 3), 0.5)
    g = size * rng.normal(size=x.shape)
    one = {"t": 50, "lr": 1.0, "d": d, "relative_step": False, "scale_parameter": False}
    clipped, whole = (x - adafactor(x, g, r, c, clipped=on, **one)[0] for on in (True, False))
    rms = np.sqrt(np.mean(whole**2))
    assert np.sqrt(np.mean(clipped**2)) == pytest.approx(min(d, rms), rel=1e-9)
    np.testing.assert_allclose(clipped, whole * min(1.0, d / rms), rtol=1e-9, atol=1e-12)


def test_an_out_of_date_second_moment_is_what_clipping_is_for() -> None:
    """Section 5: after small gradients a large one makes an update far above 1, 100/√(1 + (100² − 1)·t^−0.8) = 15.7.

    Clipped, it is d = 1.
    """
    t = 1000
    for clipped, expected in ((False, 100 / math.sqrt(1 + (100**2 - 1) * t**-0.8)), (True, 1.0)):
        p, _ = adafactor(
            0.0, 100.0, 1.0, t=t, lr=1.0, clipped=clipped, relative_step=False, scale_parameter=False, factored=False
        )
        assert -p == pytest.approx(expected, rel=1e-12)
        assert clipped or round(expected, 1) == 15.7


def step_size(t: int, weight: float = 1.0, **settings: Any) -> float:
    """How far a step moves under a constant gradient, where U is 1: α_t."""
    return weight - adafactor(weight, 2.0, 4.0, t=t, **settings)[0]


def test_the_relative_step() -> None:
    """Algorithm 6: ρ_t = min(1e-2, 1/√t) and α_t = max(ε₂, RMS(X))·ρ_t: flat until t = 10⁴, then falling."""
    for t, rho in ((1, 0.01), (9_999, 0.01), (10_000, 0.01), (40_000, 0.005), (1_000_000, 0.001)):
        assert step_size(t) == pytest.approx(rho, rel=1e-10)
        assert step_size(t, weight=-30.0) == pytest.approx(30 * rho, rel=1e-10)
        assert step_size(t, weight=0.0) == pytest.approx(1e-3 * rho, rel=1e-10)
        assert step_size(t, weight=1e-4, eps2=0.5) == pytest.approx(0.5 * rho, rel=1e-10)
        assert step_size(t, weight=-30.0, scale_parameter=False) == pytest.approx(rho, rel=1e-10)
        assert step_size(t, relative_step=False) == pytest.approx(0.01, rel=1e-10)
    assert step_size(16, lr=0.3) == pytest.approx(0.25, rel=1e-10) and step_size(4, lr=0.3) == pytest.approx(0.3)


def test_the_warmup_of_the_relative_step() -> None:
    """The authors' and Hugging Face's min(1e-6·t, 1/√t): it rises for 10⁴ steps to 1e-2, and joins ρ_t there."""
    for t, rho in ((1, 1e-6), (500, 5e-4), (10_000, 1e-2), (40_000, 5e-3)):
        assert step_size(t, warmup_init=True) == pytest.approx(rho, rel=1e-6)
    with pytest.raises(ValueError, match="warmup_init=True needs relative_step=True"):
        ravine.Adafactor([Parameter(torch.ones(2))], warmup_init=True, relative_step=False)


@pytest.mark.parametrize("scale", [2.0**-7, 2.0**9])
def test_steps_are_relative_to_the_scale_of_the_weights(scale: float) -> None:
    """Section 8: weights larger by a factor, under gradients smaller by as much, move by as much more."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(3, 4))
    y = scale * x
    r, c, rows, columns = np.zeros((3, 1)), np.zeros((1, 4)), np.zeros((3, 1)), np.zeros((1, 4))
    for t in range(1, 20):
        g = rng.normal(size=x.shape)
        x, r, c = adafactor_paper(x, g, r, c, t=t, eps2=0.0)
        y, rows, columns = adafactor_paper(y, g / scale, rows, columns, t=t, eps2=0.0)
        np.testing.assert_allclose(y, scale * x, rtol=1e-12)


# Every part on its own


def run(target: Target, **settings: Any) -> list[Parameter]:
    params = parameters("adafactor", target, torch.float64)
    advance(create("adafactor", params, target, **settings), 5)
    return params


SWITCHES: list[tuple[dict[str, Any], dict[str, Any], Callable[[torch.Tensor], bool]]] = [
    # what is switched, under what it has nothing to do, and for which parameters it has then nothing to do
    ({"factored": False}, {}, lambda p: p.ndim < 2),
    ({"clipped": False}, {"d": 1e6}, lambda p: True),
    ({"relative_step": False}, {"lr": 0.01}, lambda p: True),
    ({"decay_by": "alpha"}, {}, lambda p: True),
    ({"decay_by": "alpha"}, {"weight_decay": 0.1, "scale_parameter": False}, lambda p: True),
]


@ENGINES
@pytest.mark.parametrize(("switch", "settings", "untouched"), SWITCHES)
def test_a_part_that_has_nothing_to_do_changes_no_bit(
    switch: dict[str, Any], settings: dict[str, Any], untouched: Callable[[torch.Tensor], bool], target: Target
) -> None:
    on, off = run(target, **settings), run(target, **settings, **switch)
    both = [(p, q) for p, q in zip(on, off, strict=True) if untouched(p)]
    assert_same_bits([p for p, _ in both], [q for _, q in both])


@ENGINES
def test_the_papers_form_is_two_switches_away(target: Target) -> None:
    params = parameters("adafactor_paper", target, torch.float64)
    advance(create("adafactor_paper", params, target, weight_decay=0.1), 5)
    assert_same_bits(run(target, eps_form="paper", decay_by="alpha", weight_decay=0.1), params)


@ENGINES
@pytest.mark.parametrize(
    "switch",
    [
        {"factored": False},
        {"clipped": False},
        {"relative_step": False},
        {"scale_parameter": False},
        {"beta1": 0.5},
        {"beta2": 0.9},
        {"decay_by": "alpha"},
        {"warmup_init": True},
    ],
    ids=str,
)
def test_every_part_changes_every_element_of_a_matrix(switch: dict[str, Any], target: Target) -> None:
    """Of matrices of more than one row: one row is of rank one, and a single number is always stepped by ±α_t."""
    settings = {"lr": 0.9, "d": 0.5, "weight_decay": 0.1}
    on, off = run(target, **settings), run(target, **settings, **switch)
    assert all((p != q).all() for p, q in zip(on, off, strict=True) if p.ndim > 1 and p.shape[-2] > 1)


def test_momentum_averages_whole_steps() -> None:
    """The authors' code: m ← β₁m + (1 − β₁)·α·Û, so that a step keeps the size that it was made with."""
    p, _, m = adafactor(2.0, 3.0, 9.0, 0.25, t=50, beta1=0.9)
    assert m == pytest.approx(0.9 * 0.25 + 0.1 * 0.02, rel=1e-12)
    assert p == pytest.approx(2.0 - m, rel=1e-15)


def test_weight_decay_by_lr_and_by_alpha() -> None:
    """torch: p ← p − lr·λ·p. Hugging Face: p ← p − α·λ·p. Both leave the step as it is, and RMS(p) as it was before."""
    plain = step_size(40_000, weight=5.0)
    assert step_size(40_000, weight=5.0, weight_decay=0.1) - plain == pytest.approx(0.01 * 0.1 * 5, rel=1e-9)
    by_alpha = step_size(40_000, weight=5.0, weight_decay=0.1, decay_by="alpha")
    assert by_alpha - plain == pytest.approx(5 * 0.005 * 0.1 * 5, rel=1e-9)


# Numbers at their limits


@ENGINES
@pytest.mark.parametrize("spec", ["adafactor", "adafactor_paper"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_zero_gradients_move_nothing(spec: str, dtype: torch.dtype, target: Target) -> None:
    """(1e-30)² is 0 in float32, and 0·∞ is NaN: r·c before the division would be. A row of zeros rests by itself."""
    params = parameters(spec, target, dtype)
    before = [p.detach().clone() for p in params]
    optimizer = create(spec, params, target)
    for _ in range(3):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert_same_bits(params, before)
    params[0].grad = torch.zeros_like(params[0])
    params[0].grad[1:] = 1.0
    optimizer.step()
    assert torch.equal(params[0][0], before[0][0]) and params[0].isfinite().all()
    assert (params[0][1:] != before[0][1:]).all()


@ENGINES
def test_the_factors_of_a_bfloat16_matrix_are_float32(target: Target) -> None:
    """They are few, and a mean in bfloat16 stops moving once 1 − β̂₂ₜ falls below 2⁻⁹, at t = 2435."""
    optimizer = create("adafactor", parameters("adafactor", target, torch.bfloat16), target)
    advance(optimizer, 1)
    for p in members(optimizer):
        factors = [optimizer.state[p][k] for k in ("row_var", "col_var") if p.ndim > 1]
        assert all(x.dtype == torch.float32 for x in factors) and len(factors) == (2 if p.ndim > 1 else 0)


def test_huge_and_tiny_gradients_have_finite_factors_in_float32() -> None:
    """Squares of 1e-16 and 1e18 fit into float32; r·c, their fourth powers, would not, and r/mean(r)·c does."""
    for size in (1e-16, 1e18):
        p = Parameter(torch.ones(3, 4))
        p.grad = torch.full((3, 4), size)
        ravine.AdafactorPaper([p], engine="reference").step()
        expected = 1.0 if size > 1 else 1e-16 / math.sqrt(1e-32 + 1e-30)
        torch.testing.assert_close(p.detach(), torch.full((3, 4), 1 - 0.01 * expected), rtol=1e-6, atol=0.0)


def test_transformers_take_an_lr_or_find_it() -> None:
    """As in transformers.optimization.Adafactor: "Cannot combine manual `lr` and `relative_step=True` options"."""
    (p,) = parameters("adafactor", Target("reference"))[:1]
    said = "lr=0.001 and relative_step=True cannot both be; leave lr out, or give relative_step=False"
    with pytest.raises(ValueError, match=said):
        create("adafactor_transformers", [p], lr=1e-3)
    assert create("adafactor_transformers", [p]).param_groups[0]["relative_step"] is True
    assert create("adafactor_transformers", [p], lr=1e-3, relative_step=False).param_groups[0]["lr"] == 1e-3
    with pytest.raises(ValueError, match="warmup_init=True needs relative_step=True"):
        create("adafactor_transformers", [p], relative_step=False, warmup_init=True)
