"""Functions and sequences that mathematics knows: the tasks give its formulas, optima and limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR

import ravine
from ravine.lab.tasks import TASK_SIZES
from ravine.lab.tasks.functions import Point, Quadratic, Rosenbrock
from ravine.lab.tasks.online import Online
from ravine.lab.tasks.ridge import Ridge


def value_and_gradient(task: Any, at: torch.Tensor, batch: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    model = Point(at.clone())
    loss = task.loss(model, batch)
    loss.backward()
    return loss.item(), model.point.grad


def no_noise(task: Any) -> dict[str, torch.Tensor]:
    return {"noise": torch.zeros(1, task.components)}


@given(st.integers(1, 40), st.floats(1, 1e6), st.integers(0, 1000))
def test_the_quadratic_is_its_formula(dimension: int, condition: float, seed: int) -> None:
    """½ Σ h_i (x_i − 1)² with h_i = condition^(−i/(d−1)); its gradient is h_i (x_i − 1)."""
    task = Quadratic(dimension=dimension, condition=condition)
    x = torch.randn(dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    h = np.array([condition ** (-i / max(dimension - 1, 1)) for i in range(dimension)])
    expected = 0.5 * (h * (x.numpy() - 1) ** 2).sum()
    value, gradient = value_and_gradient(task, x, no_noise(task))
    assert value == pytest.approx(expected, rel=1e-12)
    assert gradient.numpy() == pytest.approx(h * (x.numpy() - 1), rel=1e-12)
    found = task.evaluate(Point(x), "judging")
    assert found["loss"] == pytest.approx(expected, rel=1e-12)
    assert found["distance"] == pytest.approx(np.linalg.norm(x.numpy() - 1), rel=1e-12)


def test_gradient_noise_has_the_variance_asked_for_and_the_batch_averages_it() -> None:
    task = Quadratic(dimension=4000, variance=0.25)
    generator, x = torch.Generator().manual_seed(0), torch.full((4000,), 0.3)
    _, exact = value_and_gradient(task, x, no_noise(task))
    for count in (1, 4):
        noise = torch.stack([value_and_gradient(task, x, task.draw(count, generator, 1))[1] - exact for _ in range(10)])
        assert noise.var().item() == pytest.approx(0.25 / count, rel=0.05)
        assert noise.mean().item() == pytest.approx(0, abs=4 * math.sqrt(0.25 / count / noise.numel()))


def test_sgd_on_the_noisy_quadratic_ends_at_its_stationary_variance() -> None:
    """x − 1 ← (1 − γh)(x − 1) − γξ has the variance γσ² / (h (2 − γh)) in the end (Zhang et al. 2019, section 3)."""
    task, lr = Quadratic(dimension=4000, condition=1, variance=0.04), 0.5
    torch.manual_seed(0)
    model, generator = task.new_model(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for step in range(1, 61):
        optimizer.zero_grad()
        task.loss(model, task.draw(1, generator, step)).backward()
        optimizer.step()
    expected = lr * 0.04 / (2 - lr)
    assert (model() - 1).square().mean().item() == pytest.approx(expected, rel=0.1)


def test_rosenbrock_has_its_known_values_and_gradient() -> None:
    task = Rosenbrock(dimension=4)
    assert task.value(torch.tensor([-1.2, 1.0, -1.2, 1.0])).item() == pytest.approx(2 * 24.2)
    assert task.value(torch.ones(4)).item() == 0
    x = torch.tensor([0.5, -0.3, 2.0, 1.0], dtype=torch.float64)
    a, b = x[0::2], x[1::2]
    expected = torch.stack((-400 * a * (b - a**2) - 2 * (1 - a), 200 * (b - a**2)), dim=1).flatten()
    torch.testing.assert_close(value_and_gradient(task, x, no_noise(task))[1], expected, rtol=1e-12, atol=0)


def test_points_begin_where_it_is_said() -> None:
    torch.manual_seed(0)
    start = Quadratic(dimension=10_000).new_model().point.detach()
    assert start.mean().item() == pytest.approx(1, abs=0.01) and start.std().item() == pytest.approx(0.1, rel=0.05)
    valley = Rosenbrock(dimension=10_000).new_model().point.detach()
    for part, middle in ((valley[0::2], -1.2), (valley[1::2], 1.0)):
        assert part.mean().item() == pytest.approx(middle, abs=0.01)
        assert part.std().item() == pytest.approx(0.1, rel=0.1)


def end_of_reddis_sequence(rule: str) -> dict[str, float]:
    """β₁ = 0, β₂ = 1 / (1 + C²), α = 0.1 / √t: Reddi et al. 2018, section 3."""
    task = Online(c=4)
    model, generator = task.new_model(), torch.Generator()
    optimizer = ravine.create(rule, model.parameters(), lr=0.1, betas=(0.0, 1 / 17), eps=1e-16)
    schedule = LambdaLR(optimizer, lambda done: (done + 1) ** -0.5)
    for step in range(1, 1501):
        optimizer.zero_grad()
        task.loss(model, task.draw(1, generator, step)).backward()
        optimizer.step()
        schedule.step()
        task.after_step(model)
    return task.evaluate(model, "judging")


def test_adam_goes_to_the_worst_point_and_amsgrad_to_the_best() -> None:
    """Reddi, Kale & Kumar 2018, Theorem 1: +1 is a distance of 2 from the best, −1, and a regret of (C − 2) · 2/3."""
    adam, amsgrad = end_of_reddis_sequence("adam"), end_of_reddis_sequence("amsgrad")
    assert adam["distance"] == pytest.approx(2, abs=0.01) and adam["loss"] == pytest.approx(4 / 3, abs=0.01)
    assert amsgrad["distance"] == pytest.approx(0, abs=0.01) and amsgrad["loss"] == pytest.approx(0, abs=0.01)


@given(st.floats(-1, 1), st.floats(2.5, 100))
def test_the_regret_is_what_a_cycle_loses(x: float, c: float) -> None:
    task = Online(c=c)
    model, best = Point(torch.tensor([x])), Point(torch.tensor([-1.0]))
    batches = [task.draw(1, torch.Generator(), step) for step in (7, 8, 9)]
    lost = sum(task.loss(model, b).item() - task.loss(best, b).item() for b in batches)
    assert task.evaluate(model, "tuning")["loss"] == pytest.approx(lost / 3, rel=1e-4, abs=1e-5)


def test_points_outside_are_taken_back() -> None:
    for x, nearest in ((3.0, 1.0), (-1.5, -1.0), (0.25, 0.25)):
        model = Point(torch.tensor([x]))
        Online().after_step(model)
        assert model.point.item() == nearest


@pytest.mark.parametrize("condition", [1.0, 50.0, 1e4])
def test_the_design_is_conditioned_as_asked(condition: float) -> None:
    made = Ridge(points=300, dimension=12, condition=condition, penalty=0.0).problem
    eigenvalues = torch.linalg.eigvalsh(made.hessian)
    assert (eigenvalues[-1] / eigenvalues[0]).item() == pytest.approx(condition, rel=1e-8)
    assert eigenvalues[-1].item() == pytest.approx(1, rel=1e-10)


def test_the_optimum_of_ridge_is_that_of_its_training_loss() -> None:
    """At the optimum the gradient over all training points vanishes; elsewhere the excess is the loss above it."""
    task = Ridge("tiny", penalty=0.05)
    points, targets = task.problem.splits["training"]
    batch = {"points": points.double(), "targets": targets.double()}
    model = task.new_model().double()
    with torch.no_grad():
        model.weight.copy_(task.problem.optimum)
    loss = task.loss(model, batch)
    loss.backward()
    assert model.weight.grad.abs().max() < 1e-7
    least = loss.item()
    assert task.evaluate(model, "tuning")["loss"] == 0
    with torch.no_grad():
        model.weight.add_(torch.linspace(-1, 1, 10))
    expected = task.loss(model, batch).item() - least
    assert task.evaluate(model, "tuning")["loss"] == pytest.approx(expected, rel=1e-5)
    assert task.evaluate(model, "judging")["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_error_of_ridge_is_that_on_the_splits_own_points() -> None:
    task = Ridge("tiny")
    model = task.new_model()
    for split in ("tuning", "judging"):
        points, targets = task.problem.splits[split]
        expected = (model(points).squeeze(1) - targets).square().mean().item()
        assert task.evaluate(model, split)["error"] == pytest.approx(expected, rel=1e-5)


def test_sizes_grow() -> None:
    for kind in (Quadratic, Rosenbrock):
        tiny, small, base = (kind(size).components for size in TASK_SIZES)
        assert tiny < small < base
    assert Ridge("small").shape == (2000, 50) and Ridge("small", dimension=7).shape == (2000, 7)
