"""The slots of a study in Optuna's storage: who does which, and what came of it.

Every slot is a trial that waits. A worker takes one by turning it from WAITING to RUNNING, which the database lets
one worker do, and ends it in the same way: COMPLETE with a value, PRUNED where the outcome has none (the run diverged
or failed). A trial whose worker was lost becomes FAIL, and its slot is enqueued anew. So

* a finished trial never changes, and only its own worker can make it COMPLETE or PRUNED: these count;
* a worker goes on with a trial only if it is the first of its slot that counts or may still count,

and a slot has one counted trial, however many workers there are and whenever they are killed.
"""

from __future__ import annotations

import json
import math
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from ravine.lab.study.attempts import Attempt, Attempts, View
from ravine.lab.study.database import connect, find_or_create
from ravine.lab.study.processes import identity, is_gone

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage, RDBStorage

LEASE = 60.0
"""Seconds without a heartbeat after which a worker's slot is given to another."""

DEATHS = 3
"""A slot whose worker was lost so often is not tried again: it may be what kills them."""

_SPREAD = 8
"""Slots among which a worker chooses by chance when another was quicker."""

_ENQUEUES_WITHIN = 2.0
"""Seconds after which whoever should have enqueued a slot is thought dead."""


class Planned(Protocol):
    """What the store asks of a study: how many slots there are, and which can run."""

    @property
    def count(self) -> int:
        """Number of slots."""

    def ready(self, slot: int, outcomes: Mapping[int, dict[str, Any]]) -> bool:
        """Whether all that the slot needs has been done."""


@dataclass(frozen=True)
class Claim:
    """A slot that this process does.

    Args:
        slot: its place in the plan.
        trial_id: of Optuna's trial.
        outcomes: of the slots that are done.
    """

    slot: int
    trial_id: int
    outcomes: Mapping[int, dict[str, Any]] = field(repr=False)


@dataclass(frozen=True)
class Running:
    """A slot at work.

    Args:
        slot: its place in the plan.
        host: name of the worker's machine; empty in the moment after it was taken.
        process: the worker's number there.
        step, steps: done and to do; 0 before the first.
        value: last reported, or None.
    """

    slot: int
    host: str
    process: int
    step: int
    steps: int
    value: float | None


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Args:
        count: slots of the plan.
        done: slots with a result.
        failed: of these, those without a value.
        running: slots at work.
        lost: trials whose worker was lost.
    """

    count: int
    done: int
    failed: int
    running: tuple[Running, ...]
    lost: int


class LostClaim(Exception):
    """The slot is no longer this worker's: its lease had run out, and another has it."""


class Store:
    """One study in a storage. Open it with `Store.open`; it holds connections until it is closed."""

    def __init__(self, url: str, name: str, storage: RDBStorage, about: Mapping[str, Any]) -> None:
        import optuna

        self.url, self.name = url, name
        self.count: int = about["count"]
        self.definition: str | None = about["definition"]
        self.lease: float = about["lease"]
        self._database = storage
        self._database.grace_period = math.ceil(self.lease)
        self._database.heartbeat_interval = max(1, math.floor(self.lease / 4))
        self._storage = _without_reading_all(storage)
        self._study = optuna.load_study(study_name=name, storage=storage)
        self._attempts = Attempts(storage.engine, storage.get_study_id_from_name(name), self.count)
        self._me = identity()
        self._missing: dict[int, float] = {}
        self._enqueued = 0
        self._ended: list[int] = []
        self._database.heartbeat_stale_trial_callback = lambda study, trial: self._ended.append(trial._trial_id)

    @classmethod
    def open(
        cls, url: str, name: str, count: int | None = None, definition: str | None = None, lease: float = LEASE
    ) -> Self:
        """Open a study, or create it with all its slots enqueued.

        Args:
            url: of the storage, see `database.connect`.
            name: of the study. Two studies that differ must not have the same.
            count: of its slots; None to open one that is there.
            definition: what it is, for workers that have nothing but its name.
            lease: seconds without a sign of life after which a worker is taken for dead; at least 2. A study that is
                there keeps its own.

        Raises:
            ValueError: for a storage that does not answer, a study that is not there or is not ravine's, or another
                number of slots.
        """
        if count is not None and count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if not lease >= 2:
            raise ValueError(f"lease must be at least 2 seconds, got {lease}")
        storage = connect(url)
        try:
            about, created = find_or_create(storage, url, name, count, definition, lease)
            store = cls(url, name, storage, about)
            if created:
                store._enqueue(range(store.count))
            return store
        except BaseException:
            storage.engine.dispose()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._database.remove_session()
        self._database.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def heartbeat_every(self) -> float:
        """Seconds."""
        return float(self._database.heartbeat_interval or 1)

    def outcomes(self) -> dict[int, dict[str, Any]]:
        """What came of the slots that are done."""
        return self._attempts.look().outcomes()

    def finished(self) -> bool:
        """Whether every slot is done."""
        return len(self._attempts.look().outcomes()) == self.count

    def progress(self) -> Progress:
        """How far the study is."""
        view = self._attempts.look()
        outcomes = view.outcomes()
        running = tuple(
            _running(view.first[slot]) for slot in sorted(view.first) if view.first[slot].state == "RUNNING"
        )
        failed = sum(outcome.get("value") is None for outcome in outcomes.values())
        return Progress(self.count, len(outcomes), failed, running, sum(view.lost.values()))

    def claim(self, runner: Planned) -> Claim | None:
        """Take the first slot that is ready, and keep the plan whole: slots of dead workers are enqueued anew.

        Returns:
            None where nothing can be done at the moment: all is done, or others are at work on what the rest needs.

        Raises:
            RuntimeError: where no slot is ready though nobody is at work.
        """
        view, among = self._mend(), 1
        while True:
            outcomes = view.outcomes()
            waiting = {slot: view.first[slot] for slot in sorted(view.first) if view.first[slot].state == "WAITING"}
            ready = [slot for slot in waiting if runner.ready(slot, outcomes)]
            if not ready:
                if waiting and len(waiting) + len(outcomes) == self.count:
                    raise RuntimeError(f"no slot is ready though nobody is at work: {', '.join(map(str, waiting))}")
                return None
            slot = random.choice(ready[:among])
            if not self._take(waiting[slot]):
                # Workers that look at the same time had better not want the same.
                among = _SPREAD
            else:
                claim = Claim(slot, waiting[slot].id, outcomes)
                if view.lost.get(slot, 0) < DEATHS:
                    return claim
                self.complete(claim, {"failed": f"its worker died {DEATHS} times", "value": None})
            view = self._attempts.look()

    def trial(self, claim: Claim) -> optuna.Trial:
        """Optuna's trial, to suggest parameters with. Its study's sampler may be replaced; no other trial sees it."""
        import optuna

        study = optuna.load_study(study_name=self.name, storage=self._storage)
        return optuna.Trial(study, claim.trial_id)

    def heartbeat(self, claim: Claim, step: Mapping[str, Any] | None = None) -> None:
        """Say that the worker lives, and how far it is: `"step"`, `"steps"`, `"value"` as in `Running`.

        Raises:
            LostClaim: where another has the slot.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            if step is not None:
                self._database.set_trial_user_attr(claim.trial_id, "step", dict(step))
            if self._database.get_trial(claim.trial_id).state.is_finished():
                raise LostClaim
            self._database.record_heartbeat(claim.trial_id)
        except UpdateFinishedTrialError:
            raise LostClaim from None

    def report(self, claim: Claim, step: int, value: float) -> None:
        """Record a value on the way, for Optuna's dashboard.

        Raises:
            LostClaim: where another has the slot.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self._database.set_trial_intermediate_value(claim.trial_id, step, float(value))
        except UpdateFinishedTrialError:
            raise LostClaim from None

    def complete(self, claim: Claim, outcome: Mapping[str, Any]) -> bool:
        """End a slot with its outcome.

        Args:
            outcome: plain values; `outcome["value"]` is Optuna's, or None where the run has none.

        Returns:
            False where another has the slot, and this outcome is discarded.

        Raises:
            ValueError: for an outcome that JSON cannot hold.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            json.dumps(outcome, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the outcome of slot {claim.slot} must be plain values of JSON: {error}") from None
        value = outcome.get("value")
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        try:
            self._database.set_trial_user_attr(claim.trial_id, "outcome", dict(outcome))
            self._database.set_trial_state_values(claim.trial_id, state, None if value is None else [float(value)])
        except UpdateFinishedTrialError:
            # A call that was repeated since the database did not answer may have come through the first time.
            return self._database.get_trial(claim.trial_id).state in (TrialState.COMPLETE, TrialState.PRUNED)
        return True

    def release(self, claim: Claim, why: str) -> None:
        """Give a slot back, to be done by another."""
        if self._fail(claim.trial_id, why):
            self._enqueue([claim.slot])

    def _mend(self) -> View:
        """Look, and keep the plan whole: every slot that is not done has a trial.

        Whoever ends a trial enqueues its slot anew, and whoever creates a study enqueues all. Others do it where that
        one seems to have died over it.
        """
        view = self._attempts.look()
        gone = self._fail_lost(view)
        now = time.monotonic()
        if len(view.known) > self._enqueued:
            self._enqueued, self._missing = len(view.known), {}
        self._missing = {slot: self._missing.get(slot, now) for slot in range(self.count) if slot not in view.first}
        gone |= {slot for slot, since in self._missing.items() if now - since > _ENQUEUES_WITHIN}
        for attempt in view.superfluous:
            if self._take(attempt):
                self._fail(attempt.id, "the slot was enqueued twice")
        self._enqueue(sorted(gone))
        return self._attempts.look() if gone else view

    def _fail_lost(self, view: View) -> set[int]:
        """End the trials whose workers are gone: at once on this machine, elsewhere when their lease has run out.

        Returns:
            their slots.
        """
        import optuna
        from optuna.exceptions import ExperimentalWarning

        running = {attempt.id: attempt for attempt in view.first.values() if attempt.state == "RUNNING"}
        gone = set()
        for attempt in running.values():
            worker = attempt.notes.get("worker")
            if worker is not None and worker != self._me and is_gone(worker) and self._fail(attempt.id):
                gone.add(attempt.slot)
        self._ended.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self._study)
        return gone | {running[id].slot for id in self._ended if id in running}

    def _take(self, attempt: Attempt) -> bool:
        """Take the first trial of a slot, unless another was quicker.

        Trials are numbered as they are made: whoever sees this one saw all before it, and that those had failed.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            # Before the claim: a worker that is killed right after it has a heartbeat that runs out.
            self._database.record_heartbeat(attempt.id)
            if not self._database.set_trial_state_values(attempt.id, TrialState.RUNNING):
                return False
            self._database.set_trial_user_attr(attempt.id, "worker", self._me)
        except UpdateFinishedTrialError:
            return False
        return True

    def _fail(self, trial_id: int, released: str | None = None) -> bool:
        """End a trial without a result; False where it had ended."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            if released is not None:
                self._database.set_trial_user_attr(trial_id, "released", released)
            return self._database.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False

    def _enqueue(self, slots: Sequence[int]) -> None:
        from optuna.trial import TrialState, create_trial

        for slot in slots:
            self._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"slot": slot}))


def fix(trial: optuna.Trial, values: Mapping[str, Any]) -> None:
    """Give a trial of `Store.trial` values that are known before: `trial.suggest_float` and its like return them."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import PartialFixedSampler, RandomSampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        trial.study.sampler = PartialFixedSampler(dict(values), RandomSampler())


def _without_reading_all(database: RDBStorage) -> BaseStorage:
    """Optuna's cache of a database, without its rule to read all trials before it sets a parameter of one."""
    from optuna.storages import BaseStorage, get_storage

    cached = get_storage(database)

    def forward(name: str) -> Callable[..., Any]:
        to = database if name == "set_trial_param" else cached
        return lambda self, *args, **kwargs: getattr(to, name)(*args, **kwargs)

    methods = {name: forward(name) for name in dir(BaseStorage) if not name.startswith("_")}
    return type("Storage", (BaseStorage,), methods)()


def _running(attempt: Attempt) -> Running:
    worker, at = attempt.notes.get("worker", {}), attempt.notes.get("step", {})
    host, process = worker.get("host", ""), worker.get("process", 0)
    return Running(attempt.slot, host, process, at.get("step", 0), at.get("steps", 0), at.get("value"))
