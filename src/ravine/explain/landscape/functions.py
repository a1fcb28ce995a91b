"""Landscapes: functions of two numbers on which optimizers are watched, ravine's and the user's own.

Example:
    >>> LANDSCAPES["ravine"].value(-10.0, 1.0)
    75.0
    >>> LANDSCAPES["himmelblau"].gradient(1.0, 1.0)
    (-46.0, -38.0)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine.registry import nearest

if TYPE_CHECKING:
    from torch import Tensor

Point = tuple[float, float]


@dataclass(frozen=True)
class Landscape:
    """A function of two numbers.

    Args:
        name: as it is written on the command line.
        formula: f(x, y) in Unicode; empty for a function of the user's own.
        value: f itself. The named ones take anything that can be added and multiplied: floats, NumPy arrays, torch
            tensors, symbols; a function of the user's own takes two torch scalars of type float64.
        x: the drawn range of x, lowest first.
        y: the drawn range of y.
        start: where one customarily starts.
        steps: how many steps show what there is to see.
        about: what makes it hard, in a sentence.
        minima: where it is lowest; empty where that is not known.
        curvatures: the least and the largest of a quadratic function, else None.
        of_arrays: whether `value` takes arrays and tensors of any shape, element by element.
    """

    name: str
    formula: str
    value: Callable[[Any, Any], Any]
    x: tuple[float, float]
    y: tuple[float, float]
    start: Point
    steps: int
    about: str
    minima: tuple[Point, ...] = ()
    curvatures: tuple[float, float] | None = None
    of_arrays: bool = True

    @property
    def minimum(self) -> float | None:
        """The lowest value, where it is known."""
        return float(self.value(*self.minima[0])) if self.minima else None

    @property
    def condition(self) -> float | None:
        """The condition number of a quadratic function: its largest curvature over its least."""
        return None if self.curvatures is None else self.curvatures[1] / self.curvatures[0]

    def gradient(self, x: float, y: float) -> Point:
        """The gradient at a point, by automatic differentiation in float64."""
        dx, dy = self.slopes([(x, y)])[1][0].tolist()
        return dx, dy

    def slopes(self, points: Sequence[Any], strictly: bool = False) -> tuple[list[float], list[np.ndarray]]:
        """The values and gradients at some points, by automatic differentiation in float64.

        Args:
            points: pairs of x and y.
            strictly: refuse what is not finite wherever it is, not only within the drawn range; without it, a point
                outside is one that a run which diverges has come by.

        Returns:
            A value and a gradient (2,) for each point.

        Raises:
            ValueError: where the function is not differentiable, or it or its gradient is not finite, with the point.
        """
        # As one call where the function takes tensors of any shape, which a function of the user's own may not.
        parts = [points] if self.of_arrays else [[point] for point in points]
        values: list[float] = []
        gradients: list[np.ndarray] = []
        for part in parts:
            value, x, y = self._followed(part)
            dx, dy = _derivatives(value, (x, y))
            values += value.detach().reshape(-1).tolist()
            gradients += list(np.stack((dx.detach().numpy(), dy.detach().numpy()), -1).reshape(-1, 2))
        for point, height, gradient in zip(points, values, gradients, strict=True):
            if strictly or self.contains(point):
                _require_finite(self.name, point, height, gradient)
        return values, gradients

    def curvature(self, point: Sequence[float] | np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The Hessian at a point times a direction, (2,), by differentiating twice."""
        value, x, y = self._followed([point])
        dx, dy = _derivatives(value, (x, y), twice=True)
        along = (dx * direction[0] + dy * direction[1]).sum()
        return np.array([part.item() for part in _derivatives(along, (x, y))])

    def contains(self, point: Sequence[float] | np.ndarray) -> bool:
        """Whether a point lies in the drawn ranges."""
        return bool(self.x[0] <= point[0] <= self.x[1] and self.y[0] <= point[1] <= self.y[1])

    def height(self, point: Sequence[float] | np.ndarray) -> float:
        """The value at a point."""
        return float(self._followed([point])[0].item())

    def heights(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The values on a grid, a row for each y, (len(y), len(x)).

        Raises:
            ValueError: where one is not finite, with the point.
        """
        if self.of_arrays:
            found = np.asarray(self.value(x[None, :], y[:, None]), dtype=np.float64)
        else:
            found = np.array([[self.height((one, other)) for one in x] for other in y])
        if not np.isfinite(found).all():
            row, column = np.argwhere(~np.isfinite(found))[0]
            _require_finite(self.name, (x[column], y[row]), found[row, column], np.zeros(2))
        return found

    def _followed(self, points: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """The value at some points, and the x and y that it may be differentiated by."""
        import torch

        at = torch.tensor(np.array(points), dtype=torch.float64)
        x, y = (column.requires_grad_() for column in (at.unbind(1) if self.of_arrays else at[0].unbind()))
        value = self.value(x, y)
        if not isinstance(value, torch.Tensor) or value.shape != x.shape or not value.requires_grad:
            what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
            raise ValueError(
                f"on: {self.name} is not differentiable at {written(points[0])}: it gives {what}, and must give one "
                "number that torch's operations make of x and y"
            )
        return value, x, y


def _derivatives(value: Tensor, by: tuple[Tensor, Tensor], twice: bool = False) -> list[Tensor]:
    """The derivatives of a value by x and y; 0 by one that it does not depend on."""
    import torch

    if not value.requires_grad:
        return [torch.zeros_like(one) for one in by]
    found = torch.autograd.grad(value.sum(), by, create_graph=twice, allow_unused=True)
    return [torch.zeros_like(one) if slope is None else slope for one, slope in zip(by, found, strict=True)]


def _require_finite(name: str, point: Sequence[float] | np.ndarray, value: float, gradient: np.ndarray) -> None:
    if not np.isfinite(value):
        raise ValueError(
            f"on: {name} is {value} at {written(point)}; choose start and the ranges x and y so that it is finite there"
        )
    if not np.isfinite(gradient).all():
        raise ValueError(f"on: {name} is not differentiable at {written(point)}: its gradient is {written(gradient)}")


def written(point: Sequence[float] | np.ndarray) -> str:
    """A point for people.

    Example:
        >>> written((-1.25, 3.0))
        '(-1.25, 3)'
    """
    return f"({', '.join(f'{value:.6g}' for value in point)})"


RAVINE_CONDITION = 50.0
"""The ravine's largest curvature; the least is 1."""


def _ravine(x: Any, y: Any) -> Any:
    return 0.5 * (x**2 + RAVINE_CONDITION * y**2)


def _rosenbrock(x: Any, y: Any) -> Any:
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def _beale(x: Any, y: Any) -> Any:
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _saddle(x: Any, y: Any) -> Any:
    return 0.5 * x**2 - 0.5 * y**2 + 0.25 * y**4


def _himmelblau(x: Any, y: Any) -> Any:
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


LANDSCAPES = MappingProxyType({
    one.name: one for one in (
        Landscape(
            "ravine", "½ (x² + 50 y²)", _ravine, x=(-11.0, 3.0), y=(-1.7, 1.7), start=(-10.0, 1.0), steps=150,
            about="An elongated quadratic: 50 times as steep across as along, so that a step that suits one direction "
            "is too long or too short for the other.",
            minima=((0.0, 0.0),), curvatures=(1.0, RAVINE_CONDITION),
        ),
        Landscape(
            "rosenbrock", "(1 − x)² + 100 (y − x²)²", _rosenbrock, x=(-1.8, 1.8), y=(-0.7, 2.3), start=(-1.2, 1.0),
            steps=500, about="A bent, narrow valley, with the minimum far along it (Rosenbrock 1960).",
            minima=((1.0, 1.0),),
        ),
        Landscape(
            "beale", "(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²", _beale, x=(-0.5, 4.5), y=(-1.5, 1.5),
            start=(1.0, 1.0), steps=300,
            about="A plain that ends in steep walls: gradients differ by orders of magnitude (Beale 1958).",
            minima=((3.0, 0.5),),
        ),
        Landscape(
            "saddle", "½ x² − ½ y² + ¼ y⁴", _saddle, x=(-2.0, 2.0), y=(-1.5, 1.5), start=(-1.5, 0.001), steps=150,
            about="A saddle at (0, 0) between two minima: nearly no gradient leads away from where the start leads to.",
            minima=((0.0, 1.0), (0.0, -1.0)),
        ),
        Landscape(
            "himmelblau", "(x² + y − 11)² + (x + y² − 7)²", _himmelblau, x=(-5.5, 5.5), y=(-5.5, 5.5),
            start=(0.0, -1.0), steps=100,
            about="Four minima of the same depth: the way decides which (Himmelblau 1972).",
            minima=(
                (3.0, 2.0), (-2.805118086952745, 3.131312518250573), (-3.779310253377747, -3.283185991286170),
                (3.584428340330492, -1.848126526964404),
            ),
        ),
    )
})  # fmt: skip
"""The named ones, in the order in which they are listed."""


def named(name: str) -> Landscape:
    """The landscape of this name.

    Raises:
        ValueError: where there is none, with the nearest.
    """
    if name not in LANDSCAPES:
        known = f"(there are {', '.join(LANDSCAPES)}, or one of your own, FILE.py:FUNCTION)"
        raise ValueError(f"on: unknown landscape {name!r}{nearest(name, list(LANDSCAPES))} {known}")
    return LANDSCAPES[name]
