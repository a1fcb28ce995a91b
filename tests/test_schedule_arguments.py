"""What schedules refuse, in one sentence each, and that nothing has changed then."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim import lr_scheduler as torchs

from ravine.optim import schedules
from ravine.optim.schedules import Schedule, Shape


def one(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([Parameter(torch.zeros(1))], lr=lr)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "total_steps must be at least 1, got 0", lambda o: schedules.cosine(o, 0)),
        (TypeError, "total_steps must be a whole number of steps, got 10.5", lambda o: schedules.linear(o, 10.5)),
        (TypeError, "warmup_steps must be a whole number of steps, got True", lambda o: schedules.constant(o, True)),
        (ValueError, "warmup_steps must be at least 0, got -1", lambda o: schedules.inverse(o, 3, -1)),
        (ValueError, "warmup_steps must be at most total_steps = 5, got 6", lambda o: schedules.cosine(o, 5, 6)),
        (ValueError, r"a fraction of the peak .* got 2.0", lambda o: schedules.cosine(o, 5, floor=2)),
        (ValueError, "floor must be a finite number .* got -0.1", lambda o: schedules.linear(o, 5, 0, -0.1)),
        (ValueError, "floor must be a finite number .* got nan", lambda o: schedules.linear(o, 5, 0, math.nan)),
        (TypeError, "floor must be a number, got 'low'", lambda o: schedules.linear(o, 5, 0, "low")),
        (ValueError, r"at most total_steps = 9, got 5 \+ 6", lambda o: schedules.wsd(o, 9, 5, 6)),
        (ValueError, "tail must be one of 'linear', 'cosine', '1-sqrt', got 'inverse'",
         lambda o: schedules.wsd(o, 9, tail="inverse")),
        (ValueError, "timescale must be given", lambda o: schedules.inverse_sqrt(o)),
        (ValueError, "timescale must be above 0, got 0", lambda o: schedules.inverse(o, 0)),
        (TypeError, "shape must be a Shape, got 'cosine'", lambda o: Schedule(o, "cosine")),
        (ValueError, "tail must be one of .*, got 'cos'", lambda o: Shape("cos")),
        (ValueError, "begins at step 2, within the warm-up of 3 steps", lambda o: Shape("linear", 3, 2)),
        (ValueError, "length must be above 0, got 0.0", lambda o: Shape("inverse", 3, 3, 0)),
        (ValueError, "unknown schedule 'cosin'; did you mean 'cosine'?", lambda o: schedules.named("cosin")),
        (TypeError, "is not an Optimizer", lambda o: schedules.cosine("adamw", 10)),
    ],
)  # fmt: skip
def test_wrong_calls_are_refused_in_one_sentence(
    error: type[Exception], message: str, call: Callable[[Any], Any]
) -> None:
    optimizer = one(0.3)
    with pytest.raises(error, match=message):
        call(optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_a_foreign_state_dict_is_refused_and_changes_nothing() -> None:
    optimizer, other = one(0.3), one(0.3)
    schedule = schedules.cosine(optimizer, 40, 8)
    before = copy.deepcopy(schedule.state_dict())
    with pytest.raises(ValueError, match="not one of a ravine schedule"):
        schedule.load_state_dict(torchs.CosineAnnealingLR(other, 10).state_dict())
    two = torch.optim.SGD([{"params": [Parameter(torch.zeros(1))]} for _ in range(2)], lr=0.1)
    with pytest.raises(ValueError, match="for 2 parameter groups, the optimizer has 1"):
        schedule.load_state_dict(schedules.linear(two, 40).state_dict())
    bad = {**before, "shape": {**before["shape"], "floor": 7.0}}
    with pytest.raises(ValueError, match="floor"):
        schedule.load_state_dict(bad)
    assert schedule.state_dict() == before


def test_resuming_without_a_peak_says_so() -> None:
    with pytest.raises(KeyError, match="initial_lr"):
        schedules.cosine(one(0.3), 10, last_epoch=3)
