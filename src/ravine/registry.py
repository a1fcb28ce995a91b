"""The registry: rules and wrappers by name, and hints for names that are not there."""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ravine.rule import Rule
    from ravine.wrapper import Wrapper

SYNONYMS = {"learning_rate": "lr", "wd": "weight_decay", "epsilon": "eps", "beta": "momentum", "mu": "momentum"}

_rules: dict[str, Rule] = {}
_wrappers: dict[str, Wrapper] = {}


def nearest(name: str, allowed: Sequence[str]) -> str:
    """A hint for a misspelt name: `; did you mean 'weight_decay'?`, or nothing when nothing is near."""
    if SYNONYMS.get(name) in allowed:
        return f"; did you mean {SYNONYMS[name]!r}?"
    found = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def resolve(module: str, qualname: str) -> Any:
    """What a pickle means by a user's rule: the object of this name in this module."""
    return functools.reduce(getattr, qualname.split("."), importlib.import_module(module))


def register(item: Any) -> Any:
    """Make a rule or wrapper known by its name, for `ravine.create` and the command line.

    Raises:
        ValueError: if the name is taken by another.
    """
    from ravine.rule import Rule

    known: dict[str, Any] = _rules if isinstance(item, Rule) else _wrappers
    if known.get(item.name, item) is not item:
        raise ValueError(f"the name {item.name!r} is taken by {known[item.name]!r}")
    known[item.name] = item
    return item


def registered(item: Rule | Wrapper) -> bool:
    """Whether this very rule or wrapper is the registered one of its name."""
    return _rules.get(item.name) is item or _wrappers.get(item.name) is item


def wrappers() -> list[str]:
    """The names of all registered wrappers, sorted."""
    return sorted(_wrappers)


def available() -> list[str]:
    """The names of all registered rules, sorted."""
    return sorted(_rules)


def lookup_wrapper(name: str) -> Wrapper:
    """The registered wrapper of this name.

    Raises:
        KeyError: with the nearest name when there is none.
    """
    if name not in _wrappers:
        raise KeyError(f"unknown wrapper {name!r}{nearest(name, wrappers())} (there are {', '.join(wrappers())})")
    return _wrappers[name]


def lookup(spec: str) -> Rule:
    """The rule of a name such as `"adamw"` or `"lookahead(cautious(adamw))"`.

    Raises:
        KeyError: with the nearest name when there is none.
    """
    spec = spec.strip()
    if spec.endswith(")") and "(" in spec:
        outer, inner = spec[:-1].split("(", 1)
        return lookup_wrapper(outer.strip())(lookup(inner))
    if spec not in _rules:
        raise KeyError(f"unknown optimizer {spec!r}{nearest(spec, available())} (there are {', '.join(available())})")
    return _rules[spec]
