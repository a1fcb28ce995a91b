"""The path of a network's weights while an optimizer trains it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ravine.explain.landscape.planes import weights_of
from ravine.lab.study.arms import Arm
from ravine.lab.study.space import Range
from ravine.lab.tasks import Task
from ravine.lab.training import Recipe, train
from ravine.optim.evaluation import evaluating

KEPT = 50
"""Points of a path that are kept, at most; besides the start."""

DECADES = 2.0
"""How far to either side of its middle a learning rate is searched for."""


@dataclass
class Recorder:
    """Follows one training run: the weights that are evaluated, step by step.

    Args:
        arm: the optimizer.
        settings: besides the arm's own.
        every: steps from one kept point to the next.
        last: the last step.
    """

    arm: Arm
    settings: dict[str, Any]
    every: int
    last: int
    at: list[int] = field(default_factory=list, init=False)
    points: list[Tensor] = field(default_factory=list, init=False)
    moves: list[float] = field(default_factory=list, init=False)
    diverged_at: int | None = field(default=None, init=False)
    tuned: bool = field(default=False, init=False)
    at_edge: bool = field(default=False, init=False)
    _back: float = field(default=0.0, init=False)
    _move: Tensor | None = field(default=None, init=False)

    def optimizer_of(self, model: nn.Module) -> torch.optim.Optimizer:
        """Called with the model of the run, and before that with one that only warms up."""
        self.model, self.optimizer = model, self.arm.build(model, self.settings)
        self._before, self._move, self._back = weights_of(model), None, 0.0
        self.at, self.points, self.moves = [0], [self._before], []
        return self.optimizer

    def stepped(self, step: int) -> None:
        """Called after each step."""
        with evaluating(self.model, self.optimizer):
            now = weights_of(self.model)
        if not bool(now.isfinite().all()):
            return
        move, before = now - self._before, self._move
        length = float(move.norm())
        self.moves.append(length)
        if before is not None and length > 0:
            self._back += max(0.0, -float(move @ before) / float(before.norm()))
        if length > 0:
            self._move = move
        self._before = now
        if step % self.every == 0 or step == self.last:
            self.at.append(step)
            self.points.append(now)

    @property
    def path(self) -> Tensor:
        """The kept points, (points, parameters)."""
        return torch.stack(self.points)

    @property
    def oscillation(self) -> float:
        """See `ravine.explain.landscape.measures.oscillation`."""
        going = [length for length in self.moves if length > 0]
        return min(1.0, self._back / sum(going[1:])) if len(going) > 1 else 0.0


def record(task: Task, arm: Arm, recipe: Recipe, seed: int, trials: int, tell: Callable[[int], None]) -> Recorder:
    """Train the task's model with an arm, and follow its weights; without a learning rate, search for it.

    The search takes `trials` learning rates, evenly spaced on a logarithmic scale around that of `ravine train`, and
    keeps the run with the lowest loss at the end.

    Args:
        task, arm, recipe, seed: as for `ravine.lab.training.train`.
        trials: how many learning rates are tried; with 1, that of `ravine train`.
        tell: told of the steps done, those of the search included.
    """
    best: tuple[float, Recorder] | None = None
    rates = rates_of(arm, trials)
    for i, lr in enumerate(rates):
        settings = {} if lr is None else {"lr": lr}
        recorder = Recorder(arm, settings, max(1, math.ceil(recipe.steps / KEPT)), recipe.steps)
        loss = _run(task, recorder, recipe, seed, lambda step, before=i * recipe.steps: tell(before + step))  # type: ignore[misc]
        if best is None or loss < best[0]:
            best = loss, recorder
    assert best is not None
    recorder = best[1]
    recorder.tuned = len(rates) > 1
    recorder.at_edge = recorder.tuned and recorder.settings["lr"] in (rates[0], rates[-1])
    return recorder


def rates_of(arm: Arm, trials: int) -> list[float | None]:
    """The learning rates that are tried for an arm; only None where it has one, or takes none."""
    place = arm.space.get("lr")
    if not isinstance(place, Range):
        return [None]
    middle = place.at(0.5)
    if trials == 1:
        return [middle]
    return [float(f"{middle * 10 ** (DECADES * (2 * i / (trials - 1) - 1)):.3g}") for i in range(trials)]


def _run(task: Task, recorder: Recorder, recipe: Recipe, seed: int, tell: Callable[[int], None]) -> float:
    """The loss at the end, infinite where the run diverged."""

    def stepped(step: int) -> None:
        recorder.stepped(step)
        tell(step)

    outcome = train(task, recorder.optimizer_of, recipe, seed=seed, split="tuning", with_curve=False, on_step=stepped)
    if outcome.failed is not None:
        raise RuntimeError(outcome.failed)
    recorder.diverged_at = outcome.diverged_at
    return math.inf if outcome.final_loss is None else outcome.final_loss
