"""What is known of an optimizer without running it."""

from __future__ import annotations

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
        state_bytes_per_param: bytes of state per parameter of a large float32 matrix, under the defaults.
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
        defaults=MappingProxyType(_with_betas(rule.defaults)),
        states=MappingProxyType({symbol: state.name for symbol, state in rule.state.items()}),
        state_bytes_per_param=state_bytes_per_param(rule),
        decay=rule.decay,
        preset_of=rule.preset_of.name if rule.preset_of is not None else None,
    )


def state_bytes_per_param(rule: Rule, **hyper: Any) -> int:
    """Bytes of state per parameter of a large float32 matrix; what grows slower than the parameters counts as nothing.

    Args:
        rule: the rule.
        hyper: hyperparameters other than the defaults, under the rule's names.
    """
    absent = rule.absent_states({**rule.defaults, **hyper}, A_MATRIX)
    return FLOAT32_BYTES * sum(state.kind == "full" for symbol, state in rule.state.items() if symbol not in absent)


def _with_betas(defaults: Mapping[str, Any]) -> dict[str, Any]:
    betas = [name for name in ("beta1", "beta2", "beta3") if name in defaults]
    if len(betas) < 2:
        return dict(defaults)
    settings: dict[str, Any] = {}
    for name, value in defaults.items():
        if name not in betas:
            settings[name] = value
        else:
            settings.setdefault("betas", tuple(defaults[b] for b in betas))
    return settings
