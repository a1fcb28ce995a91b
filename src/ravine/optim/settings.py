"""A parameter group's settings: their names, torch's and the rules', their checks, and what a rule is given of them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import torch

from ravine.math import ZERO
from ravine.optim.blocks import KEYS, check_split
from ravine.rule import DECAYS, Rule, nearest

PLAIN = (float, int, bool, str, type(None))

COMMON: dict[str, Any] = {
    "maximize": False, "foreach": None, "fused": None, "capturable": False, "differentiable": False
}  # fmt: skip


def defaults_of(rule: Rule) -> dict[str, Any]:
    """The settings of a group with this rule, under the names in which groups hold them."""
    settings = rule.held_defaults
    if "weight_decay" in rule.defaults:
        settings["decay"] = rule.decay
    return {**settings, **(KEYS if rule.steps_matrices else {}), **COMMON}


def normalized(rule: Rule, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a user gives them, checked, under the names in which groups hold them.

    Raises:
        TypeError: for an unknown name (the nearest is offered), or a value of the wrong type.
        ValueError: for a value outside its range.
    """
    known, packs = defaults_of(rule), rule.packs
    settings = renamed(rule, options)
    for pack, names in rule.packed.items():
        single = [name for name in names if name in settings]
        if single:
            if pack in settings:
                raise TypeError(f"give either {pack} or {single[0]}, not both")
            values = dict(zip(names, known[pack], strict=True)) | {name: settings.pop(name) for name in single}
            settings[pack] = tuple(values[name] for name in names)
    if "decoupled_weight_decay" in settings and "decay" in known:
        if "decay" in settings:
            raise TypeError("give either decay or torch's decoupled_weight_decay, not both")
        settings["decay"] = decay_of(settings.pop("decoupled_weight_decay"))
    for name in settings:
        if name not in known:
            hint = nearest(name, [*known, *packs])
            allowed = ", ".join(known)
            raise TypeError(f"{rule.title} got an unexpected keyword argument {name!r}{hint} (it takes {allowed})")
    check(rule, {**known, **settings})
    return {name: _plain(value) for name, value in settings.items()}


def renamed(rule: Rule, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with torch's names for them, where the rule declares any, under ours.

    Raises:
        TypeError: for one that is given under both names.
        ValueError: for a value that torch's class takes and ours does not.
    """
    ours = dict(settings)
    for theirs, alias in rule.aliases.items():
        if theirs not in ours:
            continue
        value = ours.pop(theirs)
        for their_value, our_value in alias.values:
            if _plain(value) == their_value:
                value = our_value
                break
        else:
            if alias.name is None:
                allowed = " or ".join(repr(v) for v, _ in alias.values)
                raise ValueError(f"{theirs} must be {allowed}, got {value!r}")
        if alias.name is not None:
            if alias.name in ours:
                raise TypeError(f"give either {alias.name} or torch's {theirs}, not both")
            ours[alias.name] = value
    return ours


def torchs(rule: Rule, group: Mapping[str, Any]) -> dict[str, Any]:
    """A group's settings under torch's names, where these are others, so that torch's class can go on with them."""
    settings = {}
    for theirs, alias in rule.aliases.items():
        value = None if alias.name is None else group[alias.name]
        settings[theirs] = next((v for v, our_value in alias.values if our_value == value), value)
    return settings


def decay_of(decoupled: Any) -> str:
    """The form of weight decay that torch's flag `decoupled_weight_decay` means."""
    if not isinstance(decoupled, bool):
        raise TypeError(f"decoupled_weight_decay must be True or False, got {decoupled!r}")
    return "lr" if decoupled else "l2"


def _plain(value: Any) -> Any:
    """NumPy's and other libraries' numbers as Python's own, so that a checkpoint holds nothing else."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def check(rule: Rule, settings: Mapping[str, Any]) -> None:
    """Check every setting of a group against the rule's ranges; see `normalized` for what is raised."""
    for name in ("capturable", "differentiable"):
        if settings.get(name):
            raise ValueError(f"{name}=True is not supported: a step is neither captured nor differentiated through")
    if settings.get("decay", "lr") not in DECAYS:
        allowed = ", ".join(map(repr, DECAYS))
        raise ValueError(f"decay must be one of {allowed}, got {settings['decay']!r}")
    if not isinstance(settings["maximize"], bool):
        raise TypeError(f"maximize must be True or False, got {settings['maximize']!r}")
    if rule.steps_matrices:
        check_split(settings)
    hyper = unpacked(rule, settings)
    for name, value in hyper.items():
        _check_value(name, value, rule.defaults[name], rule.ranges.get(name))
    complaint = rule.check(hyper) if rule.check else None
    if complaint:
        raise ValueError(complaint)


def _check_value(name: str, value: Any, default: Any, allowed: str | None) -> None:
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, got {value!r}")
        return
    if allowed is not None and "|" in allowed:
        choices = [choice.strip() for choice in allowed.split("|")]
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
        return
    if (default is None and value is None) or isinstance(default, str):
        return
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        shape = tuple(value.shape)
        raise ValueError(f"{name} must be a number or a tensor with one element, got a tensor of shape {shape}")
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, torch.Tensor)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not _inside(float(value), allowed or "(-inf, inf)"):
        raise ValueError(f"{name} must be in {allowed or '(-inf, inf)'}, got {float(value)!r}")


def _inside(value: float, interval: str) -> bool:
    whole, interval = interval.startswith("whole "), interval.removeprefix("whole ")
    low, high = (float(x) for x in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below and math.isfinite(value) and (not whole or value == int(value))


def unpacked(rule: Rule, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A group's settings under the rule's own names: `betas` becomes `beta1`, `beta2`.

    Raises:
        ValueError: if `betas` does not have as many values as the rule has betas.
    """
    packs = rule.packs
    hyper = {name: settings[name] for name in rule.defaults if name not in packs}
    for pack, names in rule.packed.items():
        given = settings[pack]
        if not isinstance(given, (tuple, list)) or len(given) != len(names):
            raise ValueError(f"{pack} must be {len(names)} numbers ({', '.join(names)}), got {given!r}")
        hyper |= zip(names, given, strict=True)
    return hyper


def given_to_rule(rule: Rule, group: dict[str, Any]) -> dict[str, Any]:
    """What a rule is called with at this step: its hyperparameters as numbers, and weight decay in the group's form.

    A rule always writes `p - lr * (u + weight_decay * p)`. The four meanings of weight decay differ only in what it
    is given for `weight_decay`: λ (`"lr"`), λ / max_lr (`"schedule"`), lr · λ (`"lr_squared"`), or `ZERO` and λ as
    `l2`, which enters the gradient (`"l2"`).
    """
    hyper = unpacked(rule, group)
    for name, value in hyper.items():
        if type(value) not in PLAIN:
            hyper[name] = value.item() if hasattr(value, "item") else value
    if "weight_decay" in hyper:
        lr, max_lr = hyper.get("lr", 1.0), group.get("max_lr", 0.0)
        hyper |= substituted_decay(group["decay"], hyper["weight_decay"], lr, max_lr)
    return hyper


def substituted_decay(decay: str, weight_decay: float, lr: float, max_lr: float) -> dict[str, Any]:
    """The arguments `weight_decay` and `l2` by which a rule decays weights in the given form.

    Args:
        decay: `"lr"`, `"schedule"`, `"lr_squared"` or `"l2"`.
        weight_decay: λ, as the user gave it.
        lr: the learning rate now.
        max_lr: the highest learning rate of the schedule; only `"schedule"` looks at it.
    """
    if weight_decay == 0 or (decay == "schedule" and max_lr == 0):
        return {"weight_decay": ZERO, "l2": ZERO}
    if decay == "l2":
        return {"weight_decay": ZERO, "l2": weight_decay}
    factor = {"lr": 1.0, "schedule": 1 / max_lr if max_lr else 0.0, "lr_squared": lr}[decay]
    return {"weight_decay": factor * weight_decay, "l2": ZERO}
