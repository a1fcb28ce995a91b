"""The user's own model, tried on a batch before anything is trained: one clear sentence instead of a failed study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ravine.lab.models.source import Loss, ModelSource, check_loss
from ravine.lab.tasks.task import Batch


@dataclass(frozen=True)
class Own:
    """What is known of the user's model after it was tried.

    Args:
        source: where it comes from.
        loss: its own, where it has one.
        context: the longest sequence that it says it takes, in tokens.
    """

    source: ModelSource
    loss: Loss | None = None
    context: int | None = None

    def new_model(self) -> nn.Module:
        """A new model; see `ModelSource.build`."""
        return self.source.build().model


def logits_of(output: Any) -> Tensor:
    """The logits in what a model returned: a tensor, or what has one as `.logits`.

    Raises:
        ValueError: for anything else.
    """
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = f"a tensor of {logits.dtype}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the model must return logits, as a floating-point tensor or as the attribute logits, got {kind}; "
            "for another loss let its function return (module, loss)"
        )
    return logits


def tried(source: ModelSource) -> tuple[nn.Module, Own]:
    """A model that was built to be looked at, and what is known of it. torch's generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        built = source.build()
    context = getattr(built.model, "context", None)
    return built.model, Own(source, built.loss, context if isinstance(context, int) else None)


def check(own: Own, model: nn.Module, batch: Batch, inputs: str, classes: int) -> None:
    """Try the model on a batch.

    Args:
        own: what is known of it.
        model: as it was built.
        batch: of the task.
        inputs: the tensor in it that the model reads, unless it has a loss of its own.
        classes: how many logits are needed for each prediction, at least.

    Raises:
        ValueError: where it fails, its loss is not a scalar, or its logits have another shape.
    """
    name, given = own.source.name, batch[inputs]
    try:
        with torch.random.fork_rng(devices=[]):
            if own.loss is not None:
                check_loss(own.loss(model, batch))
                return
            with torch.no_grad():
                logits = logits_of(model(given))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    except Exception as error:
        shape = tuple(given.shape)
        raise ValueError(f"{name} fails on {inputs} of shape {shape}: {type(error).__name__}: {error}") from error
    wanted = given.shape if given.dtype == torch.int64 else given.shape[:1]
    if logits.shape[:-1] != wanted or logits.ndim == 0:
        raise ValueError(
            f"{name} must return logits of shape {(*wanted, classes)} for {inputs} of shape {tuple(given.shape)}, "
            f"got {tuple(logits.shape)}"
        )
    if logits.shape[-1] < classes:
        raise ValueError(f"{name} gives {logits.shape[-1]} logits, {classes} are needed")
