"""Optimizers with the face of `torch.optim`."""

from __future__ import annotations

from ravine.optim.base import Optimizer
from ravine.optim.factory import create, optimizer

__all__ = ["Optimizer", "create", "optimizer"]
