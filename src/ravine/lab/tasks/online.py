"""Reddi's sequence: a convex problem on which Adam goes to the worst point there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ravine.lab.tasks.functions import Point
from ravine.lab.tasks.task import Batch, Evaluated, Task, require_number

PERIOD = 3


@dataclass(frozen=True)
class Online(Task):
    """Losses C·x at every third step, from the first, and −x at the two others, for x in [−1, 1] (after each step, the
    nearest such point is taken).

    Over three steps the losses sum to (C − 2)·x, so the best x is −1. With β₁ = 0 and β₂ = 1 / (1 + C²) Adam goes to
    +1, since it divides the large gradient by its own size: Reddi et al. 2018 (arXiv:1904.09237), Theorem 1. Nothing is
    random: all seeds give the same run, from x = 0. What is evaluated is the regret per step of staying at x.

    Args:
        size: how long a run is: `"tiny"` 300 steps, `"small"` 3000, `"base"` 30000.
        c: the large gradient, above 2.

    Example:
        >>> task = Online()
        >>> [int(task.draw(1, torch.Generator(), step)["gradient"]) for step in range(1, 7)]
        [4, -1, -1, 4, -1, -1]
    """

    c: float = 4.0

    name: ClassVar[str] = "online"
    unit: ClassVar[str] = "step"
    loss_name: ClassVar[str] = "regret per step"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("c", self.c, 2, strictly=True)

    @property
    def steps(self) -> int:
        """Optimizer steps, where none are asked for."""
        return {"tiny": 300, "small": 3000, "base": 30_000}[self.size]

    @property
    def batch(self) -> int:
        """One loss a step."""
        return 1

    @property
    def clip(self) -> float | None:
        """Clipped to norm 1 the large gradient would be no larger than the others, and the best point +1."""
        return None

    def settings(self) -> dict[str, Any]:
        """The sequence."""
        return {"task": self.name, "c": float(self.c)}

    def new_model(self) -> nn.Module:
        """The point 0."""
        return Point(torch.zeros(1))

    def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
        """`gradient`: (count,), the same number for each."""
        return {"gradient": torch.full((count,), float(self.c) if step % PERIOD == 1 else -1.0)}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of this step."""
        return (batch["gradient"].mean() * model()).sum()

    def units(self, batch: Batch) -> int:
        """Steps."""
        return len(batch["gradient"])

    def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
        """The regret per step of staying at x, (C − 2)(x + 1) / 3, and the distance from the best point."""
        distance = model().item() + 1
        return {"loss": (self.c - PERIOD + 1) * distance / PERIOD, "distance": distance}

    def after_step(self, model: nn.Module) -> None:
        """Back to the nearest point of [−1, 1]."""
        with torch.no_grad():
            for point in model.parameters():
                point.clamp_(-1, 1)
