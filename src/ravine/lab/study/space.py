"""Search spaces: which settings of an arm are searched for, and where.

A point of the unit cube, one coordinate a setting, becomes settings of an arm by its own ranges. Points are shared: the
arms of a study get the same ones, so that none is luckier in where it looked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ravine.registry import nearest
from ravine.rule import Rule

Value = float | int | str | bool

COORDINATES = ("lr", "weight_decay", "beta2", "momentum", "warmup")
"""What may be searched for, in the order of a point's coordinates. `warmup` belongs to the schedule, not to a rule."""

START = {
    "adamw": 3e-3, "adam": 3e-3, "amsgrad": 3e-3, "rmsprop": 1e-3, "adagrad": 1e-2, "lamb": 1e-2, "lion": 1e-3,
    "sgd": 0.6, "momentum": 1.0, "muon": 6e-3, "normuon": 6e-3, "soap": 3e-3, "sophia": 1e-3, "adan": 3e-3,
}  # fmt: skip
"""The learning rate in the middle of the space, by innermost rule; found on the task `lm`, size `small`."""

DECADES = 1.0
"""The space of a learning rate reaches this far from its middle, to either side; twice as far without a `START`."""


@dataclass(frozen=True)
class Range:
    """Numbers between two, on a logarithmic scale unless said otherwise.

    Example:
        >>> Range(1e-4, 1e-2).at(0.5)
        0.001
    """

    low: float
    high: float
    log: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a range goes from a number to a greater one, got {self.low} to {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0, got {self.low}; give log=false for another")

    def at(self, part: float) -> float:
        """The number at this part of the range, from 0 to 1, to three digits: what is reported is what ran."""
        if self.log:
            value = math.exp(math.log(self.low) + part * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + part * (self.high - self.low)
        return min(max(float(f"{value:.3g}"), self.low), self.high)

    def grid(self, count: int) -> list[float]:
        """Evenly spaced numbers, both ends among them."""
        return [self.at(i / (count - 1)) for i in range(count)] if count > 1 else [self.at(0.5)]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in a study file."""
        return {"low": self.low, "high": self.high} | ({} if self.log else {"log": False})


@dataclass(frozen=True)
class Choice:
    """One of some values.

    Example:
        >>> Choice((0.95, 0.999)).at(0.2)
        0.95
    """

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len(set(self.values)) < len(self.values):
            raise ValueError(f"a choice is between two different values or more, got {list(self.values)}")

    def at(self, part: float) -> Value:
        """The value at this part, from 0 to 1, all equally wide."""
        return self.values[min(int(part * len(self.values)), len(self.values) - 1)]

    def grid(self, count: int) -> list[Value]:
        """All values, whatever the count."""
        return list(self.values)

    def as_dict(self) -> list[Value]:
        """Plain values, as in a study file."""
        return list(self.values)


Space = Mapping[str, Range | Choice]


def default_space(rule: Rule, given: Mapping[str, Value]) -> dict[str, Range | Choice]:
    """The rule's own space of every coordinate it has, but for what is given. Sources of the values: see `START`.

    Heavy-ball momentum β adds up 1/(1 − β) gradients, so the learning rate of SGD lies lower with it.

    Args:
        rule: a rule, wrapped or not.
        given: settings that are fixed.
    """
    space: dict[str, Range | Choice] = {}
    defaults = rule.defaults
    if "lr" in defaults:
        name = rule.innermost.name
        middle, reach = START.get(name, float(defaults["lr"])), DECADES * (1 if name in START else 2)
        if name == "sgd":
            middle *= 1 - min(float(given.get("momentum", defaults["momentum"])), 0.99)
        space["lr"] = Range(float(f"{middle / 10**reach:.3g}"), float(f"{middle * 10**reach:.3g}"))
    if "weight_decay" in defaults:
        space["weight_decay"] = Range(1e-3, 1.0)
    if defaults.get("beta2") == 0.999:
        space["beta2"] = Choice((0.95, 0.999))
    if "momentum" in defaults:
        space["momentum"] = Choice((0.9, 0.95, 0.99))
    space["warmup"] = Range(0.02, 0.4)
    return {name: place for name, place in space.items() if name not in given}


def parse_space(written: Any, name: str) -> Range | Choice:
    """A range or choice from a study file, `{low = 1e-4, high = 1e-2}` or `[0.9, 0.99]`, or from a text as below.

    Raises:
        ValueError: where it is neither; `name` says which setting's.

    Example:
        >>> parse_space("1e-4..1e-2", "lr"), parse_space([0.9, 0.99], "beta2")
        (Range(low=0.0001, high=0.01, log=True), Choice(values=(0.9, 0.99)))
    """
    try:
        if isinstance(written, str) and ".." in written:
            low, high = written.split("..")
            return Range(float(low), float(high))
        if isinstance(written, str) and "|" in written:
            return Choice(tuple(_value(text) for text in written.split("|")))
        if isinstance(written, Mapping):
            unknown = set(written) - {"low", "high", "log"}
            if unknown or not {"low", "high"} <= set(written):
                raise ValueError(f"a range has low, high and perhaps log, got {', '.join(written) or 'nothing'}")
            return Range(float(written["low"]), float(written["high"]), bool(written.get("log", True)))
        if isinstance(written, Sequence) and not isinstance(written, str):
            return Choice(tuple(written))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the space of {name}: {error}") from None
    raise ValueError(f"the space of {name} is written 1e-4..1e-2 or 0.9|0.99, got {written!r}")


def overridden(space: Space, rule: Rule, given: Mapping[str, Any]) -> dict[str, Range | Choice]:
    """A space with some places replaced or added.

    Raises:
        ValueError: for what the rule does not have (the nearest is offered), or something that is no place.
    """
    known = {*rule.defaults, "warmup"}
    for name in given:
        if name not in known:
            raise ValueError(f"{rule.spec} has no setting {name!r} to search for{nearest(name, sorted(known))}")
    return {**space, **{name: parse_space(value, name) for name, value in given.items()}}


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.strip().lower(), text.strip())
