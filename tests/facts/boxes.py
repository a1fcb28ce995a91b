"""Following an algorithm box: a paper's algorithm in NumPy's float64 and ravine's optimizer, side by side.

A box is a generator `box(x, bowl, **settings)` that yields the parameter after each step, in the paper's own notation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import Parameter

import ravine
from conformance.support import Target

Box = Callable[..., Iterator[np.ndarray]]
SHAPES = ((5, 3), (7,), (2, 3, 4))


class Bowl:
    """A noisy quadratic: its gradient at x in step t, and a noisy estimate of its curvature."""

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        self.seed = seed
        self.curvature, self.goal = 10 ** self.noise(shape, 0), self.noise(shape, 1)

    def noise(self, shape: tuple[int, ...], t: int) -> np.ndarray:
        return np.random.default_rng([self.seed, t]).normal(size=shape)

    def gradient(self, x: np.ndarray, t: int) -> np.ndarray:
        return self.curvature * (x - self.goal) + self.noise(x.shape, t + 1)

    def hessian(self, t: int) -> np.ndarray:
        """A curvature, negative in places as Hutchinson's estimates are."""
        return self.curvature * (1 + 2 * self.noise(self.curvature.shape, t + 100_000))


def parameter(x: np.ndarray, target: Target) -> Parameter:
    """A parameter with these values, float64."""
    return Parameter(torch.tensor(x, dtype=torch.float64, device=target.device))


def follow(
    name: str,
    box: Box,
    settings: dict[str, Any],
    target: Target,
    box_settings: dict[str, Any] | None = None,
    steps: int = 60,
    hessian_every: int | None = None,
) -> None:
    """Step parameters of several shapes by the optimizer and by the box, and compare them after every step to 1e-12.

    Args:
        settings: the optimizer's, and the box's where `box_settings` are not given.
        hessian_every: give `inputs["hessian"]` at step 1 and every so many steps after it.
    """
    bowls = [Bowl(shape, seed) for seed, shape in enumerate(SHAPES)]
    starts = [np.random.default_rng([9, i]).normal(size=shape) for i, shape in enumerate(SHAPES)]
    own = settings if box_settings is None else box_settings
    boxes = [partial(box, **own)(x, bowl) for x, bowl in zip(starts, bowls, strict=True)]
    params = [parameter(x, target) for x in starts]
    optimizer = ravine.create(name, params, engine=target.engine, **settings)
    for t in range(1, steps + 1):
        for p, bowl in zip(params, bowls, strict=True):
            p.grad = torch.tensor(bowl.gradient(p.detach().cpu().numpy(), t), device=target.device)
        if hessian_every and t % hessian_every == 1:
            estimates = (torch.tensor(bowl.hessian(t), device=target.device) for bowl in bowls)
            optimizer.inputs["hessian"] = dict(zip(params, estimates, strict=True))
        optimizer.step()
        for p, expected in zip(params, boxes, strict=True):
            np.testing.assert_allclose(p.detach().cpu().numpy(), next(expected), rtol=1e-12, atol=1e-12)


def descend_together(
    ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer, steps: int = 50, rtol: float = 1e-12, **step: Any
) -> None:
    """Step two optimizers of equal parameters on gradients of one sequence, and compare the parameters after each."""
    pairs = [
        list(zip(a["params"], b["params"], strict=True))
        for a, b in zip(ours.param_groups, theirs.param_groups, strict=True)
    ]
    flat = [pair for group in pairs for pair in group]
    for t in range(1, steps + 1):
        for i, (p, q) in enumerate(flat):
            noise = np.random.default_rng([i, t]).normal(size=tuple(p.shape))
            for x in (p, q):
                x.grad = x.detach() * 0.5 + torch.tensor(noise, device=x.device)
        ours.step()
        theirs.step()
        for p, q in flat:
            torch.testing.assert_close(p, q, rtol=rtol, atol=1e-12)


def twins(target: Target, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> tuple[list[Parameter], list[Parameter]]:
    """Two lists of equal parameters."""
    starts = [np.random.default_rng([17, i]).normal(size=shape) for i, shape in enumerate(shapes)]
    return [parameter(x, target) for x in starts], [parameter(x, target) for x in starts]
