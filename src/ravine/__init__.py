"""ravine: every deep-learning optimizer, correct to its paper, at the speed of memory.

Example:
    >>> import torch, ravine
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = ravine.AdamW(model.parameters(), lr=1e-3)
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ravine import compose, rules
from ravine.optim import Optimizer, create, optimizer
from ravine.registry import available, lookup, register
from ravine.rule import Rule, State, rule
from ravine.wrapper import wrapper

try:
    __version__ = version("ravine")
except PackageNotFoundError:
    __version__ = "0+unknown"

__all__ = [
    "Optimizer", "Rule", "State", "available", "compose", "create", "info", "optimizer", "register", "rule", "rules",
    "wrapper",
]  # fmt: skip

_titles = {lookup(name).title: name for name in available()}


def __getattr__(name: str) -> Any:
    if name in _titles:
        return optimizer(lookup(_titles[name]))
    if name == "info":
        from ravine.info import info

        return info
    raise AttributeError(f"module 'ravine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_titles])
