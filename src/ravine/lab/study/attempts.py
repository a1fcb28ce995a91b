"""What the storage says about the trials of a study, read at little cost.

Optuna reads all that belongs to every trial that waits, at every look. Here it is one query for the states, and one
for the attributes of the trials that have changed. Everything is written through Optuna.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

COUNTED = ("COMPLETE", "PRUNED")
"""States that only a trial's own worker gives it."""

_AT_ONCE = 1000
"""Attempts whose attributes are read in one query; databases bound the number of a query's arguments."""


@dataclass(frozen=True)
class Attempt:
    """One trial of Optuna's: one worker's attempt at a slot.

    Args:
        id: in the storage; trials are numbered as they are made.
        slot: that it is for.
        state: WAITING, RUNNING, COMPLETE, PRUNED or FAIL.
        notes: its user attributes.
    """

    id: int
    slot: int
    state: str
    notes: Mapping[str, Any]


@dataclass
class View:
    """What one look shows.

    Args:
        first: by slot the first trial that counts or may still count.
        superfluous: waiting trials of a slot that has an earlier one.
        lost: by slot how often its worker was lost.
        known: slots that have been enqueued.
    """

    first: dict[int, Attempt] = field(default_factory=dict)
    superfluous: list[Attempt] = field(default_factory=list)
    lost: dict[int, int] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)

    def outcomes(self) -> dict[int, dict[str, Any]]:
        """What came of the slots that are done."""
        return {slot: a.notes["outcome"] for slot, a in sorted(self.first.items()) if a.state in COUNTED}


class Attempts:
    """The trials of one study.

    Args:
        engine: of Optuna's storage.
        study_id: there.
        count: slots of the study. Attempts of anything else are ignored.
    """

    def __init__(self, engine: Engine, study_id: int, count: int) -> None:
        self._engine, self._study_id, self._count = engine, study_id, count
        self._known: dict[int, tuple[str, Attempt | None]] = {}

    def look(self) -> View:
        """How things are."""
        view = View()
        for attempt in self._read():
            view.known.add(attempt.slot)
            if attempt.state in COUNTED and "outcome" not in attempt.notes:
                # Ended by hand, with some other tool.
                continue
            if attempt.state == "FAIL":
                if "released" not in attempt.notes:
                    view.lost[attempt.slot] = view.lost.get(attempt.slot, 0) + 1
            elif attempt.slot not in view.first:
                view.first[attempt.slot] = attempt
            elif attempt.state == "WAITING":
                view.superfluous.append(attempt)
        return view

    def _read(self) -> list[Attempt]:
        """All trials of slots, in the order they were made."""
        from sqlalchemy import column, select, table

        trials = table("trials", column("trial_id"), column("study_id"), column("state"))
        attributes = table("trial_user_attributes", column("trial_id"), column("key"), column("value_json"))
        query = select(trials.c.trial_id, trials.c.state).where(trials.c.study_id == self._study_id)
        with self._engine.connect() as connection:
            states: dict[int, str] = {id: state for id, state in connection.execute(query.order_by(trials.c.trial_id))}
            # A finished trial never changes, and what it says was written before it was finished.
            changed = [id for id, state in states.items() if state == "RUNNING" or self._state_was(id) != state]
            notes: dict[int, dict[str, Any]] = {id: {} for id in changed}
            for start in range(0, len(changed), _AT_ONCE):
                some = select(attributes).where(attributes.c.trial_id.in_(changed[start : start + _AT_ONCE]))
                for id, key, value in connection.execute(some):
                    notes[id][key] = json.loads(value)
        for id in changed:
            slot: Any = notes[id].get("slot")
            of_plan = isinstance(slot, int) and 0 <= slot < self._count
            self._known[id] = (states[id], Attempt(id, slot, states[id], notes[id]) if of_plan else None)
        return [attempt for id in states if (attempt := self._known[id][1]) is not None]

    def _state_was(self, trial_id: int) -> str | None:
        return self._known[trial_id][0] if trial_id in self._known else None
