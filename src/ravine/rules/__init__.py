"""The rules. Every rule defined in a module here is registered under its name."""

from __future__ import annotations

import importlib
import pkgutil

from ravine.rule import Rule, lookup, register

for _module in pkgutil.iter_modules(__path__):
    for _value in vars(importlib.import_module(f"{__name__}.{_module.name}")).values():
        if isinstance(_value, Rule):
            register(_value)
            globals()[_value.name] = _value  # `ravine.rules.lion` is the rule, not the module that it lives in


def __getattr__(name: str) -> Rule:
    try:
        return lookup(name)
    except KeyError as error:
        raise AttributeError(f"module 'ravine.rules' has no rule {name!r}") from error
