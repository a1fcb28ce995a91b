"""What a task is: a model to train, a loss, and data in three splits that share nothing."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ravine.registry import nearest

Batch = dict[str, Tensor]
"""Tensors by name. The first dimension of each counts the examples, so that a batch can be cut into smaller ones."""

Evaluated = Literal["tuning", "judging"]
"""The splits that a model is evaluated on: settings are chosen on one, and compared on the other."""

TASK_SIZES = ("tiny", "small", "base")


@dataclass(frozen=True)
class Task(ABC):
    """One thing to learn, at one size. The training loop and the studies know nothing else about it.

    The fields are plain values, so a task can be written to JSON and made again (`spec`), also by another process;
    what they name (texts, models) is read when the task is made. Two tasks are equal if their fields are.

    `loss` calls the model and looks at nothing else of it, so that it may be wrapped, compiled or functional.

    Args:
        size: `"tiny"` (ends in seconds, for tests), `"small"` or `"base"`.

    Raises:
        ValueError: for a field that will not do, or data that cannot be used.
    """

    size: str = "small"

    name: ClassVar[str]
    """As it is written on the command line."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """What data is counted in: "byte", "token", "image", "point"."""

    @property
    @abstractmethod
    def loss_name(self) -> str:
        """What the loss is, for axes and tables: "nats per byte"."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Optimizer steps of a run, where none are asked for."""

    @property
    @abstractmethod
    def batch(self) -> int:
        """Examples of a step, where none are asked for."""

    @property
    def clip(self) -> float | None:
        """The largest norm of the gradient, where none is asked for; None where clipping would change the problem."""
        return 1.0

    @property
    def diverged_above(self) -> float:
        """A run that ends with a larger loss than this has diverged, even if the loss is finite."""
        return math.inf

    def __post_init__(self) -> None:
        require_one_of("size", self.size, TASK_SIZES)

    def spec(self) -> dict[str, Any]:
        """What `ravine.lab.tasks.make(**spec)` makes an equal task of: the name and the fields, as plain values."""
        return {"name": self.name, **_fields(self)}

    def __reduce__(self) -> tuple[Callable[..., Task], tuple[Any, ...]]:
        """Pickled as its fields; what it has read is read again."""
        return _made, (type(self), _fields(self))

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that results depend on, as plain values: the task's name, architecture, hashes of data and of files."""

    def about(self) -> dict[str, Any]:
        """What a reader wants to know beyond `settings`, as plain values: names, what was read, skipped and why."""
        return {}

    @abstractmethod
    def new_model(self) -> nn.Module:
        """A model with new weights, drawn from torch's global generator."""

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
        """A training batch on the CPU.

        Args:
            count: of examples.
            generator: the only source of randomness.
            step: of the run, from 1; for tasks whose data has an order.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss that is trained on, without dimensions: the mean over the units of the batch."""

    @abstractmethod
    def units(self, batch: Batch) -> int:
        """How much data a batch holds, in `unit`s."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
        """`"loss"`, and further figures where they mean something: `"perplexity"`, `"accuracy"`.

        Always on the same data of the split. Called with the weights that the rule evaluates at, without gradients.
        """

    def after_step(self, model: nn.Module) -> None:  # noqa: B027 - most tasks have nothing to do here
        """What follows a step of the optimizer: a projection, for a task with constraints."""


def _fields(task: Task) -> dict[str, Any]:
    return {field.name: getattr(task, field.name) for field in fields(task) if field.init}


def above_uniform(classes: int) -> float:
    """The cross-entropy above which a run has diverged: a nat more than that of a uniform guess among so many classes.

    A new transformer is half a nat above a uniform guess.
    """
    return math.log(classes) + 1.0


def _made(kind: type[Task], values: dict[str, Any]) -> Task:
    return kind(**values)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def moved(batch: Batch, device: torch.device) -> Batch:
    """The same batch on another device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def require_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError, with the nearest allowed value, unless this is one of them."""
    if value not in allowed:
        hint = nearest(value, allowed) if isinstance(value, str) else ""
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}{hint}")


def require_whole(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless this is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def require_number(name: str, value: Any, least: float, strictly: bool = False) -> None:
    """Raise ValueError unless this is a finite number of at least `least`, or above it."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < least or (strictly and value == least):
        raise ValueError(f"{name} must be a number {'above' if strictly else 'of at least'} {least:g}, got {value!r}")
