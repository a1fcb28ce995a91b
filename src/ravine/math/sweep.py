"""Sums over every parameter of an optimizer, which no single call of a rule can know.

An engine that calls rules parameter by parameter sweeps over them until every total is known: in the first
sweep the first total that each call asks for is collected, in the next it is known and the second is collected, and so
on, since a later total may depend on an earlier one.
A total is named by the rule that asks for it and its place among that rule's totals, so that the same wrapper
on two rules sums over both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_sweep: ContextVar[Totals | None] = ContextVar("ravine_sweep", default=None)
_owner: ContextVar[str] = ContextVar("ravine_owner", default="")


class Totals:
    """One sweep: the totals already known, and those collected in this sweep."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self.known = known
        self.collected: dict[str, Any] = {}
        self.unanswered = 0
        self._asked: Counter[str] = Counter()
        self._waiting = False
        self._depths: dict[str, int] = {}

    def next_parameter(self) -> None:
        """Begin the next parameter's call of its rule."""
        self._asked.clear()
        self._waiting = False

    def name(self) -> str:
        """The name of the total that is being asked for."""
        asker = _owner.get()
        place = self._asked[asker]
        self._asked[asker] += 1
        return f"{asker}#{place}"

    def ask(self, partial: Any) -> Any:
        """Add one parameter's share; return the total where it is known, else the share.

        Raises:
            RuntimeError: if two rules ask for one total after different numbers of others.
        """
        name = self.name()
        depth = self._asked.total()
        if self._depths.setdefault(name, depth) != depth:
            raise RuntimeError(different_depths(name))
        if name in self.known:
            return self.known[name]
        self.unanswered += 1
        if not self._waiting:
            self._waiting = True
            self.collected[name] = self.collected.get(name, 0.0) + partial
        return partial


def different_depths(name: str) -> str:
    """Why a total cannot be formed: some parameters' share is known only after another total."""
    return (
        f"the total {name.split('#')[0]!r} is asked for at different depths by the optimizer's rules; "
        "give all groups the same order of wrappers"
    )


@contextmanager
def sweeping(sweep: Totals) -> Iterator[Totals]:
    """Within this block, `ravine.math.total` goes through `sweep`."""
    token = _sweep.set(sweep)
    try:
        yield sweep
    finally:
        _sweep.reset(token)


@contextmanager
def owner(name: str) -> Iterator[None]:
    """Within this block, totals belong to the rule or wrapper of this name."""
    token = _owner.set(name)
    try:
        yield
    finally:
        _owner.reset(token)


def ask(partial: Any) -> Any:
    """`partial` as part of the current sweep, or as it is outside one."""
    sweep = _sweep.get()
    return partial if sweep is None else sweep.ask(partial)


def name() -> str:
    """The name under which the running rule's next total is known."""
    sweep = _sweep.get()
    return sweep.name() if sweep is not None else f"{_owner.get()}#0"
