"""The time of a step, taken apart, with all arms side by side.

A machine that others use is fast one minute and slow the next, so the arms take turns: one step each, round by round,
and every figure is the median over the rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ravine.lab.cost.energy import Meter, counters
from ravine.lab.cost.operations import fastest, flops_per_unit
from ravine.lab.tasks.task import Task
from ravine.lab.training import Recipe
from ravine.lab.training.precision import autocast

ROUNDS = 12
WARM_UP = 3
"""Rounds before the clock starts: kernels are compiled and memory is touched."""

PARTS = ("data", "forward", "backward", "optimizer")

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


@dataclass(frozen=True)
class Cost:
    """What a step of an arm costs.

    Args:
        milliseconds: of `data`, `forward`, `backward` and `optimizer` (clipping and schedule with it), and of the whole
            `step`.
        units_per_second: of data.
        optimizer_share: of the step.
        flops_per_unit: floating point operations of forward and backward pass.
        mfu: the operations done of those the machine could do, as measured by one matrix product.
        joules_per_step: None where nothing counts them.
    """

    milliseconds: Mapping[str, float]
    units_per_second: float
    optimizer_share: float
    flops_per_unit: float
    mfu: float
    joules_per_step: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure(
    task: Task, makers: Mapping[str, MakeOptimizer], recipe: Recipe, device: str, rounds: int = ROUNDS
) -> dict[str, Cost]:
    """The cost of a step of each arm.

    Args:
        task: what is learned.
        makers: of the arms' optimizers, by label.
        recipe: batch, clipping and precision.
        device: `"cpu"` or `"cuda"`.
        rounds: that count.
    """
    sides = {label: _Side(task, make, recipe, device) for label, make in makers.items()}
    for _ in range(WARM_UP):
        for side in sides.values():
            side.step()
    taken: dict[str, list[dict[str, float]]] = {label: [] for label in sides}
    joules: dict[str, list[float | None]] = {label: [] for label in sides}
    counted = counters(device)
    for _ in range(rounds):
        for label, side in sides.items():
            meter = Meter(counted)
            taken[label].append(side.step())
            joules[label].append(meter.joules())
    flops, speed = flops_per_unit(task, recipe.batch, device), fastest(device, recipe.precision)
    return {label: _cost(taken[label], joules[label], sides[label].units, flops, speed) for label in sides}


def _cost(taken: list[dict[str, float]], joules: list[float | None], units: int, flops: float, speed: float) -> Cost:
    parts = {name: statistics.median(one[name] for one in taken) for name in (*PARTS, "step")}
    used = [one for one in joules if one is not None]
    return Cost(
        milliseconds={name: 1e3 * seconds for name, seconds in parts.items()},
        units_per_second=units / parts["step"],
        optimizer_share=parts["optimizer"] / parts["step"],
        flops_per_unit=flops,
        mfu=flops * units / parts["step"] / speed,
        joules_per_step=statistics.median(used) if len(used) == len(joules) else None,
    )


class _Side:
    """One arm's model in training."""

    def __init__(self, task: Task, make: MakeOptimizer, recipe: Recipe, device: str) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = task.new_model().to(device)
        self.optimizer = make(self.model)
        self.schedule = recipe.new_schedule(self.optimizer)
        self.task, self.recipe, self.device = task, recipe, device
        self.draw = torch.Generator().manual_seed(0)
        self.done = self.units = 0

    def step(self) -> dict[str, float]:
        """Take a step; seconds of its parts and of the whole."""
        self.done += 1
        marks = [self._now()]
        batch = self.task.draw(self.recipe.batch, self.draw, self.done)
        self.units = self.task.units(batch)
        batch = {name: value.to(self.device) for name, value in batch.items()}
        marks.append(self._now())
        with autocast(self.device, self.recipe.precision):
            loss = self.task.loss(self.model, batch)
        marks.append(self._now())
        loss.backward()
        marks.append(self._now())
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.task.after_step(self.model)
        marks.append(self._now())
        spans = {name: end - start for name, start, end in zip(PARTS, marks, marks[1:], strict=False)}
        return {**spans, "step": marks[-1] - marks[0]}

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()
