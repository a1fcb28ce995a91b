"""What a finished study says: statistics, the verdict, `result.json` and frames."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Results": "frame",
    "combined": "combine",
    "load": "frame",
    "summarize": "summary",
}

__all__ = ["Results", "combined", "load", "summarize"]


def __getattr__(name: str) -> Any:
    """What results offer, imported when first asked for: a study needs its plain values without statistics."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
