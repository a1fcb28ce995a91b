"""The laboratory: which optimizer trains a model best, and what it costs."""

from __future__ import annotations

from ravine.lab.comparison import Comparison, compare, prepare

__all__ = ["Comparison", "compare", "prepare"]
