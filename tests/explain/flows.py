"""The flow diagrams that tests look at, each made once."""

from __future__ import annotations

from functools import cache

from ravine.explain.diagram import Flow, flow
from ravine.registry import available, wrappers

NAMES = [
    *available(), *(f"{name}(adamw)" for name in wrappers()),
    "lookahead(cautious(adamw))", "clip_norm(ema(sgd))", "cautious(clipped_update(adafactor))",
]  # fmt: skip


@cache
def flow_of(name: str) -> Flow:
    return flow(name)
