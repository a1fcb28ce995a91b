"""A study whose slots take no time, and a worker of it: `python tiny.py NAME FOLDER`, with the storage's URL in
`RAVINE_STORAGE`.

The first three quarters of the slots are a search; the last quarter needs all of them. Slots named in the folder by
`hold-SLOT` stop there for the first worker that comes, until there is a `go-SLOT`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ravine.lab.study.executors import STORAGE, follow_parent
from ravine.lab.study.store import Store, fix
from ravine.lab.study.worker import Event, work


class Tiny:
    """Computes a function of the slot.

    Args:
        count: of slots.
        folder: where it looks for slots to stop at, and writes down who did what.
    """

    def __init__(self, count: int, folder: Path | None = None) -> None:
        self.count, self.folder = count, folder
        self.search = count * 3 // 4

    def ready(self, slot: int, outcomes: Mapping[int, dict[str, Any]]) -> bool:
        return slot < self.search or all(i in outcomes for i in range(self.search))

    def suggest(self, slot: int, trial: Any, outcomes: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
        fix(trial, {"lr": 1e-4 * (slot + 1)})
        return {"lr": trial.suggest_float("lr", 1e-5, 1.0, log=True)}

    def run(
        self,
        slot: int,
        params: dict[str, Any],
        outcomes: Mapping[int, dict[str, Any]],
        report: Callable[[int, float], None],
        on_step: Callable[[int, int], None],
    ) -> dict[str, Any]:
        assert params == {"lr": 1e-4 * (slot + 1)}
        on_step(1, 2)
        report(1, 2.0 * slot)
        if self.folder is not None:
            self._hold(slot)
        on_step(2, 2)
        return {"value": self.value(slot, outcomes), "process": os.getpid()}

    def value(self, slot: int, outcomes: Mapping[int, dict[str, Any]]) -> float | None:
        """What slots of the last quarter return depends on all outcomes of the search."""
        if slot < self.search:
            return None if slot % 10 == 9 else slot / 4
        return slot + sum(outcomes[i]["value"] or 0.0 for i in range(self.search))

    def expected(self) -> list[float | None]:
        """The values of all slots."""
        found = {slot: {"value": self.value(slot, {})} for slot in range(self.search)}
        return [self.value(slot, found) for slot in range(self.count)]

    def _hold(self, slot: int) -> None:
        assert self.folder is not None
        try:
            (self.folder / f"hold-{slot}").rename(self.folder / f"held-{slot}-by-{os.getpid()}")
        except FileNotFoundError:
            return
        while not (self.folder / f"go-{slot}").exists():
            time.sleep(0.02)


def worker(url: str, name: str, folder: str) -> None:
    """Join the study and work until it is done."""

    def write_down(event: Event) -> None:
        if event.kind in ("done", "lost"):
            (Path(folder) / f"{event.kind}-{event.slot}-by-{os.getpid()}").touch()

    with Store.open(url, name) as store:
        work(store, Tiny(store.count, Path(folder)), poll=0.05, on_event=write_down)


if __name__ == "__main__":
    follow_parent()
    worker(os.environ[STORAGE], *sys.argv[1:])
