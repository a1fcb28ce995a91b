"""Every learning rate scheduler of torch drives every optimizer as it drives torch's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim import lr_scheduler as schedules
from torch.optim.swa_utils import SWALR

import ravine
from conformance.support import (
    NESTS,
    REPRESENTATIVE,
    SPECS,
    Target,
    advance,
    assert_same_bits,
    create,
    parameters,
    set_gradients,
    targets_for,
)
from ravine.optim.settings import defaults_of

STEPS = 12
SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "LambdaLR": lambda o: schedules.LambdaLR(o, lambda n: 1 / (n + 1)),
    "MultiplicativeLR": lambda o: schedules.MultiplicativeLR(o, lambda n: 0.9),
    "StepLR": lambda o: schedules.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: schedules.MultiStepLR(o, [2, 7], 0.3),
    "ConstantLR": lambda o: schedules.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: schedules.LinearLR(o, 0.1, 1.0, 5),
    "ExponentialLR": lambda o: schedules.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: schedules.PolynomialLR(o, STEPS, 2.0),
    "CosineAnnealingLR": lambda o: schedules.CosineAnnealingLR(o, STEPS, 1e-4),
    "CosineAnnealingWarmRestarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda o: schedules.CyclicLR(o, 1e-3, 1e-1, 3, cycle_momentum=False),
    "OneCycleLR": lambda o: schedules.OneCycleLR(o, 0.1, STEPS, cycle_momentum=False),
    "ReduceLROnPlateau": lambda o: schedules.ReduceLROnPlateau(o, factor=0.5, patience=1),
    "SequentialLR": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.1, 1.0, 4), schedules.ExponentialLR(o, 0.9)], [4]
    ),
    "ChainedScheduler": lambda o: schedules.ChainedScheduler(
        [schedules.LinearLR(o, 0.1, 1.0, 4), schedules.ExponentialLR(o, 0.9)]
    ),
    "SWALR": lambda o: SWALR(o, 0.05, anneal_epochs=4),
}
CYCLES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "OneCycleLR": lambda o: schedules.OneCycleLR(o, 0.1, STEPS),
    "OneCycleLR, three phases": lambda o: schedules.OneCycleLR(o, 0.1, STEPS, three_phase=True, base_momentum=0.6),
    "CyclicLR": lambda o: schedules.CyclicLR(o, 1e-3, 1e-1, 3, base_momentum=0.7, max_momentum=0.95),
}
RULES = [spec for spec in SPECS if ravine.lookup(spec).wrapper is None]
MOMENTUM = [spec for spec in RULES if {"momentum", "betas"} & set(defaults_of(ravine.lookup(spec)))]
CYCLED = [
    (spec, cycle, target)
    for spec in MOMENTUM
    for cycle in (CYCLES if spec in REPRESENTATIVE else ["OneCycleLR"])
    for target in targets_for(spec)
]
# A scheduler reaches the rule through one number in the group. What rules do with that number, one scheduler shows for
# every optimizer; what schedulers do to the group, a plain and a wrapped optimizer show for every scheduler.
SCHEDULED = [
    (spec, schedule, target)
    for spec in SPECS
    for schedule in (SCHEDULERS if spec in ("adamw", NESTS[-1]) else ["OneCycleLR"])
    for target in targets_for(spec)
]


def tick(scheduler: Any, step: int) -> None:
    """One step of a scheduler; the plateau's is told a loss that stops falling."""
    with warnings.catch_warnings():  # torch's own SequentialLR uses what torch deprecates
        warnings.simplefilter("ignore", UserWarning)
        scheduler.step(max(1.0, 3.0 - step)) if isinstance(scheduler, schedules.ReduceLROnPlateau) else scheduler.step()


def planned(make: Callable[[torch.optim.Optimizer], Any]) -> list[float]:
    """The learning rates that torch's scheduler gives torch's SGD."""
    twin = torch.optim.SGD([Parameter(torch.zeros(1))], lr=0.02, momentum=0.9)
    scheduler, rates = make(twin), []
    for step in range(STEPS):
        rates.append(float(twin.param_groups[0]["lr"]))
        twin.step()
        tick(scheduler, step)
    return rates


def test_every_scheduler_of_torch_is_here() -> None:
    torchs = {n for n in schedules.__all__ if n not in ("LRScheduler", "_LRScheduler")}
    assert torchs <= set(SCHEDULERS)


@pytest.mark.parametrize("tensor_lr", [False, True], ids=["float", "tensor"])
@pytest.mark.parametrize(("name", "schedule", "target"), SCHEDULED, ids=str)
def test_a_scheduled_run_is_one_with_those_learning_rates(
    name: str, schedule: str, tensor_lr: bool, target: Target
) -> None:
    """The scheduler writes to the group; setting the same numbers by hand, step by step, gives the same bits."""
    rates = planned(SCHEDULERS[schedule])
    left, right = parameters(name, target)[:2], parameters(name, target)[:2]
    lr = torch.tensor(0.02, dtype=torch.float64) if tensor_lr else 0.02
    scheduled, by_hand = create(name, left, target, lr=lr), create(name, right, target, lr=0.02)
    scheduler = SCHEDULERS[schedule](scheduled)
    for step, rate in enumerate(rates):
        assert float(scheduled.param_groups[0]["lr"]) == pytest.approx(rate, rel=1e-12)
        by_hand.param_groups[0]["lr"] = float(scheduled.param_groups[0]["lr"])
        set_gradients(left, step)
        set_gradients(right, step)
        scheduled.step()
        by_hand.step()
        tick(scheduler, step)
    assert len(set(rates)) > 1
    assert_same_bits(left, right)


@pytest.mark.parametrize(("name", "cycle", "target"), CYCLED, ids=str)
def test_momentum_is_cycled(name: str, cycle: str, target: Target) -> None:
    """OneCycleLR and CyclicLR write `momentum` or the first of `betas`, and the next step uses what they wrote."""
    left, right = parameters(name, target)[:2], parameters(name, target)[:2]
    scheduled, by_hand = create(name, left, target, lr=0.02), create(name, right, target, lr=0.02)
    scheduler, seen = CYCLES[cycle](scheduled), set()
    for step in range(STEPS):
        group = scheduled.param_groups[0]
        for key in ("lr", "momentum", "betas"):
            if key in group:
                by_hand.param_groups[0][key] = group[key]
        seen.add(group["momentum"] if "momentum" in group else group["betas"][0])
        set_gradients(left, step)
        set_gradients(right, step)
        scheduled.step()
        by_hand.step()
        scheduler.step()
    assert len(seen) > 3
    assert_same_bits(left, right)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "RAdam"])
@pytest.mark.parametrize("cycle", CYCLES)
def test_cycled_momentum_follows_torchs_class(name: str, cycle: str, target: Target) -> None:
    """float64 paths of torch's class and ours under one schedule each, to the roundings of 12 steps."""
    left, right = (parameters(name.lower(), t, torch.float64) for t in (target, Target("reference")))
    ours, theirs = create(name.lower(), left, target, lr=0.02), getattr(torch.optim, name)(right, lr=0.02)
    pairs = [(o, CYCLES[cycle](o)) for o in (ours, theirs)]
    for step in range(STEPS):
        for optimizer, scheduler in pairs:
            advance(optimizer, 1, start=step)
            scheduler.step()
    for p, q in zip(left, right, strict=True):
        torch.testing.assert_close(p.cpu(), q, rtol=1e-12, atol=1e-13)


@pytest.mark.of_each_kind
def test_schedulers_resume_with_their_optimizer(spec: str, target: Target) -> None:
    """Checkpoints of optimizer and scheduler, loaded into new ones in the middle of a cycle."""
    left = parameters(spec, target)[:2]
    one = create(spec, left, target, lr=0.02)
    schedule = schedules.OneCycleLR(one, 0.1, STEPS, cycle_momentum=False)
    for step in range(5):
        advance(one, 1, start=step)
        schedule.step()
    right = [Parameter(p.detach().clone()) for p in left]
    two = create(spec, right, target, lr=0.02)
    resumed = schedules.OneCycleLR(two, 0.1, STEPS, cycle_momentum=False)
    two.load_state_dict(one.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    for step in range(5, STEPS - 1):
        for optimizer, scheduler in ((one, schedule), (two, resumed)):
            advance(optimizer, 1, start=step)
            scheduler.step()
    assert_same_bits(left, right)
    assert one.param_groups[0]["lr"] == two.param_groups[0]["lr"]


@pytest.mark.of_each_kind
def test_no_warning_that_the_order_is_wrong(spec: str) -> None:
    """torch warns when a scheduler steps before its optimizer, which it can tell only where step() is counted."""
    optimizer = create(spec, parameters(spec))
    scheduler = schedules.ExponentialLR(optimizer, 0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        advance(optimizer, 1)
        scheduler.step()
    late = create(spec, parameters(spec))
    scheduler = schedules.ExponentialLR(late, 0.9)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
