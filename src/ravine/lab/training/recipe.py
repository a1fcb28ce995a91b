"""How a run is trained: the same for every arm of a study."""

from __future__ import annotations

import math
import numbers
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch

from ravine.compose import schedule_free
from ravine.optim import Optimizer
from ravine.optim.schedules import Schedule, constant, named
from ravine.rule import Rule

Precision = Literal["float32", "bfloat16", "float16"]

OWN_AVERAGE = "ema is not used: {rule} evaluates at weights of its own"
NO_DECAY = "the learning rate is not brought down after the warm-up: {rule} does without a schedule"


@dataclass(frozen=True)
class Recipe:
    """How a run is trained.

    Args:
        steps: of the optimizer.
        batch: examples of a step, over all processes and micro-batches.
        accumulate: micro-batches that a process makes of its share of the batch; they are trained on one after the
            other, with less memory and, up to rounding, the same result.
        schedule: a name of `ravine.schedules`; `"inverse"` and `"inverse_sqrt"` have the warm-up as their time scale.
        warmup: part of the steps in which the learning rate rises linearly, rounded to whole steps.
        floor: where the schedule ends, as a fraction of the peak learning rate.
        clip: largest norm of the gradient over all parameters; None for any.
        precision: of the matrix products: `"float32"`, or autocast to `"bfloat16"`, or to `"float16"` with scaled
            losses, on a GPU only.
        ema: decay of an exponential moving average of the weights, at which the run is evaluated; None for none.
        compile: whether `torch.compile` compiles the model.

    Raises:
        ValueError: for a value that is not allowed.

    Example:
        >>> Recipe(steps=100, batch=8).warmup_steps
        10
    """

    steps: int
    batch: int
    accumulate: int = 1
    schedule: str = "linear"
    warmup: float = 0.1
    floor: float = 0.0
    clip: float | None = 1.0
    precision: Precision = "float32"
    ema: float | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate must divide batch = {self.batch}, got {self.accumulate}")
        named(self.schedule)
        for name in ("warmup", "floor"):
            _require(name, getattr(self, name), "in [0, 1]", lambda x: 0 <= x <= 1)
        if self.floor and self.schedule == "constant":
            raise ValueError(f"floor: the schedule 'constant' has none, got {self.floor!r}")
        if self.clip is not None:
            _require("clip", self.clip, "above 0, or None", lambda x: x > 0)
        if self.ema is not None:
            _require("ema", self.ema, "in (0, 1), or None", lambda x: 0 < x < 1)
        if self.precision not in get_args(Precision):
            allowed = ", ".join(map(repr, get_args(Precision)))
            raise ValueError(f"precision must be one of {allowed}, got {self.precision!r}")
        if not isinstance(self.compile, bool):
            raise ValueError(f"compile must be True or False, got {self.compile!r}")

    @property
    def warmup_steps(self) -> int:
        """Steps of the warm-up."""
        return round(self.warmup * self.steps)

    def settings(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)

    def new_schedule(self, optimizer: torch.optim.Optimizer) -> Schedule:
        """The schedule for an optimizer; one that does without has the warm-up alone."""
        if without_schedule(optimizer):
            return constant(optimizer, self.warmup_steps)
        options: dict[str, Any] = {"warmup_steps": self.warmup_steps}
        if self.schedule.startswith("inverse"):
            options["timescale"] = max(1, self.warmup_steps)
        elif self.schedule != "constant":
            options["total_steps"] = self.steps
        if self.schedule != "constant":
            options["floor"] = self.floor
        return named(self.schedule)(optimizer, **options)

    def notes(self, optimizer: torch.optim.Optimizer) -> list[str]:
        """What of the recipe is not done with this optimizer, and why, in sentences."""
        notes = []
        free, own = without_schedule(optimizer), at_weights_of_its_own(optimizer)
        if free and self.schedule != "constant":
            notes.append(NO_DECAY.format(rule=free.name))
        if own and self.ema is not None:
            notes.append(OWN_AVERAGE.format(rule=own.name))
        return notes


def without_schedule(optimizer: torch.optim.Optimizer) -> Rule | None:
    """The rule of a group that does without a schedule, if there is one: Schedule-Free, also within other wrappers."""
    return next((rule for rule in _rules(optimizer) if _wrapped_in_schedule_free(rule)), None)


def at_weights_of_its_own(optimizer: torch.optim.Optimizer) -> Rule | None:
    """The rule of a group that evaluates at other weights than it trains at, if there is one."""
    return next((rule for rule in _rules(optimizer) if rule.at_eval), None)


def _rules(optimizer: torch.optim.Optimizer) -> list[Rule]:
    return [optimizer.rule_of(g) for g in optimizer.param_groups] if isinstance(optimizer, Optimizer) else []


def _wrapped_in_schedule_free(rule: Rule) -> bool:
    inside: Rule | None = rule
    while inside is not None and inside.wrapper is not schedule_free:
        inside = inside.base
    return inside is not None


def _require(name: str, value: Any, allowed: str, fits: Any) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not fits(value):
        raise ValueError(f"{name} must be a number {allowed}, got {value!r}")
