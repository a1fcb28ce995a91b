"""What a model is, in figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from ravine.lab.models.huggingface import CausalLM
from ravine.lab.models.transformer import Transformer
from ravine.optim.structure import unwrapped


def describe(model: nn.Module) -> dict[str, Any]:
    """A model as plain values, for reports and checkpoints.

    Args:
        model: any module, also inside of `torch.compile` or DistributedDataParallel.

    Returns:
        `"name"` of its class, `"parameters"` (numbers in all, shared ones once), `"trained"` (those that require a
        gradient), and, where the model says so, `"vocabulary"`, `"context"` and its `"architecture"`.

    Example:
        >>> describe(nn.Linear(3, 2))
        {'name': 'Linear', 'parameters': 8, 'trained': 8}
    """
    model = unwrapped(model)
    parameters = [*model.parameters()]
    found: dict[str, Any] = {
        "name": type(model.model if isinstance(model, CausalLM) else model).__name__,
        "parameters": sum(p.numel() for p in parameters),
        "trained": sum(p.numel() for p in parameters if p.requires_grad),
    }
    found |= {name: value for name in ("vocabulary", "context") if isinstance(value := getattr(model, name, None), int)}
    if isinstance(model, Transformer):
        found["architecture"] = asdict(model.shape)
    return found
