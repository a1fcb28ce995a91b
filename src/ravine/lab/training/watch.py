"""How long the parts of a run take; on a GPU by events, so that nothing waits for the clock."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


class Watch:
    """Seconds by name of a part.

    Args:
        device: on which the parts run.
        before: seconds that were spent before, in a run that goes on.

    Example:
        >>> watch = Watch("cpu", before={"forward": 2.0})
        >>> with watch.span("forward"):
        ...     pass
        >>> 2.0 < watch.seconds("forward") < 3.0
        True
    """

    def __init__(self, device: str, before: Mapping[str, float] | None = None) -> None:
        self._cuda = torch.device(device).type == "cuda"
        self._seconds: defaultdict[str, float] = defaultdict(float, before or {})
        self._events: list[tuple[str, Any, Any]] = []

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Add the time of a block."""
        start = self._mark()
        yield
        end = self._mark()
        if self._cuda:
            self._events.append((name, start, end))
        else:
            self._seconds[name] += end - start

    def seconds(self, name: str) -> float:
        """The sum of all blocks of this name so far."""
        return self.all()[name]

    def all(self) -> dict[str, float]:
        """The sums of all blocks so far by name, 0 for one that has none."""
        if self._events:
            torch.cuda.synchronize()
            for name, start, end in self._events:
                self._seconds[name] += start.elapsed_time(end) / 1000
            self._events.clear()
        return defaultdict(float, self._seconds)

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
