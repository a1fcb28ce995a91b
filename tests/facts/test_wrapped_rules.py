"""EMA, clipped updates and centralised gradients: what their papers write."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import Parameter

import ravine
from conformance.support import Target, advance, create, members, parameters, random, set_gradients, targets
from ravine.compose import centralized, clipped_update, ema
from ravine.rules import adamw, sgd

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)
ANYWHERE = Target("auto")


# EMA


@ENGINES
@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_an_ema_is_the_weighted_sum_of_all_weights(beta: float, target: Target) -> None:
    """Tarvainen & Valpola 2017, θ' ← αθ' + (1 − α)θ: β^n·θ₀ + (1 − β)·Σ β^(n−i)·θᵢ; training is as without it."""
    averaged, plain = (Parameter(random((5,), 1, torch.float64, target.device)) for _ in range(2))
    one = create("ema(adamw)", [averaged], target, lr=0.1, **{"ema.beta": beta})
    two = create("adamw", [plain], target, lr=0.1)
    visited = [plain.detach().clone()]
    for step in range(20):
        averaged.grad = random((5,), 2 + step, torch.float64, target.device)
        plain.grad = averaged.grad.clone()
        one.step()
        two.step()
        visited.append(plain.detach().clone())
    assert torch.equal(averaged, plain)
    weights = [beta**20, *((1 - beta) * beta ** (20 - i) for i in range(1, 21))]
    expected = sum(w * x for w, x in zip(weights, visited, strict=True))
    with one.evaluation_weights():
        torch.testing.assert_close(averaged.detach(), expected, rtol=1e-12, atol=1e-13)


def test_an_ema_lowers_variance() -> None:
    """Of independent weights of variance 1, an average with β has the stationary variance (1 − β)/(1 + β): 1/19 at .9.

    Descent with lr 1 on (θ − ε)²/2 jumps to ε at each step. 30 000 runs: a standard error of √(2/30000) = 0.82 %, of
    which four are allowed; after 100 steps the start is forgotten to 0.9¹⁰⁰ = 3e-5.
    """
    p = Parameter(torch.zeros(30_000, dtype=torch.float64))
    optimizer = ravine.optimizer(ema(sgd, beta=0.9))([p], lr=1.0)
    for step in range(100):
        p.grad = p.detach() - random((30_000,), step, torch.float64)
        optimizer.step()
    with optimizer.evaluation_weights():
        assert p.detach().var().item() == pytest.approx(1 / 19, rel=4 * 0.0082)


def test_a_long_average_in_bfloat16_needs_a_state_in_float32() -> None:
    """(1 − β)·|θ − θ'| below half an ulp (2⁻⁸ of θ') rounds to nothing; a state that is kept in float32 stays so."""
    ends = []
    for held in (torch.bfloat16, torch.float32):
        p = Parameter(torch.ones(2, dtype=torch.bfloat16))
        optimizer = create("ema(sgd)", [p], ANYWHERE, lr=0.5)
        for _ in range(200):
            p.grad = torch.full_like(p, -1.0 if p[0] < 2 else 0.0)
            optimizer.step()
            optimizer.state[p]["ema.ema"] = optimizer.state[p]["ema.ema"].to(held)
        ends.append(optimizer.state[p]["ema.ema"][0].item())
    assert ends[0] == 1.0
    assert ends[1] == pytest.approx(2 - 0.999**200, abs=1e-3)


# Clipped updates


@ENGINES
@pytest.mark.parametrize("d", [0.5, 0.7])
def test_an_update_has_at_most_the_root_mean_square_asked_for(d: float, target: Target) -> None:
    """Shazeer & Stern 2018, section 6: Û = U/max(1, RMS(U)/d), here for AdamW's U; where RMS(U) ≤ d nothing changes."""
    clipped, plain = (Parameter(random((400,), 1, torch.float64, target.device)) for _ in range(2))
    start = clipped.detach().clone()
    one = create("clipped_update(adamw)", [clipped], target, lr=0.01, weight_decay=0.0, **{"clipped_update.d": d})
    two = create("adamw", [plain], target, lr=0.01, weight_decay=0.0)
    sizes = []
    for step in range(12):
        clipped.grad = random((400,), 2 + step, torch.float64, target.device)
        plain.grad = clipped.grad.clone()
        with torch.no_grad():
            clipped.copy_(start)
            plain.copy_(start)
        one.step()
        two.step()
        update, wanted = (start - clipped.detach()) / 0.01, (start - plain.detach()) / 0.01
        sizes.append(wanted.square().mean().sqrt().item())
        torch.testing.assert_close(update, wanted / max(1.0, sizes[-1] / d), rtol=1e-9, atol=1e-12)
        assert update.square().mean().sqrt() <= d * (1 + 1e-9)
    assert max(sizes) > d > min(sizes), "both sides of the bound were seen"


@ENGINES
def test_decay_is_outside_of_the_clipping(target: Target) -> None:
    p = Parameter(torch.full((3,), 2.0, dtype=torch.float64, device=target.device))
    made = ravine.optimizer(clipped_update(sgd, d=0.5))
    optimizer = made([p], lr=0.1, weight_decay=0.25, decay="lr", engine=target.engine)
    p.grad = torch.full_like(p, 8.0)
    optimizer.step()
    assert p.tolist() == pytest.approx([2.0 - 0.1 * 0.5 - 0.1 * 0.25 * 2.0] * 3, rel=1e-14)


@ENGINES
def test_nothing_is_clipped_to_nan(target: Target) -> None:
    """lr = 0, a zero gradient, both: RMS(U) is 0, and 0/0 is not taken."""
    for lr, scale in ((0.0, 0.0), (0.0, 1.0), (0.1, 0.0)):
        p = Parameter(torch.ones(4, device=target.device))
        optimizer = create("clipped_update(sgd)", [p], target, lr=lr)
        p.grad = torch.full_like(p, scale)
        optimizer.step()
        assert torch.equal(p, torch.ones_like(p))


# Centralised gradients


def centralised(g: np.ndarray) -> np.ndarray:
    """Yong et al. 2020, equation 1: of each output's weights, over all dimensions but the first."""
    return g - g.mean(axis=tuple(range(1, g.ndim)), keepdims=True) if g.ndim > 1 else g


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2, 2), (2, 3, 4), (7,), (), (3, 1)], ids=str)
def test_gradients_are_centralised_per_output(shape: tuple[int, ...]) -> None:
    """Plain descent shows the gradient it was given; a kernel's mean goes over inputs and window, as in the paper."""
    p = Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = create("centralized(sgd)", [p], ANYWHERE, lr=1.0)
    p.grad = random(shape, 1, torch.float64)
    optimizer.step()
    expected = centralised(p.grad.numpy())
    np.testing.assert_allclose(-p.detach().numpy(), expected, rtol=1e-12, atol=1e-15)
    if p.ndim > 1:
        assert p.detach().flatten(1).mean(1).abs().max() < 1e-15


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_kernels_in_any_order_of_memory(memory_format: torch.memory_format) -> None:
    start, gradient = random((4, 3, 2, 2), 1, torch.float64), random((4, 3, 2, 2), 2, torch.float64)
    p = Parameter(start.clone(memory_format=memory_format))
    p.grad = gradient.clone(memory_format=memory_format)
    create("centralized(sgd)", [p], ANYWHERE, lr=1.0).step()
    np.testing.assert_allclose(p.detach().numpy(), start.numpy() - centralised(gradient.numpy()), rtol=1e-12)


def test_the_rule_inside_sees_only_what_is_centralised() -> None:
    """AdamW around centralised gradients is AdamW, given gradients that were centralised before."""
    left, right = parameters(dtype=torch.float64), parameters(dtype=torch.float64)
    one = ravine.optimizer(centralized(adamw))(left, lr=0.05)
    two = create("adamw", right, ANYWHERE, lr=0.05)
    for step in range(6):
        for params in (left, right):
            set_gradients(params, step)
        for p in right:
            p.grad = torch.from_numpy(np.ascontiguousarray(centralised(p.grad.numpy()))).reshape(p.shape)
        one.step()
        two.step()
    for p, q in zip(left, right, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-13)


def test_the_sum_of_an_outputs_weights_stays() -> None:
    """Yong et al. 2020, section 4.1: descent along a centralised gradient keeps eᵀw, for any optimizer linear in it."""
    p = Parameter(random((5, 7), 1, torch.float64))
    before = p.detach().sum(1)
    optimizer = create("centralized(sgd)", [p], ANYWHERE, lr=0.1, momentum=0.9)
    advance(optimizer, 10)
    torch.testing.assert_close(members(optimizer)[0].detach().sum(1), before, rtol=1e-12, atol=1e-13)
