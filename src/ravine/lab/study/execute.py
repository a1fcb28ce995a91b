"""Making the runs of a study: in this process, in several of this machine, or on a Ray cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch

from ravine.lab.study.executors import run_locally, run_on_ray, threads_each
from ravine.lab.study.store import Store
from ravine.lab.study.study import Study
from ravine.lab.study.worker import Event, work

MOST_THREADS = 8
"""Of one run: models this small are slower on more."""


class Running(NamedTuple):
    """A run at work: `what` in words, its steps, and the last loss, None before the first evaluation."""

    what: str
    step: int = 0
    steps: int = 0
    loss: float | None = None

    @property
    def part(self) -> float:
        """How much of it is done, from 0 to 1."""
        return self.step / self.steps if self.steps else 0.0


class OnProgress(Protocol):
    """Called whenever something may have changed."""

    def __call__(
        self, done: int, total: int, running: Sequence[Running] = (), best: Mapping[str, float | None] | None = None
    ) -> None:
        """Say how far the study is.

        Args:
            done: runs that have a result.
            total: runs of the plan.
            running: those at work.
            best: each arm's lowest loss on the tuning split so far.
        """


def execute(study: Study, store: Store, on_progress: OnProgress | None = None) -> None:
    """Make all runs that are missing.

    On a CPU several runs at the same time, each with its part of the threads, are faster than one after the other with
    all of them (`docs/laboratory.md` has figures); a GPU is one run's.

    Raises:
        ValueError: where the storage stops to answer, or Ray cannot be used.
        KeyboardInterrupt: on Ctrl-C; runs that are made are kept.
    """
    show = on_progress or _nothing
    workers = study.settings.workers or default_workers(study)
    threads = min(threads_each(workers, torch.get_num_threads()), MOST_THREADS)

    def here() -> None:
        with _threads(threads):
            work(store, study, on_event=_Follower(study, store, show))

    def poll() -> None:
        progress = store.progress()
        running = [Running(described(study, one.slot), one.step, one.steps, one.value) for one in progress.running]
        show(progress.done, progress.count, running, best_so_far(study, store.outcomes()))

    if study.settings.executor == "ray":
        from ravine.lab.study.join import work_from_ray

        arguments = (store.name, store.url, study.settings.data, study.settings.model, study.settings.base, os.getcwd())
        run_on_ray(
            work_from_ray, arguments, storage=store.url, workers=workers, threads=threads,
            gpus=float(study.device == "cuda"), take_over=here, on_message=_say, on_poll=poll,
        )  # fmt: skip
    elif workers == 1 or store.finished():
        here()
    else:
        run_locally(
            _command(study, store), storage=store.url, workers=workers, threads=threads, take_over=here,
            on_message=_say, on_poll=poll, poll=0.5,
        )  # fmt: skip


def default_workers(study: Study) -> int:
    """One for each of torch's threads, as far as there are runs; on a GPU, and for runs of several processes, one."""
    if study.device != "cpu" or study.settings.processes > 1:
        return 1
    return max(1, min(torch.get_num_threads(), study.count // 2, 16))


def described(study: Study, index: int) -> str:
    """A slot in words: `search adamw 3`, `judge muon`."""
    slot = study.slots[index]
    number = f" {slot.number + 1}" if slot.phase == "search" else ""
    return f"{slot.phase} {study.arms[slot.arm].label}{number}"


def _command(study: Study, store: Store) -> list[str]:
    """Of a worker. A model in a file of Python is named here, by whoever began the study, and never by the storage."""
    words = [sys.executable, "-m", "ravine", "worker", store.name, "--quiet"]
    for name in ("data", "model", "base"):
        value = getattr(study.settings, name)
        words += [f"--{name}", str(value)] if value is not None else []
    return words


def best_so_far(study: Study, outcomes: Mapping[int, Mapping[str, Any]]) -> dict[str, float | None]:
    """Each tuned arm's lowest loss on the tuning split."""
    best: dict[str, float | None] = {arm.label: None for arm in study.arms if arm.space}
    for index, outcome in outcomes.items():
        slot, loss = study.slots[index], outcome.get("value")
        label = study.arms[slot.arm].label
        if slot.split == "tuning" and loss is not None:
            known = best[label]
            best[label] = loss if known is None else min(known, loss)
    return best


class _Follower:
    """Shows what a worker in this process says."""

    def __init__(self, study: Study, store: Store, show: OnProgress) -> None:
        self._study, self._store, self._show = study, store, show
        self._running: Running | None = None
        self._look()

    def __call__(self, event: Event) -> None:
        if event.slot is not None and event.kind == "claimed":
            self._running = Running(described(self._study, event.slot))
        elif self._running is not None and event.kind == "step":
            self._running = self._running._replace(step=event.step, steps=event.steps)
        elif self._running is not None and event.kind == "reported":
            self._running = self._running._replace(loss=event.value)
        elif event.kind in ("done", "lost", "released"):
            self._running = None
            self._look()
        running = () if self._running is None else (self._running,)
        self._show(self._done, self._study.count, running, self._best)

    def _look(self) -> None:
        outcomes = self._store.outcomes()
        self._done, self._best = len(outcomes), best_so_far(self._study, outcomes)


def _nothing(
    done: int, total: int, running: Sequence[Running] = (), best: Mapping[str, float | None] | None = None
) -> None:
    """What is shown where nobody looks."""


def _say(message: str) -> None:
    print(message, file=sys.stderr)


@contextmanager
def all_threads() -> Iterator[None]:
    """Within this block torch has the threads of a single run."""
    with _threads(min(torch.get_num_threads(), MOST_THREADS)):
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
