"""Functions of a point whose minimum is known: the noisy quadratic, and Rosenbrock's valley.

What is trained on has gradient noise: (mean over the batch of ξ) · (x − x*) is added to the function, with a ξ of
independent normal components for each example, so that the gradient at x is the function's plus the mean of ξ. What is
evaluated is the function itself; it has no data, so both splits give the same. Runs differ by where they begin, which
their model's seed decides, and by the noise.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ravine.lab.tasks.task import Batch, Evaluated, Task, require_number, require_whole

SPREAD = 0.1
"""Standard deviation of where runs begin, in each component."""


class Point(nn.Module):
    """A model that is one vector of parameters, and gives it."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.point = nn.Parameter(start)

    def forward(self) -> Tensor:
        """The point, as a vector."""
        return self.point


@dataclass(frozen=True)
class FunctionTask(Task):
    """A function whose minimum is 0, at the point of all ones.

    Args:
        dimension: of the point; by size.
        variance: of one example's gradient noise, in each component.
    """

    dimension: int | None = None
    variance: float = 0.0

    unit: ClassVar[str] = "sample"
    loss_name: ClassVar[str] = "value above the minimum"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dimension is not None:
            require_whole("dimension", self.dimension, 1)
        require_number("variance", self.variance, 0)

    @property
    @abstractmethod
    def components(self) -> int:
        """Of the point."""

    @abstractmethod
    def value(self, point: Tensor) -> Tensor:
        """The function, without noise."""

    @property
    def batch(self) -> int:
        """One sample of the gradient."""
        return 1

    @property
    def clip(self) -> float | None:
        """The gradient is what it is."""
        return None

    def settings(self) -> dict[str, Any]:
        """The function and its noise."""
        return {"task": self.name, "dimension": self.components, "variance": float(self.variance)}

    def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
        """`noise`, ξ: (count, dimension)."""
        if self.variance == 0:
            return {"noise": torch.zeros(count, self.components)}
        return {"noise": self.variance**0.5 * torch.randn(count, self.components, generator=generator)}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The function with noise, whose minimum has loss 0 with or without it."""
        point = model()
        return self.value(point) + (batch["noise"].mean(0) * (point - 1)).sum()

    def units(self, batch: Batch) -> int:
        """Samples of the gradient."""
        return len(batch["noise"])

    def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
        """The function without noise, and the distance from its minimum; the same for both splits."""
        point = model()
        return {"loss": self.value(point).item(), "distance": torch.linalg.vector_norm(point - 1).item()}


@dataclass(frozen=True)
class Quadratic(FunctionTask):
    """½ Σ h_i (x_i − 1)², its curvatures h_i evenly spaced on a logarithmic scale from 1 / condition to 1.

    The noisy quadratic model of Schaul et al. 2013 (arXiv:1206.1106) and Zhang et al. 2019 (arXiv:1907.04164), with the
    same noise in each component. A run begins at normal distances from the minimum with standard deviation 0.1 in each
    component, the size of a network's weights: learning rates that suit networks suit it.

    Args:
        size: `"tiny"` has 10 components and a condition number of 10, `"small"` 100 and 100, `"base"` 10000 and 10000.
        dimension: how many components, if not those.
        variance: of one example's gradient noise, in each component.
        condition: the largest curvature over the smallest, at least 1.

    Example:
        >>> task = Quadratic(dimension=2, condition=100)
        >>> round(task.evaluate(Point(torch.zeros(2)), "judging")["loss"], 3)
        0.505
    """

    variance: float = 1e-4
    condition: float | None = None

    name: ClassVar[str] = "quadratic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.condition is not None:
            require_number("condition", self.condition, 1)

    @property
    def components(self) -> int:
        """Of the point."""
        return self.dimension or {"tiny": 10, "small": 100, "base": 10_000}[self.size]

    @property
    def conditioning(self) -> float:
        """The condition number."""
        return float(self.condition or {"tiny": 10.0, "small": 100.0, "base": 10_000.0}[self.size])

    @property
    def steps(self) -> int:
        """Optimizer steps, where none are asked for."""
        return {"tiny": 100, "small": 500, "base": 5000}[self.size]

    @property
    def diverged_above(self) -> float:
        """A hundred times the mean of the function where runs begin."""
        h = curvature(self.components, self.conditioning, torch.device("cpu"))
        return 100 * 0.5 * SPREAD**2 * h.sum().item()

    def settings(self) -> dict[str, Any]:
        """The function and its noise."""
        return {**super().settings(), "condition": self.conditioning}

    def new_model(self) -> nn.Module:
        """A point near the minimum."""
        return Point(1 + SPREAD * torch.randn(self.components))

    def value(self, point: Tensor) -> Tensor:
        """½ Σ h_i (x_i − 1)²."""
        h = curvature(self.components, self.conditioning, point.device).to(point.dtype)
        return 0.5 * (h * (point - 1).square()).sum()


@lru_cache(maxsize=8)
def curvature(count: int, condition: float, device: torch.device) -> Tensor:
    """The curvatures of the quadratic, largest first, in float64; 1 where there is only one."""
    # The first call may come from an evaluation, and what inference mode makes cannot be trained with.
    with torch.inference_mode(False):
        exponent = torch.arange(count, dtype=torch.float64) / max(count - 1, 1)
        return (float(condition) ** -exponent).to(device)


@dataclass(frozen=True)
class Rosenbrock(FunctionTask):
    """Σ 100 (x_2i − x_{2i−1}²)² + (1 − x_{2i−1})² over the pairs of components: a bent, narrow valley.

    Rosenbrock 1960 for one pair; for more, the sum of independent ones. A run begins near (−1.2, 1) in each pair, with
    normal noise of standard deviation 0.1.

    Args:
        size: `"tiny"` has 2 components, `"small"` 20, `"base"` 2000.
        dimension: how many components, if not those; even.
        variance: of one example's gradient noise, in each component; 0 for none.

    Example:
        >>> Rosenbrock("tiny").value(torch.tensor([-1.2, 1.0]))
        tensor(24.2000)
    """

    name: ClassVar[str] = "rosenbrock"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.components % 2:
            raise ValueError(f"dimension must be even for rosenbrock, got {self.components}")

    @property
    def components(self) -> int:
        """Of the point."""
        return self.dimension or {"tiny": 2, "small": 20, "base": 2000}[self.size]

    @property
    def steps(self) -> int:
        """Optimizer steps, where none are asked for."""
        return {"tiny": 500, "small": 2000, "base": 10_000}[self.size]

    @property
    def diverged_above(self) -> float:
        """A hundred times the function at (−1.2, 1) in each pair."""
        return 100 * 24.2 * (self.components // 2)

    def new_model(self) -> nn.Module:
        """A point near (−1.2, 1) in each pair."""
        pairs = self.components // 2
        return Point(torch.tensor([-1.2, 1.0]).repeat(pairs) + SPREAD * torch.randn(2 * pairs))

    def value(self, point: Tensor) -> Tensor:
        """The sum over pairs."""
        x, y = point[0::2], point[1::2]
        return (100 * (y - x.square()).square() + (1 - x).square()).sum()
