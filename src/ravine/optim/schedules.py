"""Learning rate schedules: a linear warm-up, then a tail. `ravine.schedules.cosine(optimizer, total_steps=10_000)`.

Every schedule is one formula of the step k, counted from 0:

    lr(k) = peak · (k + 1) / warmup_steps                   while k < warmup_steps
    lr(k) = peak · (floor + (1 − floor) · tail(x))          after it, x = (k − start) / length, 0 before `start`

The peak is each group's own learning rate. The first step of a warm-up has lr = peak / warmup_steps, not 0: a step at
0 would be wasted. The tail begins at step `warmup_steps` and is at the floor from step `total_steps` on, as in torch's
CosineAnnealingLR: a run of `total_steps` steps, whose last is number total_steps − 1, comes near the floor without
wasting a step at 0, and one that goes on stays there.

The learning rate at a step does not depend on how the step was reached: a resumed schedule gives the same bits.

Example:
    >>> optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    >>> schedule = linear(optimizer, total_steps=6, warmup_steps=2)
    >>> for _ in range(7):
    ...     print(optimizer.param_groups[0]["lr"], end=" ")
    ...     optimizer.step()
    ...     schedule.step()
    0.25 0.5 0.5 0.375 0.25 0.125 0.0
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from ravine.registry import nearest

__all__ = ["SCHEDULES", "Schedule", "Shape", "constant", "cosine", "inverse", "inverse_sqrt", "linear", "wsd"]

TAILS: Mapping[str, Callable[[float], float]] = {
    "constant": lambda x: 1.0,
    "linear": lambda x: 1 - min(x, 1.0),
    "cosine": lambda x: (1 + math.cos(math.pi * min(x, 1.0))) / 2,
    "1-sqrt": lambda x: 1 - math.sqrt(min(x, 1.0)),
    "inverse": lambda x: 1 / (1 + x),
    "inverse sqrt": lambda x: 1 / math.sqrt(1 + x),
}
"""From 1 at x = 0: to 0 at x = 1 and 0 ever after, or, for the inverse ones, to 1/2 and 1/√2 and on towards 0."""

ENDING = ("linear", "cosine", "1-sqrt")


@dataclass(frozen=True)
class Shape:
    """The multiplier of the peak learning rate at each step.

    Args:
        tail: what follows the warm-up, a name of `TAILS`.
        warmup_steps: steps of linear rise, at least 0.
        start: the step at which the tail begins, at least `warmup_steps`; until then the multiplier is 1.
        length: of the tail in steps, above 0: until it is at the floor, or its time scale for the inverse ones. 0 where
            the floor is reached at once.
        floor: the multiplier that the tail ends at or tends to, in [0, 1].

    Raises:
        TypeError: for a number of steps that is not whole, a value that is no number.
        ValueError: for an unknown tail or a value out of its range.

    Example:
        >>> shape = Shape("linear", warmup_steps=2, start=2, length=4, floor=0.2)
        >>> [round(shape(step), 3) for step in range(8)]
        [0.5, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2]
    """

    tail: str
    warmup_steps: int = 0
    start: int = 0
    length: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.tail not in TAILS:
            raise ValueError(f"tail must be one of {', '.join(map(repr, TAILS))}, got {self.tail!r}")
        for name, plain in (("warmup_steps", _whole), ("start", _whole), ("length", _number), ("floor", _number)):
            object.__setattr__(self, name, plain(name, getattr(self, name)))
        if self.start < self.warmup_steps:
            raise ValueError(f"the tail begins at step {self.start}, within the warm-up of {self.warmup_steps} steps")
        if self.length < 0 or (self.length == 0 and self.tail not in ENDING):
            raise ValueError(f"length must be above 0, got {self.length!r}")
        if self.floor > 1:
            raise ValueError(f"floor is a fraction of the peak learning rate and must be in [0, 1], got {self.floor!r}")

    def __call__(self, step: int) -> float:
        """The multiplier at a step, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = max(0, step - self.start)
        x = done / self.length if self.length else 1.0
        return self.floor + (1 - self.floor) * TAILS[self.tail](x)


class Schedule(LRScheduler):
    """A `torch.optim` scheduler that multiplies each group's own learning rate by a shape.

    Args:
        optimizer: any `torch.optim.Optimizer`; the peak of a group is the `lr` that it has now, which stays a tensor
            where it is one.
        shape: the multiplier at each step.
        last_epoch: the number of the last step that was done, from 0; −1 before the first, as with torch's schedulers.

    The state dict holds plain values and is loaded with `weights_only=True`; loading it restores the shape too, as with
    torch's schedulers. To go on from a checkpoint with another shape (to let a run at a stable learning rate decay),
    load the optimizer's state dict and make a new schedule with `last_epoch` = steps done − 1.

    A group that is added later takes part from the next `step()` on, the `lr` that it came with being its peak. In a
    `ChainedScheduler` it must come first: like LambdaLR, it sets the learning rate whatever it was.

    Raises:
        TypeError: if `optimizer` is none, or `shape` is no `Shape`.
        KeyError: for a `last_epoch` above −1 where the groups have no `initial_lr`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, shape: Shape, last_epoch: int = -1) -> None:
        if not isinstance(shape, Shape):
            raise TypeError(f"shape must be a Shape, got {shape!r}; schedules by name are ravine.schedules.cosine, ...")
        self.shape = shape
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each group at the step that comes next."""
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            lr = group["lr"]
            peak = group.setdefault("initial_lr", lr.clone() if isinstance(lr, Tensor) else lr)
            self.base_lrs.append(peak.clone() if isinstance(peak, Tensor) else peak)
        multiplier = self.shape(self.last_epoch)
        return [peak * multiplier for peak in self.base_lrs]

    _get_closed_form_lr = get_lr  # SequentialLR and step(epoch) ask for it when they jump

    def state_dict(self) -> dict[str, Any]:
        """The state, of plain values and tensors."""
        return {**super().state_dict(), "shape": asdict(self.shape)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of a `Schedule`; nothing changes if it is not one.

        Raises:
            ValueError: if it is another scheduler's, or for another number of groups.
        """
        shape = state_dict.get("shape")
        if not isinstance(shape, Mapping) or set(shape) != {field.name for field in fields(Shape)}:
            held = ", ".join(map(repr, state_dict))
            raise ValueError(f"the state dict is not one of a ravine schedule, which has a 'shape': it has {held}")
        here, there = len(self.optimizer.param_groups), len(state_dict["base_lrs"])
        if here != there:
            raise ValueError(f"the state dict is for {there} parameter groups, the optimizer has {here}")
        peaks = [peak.clone() if isinstance(peak, Tensor) else peak for peak in state_dict["base_lrs"]]
        super().load_state_dict({**state_dict, "shape": Shape(**shape), "base_lrs": peaks})


def constant(optimizer: torch.optim.Optimizer, warmup_steps: int = 0, *, last_epoch: int = -1) -> Schedule:
    """The peak learning rate, after a warm-up. Arguments as for `cosine`."""
    return Schedule(optimizer, Shape("constant", warmup_steps, warmup_steps), last_epoch)


def linear(
    optimizer: torch.optim.Optimizer,
    total_steps: int,
    warmup_steps: int = 0,
    floor: float = 0.0,
    *,
    last_epoch: int = -1,
) -> Schedule:
    """A straight line from the peak to the floor. Arguments as for `cosine`."""
    return Schedule(optimizer, _ending("linear", total_steps, warmup_steps, floor), last_epoch)


def cosine(
    optimizer: torch.optim.Optimizer,
    total_steps: int,
    warmup_steps: int = 0,
    floor: float = 0.1,
    *,
    last_epoch: int = -1,
) -> Schedule:
    """Half a cosine from the peak to the floor (Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts).

    Args:
        optimizer: any `torch.optim.Optimizer`.
        total_steps: steps of the run, warm-up included.
        warmup_steps: steps of linear rise, at most `total_steps`; default none.
        floor: where the tail ends, as a fraction of the peak; default 0.1, as LLaMA-2 was trained
            (Touvron et al. 2023, arXiv:2307.09288).
        last_epoch: the number of the last step that was done, from 0; −1 before the first.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule = cosine(optimizer, total_steps=1000, warmup_steps=100)
        >>> [round(schedule.shape(step), 4) for step in (0, 99, 100, 550, 1000, 5000)]
        [0.01, 1.0, 1.0, 0.55, 0.1, 0.1]
    """
    return Schedule(optimizer, _ending("cosine", total_steps, warmup_steps, floor), last_epoch)


def wsd(
    optimizer: torch.optim.Optimizer,
    total_steps: int,
    warmup_steps: int = 0,
    decay_steps: int | None = None,
    floor: float = 0.0,
    tail: str = "1-sqrt",
    *,
    last_epoch: int = -1,
) -> Schedule:
    """Warm-up, stable, decay (Hu et al. 2024, arXiv:2404.06395; tails: Hägele et al. 2024, arXiv:2405.18392).

    Args:
        optimizer: any `torch.optim.Optimizer`.
        total_steps: steps of the run, warm-up and decay included.
        warmup_steps: steps of linear rise; default none.
        decay_steps: steps of the tail, the last of the run; default a fifth of `total_steps`, rounded, or what the
            warm-up leaves of it.
        floor: where the tail ends, as a fraction of the peak; default 0.
        tail: `"linear"`, `"1-sqrt"` (default) or `"cosine"`.
        last_epoch: the number of the last step that was done, from 0; −1 before the first.
    """
    _whole("total_steps", total_steps, least=1)
    _whole("warmup_steps", warmup_steps)
    if decay_steps is None:
        decay_steps = max(0, min(round(total_steps / 5), total_steps - warmup_steps))
    _whole("decay_steps", decay_steps)
    if tail not in ENDING:
        raise ValueError(f"tail must be one of {', '.join(map(repr, ENDING))}, got {tail!r}")
    if warmup_steps + decay_steps > total_steps:
        given = f"{warmup_steps} + {decay_steps}"
        raise ValueError(f"warmup_steps + decay_steps must be at most total_steps = {total_steps}, got {given}")
    return Schedule(optimizer, Shape(tail, warmup_steps, total_steps - decay_steps, decay_steps, floor), last_epoch)


def inverse_sqrt(
    optimizer: torch.optim.Optimizer,
    warmup_steps: int = 0,
    timescale: float | None = None,
    floor: float = 0.0,
    *,
    last_epoch: int = -1,
) -> Schedule:
    """One over the root of time, √(timescale / (timescale + k − warmup_steps)) (Vaswani et al. 2017, arXiv:1706.03762).

    Args:
        optimizer: any `torch.optim.Optimizer`.
        warmup_steps: steps of linear rise; default none.
        timescale: steps, above 0; default `warmup_steps`, as in the paper, which gives √(warmup_steps / k).
        floor: what the tail tends to, as a fraction of the peak; default 0.
        last_epoch: the number of the last step that was done, from 0; −1 before the first.
    """
    if timescale is None and warmup_steps == 0:
        raise ValueError("timescale must be given where there is no warm-up to take it from")
    shape = _endless("inverse sqrt", warmup_steps, warmup_steps if timescale is None else timescale, floor)
    return Schedule(optimizer, shape, last_epoch)


def inverse(
    optimizer: torch.optim.Optimizer,
    timescale: float,
    warmup_steps: int = 0,
    floor: float = 0.0,
    *,
    last_epoch: int = -1,
) -> Schedule:
    """One over time, timescale / (timescale + k − warmup_steps): steps sum to infinity, their squares do not.

    The condition is Robbins & Monro's (1951).

    Args:
        optimizer: any `torch.optim.Optimizer`.
        timescale: steps until half of the peak, above 0.
        warmup_steps: steps of linear rise; default none.
        floor: what the tail tends to, as a fraction of the peak; default 0, and only that fulfils the condition.
        last_epoch: the number of the last step that was done, from 0; −1 before the first.
    """
    return Schedule(optimizer, _endless("inverse", warmup_steps, timescale, floor), last_epoch)


SCHEDULES: Mapping[str, Callable[..., Schedule]] = {
    made.__name__: made for made in (constant, linear, cosine, wsd, inverse_sqrt, inverse)
}
"""The schedules by name."""


def named(name: str) -> Callable[..., Schedule]:
    """The schedule of this name.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}{nearest(name, list(SCHEDULES))}; there are {', '.join(SCHEDULES)}")
    return SCHEDULES[name]


def _ending(tail: str, total_steps: int, warmup_steps: int, floor: float) -> Shape:
    _whole("total_steps", total_steps, least=1)
    _whole("warmup_steps", warmup_steps)
    if warmup_steps > total_steps:
        raise ValueError(f"warmup_steps must be at most total_steps = {total_steps}, got {warmup_steps}")
    return Shape(tail, warmup_steps, warmup_steps, total_steps - warmup_steps, floor)


def _endless(tail: str, warmup_steps: int, timescale: float, floor: float) -> Shape:
    _whole("warmup_steps", warmup_steps)
    _number("timescale", timescale)
    if timescale == 0:
        raise ValueError(f"timescale must be above 0, got {timescale!r}")
    return Shape(tail, warmup_steps, warmup_steps, timescale, floor)


def _whole(name: str, value: Any, least: int = 0) -> int:
    """The value as Python's own int, checked; a checkpoint holds nothing else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number of steps, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number of at least 0, got {float(value)!r}")
    return float(value)
