"""A worker: takes slots of a study, one after the other, until every one has a result."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from ravine.lab.study.redact import Redactor, redacted
from ravine.lab.study.store import Claim, LostClaim, Planned, Store

if TYPE_CHECKING:
    import optuna

T = TypeVar("T")

PATIENCE = 300.0
"""Seconds for which a worker waits for a storage that has stopped answering."""

STEP_EVERY = 2.0
"""Seconds between two looks at how far the slot is, for others to see."""


class Runner(Planned, Protocol):
    """What a study tells a worker. An exception from it ends the worker, and the slot goes back to the others."""

    def suggest(self, slot: int, trial: optuna.Trial, outcomes: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
        """The slot's parameters, told to Optuna by `trial.suggest_float` and its like, as plain values.

        `store.fix` gives a trial values that are known before. May be called again for the same trial.
        """

    def run(
        self,
        slot: int,
        params: dict[str, Any],
        outcomes: Mapping[int, dict[str, Any]],
        report: Callable[[int, float], None],
        on_step: Callable[[int, int], None],
    ) -> dict[str, Any]:
        """Do the slot.

        Args:
            slot: its place in the plan.
            params: what `suggest` returned.
            outcomes: of the slots that were done when this one began, all that it needs among them.
            report: called with a step and the value there, for curves while the study runs.
            on_step: called with the steps done and to do. Both raise `LostClaim` where another has the slot by now.

        Returns:
            plain values of JSON; `"value"` is the number that Optuna minimizes, None where the run diverged or failed.
        """


@dataclass(frozen=True)
class Event:
    """What a worker does.

    Args:
        kind: `"claimed"`, `"step"`, `"reported"`; `"done"` with a result that counts, `"lost"` with one that does not
            as another has the slot; `"released"`; `"waiting"` for others or for the storage.
        slot: which; None while waiting.
        step, steps: done and to do.
        value: the outcome's, or the reported one.
    """

    kind: Literal["claimed", "step", "reported", "done", "lost", "released", "waiting"]
    slot: int | None = None
    step: int = 0
    steps: int = 0
    value: float | None = None


def work(store: Store, runner: Runner, *, poll: float = 1.0, on_event: Callable[[Event], None] | None = None) -> None:
    """Do slots until every one has a result, the last ones perhaps by other workers.

    Ctrl-C and SIGTERM give the slot back at once.

    Args:
        poll: seconds between two looks while others are at work.

    Raises:
        ValueError: where the storage has stopped answering.
        KeyboardInterrupt: on Ctrl-C; SystemExit on SIGTERM.
    """
    tell = on_event or (lambda event: None)
    with stopped_by_exception():
        while True:
            claim = _patiently(store, lambda: store.claim(runner), tell)
            if claim is not None:
                _do(store, runner, claim, tell)
            elif _patiently(store, store.finished, tell):
                return
            else:
                tell(Event("waiting"))
                time.sleep(poll)


def _do(store: Store, runner: Runner, claim: Claim, tell: Callable[[Event], None]) -> None:
    slot = claim.slot
    tell(Event("claimed", slot))
    with _Heart(store, claim) as heart:
        try:

            def on_step(step: int, steps: int) -> None:
                heart.note(step=step, steps=steps)
                if heart.lost:
                    raise LostClaim
                tell(Event("step", slot, step, steps))

            def report(step: int, value: float) -> None:
                # Curves are for looking at: a storage that does not answer does not stop the run.
                heart.note(value=value if math.isfinite(value) else None)
                with contextlib.suppress(*_storage_errors()):
                    store.report(claim, step, value)
                tell(Event("reported", slot, step, value=value))

            params = _patiently(store, lambda: runner.suggest(slot, store.trial(claim), claim.outcomes), tell)
            outcome = runner.run(slot, params, claim.outcomes, report, on_step)
            counted = _patiently(store, lambda: store.complete(claim, outcome), tell)
        except LostClaim:
            counted, outcome = False, {}
        except BaseException as error:
            # Whoever stops a worker does not wait for a storage that is gone: there the lease runs out.
            with contextlib.suppress(*_storage_errors()):
                store.release(claim, type(error).__name__)
            tell(Event("released", slot))
            raise
    tell(Event("done" if counted else "lost", slot, value=outcome.get("value")))


class _Heart:
    """Says, from a thread of its own, that the worker lives and how far it is."""

    def __init__(self, store: Store, claim: Claim) -> None:
        self._store, self._claim = store, claim
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat of slot {claim.slot}", daemon=True)
        self._notes: dict[str, Any] = {}
        self.lost = False

    def note(self, **notes: Any) -> None:
        """What others may see by and by."""
        self._notes = {**self._notes, **notes}

    def __enter__(self) -> _Heart:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(timeout=self._store.heartbeat_every)

    def _beat(self) -> None:
        told: dict[str, Any] = {}
        due = time.monotonic()
        while not self._end.wait(min(STEP_EVERY, self._store.heartbeat_every)):
            notes = self._notes
            if notes == told and time.monotonic() < due:
                continue
            try:
                self._store.heartbeat(self._claim, notes if notes != told else None)
                told, due = notes, time.monotonic() + self._store.heartbeat_every
            except LostClaim:
                self.lost = True
                return
            except _storage_errors():
                continue


def _patiently(store: Store, call: Callable[[], T], tell: Callable[[Event], None]) -> T:
    """Call it again while the storage does not answer, for as long as `PATIENCE`."""
    began, pause = time.monotonic(), 0.2
    while True:
        try:
            return call()
        except _storage_errors() as error:
            if time.monotonic() - began > PATIENCE:
                cause = str(error.__cause__ or error).strip().splitlines()
                said = Redactor(store.url).text(cause[0] if cause else type(error).__name__)
                raise ValueError(f"the storage {redacted(store.url)} has stopped answering: {said}") from None
            tell(Event("waiting"))
            time.sleep(pause)
            pause = min(2 * pause, 10.0)


def _storage_errors() -> tuple[type[Exception], ...]:
    import sqlalchemy
    from optuna.exceptions import StorageInternalError

    return StorageInternalError, sqlalchemy.exc.OperationalError


@contextlib.contextmanager
def stopped_by_exception() -> Iterator[None]:
    """Within this block SIGTERM raises SystemExit, so that it gives the slot back as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
