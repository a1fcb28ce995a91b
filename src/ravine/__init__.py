"""ravine: every deep-learning optimizer, correct to its paper, at the speed of memory.

Example:
    >>> import torch, ravine
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = ravine.AdamW(model.parameters(), lr=1e-3)
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ravine import compose, rules
from ravine.registry import available, lookup, register
from ravine.rule import Rule, State, rule
from ravine.wrapper import wrapper

if TYPE_CHECKING:
    from ravine.catalogue import info
    from ravine.optim import Optimizer, create
    from ravine.optim.factory import optimizer

try:
    __version__ = version("ravine")
except PackageNotFoundError:
    __version__ = "0+unknown"

__all__ = [
    "Optimizer", "Rule", "State", "available", "compose", "create", "info", "optimizer", "register", "rule", "rules",
    "wrapper",
]  # fmt: skip

# torch takes a second to import, and rules and traces do without it: what needs torch is imported when asked for.
_later = {
    "Optimizer": "ravine.optim",
    "create": "ravine.optim",
    "optimizer": "ravine.optim",
    "info": "ravine.catalogue",
}
_titles = {lookup(name).title: name for name in available()}


def __getattr__(name: str) -> Any:
    if name in _later:
        value = getattr(importlib.import_module(_later[name]), name)
    elif name in _titles:
        value = __getattr__("optimizer")(lookup(_titles[name]))
    elif name in ("engine", "explain", "lab", "math", "optim"):
        value = importlib.import_module(f"ravine.{name}")
    else:
        raise AttributeError(f"module 'ravine' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_later, *_titles})
