"""Settings to run rules at: the defaults, each flag turned, and numbers drawn from the ranges."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tests.explain.javascript.running import Case

from ravine.explain.javascript.settings import choices, offered
from ravine.rule import DECAYS, Rule

STARTS = (("himmelblau", (0.5, -1.0)), ("ravine", (-9.0, 1.0)), ("saddle", (-1.5, 0.25)))
DRAWN = 2
FEW = 25
RATES = (1e-3, 3e-3, 1e-2)
"""Large ones make some rules chaotic: rounding grows with every step, in any two programs."""


def settings_of(rule: Rule) -> dict[str, Any]:
    """The defaults, with the customary form of weight decay."""
    return dict(rule.defaults) | {"decay": rule.decay}


def cases(rule: Rule, told: int = 0, flags: bool = True) -> Iterator[Case]:
    """Runs of a rule: on several landscapes, with its flags, and at settings drawn for it."""
    shape = (1, 2) if rule.steps_matrices else (2,)
    what = offered(rule, shape, flags)
    for landscape, start in STARTS[: 3 if flags else 1]:
        yield Case(rule.spec, settings_of(rule), start, landscape, told=told)
    for name, values in what.flags.items():
        for value in values[1:]:
            yield Case(rule.spec, settings_of(rule) | {name: value}, *reversed(STARTS[0]), FEW)
    for decay in DECAYS if "weight_decay" in rule.defaults else ():
        changed = {"weight_decay": 0.05, "decay": decay}
        yield Case(rule.spec, settings_of(rule) | changed, *reversed(STARTS[0]), FEW, told=told)
    drawn = random.Random(rule.spec)
    for _ in range(DRAWN):
        landscape, start = drawn.choice(STARTS)
        yield Case(rule.spec, draw(rule, what.flags, drawn), start, landscape)


def draw(rule: Rule, flags: Any, drawn: random.Random) -> dict[str, Any]:
    """Numbers within their ranges, near what one would choose."""
    settings = settings_of(rule)
    for name, default in rule.defaults.items():
        allowed = rule.ranges.get(name, "")
        if name in flags:
            settings[name] = drawn.choice(flags[name])
        elif name == "lr" and default != 1.0:
            settings[name] = drawn.choice(RATES)
        elif choices(rule, name) or not isinstance(default, (int, float)) or isinstance(default, bool):
            continue
        elif allowed.startswith("whole"):
            settings[name] = default if default > 100 else drawn.randint(1, 8)
        elif allowed == "[0, 1)":
            # Without memory of squared gradients a step is their sign: where it jumps, rounding decides.
            least = 0.0 if name in ("beta1", "momentum") else 0.8
            settings[name] = drawn.choice((least, 0.9, 0.95)) if default < 0.999 else drawn.choice((0.98, 0.999))
        elif name == "weight_decay":
            settings[name] = drawn.choice((0.0, 0.01, 0.2))
            settings["decay"] = drawn.choice(DECAYS)
    complaint = rule.check({k: v for k, v in settings.items() if k != "decay"}) if rule.check else None
    return settings_of(rule) if complaint else settings
