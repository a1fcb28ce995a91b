"""Two tasks that train in milliseconds: a line through points, and the next letter of a text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ravine.lab.tasks.task import Batch, Evaluated, Task

SEEDS: dict[Evaluated, int] = {"tuning": 1, "judging": 2}


def _no_steps() -> int:
    raise AssertionError("the training loop asks the recipe for steps and batch, not the task")


@dataclass(frozen=True)
class Line(Task):
    """Linear regression on 8 numbers; `noise` of the labels, `limit` is what has diverged."""

    noise: float = 0.1
    limit: float = math.inf

    name: ClassVar[str] = "line"
    unit: ClassVar[str] = "point"
    loss_name: ClassVar[str] = "mean squared error"

    @property
    def steps(self) -> int:
        return _no_steps()

    @property
    def batch(self) -> int:
        return _no_steps()

    @property
    def diverged_above(self) -> float:
        return self.limit

    def settings(self) -> dict[str, Any]:
        return {"noise": self.noise}

    def new_model(self) -> nn.Module:
        return nn.Linear(8, 1)

    def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
        x = torch.randn(count, 8, generator=generator)
        noise = self.noise * torch.randn(count, 1, generator=generator)
        return {"x": x, "y": x @ torch.arange(8.0)[:, None] / 8 + noise}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.mse_loss(model(batch["x"]), batch["y"])

    def units(self, batch: Batch) -> int:
        return len(batch["x"])

    def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
        generator = torch.Generator().manual_seed(SEEDS[split])
        return {"loss": self.loss(model, self.draw(64, generator, 0)).item()}


LETTERS = 16
LENGTH = 12


class Letters(nn.Module):
    """Embedding, a hidden matrix, statistics of the batch where they are wanted, dropout, a head."""

    def __init__(self, dropout: float, norm: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(LETTERS, 8)
        self.hidden = nn.Linear(8, 24)
        self.norm = nn.BatchNorm1d(24) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(24, LETTERS)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.hidden(self.embedding(tokens)).relu()  # (B, T, 24)
        x = self.norm(x.flatten(0, 1)).view_as(x)
        return self.head(self.dropout(x))


@dataclass(frozen=True)
class Text(Task):
    """The next letter of sequences in which each follows from the one before, most of the time.

    Where it is `padded`, sequences have different numbers of letters that count, as answers have in post-training.
    """

    dropout: float = 0.0
    norm: bool = False
    padded: bool = False
    double: bool = False

    name: ClassVar[str] = "text"
    unit: ClassVar[str] = "letter"
    loss_name: ClassVar[str] = "nats per letter"

    @property
    def steps(self) -> int:
        return _no_steps()

    @property
    def batch(self) -> int:
        return _no_steps()

    def settings(self) -> dict[str, Any]:
        return {"dropout": self.dropout, "norm": self.norm, "padded": self.padded, "double": self.double}

    def new_model(self) -> nn.Module:
        return Letters(self.dropout, self.norm).to(torch.float64 if self.double else torch.float32)

    def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
        start = torch.randint(LETTERS, (count, 1), generator=generator)
        power = 3 ** torch.arange(LENGTH + 1)
        tokens = (start * power + (power - 1) // 2) % LETTERS  # each is 3 times the one before, and 1
        noise = torch.randint(LETTERS, tokens.shape, generator=generator)
        tokens = torch.where(torch.rand(tokens.shape, generator=generator) < 0.1, noise, tokens)
        lengths = torch.randint(2, LENGTH + 1, (count, 1), generator=generator) if self.padded else LENGTH
        return {"tokens": tokens, "counts": (torch.arange(LENGTH) < lengths).expand(count, -1)}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        logits = model(batch["tokens"][:, :-1])
        return F.cross_entropy(logits[batch["counts"]], batch["tokens"][:, 1:][batch["counts"]])

    def units(self, batch: Batch) -> int:
        return int(batch["counts"].sum())

    def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
        batch = self.draw(64, torch.Generator().manual_seed(SEEDS[split]), 0)
        loss = self.loss(model, batch).item()
        return {"loss": loss, "perplexity": math.exp(loss)}
