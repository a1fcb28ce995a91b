"""What is known of an optimizer without running it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ravine.registry import lookup
from ravine.rule import Decay, Rule

FLOAT32_BYTES = 4
A_MATRIX = (1024, 1024)


@dataclass(frozen=True)
class Info:
    """Facts about an optimizer, read from its rule.

    Attributes:
        name: the name for `ravine.create` and the command line, `"adamw"` or `"lookahead(adamw)"`.
        title: the class name, `"AdamW"`.
        summary: one sentence.
        paper: where the algorithm comes from.
        defaults: the settings with their defaults, under the names in which groups hold them (`betas`).
        states: for each state symbol of the rule, its key in a state dict.
        state_bytes_per_param: bytes of state per parameter of a float32 matrix of 1024 × 1024, under the defaults.
        decay: the customary form of weight decay.
        preset_of: the name of the rule that this one is with other defaults, or None.
    """

    name: str
    title: str
    summary: str
    paper: str
    defaults: Mapping[str, Any]
    states: Mapping[str, str]
    state_bytes_per_param: int
    decay: Decay
    preset_of: str | None


def info(name: str | Rule) -> Info:
    """What is known of an optimizer, by its name or of a rule.

    Raises:
        KeyError: with the nearest name when there is none.

    Example:
        >>> info("adamw").defaults["betas"], info("adamw").state_bytes_per_param
        ((0.9, 0.999), 8)
    """
    rule = lookup(name) if isinstance(name, str) else name
    return Info(
        name=rule.spec,
        title=rule.title,
        summary=rule.summary,
        paper=rule.paper,
        defaults=MappingProxyType(rule.held_defaults),
        states=MappingProxyType({symbol: state.name for symbol, state in rule.state.items()}),
        state_bytes_per_param=state_bytes_per_param(rule),
        decay=rule.decay,
        preset_of=rule.preset_of.name if rule.preset_of is not None else None,
    )


def state_bytes_per_param(rule: Rule, **hyper: Any) -> int:
    """Bytes of state per parameter of a float32 matrix of 1024 × 1024, fractions of one left out.

    Args:
        rule: the rule.
        hyper: hyperparameters other than the defaults, under the rule's names.
    """
    absent = rule.absent_states({**rule.defaults, **hyper}, A_MATRIX)
    tensors = [s for symbol, s in rule.state.items() if symbol not in absent and s.kind not in ("host", "shared")]
    return FLOAT32_BYTES * sum(math.prod(s.shape(A_MATRIX)) for s in tensors) // math.prod(A_MATRIX)
