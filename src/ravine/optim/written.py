"""Settings as one writes them on the command line: `nesterov=true`, `lookahead.k=10`.

Example:
    >>> from ravine.registry import lookup
    >>> import ravine.rules
    >>> parse_settings(lookup("sgd"), ["nesterov=true", "momentum=0.9"])
    {'nesterov': True, 'momentum': 0.9}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ravine.rule import Rule

TRUTH = {"true": True, "false": False}


def parse_settings(rule: Rule, written: Iterable[str]) -> dict[str, Any]:
    """Hyperparameters of a rule from `key=value` texts, each of the type of its default.

    Raises:
        ValueError: for a text without `=`, a name given twice, or a value that is not of its type.
        TypeError: for a name that the rule does not have, with the nearest.
    """
    settings: dict[str, Any] = {}
    for text in written:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name or not value:
            raise ValueError(f"a setting is written key=value, got {text!r}")
        if name in settings:
            raise ValueError(f"the setting {name!r} is given twice")
        rule.check_names({name: value})
        settings[name] = _parsed(name, value, rule.defaults.get(name))
    return settings


def _parsed(name: str, value: str, default: Any) -> Any:
    if isinstance(default, str):
        return value
    if isinstance(default, bool):
        if value.lower() not in TRUTH:
            raise ValueError(f"{name} must be true or false, got {value!r}")
        return TRUTH[value.lower()]
    if default is None and value.lower() == "none":
        return None
    try:
        return int(value) if isinstance(default, int) else float(value)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise ValueError(f"{name} must be {kind}, got {value!r}") from None
