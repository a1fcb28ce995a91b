"""Runs on a landscape are those of the library's optimizers: every rule, wrapped and not, to the last digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ravine.explain.landscape.descent import ESTIMATE_EVERY, descend
from ravine.explain.landscape.functions import LANDSCAPES, Landscape
from ravine.optim import schedules
from ravine.optim.base import Optimizer
from ravine.registry import available, lookup

WRAPPED = (
    "lookahead(adamw)", "schedule_free(adamw)", "schedule_free(sgd)", "cautious(muon)", "clip_norm(sgd)", "ema(sgd)",
    "clipped_update(adamw)", "centralized(momentum)", "lookahead(cautious(lion))",
)  # fmt: skip
RAVINE = LANDSCAPES["ravine"]
STEPS = 40


def settings_of(name: str) -> dict[str, Any]:
    return {} if name == "adafactor_transformers" else {"lr": 0.01}


def by_the_optimizer(
    landscape: Landscape, name: str, steps: int, schedule: str = "constant", **settings: Any
) -> np.ndarray:
    """The same by `ravine.optim`, in float64: the points at which it evaluates, (steps + 1, 2)."""
    rule = lookup(name)
    start = torch.tensor(landscape.start, dtype=torch.float64)
    p = torch.nn.Parameter(start[None] if rule.steps_matrices else start)
    optimizer = Optimizer([p], rule, engine="reference", **settings)
    more = {} if schedule == "constant" else {"total_steps": steps}
    rates = schedules.named(schedule)(optimizer, **more)
    path = [p.detach().flatten().numpy().copy()]
    for _ in range(steps):
        x, y = p.flatten().unbind()
        (p.grad,) = torch.autograd.grad(landscape.value(x, y), p)
        optimizer.step()
        rates.step()
        with optimizer.evaluation_weights():
            path.append(p.detach().flatten().numpy().copy())
    return np.array(path)


@pytest.mark.parametrize("name", [*(name for name in available() if not lookup(name).inputs), *WRAPPED])
def test_every_rule_takes_the_optimizers_path(name: str) -> None:
    settings = settings_of(name)
    (run,) = descend(RAVINE, lookup(name), [settings], start=RAVINE.start, steps=STEPS)
    assert run.diverged_at is None
    # Roots and orthogonalization differ between NumPy and torch in the last digit; Shampoo's roots magnify that.
    tolerance = 1e-6 if "shampoo" in name else 1e-12
    assert run.points == pytest.approx(by_the_optimizer(RAVINE, name, STEPS, **settings), abs=tolerance, rel=tolerance)
    assert run.losses == pytest.approx([RAVINE.value(*point) for point in run.points], rel=1e-14)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("decay", ["lr", "schedule", "lr_squared", "l2"])
def test_schedules_and_weight_decay_are_the_optimizers(name: str, decay: str) -> None:
    settings = {"lr": 0.02, "weight_decay": 0.3, "decay": decay}
    (run,) = descend(RAVINE, lookup(name), [settings], start=RAVINE.start, steps=STEPS, schedule="cosine")
    expected = by_the_optimizer(RAVINE, name, STEPS, "cosine", **settings)
    assert run.points == pytest.approx(expected, abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("name", ["prodigy", "clip_norm(adam)", "lamb"])
def test_runs_side_by_side_know_nothing_of_each_other(name: str) -> None:
    cells = [{"lr": lr} for lr in (0.003, 0.01, 0.03)]
    options: dict[str, Any] = {"start": RAVINE.start, "steps": STEPS, "noise": 0.5}
    together = descend(RAVINE, lookup(name), cells, **options)
    for cell, run in zip(cells, together, strict=True):
        (alone,) = descend(RAVINE, lookup(name), [cell], **options)
        assert np.array_equal(alone.points, run.points)


def test_noise_is_the_same_for_all_and_for_each_seed() -> None:
    bowl = Landscape("bowl", "", lambda x, y: 0 * x + 0 * y, (-1, 1), (-1, 1), (0, 0), 10, "")
    options: dict[str, Any] = {"start": (0.0, 0.0), "steps": 4000, "noise": 2.0}
    (run,) = descend(bowl, lookup("sgd"), [{"lr": 1.0}], **options)
    drift = np.diff(run.points, axis=0)
    assert np.array_equal(drift, np.diff(descend(bowl, lookup("sgd"), [{"lr": 1.0}], **options)[0].points, axis=0))
    assert drift.mean() == pytest.approx(0.0, abs=5 * 2.0 / 8000**0.5)
    assert drift.std() == pytest.approx(2.0, rel=0.05)
    (other,) = descend(bowl, lookup("sgd"), [{"lr": 1.0}], **options, seed=2)
    assert not np.array_equal(other.points, run.points)


@pytest.mark.parametrize("lr", [5.0, 1e200])
def test_what_diverges_ends_there(lr: float) -> None:
    runs = descend(RAVINE, lookup("sgd"), [{"lr": lr}, {"lr": 0.01}], start=RAVINE.start, steps=STEPS)
    assert runs[0].diverged_at is not None and len(runs[0].points) == runs[0].diverged_at
    assert np.isfinite(runs[0].points).all() and np.isfinite(runs[0].losses).all()
    assert runs[1].diverged_at is None and len(runs[1].points) == STEPS + 1
    (alone,) = descend(RAVINE, lookup("sgd"), [{"lr": lr}], start=RAVINE.start, steps=STEPS)
    assert np.array_equal(alone.points, runs[0].points)


def test_a_rule_that_takes_curvature_is_given_it() -> None:
    # The ravine's Hessian is diagonal, where every draw of Hutchinson's estimate is exact.
    rule = lookup("sophia")
    assert rule.inputs == ("hessian",)
    settings = {"lr": 0.02, "weight_decay": 0.0}
    (run,) = descend(RAVINE, rule, [settings], start=RAVINE.start, steps=STEPS)
    p, states = np.array(RAVINE.start), [np.zeros(2), np.zeros(2)]
    for t in range(1, STEPS + 1):
        hessian = {"hessian": np.array([1.0, 50.0])} if t % ESTIMATE_EVERY == 1 else {}
        p, *states = rule(p, p * np.array([1.0, 50.0]), *states, t=t, **settings, **hessian)
        assert run.points[t] == pytest.approx(p, rel=1e-12, abs=1e-12)


def test_a_hole_in_the_ground_is_named() -> None:
    def hole(x: Any, y: Any) -> Any:
        return (x - 1) ** 2 + y**2 + torch.where(x > 0.5, torch.nan, 0.0)

    one = Landscape("hole", "", hole, (-2, 2), (-2, 2), (-1, 0), 10, "")
    with pytest.raises(ValueError, match=r"hole is nan at \(0\.\d+, 0\)"):
        descend(one, lookup("sgd"), [{"lr": 0.1}], start=(-1.0, 0.0), steps=50)
