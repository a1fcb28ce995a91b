"""Ridge regression on points made for it: as ill-conditioned as asked for, and with its optimum known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ravine.lab.tasks.task import Batch, Evaluated, Task, require_number, require_whole

HELD_OUT = 8
"""The splits for tuning and judging have this part of the training split's points, each."""


SPREAD = 0.1
"""Standard deviation of the weights that are looked for, and of those that a run begins with."""


@dataclass(frozen=True)
class Ridge(Task):
    """A linear model: half the mean squared error, plus half the penalty times the squared norm of the weights.

    Inputs are correlated: the eigenvalues of XᵀX / points are evenly spaced on a logarithmic scale from 1 / condition
    to 1, in directions that are not the axes'. Targets are those of normal weights with standard deviation 0.1, with
    noise; a run begins at others. The optimum has a closed form, and the loss that is evaluated is the excess: how far
    the objective over all training points is above its minimum, the same for both splits. `error` is the mean squared
    error on the split's own points.

    Args:
        size: `"tiny"` has 128 points of 10 dimensions, `"small"` 2000 of 50, `"base"` 20000 of 500.
        points: of the training split, if not those; at least as many as dimensions.
        dimension: of a point, if not those.
        condition: the largest eigenvalue over the smallest, at least 1; without the penalty.
        penalty: what the squared norm is multiplied by.
        noise: standard deviation of the targets' noise.
    """

    points: int | None = None
    dimension: int | None = None
    condition: float = 100.0
    penalty: float = 1e-3
    noise: float = 0.01

    name: ClassVar[str] = "ridge"
    unit: ClassVar[str] = "point"
    loss_name: ClassVar[str] = "objective above its minimum"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("points", "dimension"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), 1)
        require_number("condition", self.condition, 1)
        require_number("penalty", self.penalty, 0)
        require_number("noise", self.noise, 0)
        points, dimension = self.shape
        if points < dimension:
            raise ValueError(f"points must be at least the dimension, {dimension}, got {points}")

    @property
    def shape(self) -> tuple[int, int]:
        """Training points, dimensions."""
        points, dimension = {"tiny": (128, 10), "small": (2000, 50), "base": (20_000, 500)}[self.size]
        return self.points or points, self.dimension or dimension

    @property
    def steps(self) -> int:
        """Optimizer steps, where none are asked for."""
        return {"tiny": 100, "small": 500, "base": 5000}[self.size]

    @property
    def batch(self) -> int:
        """Points of a step, where none are asked for."""
        return 32

    @property
    def diverged_above(self) -> float:
        """A hundred times the excess of a model whose weights are zero."""
        made = self.problem
        return 100 * made.excess(torch.zeros_like(made.optimum)).item()

    @property
    def problem(self) -> Problem:
        """The points, and the optimum."""
        return _problem(*self.shape, float(self.condition), float(self.penalty), float(self.noise))

    def settings(self) -> dict[str, Any]:
        """What the points are made from."""
        points, dimension = self.shape
        made_from = {name: float(getattr(self, name)) for name in ("condition", "penalty", "noise")}
        return {"task": self.name, "points": points, "dimension": dimension, **made_from}

    def new_model(self) -> nn.Module:
        """A linear layer with one output and no bias."""
        model = nn.Linear(self.shape[1], 1, bias=False)
        nn.init.normal_(model.weight, std=SPREAD)
        return model

    def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
        """`points` (count, dimension) and `targets` (count,), drawn with replacement."""
        points, targets = self.problem.splits["training"]
        drawn = torch.randint(len(points), (count,), generator=generator)
        return {"points": points[drawn], "targets": targets[drawn]}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The objective over the batch."""
        points = batch["points"]
        # The outputs for the unit vectors are the weights: the model is called once, and only its outputs are needed.
        axes = torch.eye(points.shape[1], dtype=points.dtype, device=points.device)
        outputs = model(torch.cat((points, axes))).squeeze(1)
        predicted, weights = outputs[: len(points)], outputs[len(points) :]
        return 0.5 * (predicted - batch["targets"]).square().mean() + 0.5 * self.penalty * weights.square().sum()

    def units(self, batch: Batch) -> int:
        """Points."""
        return len(batch["points"])

    def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
        """The excess of the objective over all training points, and the mean squared error on the split's own."""
        made = self.problem
        weights = torch.cat([p.detach().double().flatten() for p in model.parameters()]).cpu()
        points, targets = made.splits[split]
        error = (points.double() @ weights - targets.double()).square().mean()
        return {"loss": made.excess(weights).item(), "error": error.item()}


@dataclass(frozen=True)
class Problem:
    """Points and targets by split (float32), the optimal weights and the objective's Hessian (float64)."""

    splits: dict[str, tuple[Tensor, Tensor]]
    optimum: Tensor
    hessian: Tensor

    def excess(self, weights: Tensor) -> Tensor:
        """How far the objective is above its minimum: ½ (w − w*)ᵀ H (w − w*), which loses nothing near 0."""
        offset = weights - self.optimum
        return 0.5 * offset @ self.hessian @ offset


@lru_cache(maxsize=4)
def _problem(points: int, dimension: int, condition: float, penalty: float, noise: float) -> Problem:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    # Inference mode may be on, and what it makes cannot be trained with.
    with torch.inference_mode(False):
        axes = torch.linalg.qr(normal(dimension, dimension)).Q
        exponent = torch.arange(dimension, dtype=torch.float64) / max(dimension - 1, 1)
        mixing = condition ** (-0.5 * exponent)[:, None] * axes.T  # rows: directions, by the root of their eigenvalue
        weights = SPREAD * normal(dimension)
        held_out = max(points // HELD_OUT, 16)
        inputs = {
            "training": points**0.5 * torch.linalg.qr(normal(points, dimension)).Q @ mixing,
            "tuning": normal(held_out, dimension) @ mixing,
            "judging": normal(held_out, dimension) @ mixing,
        }
        exact = {split: (x, x @ weights + noise * normal(len(x))) for split, x in inputs.items()}
        x, y = exact["training"]
        hessian = x.T @ x / points + penalty * torch.eye(dimension, dtype=torch.float64)
        optimum = torch.linalg.solve(hessian, x.T @ y / points)
        splits = {split: (x.float(), y.float()) for split, (x, y) in exact.items()}
        return Problem(splits, optimum, hessian)
