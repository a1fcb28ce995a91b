"""Schedule-Free and rectification: the papers' formulas, and the authors' code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

import ravine
from conformance.support import Target, create, random, targets

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)
WARM_UP = 10


def warm_up(step: int) -> float:
    """What lr is multiplied by at a step (from 1): a linear rise, as `warmup_steps` of the authors' code."""
    return min(step / WARM_UP, 1.0)


def quadratic(x: Any, step: int) -> Any:
    """A gradient that depends on where it is taken, with noise: each dimension has a curvature of its own."""
    noise = random((6,), 40 + step, torch.float64)
    curvature = torch.linspace(0.1, 2.0, 6, dtype=torch.float64)
    return curvature * (torch.as_tensor(x, dtype=torch.float64) - 1.0) + 0.3 * noise


def run(spec: str, target: Target, lr: float, steps: int, **settings: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """Training weights, evaluation weights and the optimizer after some steps with warm-up."""
    p = Parameter(random((6,), 1, torch.float64, target.device))
    optimizer = create(spec, [p], target, **settings)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = lr * warm_up(step)
        p.grad = quadratic(p.detach().cpu(), step).to(target.device)
        optimizer.step()
    y = p.detach().cpu().numpy().copy()
    with optimizer.evaluation_weights():
        x = p.detach().cpu().numpy().copy()
    return y, x, optimizer


def three_sequences(
    direction: Callable[[np.ndarray, int], np.ndarray],
    lr: Callable[[int], float],
    steps: int,
    beta: float,
    decay: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Defazio et al. 2024, Algorithm 1, with x, y and z written out and weights γ² of the largest γ so far."""
    z = x = random((6,), 1, torch.float64).numpy()
    y, total, largest = z, 0.0, 0.0
    for t in range(1, steps + 1):
        y = (1 - beta) * z + beta * x
        gamma = lr(t)
        largest = max(largest, gamma)
        total += largest**2
        z = z - gamma * (direction(quadratic(y, t).numpy(), t) + decay * y)
        c = largest**2 / total if total else 0.0
        x = (1 - c) * x + c * z
    return (1 - beta) * z + beta * x, x


class SecondMoment:
    """Adam's direction without momentum, g/(√v̂ + ε)."""

    def __init__(self, beta2: float = 0.999, eps: float = 1e-8) -> None:
        self.v: Any = 0.0
        self.beta2, self.eps = beta2, eps

    def __call__(self, g: np.ndarray, t: int) -> np.ndarray:
        self.v = self.beta2 * self.v + (1 - self.beta2) * g**2
        return g / (np.sqrt(self.v / (1 - self.beta2**t)) + self.eps)


def factor(t: int, beta2: float = 0.999) -> float:
    """Liu et al. 2020, r_t, and 0 up to ρ_t = 4."""
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    return 0.0 if rho <= 4 else np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))


@ENGINES
def test_schedule_free_sgd_is_its_papers_three_sequences(target: Target) -> None:
    y, x, _ = run("schedule_free(sgd)", target, 0.5, 100, weight_decay=0.01)
    expected = three_sequences(lambda g, t: g, lambda t: 0.5 * warm_up(t), 100, 0.9, 0.01)
    np.testing.assert_allclose((y, x), expected, rtol=1e-11)


@ENGINES
def test_schedule_free_adamw_is_its_papers_three_sequences(target: Target) -> None:
    y, x, _ = run("schedule_free(adamw)", target, 0.0025, 100, weight_decay=0.01)
    expected = three_sequences(SecondMoment(), lambda t: 0.0025 * warm_up(t), 100, 0.9, 0.01)
    np.testing.assert_allclose((y, x), expected, rtol=1e-11)


@ENGINES
def test_schedule_free_radam_is_rectified_schedule_free_adamw(target: Target) -> None:
    """The factor scales γ, so that averages begin with the first rectified step."""
    y, x, _ = run("rectified(schedule_free(adamw))", target, 0.0025, 100, weight_decay=0.01)
    expected = three_sequences(SecondMoment(), lambda t: 0.0025 * warm_up(t) * factor(t), 100, 0.9, 0.01)
    np.testing.assert_allclose((y, x), expected, rtol=1e-11)


def reference(name: str, lr: float, steps: int, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Training and evaluation weights of the authors' code on the same problem."""
    schedulefree = pytest.importorskip("schedulefree")
    p = Parameter(random((6,), 1, torch.float64))
    optimizer = getattr(schedulefree, name)([p], lr=lr, foreach=False, **settings)
    optimizer.train()
    for step in range(1, steps + 1):
        if name.startswith("RAdam"):  # which has no warm-up of its own
            optimizer.param_groups[0]["lr"] = lr * warm_up(step)
        p.grad = quadratic(p.detach(), step)
        optimizer.step()
    y = p.detach().numpy().copy()
    optimizer.eval()
    return y, p.detach().numpy().copy()


@pytest.mark.parametrize(("r", "power"), [(0.0, 2.0), (1.0, 2.0), (0.5, 0.0)])
@pytest.mark.parametrize(
    ("spec", "theirs", "lr", "momentum"),
    [
        ("schedule_free(sgd)", "SGDScheduleFree", 0.5, {"momentum": 0.95}),
        ("schedule_free(adamw)", "AdamWScheduleFree", 0.0025, {"betas": (0.95, 0.999)}),
        ("rectified(schedule_free(adamw))", "RAdamScheduleFree", 0.0025, {"betas": (0.95, 0.999)}),
    ],
)
def test_the_authors_code(spec: str, theirs: str, lr: float, momentum: Any, r: float, power: float) -> None:
    """facebookresearch/schedule_free, 100 steps with warm-up and weight decay, y and x."""
    warm = {} if theirs.startswith("RAdam") else {"warmup_steps": WARM_UP}
    expected = reference(theirs, lr, 100, weight_decay=0.01, r=r, weight_lr_power=power, **momentum, **warm)
    own = {"schedule_free.beta": 0.95, "schedule_free.r": r, "schedule_free.weight_lr_power": power}
    y, x, _ = run(spec, Target("reference"), lr, 100, weight_decay=0.01, **own)
    np.testing.assert_allclose((y, x), expected, rtol=1e-10)


@ENGINES
def test_under_a_constant_rate_x_is_the_mean_of_all_z(target: Target) -> None:
    """Defazio et al. 2024, section 2: c_t = 1/t; the sequence z is that of plain descent from gradients at y."""
    p = Parameter(random((6,), 1, torch.float64, target.device))
    optimizer = create("schedule_free(sgd)", [p], target, lr=0.2)
    visited = []
    for step in range(1, 31):
        p.grad = quadratic(p.detach().cpu(), step).to(target.device)
        optimizer.step()
        visited.append(optimizer.state[p]["schedule_free.z"].clone())
        with optimizer.evaluation_weights():
            torch.testing.assert_close(p.detach(), torch.stack(visited).mean(0), rtol=1e-12, atol=1e-13)


@ENGINES
@pytest.mark.parametrize("spec", ["schedule_free(sgd)", "schedule_free(adamw)", "rectified(schedule_free(adamw))"])
def test_a_rate_of_zero_with_zero_gradients_moves_nothing(spec: str, target: Target) -> None:
    """The first weights are then 0/0, which the authors' code catches; a warm-up from 0 begins so."""
    p = Parameter(random((6,), 1, torch.float32, target.device))
    before = p.detach().clone()
    optimizer = create(spec, [p], target, lr=0.0)
    for gradient in (torch.zeros(6), torch.ones(6)):
        p.grad = gradient.to(target.device)
        optimizer.step()
        assert torch.equal(p, before)
        with optimizer.evaluation_weights():
            assert torch.equal(p, before)
    optimizer.param_groups[0]["lr"] = 0.1
    for _ in range(6):
        optimizer.step()
    assert p.isfinite().all() and not torch.equal(p, before)


@ENGINES
def test_a_rate_that_falls_still_counts_by_the_largest(target: Target) -> None:
    """The weight is that of the largest rate so far (lr_max): steps under a falling rate enter the mean like others."""
    p = Parameter(torch.zeros(1, dtype=torch.float64, device=target.device))
    optimizer = create("schedule_free(sgd)", [p], target)
    z, visited = 0.0, []
    for lr in (0.5, 0.25, 0.125, 0.0):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = torch.ones_like(p)
        optimizer.step()
        z -= lr
        visited.append(z)
    assert optimizer.state[p]["schedule_free.lr_max"] == 0.5 and optimizer.state[p]["schedule_free.weight_sum"] == 1.0
    with optimizer.evaluation_weights():
        assert p.item() == pytest.approx(np.mean(visited), rel=1e-14)


def test_momentum_and_its_state_are_gone() -> None:
    """SF-AdamW holds z and v, as AdamW holds m and v: 8 bytes a parameter in float32; SF-SGD holds z alone."""
    p = Parameter(torch.ones(3))
    for spec, keys in (("adamw", {"z", "exp_avg_sq"}), ("sgd", {"z"}), ("rmsprop", {"z", "square_avg"})):
        optimizer = create(f"schedule_free({spec})", [p])
        p.grad = torch.ones(3)
        optimizer.step()
        tensors = {k.removeprefix("schedule_free.") for k, v in optimizer.state[p].items() if isinstance(v, Tensor)}
        assert tensors == {"step", *keys}
        assert not {"betas", "beta1", "momentum", "nesterov", "dampening"} & set(optimizer.param_groups[0])


# RAdam's factor


def test_the_factors_values() -> None:
    """Liu et al. 2020, r_t for β₂ = 0.999, read off a step of plain descent on constant gradients: lr·r_t·1.

    r₆ = .025821, r₁₀₀ = .2153, r₁₀₀₀ = .6453; nothing moves while ρ ≤ 4, up to t = 4 (ρ₄ = 3.9975, ρ₅ = 4.9960).
    """
    p = Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = create("rectified(adamw)", [p], lr=1.0, weight_decay=0.0, betas=(0.0, 0.999), eps=0.0)
    moved = {}
    for t in range(1, 1001):
        before = p.item()
        p.grad = torch.ones_like(p)
        optimizer.step()
        moved[t] = before - p.item()
    assert [moved[t] for t in range(1, 5)] == [0.0] * 4
    assert moved[5] > 0
    for t, expected in ((6, 0.025821), (100, 0.2153), (1000, 0.6453)):
        assert moved[t] == pytest.approx(expected, abs=5e-5 if t > 6 else 5e-7)
        assert moved[t] == pytest.approx(factor(t), rel=1e-9)


@ENGINES
def test_from_the_sixth_step_rectified_adamw_steps_as_torchs_radam(target: Target) -> None:
    """From ρ > 5, with ε = 0, whose place differs. On gradients that do not depend on p, increments are compared."""
    ours, theirs = (Parameter(torch.zeros(5, dtype=torch.float64, device=target.device)) for _ in range(2))
    one = create("rectified(adamw)", [ours], target, lr=0.01, weight_decay=0.0, eps=0.0)
    two = torch.optim.RAdam([theirs], lr=0.01, eps=0.0)
    for t in range(1, 31):
        before = ours.detach().clone(), theirs.detach().clone()
        ours.grad = random((5,), t, torch.float64, target.device)
        theirs.grad = ours.grad.clone()
        one.step()
        two.step()
        same = torch.allclose(ours - before[0], theirs - before[1], rtol=1e-9, atol=1e-15)
        assert same == (t > 5), t


@pytest.mark.parametrize("beta2", [0.0, 0.5, 0.6, 0.9])
def test_a_memory_too_short_to_be_rectified_never_moves(beta2: float) -> None:
    """ρ < ρ∞ = 2/(1 − β₂) − 1, which is at most 4 for β₂ up to 0.6, exactly 4 there; at 0.9 steps begin."""
    p = Parameter(torch.ones(2))
    optimizer = create("rectified(adamw)", [p], betas=(0.9, beta2))
    for _ in range(40):
        p.grad = torch.ones(2)
        optimizer.step()
    assert p.isfinite().all()
    assert torch.equal(p, torch.ones(2)) == (beta2 <= 0.6)


def test_sharp_names() -> None:
    assert ravine.ScheduleFreeAdamW.rule is ravine.lookup("schedule_free(adamw)")
    assert ravine.RectifiedScheduleFreeAdamW.rule is ravine.lookup("rectified(schedule_free(adamw))")
