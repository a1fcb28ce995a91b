"""The way that weights go in a small training run: the handwritten digits of scikit-learn, in float64.

Float64, so that what is equal but for rounding can be told from what is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ravine.lab.tasks import make

BATCH = 64

NewOptimizer = Callable[[Any], torch.optim.Optimizer]


@dataclass(frozen=True)
class Path:
    """A run.

    Attributes:
        weights: all of them after each step, the start included, (steps + 1, weights).
        losses: of each step's batch before the step, (steps,), in nats.
        model: as it is at the end.
    """

    weights: Tensor
    losses: Tensor
    model: nn.Module


@cache
def digits() -> tuple[Tensor, Tensor]:
    """The training split: images (n, 64) from −1 to 1 in float64, labels (n,)."""
    task: Any = make("digits", size="tiny")
    images, labels = task.tensors["training"]
    return images.flatten(1).double(), labels


def softmax_regression() -> nn.Module:
    """One linear layer from the pixels to ten classes, its weights all zero."""
    model = nn.Linear(64, 10, dtype=torch.float64)
    for p in model.parameters():
        nn.init.zeros_(p)
    return model


def perceptron(seed: int, width: int = 32) -> nn.Module:
    """Two hidden layers of tanh."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(64, width, dtype=torch.float64), nn.Tanh(), nn.Linear(width, width, dtype=torch.float64),
            nn.Tanh(), nn.Linear(width, 10, dtype=torch.float64),
        )  # fmt: skip


def path(
    model: nn.Module,
    new_optimizer: NewOptimizer,
    steps: int,
    seed: int,
    factor: Callable[[int], float] = lambda step: 1.0,
    data: tuple[Tensor, Tensor] | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> Path:
    """Train a model.

    Args:
        model: with the weights to begin with.
        new_optimizer: makes an optimizer of parameters.
        steps: of it.
        seed: of the batches.
        factor: of the learning rate at a step, from 0.
        data: images and labels; default all digits.
        start: weights to begin with in place of the model's.
    """
    if start is not None:
        model.load_state_dict(dict(start))
    images, labels = data or digits()
    optimizer = new_optimizer(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    random = torch.Generator().manual_seed(seed)
    weights, losses = [flat(model)], []
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH,), generator=random)
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        weights.append(flat(model))
        losses.append(loss.detach())
    return Path(torch.stack(weights), torch.stack(losses), model)


def flat(model: nn.Module) -> Tensor:
    """All weights of a model as one vector."""
    return nn.utils.parameters_to_vector(model.parameters()).detach()
