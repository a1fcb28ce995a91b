"""Learning rate schedules: their closed forms, any optimizer, checkpoints, torch's combinators, and weight decay."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter
from torch.optim import lr_scheduler as torchs

import ravine
from conformance.support import Target, advance, assert_same_bits, create, parameters, set_gradients, targets
from ravine.optim import schedules
from ravine.optim.schedules import SCHEDULES, Schedule

TOTAL, WARMUP = 40, 8
EACH: dict[str, dict[str, Any]] = {
    "constant": {"warmup_steps": WARMUP},
    "linear": {"total_steps": TOTAL, "warmup_steps": WARMUP, "floor": 0.05},
    "cosine": {"total_steps": TOTAL, "warmup_steps": WARMUP, "floor": 0.1},
    "wsd": {"total_steps": TOTAL, "warmup_steps": WARMUP, "decay_steps": 10},
    "inverse_sqrt": {"warmup_steps": WARMUP},
    "inverse": {"timescale": 5.0, "warmup_steps": WARMUP},
}
each = pytest.mark.parametrize("name", EACH)


def one(lr: Any = 1.0, kind: Callable[..., torch.optim.Optimizer] = torch.optim.SGD) -> torch.optim.Optimizer:
    return kind([Parameter(torch.zeros(1))], lr=lr)


def make(name: str, optimizer: torch.optim.Optimizer, **others: Any) -> Schedule:
    return SCHEDULES[name](optimizer, **{**EACH[name], **others})


def rates(optimizer: torch.optim.Optimizer, schedule: Any, steps: int) -> list[float]:
    """The learning rate of the first group at each step."""
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return found


def test_every_schedule_is_tested() -> None:
    assert set(EACH) == set(SCHEDULES)


# Closed forms


def in_numpy(name: str, steps: int) -> np.ndarray:
    """The multipliers of `EACH`, written from the papers' formulas."""
    k = np.arange(steps, dtype=np.float64)
    after, x = k - WARMUP, np.clip((k - WARMUP) / (TOTAL - WARMUP), 0, 1)
    late = np.clip((k - 30) / 10, 0, 1)
    tail = {
        "constant": np.ones(steps),
        "linear": 1 - x * 0.95,
        "cosine": 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * x)),  # Loshchilov & Hutter 2017, equation 5
        "wsd": 1 - np.sqrt(late),  # Hägele et al. 2024, equation 1 with the 1-sqrt cooldown
        "inverse_sqrt": np.sqrt(WARMUP / np.maximum(k, WARMUP)),  # Vaswani et al. 2017, equation 3, up to its scale
        "inverse": 5.0 / (5.0 + np.maximum(after, 0)),
    }[name]
    return np.where(k < WARMUP, (k + 1) / WARMUP, tail)


@each
def test_closed_form(name: str) -> None:
    found = [make(name, one()).shape(step) for step in range(80)]
    np.testing.assert_allclose(found, in_numpy(name, 80), rtol=1e-14, atol=1e-16)


@each
def test_the_first_step_is_a_share_of_the_peak_and_the_last_of_the_warm_up_is_the_peak(name: str) -> None:
    optimizer = one(0.3)
    found = rates(optimizer, make(name, optimizer), WARMUP + 1)
    assert found[0] == 0.3 / WARMUP
    assert found[WARMUP - 1] == 0.3 and found[WARMUP] == 0.3
    assert found[:WARMUP] == sorted(found[:WARMUP])


@each
def test_without_warm_up_it_begins_at_the_peak(name: str) -> None:
    others = {"timescale": 3} if name == "inverse_sqrt" else {}
    assert make(name, one(), warmup_steps=0, **others).shape(0) == 1.0


@pytest.mark.parametrize(("name", "floor"), [("linear", 0.05), ("cosine", 0.1), ("wsd", 0.0)])
def test_after_the_last_step_it_stays_at_the_floor(name: str, floor: float) -> None:
    shape = make(name, one()).shape
    assert shape(TOTAL - 1) > floor
    assert {shape(step) for step in (TOTAL, TOTAL + 1, 1000 * TOTAL)} == {floor}


@pytest.mark.parametrize("floor", [0.0, 0.1, 0.3, 1 / 3, 0.7, 1.0])
def test_the_peak_and_the_floor_are_exact(floor: float) -> None:
    for name in ("linear", "cosine", "wsd"):
        shape = make(name, one(), floor=floor).shape
        assert shape(WARMUP) == 1.0 and shape(TOTAL) == floor


def test_an_all_warm_up_run_falls_to_the_floor_after_it() -> None:
    shape = schedules.cosine(one(), total_steps=4, warmup_steps=4, floor=0.2).shape
    assert [shape(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 0.2, 0.2]


@pytest.mark.parametrize(
    ("tail", "halfway"), [("linear", 0.5), ("cosine", 0.5), ("1-sqrt", 1 - math.sqrt(0.5))], ids=str
)
def test_tails_of_wsd(tail: str, halfway: float) -> None:
    shape = schedules.wsd(one(), 100, 10, decay_steps=40, tail=tail).shape
    assert [shape(step) for step in (10, 35, 60)] == [1.0, 1.0, 1.0]
    assert shape(80) == pytest.approx(halfway, rel=1e-14) and shape(100) == 0


def test_wsd_decays_over_the_last_fifth_or_what_is_left_of_it() -> None:
    assert schedules.wsd(one(), 100, 10).shape.start == 80
    assert schedules.wsd(one(), 100, 95).shape.start == 95
    assert schedules.wsd(one(), 100, 100).shape(100) == 0


# torch's schedulers as a reference


def test_cosine_is_torchs_after_a_warm_up() -> None:
    """CosineAnnealingLR's closed form after LinearLR, which rises from 1/W at step 0 to 1 at step W − 1."""
    left, right = one(0.3), one(0.3)
    rise = torchs.LinearLR(right, 1 / WARMUP, 1.0, WARMUP - 1)
    fall = torchs.CosineAnnealingLR(right, TOTAL - WARMUP, eta_min=0.03)
    ours = rates(left, make("cosine", left), TOTAL + 1)
    theirs = rates(right, torchs.SequentialLR(right, [rise, fall], [WARMUP]), TOTAL + 1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_linear_is_torchs() -> None:
    left, right = one(0.3), one(0.3)
    ours = rates(left, schedules.linear(left, TOTAL, floor=0.25), TOTAL + 5)
    theirs = rates(right, torchs.LinearLR(right, 1.0, 0.25, TOTAL), TOTAL + 5)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


# One closed form, however a step is reached


@each
def test_resuming_gives_the_same_bits(name: str) -> None:
    whole, optimizer = one(0.3), one(0.3)
    expected = rates(whole, make(name, whole), 60)
    schedule = make(name, optimizer)
    found = rates(optimizer, schedule, 17)
    saved = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)
    later = one(0.3)
    resumed = make(name, later)
    later.load_state_dict(loaded["optimizer"])
    resumed.load_state_dict(loaded["schedule"])
    assert found + rates(later, resumed, 43) == expected


@each
def test_a_jump_by_last_epoch_gives_the_same_bits(name: str) -> None:
    whole, late = one(0.3), one(0.3)
    expected = rates(whole, make(name, whole), 60)
    late.param_groups[0]["initial_lr"] = 0.3
    assert rates(late, make(name, late, last_epoch=22), 37) == expected[23:]


@each
def test_a_jump_by_step_gives_the_same_bits(name: str) -> None:
    whole, jumping = one(0.3), one(0.3)
    expected = rates(whole, make(name, whole), 60)
    schedule = make(name, jumping)
    jumping.step()
    for step in (44, 3, 30):
        with pytest.warns(UserWarning, match="epoch parameter"):
            schedule.step(step)
        assert jumping.param_groups[0]["lr"] == expected[step] == schedule.get_last_lr()[0]


def test_loading_restores_the_shape_and_a_new_schedule_changes_it() -> None:
    """A WSD run is extended by loading the optimizer alone and making a schedule that goes on from its step."""
    optimizer = one(0.3)
    schedule = schedules.wsd(optimizer, 40, decay_steps=10)
    rates(optimizer, schedule, 20)
    loaded = one(0.3)
    same = schedules.cosine(loaded, 7)
    same.load_state_dict(schedule.state_dict())
    assert same.shape == schedule.shape and same.last_epoch == 20
    branch = one(0.3)
    branch.load_state_dict(optimizer.state_dict())
    now = schedules.wsd(branch, 30, decay_steps=10, last_epoch=19)
    assert branch.param_groups[0]["lr"] == 0.3 and now.last_epoch == 20
    assert rates(branch, now, 11)[5] == 0.3 * (1 - math.sqrt(0.5))


def test_a_state_dict_is_not_shared_with_the_schedule() -> None:
    optimizer = one(torch.tensor(0.3, dtype=torch.float64))
    schedule = make("cosine", optimizer)
    other = one(torch.tensor(0.1, dtype=torch.float64))
    twin = make("cosine", other)
    twin.load_state_dict(schedule.state_dict())
    twin.base_lrs[0].mul_(2)
    assert schedule.base_lrs[0] == 0.3


@each
def test_pickle_and_deepcopy(name: str) -> None:
    optimizer = one(0.3)
    schedule = make(name, optimizer)
    rates(optimizer, schedule, 5)
    for twin in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        twin.step()
        assert twin.optimizer is not optimizer
        assert twin.get_last_lr()[0] == 0.3 * schedule.shape(6)


def test_numpy_numbers_are_loaded_with_weights_only() -> None:
    schedule = schedules.cosine(one(), np.int64(10), np.int64(2), np.float32(0.5))
    saved = io.BytesIO()
    torch.save(schedule.state_dict(), saved)
    saved.seek(0)
    assert torch.load(saved, weights_only=True)["shape"]["start"] == 2


# Optimizers, groups, tensors


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, ravine.AdamW, ravine.SGD, ravine.Lion])
def test_any_optimizer(kind: Callable[..., torch.optim.Optimizer]) -> None:
    optimizer = one(0.3, kind)
    found = rates(optimizer, make("cosine", optimizer), 50)
    assert found == [0.3 * float(m) for m in map(make("cosine", one()).shape, range(50))]


@pytest.mark.parametrize("target", targets(), ids=str)
@each
def test_groups_keep_their_own_peaks(name: str, target: Target) -> None:
    """Named groups of two rules with learning rates of their own: the steps are those with these lrs set by hand."""
    pairs = []
    for _ in range(2):
        a, b, c = parameters(target=target)[:3]
        groups = [
            {"params": [("a", a)], "lr": 0.1, "name": "slow"},
            {"params": [("b", b)], "rule": "lion", "lr": 0.003},
            {"params": [("c", c)]},
        ]
        pairs.append(([a, b, c], create("adamw", groups, target, lr=0.02)))
    (left, scheduled), (right, by_hand) = pairs
    schedule = make(name, scheduled)
    for step in range(12):
        for group, peak in zip(by_hand.param_groups, (0.1, 0.003, 0.02), strict=True):
            group["lr"] = peak * schedule.shape(step)
        for params, optimizer in pairs:
            set_gradients(params, step)
            optimizer.step()
        schedule.step()
    assert_same_bits(left, right)
    assert scheduled.param_groups[0]["name"] == "slow"


@pytest.mark.parametrize("kind", [torch.optim.AdamW, ravine.AdamW])
def test_a_tensor_stays_the_same_tensor(kind: Callable[..., torch.optim.Optimizer]) -> None:
    lr = torch.tensor(0.3, dtype=torch.float64)
    optimizer = one(lr, kind)
    held = optimizer.param_groups[0]["lr"]
    schedule = make("cosine", optimizer)
    found = rates(optimizer, schedule, 50)
    assert optimizer.param_groups[0]["lr"] is held
    assert found == [0.3 * schedule.shape(step) for step in range(50)]


def test_a_group_added_later_takes_part() -> None:
    optimizer = one(0.3)
    schedule = schedules.linear(optimizer, 10)
    rates(optimizer, schedule, 4)
    optimizer.add_param_group({"params": [Parameter(torch.zeros(1))], "lr": 0.02})
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.3 * 0.5, 0.02 * 0.5]


# torch's combinators


def test_in_sequence_it_begins_anew_at_its_milestone() -> None:
    optimizer = one(0.3)
    first, second = schedules.constant(optimizer, 4), schedules.cosine(optimizer, 20, floor=0.0)
    whole = torchs.SequentialLR(optimizer, [first, second], [10])
    expected = [0.3 * first.shape(k) if k < 10 else 0.3 * second.shape(k - 10) for k in range(35)]
    assert rates(optimizer, whole, 35) == expected


def test_in_sequence_it_resumes() -> None:
    def build() -> tuple[torch.optim.Optimizer, Any]:
        optimizer = one(0.3)
        parts: Sequence[Any] = [schedules.constant(optimizer, 4), schedules.cosine(optimizer, 20)]
        return optimizer, torchs.SequentialLR(optimizer, list(parts), [10])

    optimizer, whole = build()
    expected = rates(*build(), 30)
    found = rates(optimizer, whole, 15)
    later, resumed = build()
    later.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(whole.state_dict())
    assert found + rates(later, resumed, 15) == expected


def test_in_a_chain_it_is_as_lambda_lr() -> None:
    """A closed form sets the learning rate; what follows in the chain multiplies what it finds, once."""
    left, right = one(0.3), one(0.3)
    ours = schedules.linear(left, 20, 5)
    theirs = torchs.LambdaLR(right, ours.shape)
    chains = [
        torchs.ChainedScheduler([ours, torchs.ExponentialLR(left, 0.9)]),
        torchs.ChainedScheduler([theirs, torchs.ExponentialLR(right, 0.9)]),
    ]
    found, expected = rates(left, chains[0], 25), rates(right, chains[1], 25)
    assert found == expected
    assert found[3] == 0.3 * ours.shape(3) * 0.9


# Weight decay


@each
def test_max_lr_is_the_peak_from_the_start(name: str) -> None:
    optimizer = ravine.AdamW(
        [{"params": [Parameter(torch.ones(2))], "lr": 0.3}, {"params": [Parameter(torch.ones(2))]}],
        lr=0.02,
        decay="schedule",
    )
    schedule = make(name, optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.3 / WARMUP
    for step in range(60):
        advance(optimizer, 1, start=step)
        assert [group["max_lr"] for group in optimizer.param_groups] == [0.3, 0.02]
        schedule.step()


@pytest.mark.parametrize("target", targets(), ids=str)
@each
@pytest.mark.parametrize("rule", ["adamw", "sgd", "lion"])
def test_torchs_decay_and_the_papers_agree_under_a_schedule(rule: str, name: str, target: Target) -> None:
    """Loshchilov & Hutter 2019, Algorithm 2, multiplies λ by the schedule η_t; torch by lr_t = peak·η_t.

    So torch's (lr, λ/lr) is the paper's (lr, λ) at every step of a schedule, where lr is the peak of both.
    """
    ends = []
    for strength, decay in ((0.1 / 0.02, "lr"), (0.1, "schedule")):
        params = parameters(rule, target, torch.float64)
        optimizer = create(rule, params, target, lr=0.02, weight_decay=strength, decay=decay)
        schedule = make(name, optimizer)
        for step in range(45):
            advance(optimizer, 1, start=step)
            schedule.step()
        ends.append(params)
    for p, q in zip(*ends, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-12)


def test_torchs_own_adamw_agrees_with_it_too() -> None:
    ours, theirs = parameters(dtype=torch.float64), parameters(dtype=torch.float64)
    left = ravine.AdamW(ours, lr=0.02, weight_decay=0.1, decay="schedule")
    right = torch.optim.AdamW(theirs, lr=0.02, weight_decay=0.1 / 0.02)
    pair = [(optimizer, make("cosine", optimizer)) for optimizer in (left, right)]
    for step in range(45):
        for optimizer, schedule in pair:
            advance(optimizer, 1, start=step)
            schedule.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


def test_the_decay_is_the_schedules_share_of_lambda() -> None:
    """With zero gradients: p ← p·(1 − η_t·λ), from the first step of the warm-up on."""
    p = Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = ravine.AdamW([p], lr=0.02, weight_decay=0.1, decay="schedule")
    schedule = make("cosine", optimizer)
    expected = 2.0
    for step in range(TOTAL):
        expected *= 1 - 0.1 * in_numpy("cosine", TOTAL)[step]
        p.grad = torch.zeros_like(p)
        optimizer.step()
        schedule.step()
        assert p.item() == pytest.approx(expected, rel=1e-12)
