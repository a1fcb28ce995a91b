"""Weight decay: its four meanings, what makes two of them the same, and where the highest learning rate comes from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim import lr_scheduler as schedules

import ravine
from conformance.support import Target, advance, create, parameters, random, targets

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)
# A preset decays as the rule it is made from.
RULES = [rule for rule in map(ravine.lookup, ravine.available()) if rule.preset_of is None]
DECAYING = [rule.name for rule in RULES if "weight_decay" in rule.defaults]
DECOUPLED = ["adamw", "adam", "amsgrad", "lion", "sgd", "momentum", "rmsprop", "adagrad", "lamb", "cautious(adamw)"]


def after_zero_gradients(name: str, target: Target, lrs: list[float], **settings: Any) -> list[float]:
    """A parameter of value 2 through steps of these learning rates, all gradients zero."""
    p = Parameter(torch.full((3,), 2.0, dtype=torch.float64, device=target.device))
    optimizer = create(name, [p], target, lr=lrs[0], **settings)
    path = []
    for lr in lrs:
        optimizer.param_groups[0]["lr"] = lr
        p.grad = torch.zeros_like(p)
        optimizer.step()
        path.append(p[0].item())
    return path


LRS = [0.4, 0.2, 0.1]


@ENGINES
@pytest.mark.parametrize("name", [n for n in DECOUPLED if n != "lamb"])
def test_the_three_decoupled_forms(name: str, target: Target) -> None:
    """With g = 0 only decay moves p. torch: p ← p − lr·λ·p. Loshchilov & Hutter 2019: p ← p − (lr/max lr)·λ·p.

    PaLM (Chowdhery et al. 2022, section 5): p ← p − lr²·λ·p. All three shrink p geometrically.
    """
    factors = {
        "lr": [1 - lr * 0.3 for lr in LRS],
        "schedule": [1 - lr / 0.4 * 0.3 for lr in LRS],
        "lr_squared": [1 - lr**2 * 0.3 for lr in LRS],
    }
    for decay, shrink in factors.items():
        expected = [2.0 * shrink[0], 2.0 * shrink[0] * shrink[1], 2.0 * shrink[0] * shrink[1] * shrink[2]]
        assert after_zero_gradients(name, target, LRS, decay=decay, weight_decay=0.3) == pytest.approx(
            expected, rel=1e-12
        )


@ENGINES
def test_l2_under_adam_walks_where_decay_shrinks(target: Target) -> None:
    """Loshchilov & Hutter 2019: g ← g + λp is normalized away: p loses lr a step, whatever its size and λ."""
    for strength in (0.01, 1.0):
        for size in (1.0, 100.0):
            p = Parameter(torch.full((2,), size, dtype=torch.float64, device=target.device))
            optimizer = ravine.Adam([p], lr=0.01, weight_decay=strength, engine=target.engine)
            for _ in range(10):
                p.grad = torch.zeros_like(p)
                optimizer.step()
            assert size - p[0].item() == pytest.approx(0.1, rel=0.02)


@ENGINES
@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "momentum", "adagrad", "lion"])
def test_l2_is_a_term_of_the_gradient(name: str, target: Target) -> None:
    """decay="l2" is what adding λp to the gradient by hand gives, for every rule."""
    left, right = (Parameter(random((4, 3), 1, torch.float64, target.device)) for _ in range(2))
    one = create(name, [left], target, lr=0.01, weight_decay=0.3, decay="l2")
    two = create(name, [right], target, lr=0.01, weight_decay=0.0)
    for step in range(6):
        left.grad = random((4, 3), 10 + step, torch.float64, target.device)
        right.grad = left.grad + 0.3 * right.detach()
        one.step()
        two.step()
    torch.testing.assert_close(left, right, rtol=1e-13, atol=1e-14)


@ENGINES
@pytest.mark.parametrize("name", DECAYING)
def test_torchs_form_and_the_papers_agree_under_a_constant_schedule(name: str, target: Target) -> None:
    """torch's (lr, λ/lr) is the paper's (lr, λ): a recipe moves between them by one division, as long as lr stays."""
    left, right = parameters(name, target, torch.float64), parameters(name, target, torch.float64)
    advance(create(name, left, target, lr=0.02, weight_decay=0.1 / 0.02, decay="lr"), 20)
    advance(create(name, right, target, lr=0.02, weight_decay=0.1, decay="schedule"), 20)
    for p, q in zip(left, right, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-12)


def sgd_pair(target: Target, momentum: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain SGD with the paper's decay λ = 0.01 a step, and with L2 of λ' = λ/α, α = 0.05."""
    ends = []
    for settings in ({"decay": "schedule", "weight_decay": 0.01}, {"decay": "l2", "weight_decay": 0.01 / 0.05}):
        p = Parameter(random((6,), 3, torch.float64, target.device))
        advance(create("sgd", [p], target, lr=0.05, momentum=momentum, **settings), 15)
        ends.append(p.detach())
    return ends[0], ends[1]


@ENGINES
def test_in_sgd_decay_is_l2(target: Target) -> None:
    """Loshchilov & Hutter 2019, Proposition 1: without momentum, decay λ equals L2 with λ' = λ/α exactly."""
    decayed, penalized = sgd_pair(target, momentum=0.0)
    torch.testing.assert_close(decayed, penalized, rtol=1e-13, atol=1e-14)


@ENGINES
def test_with_momentum_the_two_part(target: Target) -> None:
    decayed, penalized = sgd_pair(target, momentum=0.9)
    assert (decayed - penalized).abs().max() > 0.01


@ENGINES
def test_in_adam_no_l2_is_decay(target: Target) -> None:
    """Loshchilov & Hutter 2019, Proposition 2: not for any λ'. Two weights with gradients of unequal size show it.

    Decay shrinks both by the same share. L2 shrinks that with small gradients more: a λ' for one fails the other.
    """

    def shrunk(**settings: Any) -> torch.Tensor:
        ends = []
        for strength in (0.0, settings.pop("weight_decay")):
            p = Parameter(torch.ones(2, dtype=torch.float64, device=target.device))
            optimizer = ravine.Adam([p], lr=1e-3, weight_decay=strength, engine=target.engine, **settings)
            for step in range(50):
                p.grad = torch.tensor([10.0, 0.1], dtype=torch.float64, device=target.device) * (-1) ** step
                optimizer.step()
            ends.append(p.detach())
        return ends[0] - ends[1]

    decay = shrunk(decay="lr", weight_decay=0.5)
    assert decay[0] == pytest.approx(decay[1].item(), rel=0.02)
    for strength in (1e-3, 1e-2, 0.1, 1.0):
        penalty = shrunk(decay="l2", weight_decay=strength)
        assert penalty[1] > 5 * penalty[0]


# max_lr, which the paper's form divides by


def group_of(lr: Any = 0.02, **settings: Any) -> ravine.Optimizer:
    return ravine.AdamW([Parameter(torch.ones(2))], lr=lr, decay="schedule", weight_decay=0.1, **settings)


def test_without_a_schedule_it_is_the_constructors_lr() -> None:
    assert group_of().param_groups[0]["max_lr"] == 0.02
    optimizer = ravine.AdamW([{"params": [Parameter(torch.ones(2))], "lr": 0.3}], lr=0.02, decay="schedule")
    assert optimizer.param_groups[0]["max_lr"] == 0.3


def test_a_falling_schedule_leaves_it() -> None:
    optimizer = group_of()
    schedule = schedules.CosineAnnealingLR(optimizer, 10)
    for _ in range(10):
        advance(optimizer, 1)
        schedule.step()
    assert optimizer.param_groups[0]["max_lr"] == 0.02 and optimizer.param_groups[0]["lr"] < 1e-9


def test_a_schedule_that_goes_above_raises_it() -> None:
    optimizer = group_of()
    schedule = schedules.LambdaLR(optimizer, lambda n: 1 + n)
    for _ in range(5):
        advance(optimizer, 1)
        schedule.step()
    assert optimizer.param_groups[0]["max_lr"] == pytest.approx(5 * 0.02)


def test_warm_up_divides_by_the_peak_from_the_start() -> None:
    """LinearLR lowers lr when it is made, but the constructor's lr stays the highest."""
    optimizer = group_of()
    schedules.LinearLR(optimizer, 0.01, 1.0, 10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0002)
    advance(optimizer, 1)
    assert optimizer.param_groups[0]["max_lr"] == 0.02


@ENGINES
def test_one_cycle_writes_it_and_initial_lr_is_not_taken_for_it(target: Target) -> None:
    """OneCycleLR sets initial_lr to max_lr/25: with that for the highest, decay would be 25 times too strong."""
    p = Parameter(torch.full((2,), 2.0, dtype=torch.float64, device=target.device))
    optimizer = ravine.AdamW([p], lr=1e-3, decay="schedule", weight_decay=0.1, engine=target.engine)
    schedule = schedules.OneCycleLR(optimizer, max_lr=0.5, total_steps=10, cycle_momentum=False)
    group = optimizer.param_groups[0]
    assert group["max_lr"] == 0.5 and group["initial_lr"] == 0.5 / 25
    expected, highest = 2.0, 0.0
    for _ in range(9):
        expected *= 1 - group["lr"] / 0.5 * 0.1
        highest = max(highest, group["lr"])
        p.grad = torch.zeros_like(p)
        optimizer.step()
        schedule.step()
        assert p[0].item() == pytest.approx(expected, rel=1e-12)
    assert highest == pytest.approx(0.5) and group["max_lr"] == 0.5


@ENGINES
def test_it_is_saved_and_loaded(target: Target) -> None:
    """A run resumed late in its schedule decays as strongly as before, though the new optimizer never saw the peak."""
    optimizer = create("adamw", parameters(target=target), target, lr=0.02, decay="schedule", weight_decay=0.1)
    optimizer.param_groups[0]["lr"] = 0.08
    advance(optimizer, 1)
    optimizer.param_groups[0]["lr"] = 0.01
    other = create("adamw", parameters(target=target), target, lr=0.01, decay="schedule", weight_decay=0.1)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["max_lr"] == 0.08
