"""The coordinate check: do activations stay of one size as the model grows wider? (TP V, Appendix D)"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 0.2
"""A slope of log size over log width beyond this is no longer flat; the faults that it finds are of 1/2 and 1."""

MakeModel = Callable[[int], tuple[nn.Module, torch.optim.Optimizer]]


@dataclass(frozen=True)
class CoordinateCheck:
    """Sizes of activations by module, width and step.

    Args:
        widths: in ascending order.
        steps: of the optimizer that were taken.
        sizes: for each module with an output, by name, rows of steps (0, the new model, to `steps`) and columns of
            widths: the mean of |activation|.
    """

    widths: tuple[int, ...]
    steps: int
    sizes: dict[str, list[list[float]]]

    def slope(self, module: str, step: int) -> float:
        """The exponent of the width by which a module's activations grow: log size over log width, least squares.

        NaN where an activation is 0 or not finite.
        """
        row = self.sizes[module][step]
        if not all(0 < size < math.inf for size in row):
            return math.nan
        x, y = ([math.log(v) for v in values] for values in (self.widths, row))
        centre, height = sum(x) / len(x), sum(y) / len(y)
        rise = sum((a - centre) * (b - height) for a, b in zip(x, y, strict=True))
        return rise / sum((a - centre) ** 2 for a in x)

    @property
    def growing(self) -> dict[str, float]:
        """Modules whose activations grow with the width after the last step, or are not finite, with their slopes."""
        last = {name: rows[-1] for name, rows in self.sizes.items()}
        slopes = {name: self.slope(name, self.steps) for name in self.sizes}
        broken = {name: math.inf for name, row in last.items() if not all(math.isfinite(size) for size in row)}
        return {name: slope for name, slope in slopes.items() if slope > TOLERANCE} | broken

    @property
    def vanishing(self) -> dict[str, float]:
        """Modules whose activations shrink with the width after the last step, with their slopes."""
        slopes = {name: self.slope(name, self.steps) for name in self.sizes}
        return {name: slope for name, slope in slopes.items() if slope < -TOLERANCE}

    @property
    def flat(self) -> bool:
        """Whether no module's activations grow or shrink with the width after the last step."""
        return not self.growing and not self.vanishing

    @property
    def verdict(self) -> str:
        """What was found, in a sentence or two."""
        span = f"widths {self.widths[0]} to {self.widths[-1]}, after {self.steps} steps"
        if self.flat:
            return f"Flat: no module's activations change with the width by more than width^±{TOLERANCE} ({span})."
        parts = [
            f"{word} with the width in {len(found)} of {len(self.sizes)} modules, most in {_most(found)}"
            for word, found in (("grow", self.growing), ("shrink", self.vanishing))
            if found
        ]
        return f"Not flat: activations {' and '.join(parts)} ({span})."

    def as_dict(self) -> dict[str, Any]:
        """For JSON; slopes that are not finite are None."""
        slopes = {
            name: [slope if math.isfinite(slope := self.slope(name, step)) else None for step in range(self.steps + 1)]
            for name in self.sizes
        }
        sizes = {n: [[s if math.isfinite(s) else None for s in row] for row in rows] for n, rows in self.sizes.items()}
        return {
            "widths": list(self.widths), "steps": self.steps, "flat": self.flat, "verdict": self.verdict,
            "sizes": sizes, "slopes": slopes,
        }  # fmt: skip


def coordinate_check(
    make_model: MakeModel,
    widths: Sequence[int],
    loss: Callable[[nn.Module], Tensor],
    *,
    steps: int = 5,
    seeds: int = 2,
) -> CoordinateCheck:
    """Train a few steps at several widths and measure the activations of every module without children.

    Under muP they are of one size at all widths; in the standard parametrization, at a learning rate that suits narrow
    models, they grow with the width within a few steps. The verdict is on the last step. In muP the logits of a new
    model shrink as 1/√width, and will seem to for as long as little has been learned: let the readout begin at zero
    here, so that its outputs show what the steps have made.

    Args:
        make_model: from a width to a new model and its optimizer. It is called with torch's random numbers seeded.
        widths: at least two.
        loss: from a model to its loss, always on the same batch, which every width must be able to learn.
        steps: of the optimizer, at least 1; default 5.
        seeds: models of each width, whose activations are averaged; default 2.

    Raises:
        ValueError: for fewer than two widths, a number of steps or seeds below 1, or models with other modules.

    Example:
        >>> def make(width):
        ...     model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 1))
        ...     return model, torch.optim.SGD(model.parameters(), lr=0.1)
        >>> x = torch.ones(8, 4)
        >>> check = coordinate_check(make, [16, 32], lambda model: model(x).square().mean(), steps=1)
        >>> sorted(check.sizes), len(check.sizes["0"]), check.widths
        (['0', '1', '2'], 2, (16, 32))
    """
    widths = tuple(sorted(set(widths)))
    if len(widths) < 2:
        raise ValueError(f"widths must be at least two different ones, got {list(widths)}")
    for name, value in (("steps", steps), ("seeds", seeds)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    columns = [_at_width(make_model, width, loss, steps, seeds) for width in widths]
    for width, column in zip(widths, columns, strict=True):
        if column.keys() != columns[0].keys():
            raise ValueError(f"the model of width {width} has other modules than that of width {widths[0]}")
    sizes = {name: [[column[name][step] for column in columns] for step in range(steps + 1)] for name in columns[0]}
    return CoordinateCheck(widths, steps, sizes)


def _at_width(
    make_model: MakeModel, width: int, loss: Callable[[nn.Module], Tensor], steps: int, seeds: int
) -> dict[str, list[float]]:
    """The mean of |activation| by module and step, averaged over the seeds."""
    runs = []
    for seed in range(seeds):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, optimizer = make_model(width)
            runs.append(_run(model, optimizer, loss, steps))
    return {name: [sum(run[step][name] for run in runs) / seeds for step in range(steps + 1)] for name in runs[0][0]}


def _run(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[nn.Module], Tensor], steps: int
) -> list[dict[str, float]]:
    found = []
    for step in range(steps + 1):
        with _watched(model) as seen:
            value = loss(model)
        found.append({name: sum(sizes) / len(sizes) for name, sizes in seen.items()})
        if step < steps:
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return found


@contextmanager
def _watched(model: nn.Module) -> Iterator[dict[str, list[float]]]:
    """The mean of |output| at every call of every module without children, within this block."""
    seen: dict[str, list[float]] = {}

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, (tuple, list)) else output
            if isinstance(first, Tensor):
                seen.setdefault(name, []).append(float(first.detach().abs().mean(dtype=torch.float64)))

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    # Before other hooks: what `scale_attention` makes of a query is meant to shrink with the width.
    handles = [module.register_forward_hook(watch(name), prepend=True) for name, module in leaves]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _most(found: dict[str, float]) -> str:
    name = max(found, key=lambda name: abs(found[name]))
    return f"{name} (width^{found[name]:.2f})" if math.isfinite(found[name]) else f"{name} (not finite)"
