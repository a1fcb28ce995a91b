"""The settings of a rule, as a page offers them: which are numbers, and which change the structure of a step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ravine.explain.typeset import symbol
from ravine.rule import Rule, Shape

MOST_FLAGS = 16
"""Combinations of flags and choices that are traced; a flag with which there would be more stays at its default."""


@dataclass(frozen=True)
class Offered:
    """What can be changed of a rule without tracing it again.

    Attributes:
        flags: flags and choices with their values, the default first.
        numbers: the other settings, with their allowed ranges.
        truths: the numbers whose being zero decides which states there are.
        shape: the shape of the parameter.
    """

    flags: Mapping[str, tuple[Any, ...]]
    numbers: Mapping[str, str]
    truths: tuple[str, ...]
    shape: Shape

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every setting of the flags, by name."""
        for values in itertools.product(*self.flags.values()):
            yield dict(zip(self.flags, values, strict=True))

    def present(self) -> Iterator[dict[str, bool]]:
        """Every answer to which of the deciding numbers are not zero."""
        for truths in itertools.product((True, False), repeat=len(self.truths)):
            yield dict(zip(self.truths, truths, strict=True))


def offered(rule: Rule, shape: Shape, flags: bool = True) -> Offered:
    """What is offered of a rule for a parameter of this shape.

    Args:
        rule: the rule.
        shape: as the rule sees it.
        flags: whether flags and choices of the rule itself are offered, or only those of its wrappers.
    """
    chosen: dict[str, tuple[Any, ...]] = {}
    combinations = 1
    for name, default in rule.defaults.items():
        options = choices(rule, name)
        if len(options) > 1 and (flags or "." in name) and combinations * len(options) <= MOST_FLAGS:
            chosen[name] = (default, *(option for option in options if option != default))
            combinations *= len(options)
    numbers = {
        name: rule.ranges.get(name, "(-inf, inf)")
        for name, default in rule.defaults.items()
        if isinstance(default, (int, float)) and not isinstance(default, bool) and not _decides(rule, name, shape)
    }
    deciding = {state.when for state in rule.state.values() if isinstance(state.when, str)}
    return Offered(chosen, numbers, tuple(name for name in numbers if name in deciding), shape)


def choices(rule: Rule, name: str) -> tuple[Any, ...]:
    """The values of a flag or choice; none for other settings."""
    if isinstance(rule.defaults[name], bool):
        return (False, True)
    allowed = rule.ranges.get(name, "")
    return tuple(choice.strip() for choice in allowed.split("|")) if "|" in allowed else ()


def _decides(rule: Rule, name: str, shape: Shape) -> bool:
    """Whether the size of a number decides which states there are, other than by being zero."""
    functions = [state.when for state in rule.state.values() if callable(state.when)]
    answers = [[bool(when({**rule.defaults, name: value}, shape)) for when in functions] for value in (0.0, 0.5, 1e6)]
    return any(answer != answers[0] for answer in answers)


def interval(allowed: str) -> dict[str, Any]:
    """An interval in words of JSON.

    >>> interval("[0, 1)")
    {'low': 0.0, 'high': 1.0, 'open': [False, True], 'whole': False}
    """
    whole = allowed.startswith("whole ")
    ends = allowed.removeprefix("whole ")
    low, high = (None if "inf" in x else float(x) for x in ends[1:-1].split(","))
    return {"low": low, "high": high, "open": [ends[0] == "(", ends[-1] == ")"], "whole": whole}


def described(rule: Rule, what: Offered, most: Mapping[str, int]) -> list[dict[str, Any]]:
    """The settings for a page, in the order of the rule's signature; some whole numbers have a largest value."""
    rows = []
    for name, default in rule.defaults.items():
        row = {"name": name, "symbol": symbol(name.rsplit(".", 1)[-1]), "default": default}
        if name in what.flags:
            rows.append(row | {"options": list(what.flags[name])})
        elif name in what.numbers:
            limits = {"high": most[name], "open": [False, False]} if name in most else {}
            rows.append(row | {"range": interval(what.numbers[name]) | limits})
    return rows
