"""The laboratory: which optimizer, with which settings, for this model and data; in quality and in cost."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {"compare": "ravine.lab.comparison", "prepare": "ravine.lab.comparison", "load": "ravine.lab.results"}

__all__ = ["compare", "prepare", "load"]


def __getattr__(name: str) -> Any:
    """What the laboratory offers, imported when it is first asked for: it brings much with it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
