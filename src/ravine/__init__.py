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
from ravine.registry import available, lookup, lookup_wrapper, register, wrappers
from ravine.rule import Rule, State, rule
from ravine.wrapper import wrapper

if TYPE_CHECKING:
    from ravine.catalogue import info
    from ravine.optim import Optimizer, create
    from ravine.optim.evaluation import evaluating
    from ravine.optim.factory import optimizer
    from ravine.optim.routing import route

try:
    __version__ = version("ravine")
except PackageNotFoundError:
    __version__ = "0+unknown"

__all__ = [
    "Optimizer", "Rule", "State", "available", "compose", "create", "evaluating", "info", "optimizer", "register",
    "route", "rule", "rules", "watch", "wrapper",
]  # fmt: skip

# torch takes a second to import, and rules and traces do without it: what needs torch is imported when asked for.
_later = {
    "Optimizer": "ravine.optim",
    "create": "ravine.optim",
    "optimizer": "ravine.optim",
    "evaluating": "ravine.optim.evaluation",
    "info": "ravine.catalogue",
    "route": "ravine.optim.routing",
    "watch": "ravine.explain.watch",
}
_modules = {
    "engine": "ravine.engine", "explain": "ravine.explain", "groups": "ravine.optim.grouping",
    "hessian": "ravine.optim.hessian", "lab": "ravine.lab", "math": "ravine.math", "mup": "ravine.optim.mup",
    "optim": "ravine.optim", "presets": "ravine.optim.presets", "schedules": "ravine.optim.schedules",
}  # fmt: skip
_titles = {lookup(name).title: name for name in available()}


def _titled(name: str) -> Rule | None:
    """The rule of a title, with wrappers' titles before it: `LookaheadCautiousAdamW`; None for a name that is no title.

    Raises:
        TypeError: for wrappers that make no sense in this order, with the reason.
    """
    if name in _titles:
        return lookup(_titles[name])
    for wrap in map(lookup_wrapper, wrappers()):
        base = _titled(name.removeprefix(wrap.title)) if name.startswith(wrap.title) else None
        if base is not None:
            return wrap(base)
    return None


def __getattr__(name: str) -> Any:
    if name in _later:
        value = getattr(importlib.import_module(_later[name]), name)
    elif name in _modules:
        value = importlib.import_module(_modules[name])
    else:
        try:
            titled = _titled(name)
        except TypeError as error:
            raise AttributeError(f"module 'ravine' has no {name}: {error}") from error
        if titled is None:
            raise AttributeError(f"module 'ravine' has no attribute {name!r}")
        value = __getattr__("optimizer")(titled)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_later, *_modules, *_titles})
