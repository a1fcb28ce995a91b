"""Arms of a study: optimizers as they are written on the command line, and how one is built for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ravine.lab.study.space import COORDINATES, Choice, Range, Space, Value, default_space, overridden
from ravine.optim import create
from ravine.optim.grouping import Groups, for_matrices, no_decay, of
from ravine.optim.routing import route
from ravine.optim.written import parse_settings
from ravine.registry import lookup, nearest
from ravine.rule import Rule

OPTIONS = ("decay", "engine", "other")
"""What an arm may set besides its rule's hyperparameters; `other` is the rule of what a rule for matrices leaves."""

DIMENSIONS = ("lr", "beta2")
"""What is searched for by default, of what the arm's rule has."""


@dataclass(frozen=True)
class Arm:
    """One optimizer with its settings.

    Args:
        label: unique in a study.
        optimizer: a rule's name, wrappers written around it.
        settings: those given; the rest are searched for or have their defaults.
        space: what is searched for, and where; empty for an arm that is judged as it is.
    """

    label: str
    optimizer: str
    settings: Mapping[str, Value] = field(default_factory=dict)
    space: Space = field(default_factory=dict)

    @property
    def rule(self) -> Rule:
        """The rule, wrapped as the arm's name says."""
        return lookup(self.optimizer)

    def groups(self, model: nn.Module, settings: Mapping[str, Value]) -> Groups:
        """Parameter groups: a rule for matrices gets the hidden ones; norms, biases and embeddings are not decayed.

        In a model without any matrix (a test function's) everything is decayed alike.
        """
        given: dict[str, Any] = self._given(settings)
        groups = of(model)
        if any(role.kind in ("matrix", "head") for role in groups.roles.values()):
            groups = no_decay(groups) if "weight_decay" in self.rule.defaults else groups
        if for_matrices(self.rule):
            given.pop("engine", None)
            return route(groups, matrix=self.rule, **given)
        return groups

    def build(self, model: nn.Module, settings: Mapping[str, Value]) -> torch.optim.Optimizer:
        """The optimizer for a model, with these settings besides the arm's own.

        Raises:
            ValueError: where the rule does not fit the model: one for matrices, and there are none.
        """
        given = self._given(settings)
        if for_matrices(self.rule):
            given.pop("other", None)
        return create(self.optimizer, self.groups(model, settings), **given)

    def _given(self, settings: Mapping[str, Value]) -> dict[str, Any]:
        """The arm's own settings, and of the others those that belong to the rule and not to the schedule."""
        return {**self.settings, **{name: v for name, v in settings.items() if name in self.rule.defaults}}

    def routing(self, model: nn.Module) -> list[dict[str, Any]] | None:
        """Which parameter goes to which rule, and why; None where all go to one."""
        if not for_matrices(self.rule):
            return None
        groups = self.groups(model, {})
        rules = {id(p): group["rule"] for group in groups for _, p in group["params"]}
        return [
            {"name": role.name, "shape": list(p.shape), "role": role.kind, "why": role.why,
             "rule": getattr(rules[id(p)], "spec", str(rules[id(p)]))}
            for p, role in groups.roles.items()
        ]  # fmt: skip


def parse(
    texts: Sequence[str],
    over: Sequence[str] = DIMENSIONS,
    spaces: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Arm, ...]:
    """Arms from texts such as `"adamw"` or `"lookahead(adamw):lookahead.k=10,weight_decay=0.1"`.

    An arm written twice gets a label of its own, `adamw#2`.

    Args:
        texts: one an arm.
        over: what is searched for, of what the arm's rule has and does not set.
        spaces: where, in place of the arm's own spaces: by optimizer or label, or `""` for all that have the setting.

    Raises:
        ValueError: for an unknown optimizer or setting (the nearest is offered), or a value that it does not take.

    Example:
        >>> [arm.label for arm in parse(["adamw", "sgd: momentum=0.90", "adamw"])]
        ['adamw', 'sgd:momentum=0.9', 'adamw#2']
        >>> parse(["adamw"])[0].space["beta2"]
        Choice(values=(0.95, 0.999))
    """
    arms: list[Arm] = []
    for text in texts:
        name, colon, written = text.partition(":")
        name = "".join(name.split())
        try:
            rule = lookup(name)
            settings = _settings(rule, written.split(",")) if colon else {}
            _try(name, rule, settings)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"arm {text!r}: {error.args[0]}") from None
        written = ",".join(f"{key}={text_of(value)}" for key, value in settings.items())
        label = f"{name}:{written}" if settings else name
        same = sum(arm.label.partition("#")[0] == label for arm in arms)
        space = _space(rule, name, label, settings, over, spaces or {})
        arms.append(Arm(f"{label}#{same + 1}" if same else label, name, settings, space))
    _refuse_unused(arms, over, spaces or {})
    return tuple(arms)


def text_of(value: Value) -> str:
    """A setting as it is written."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _try(name: str, rule: Rule, settings: Mapping[str, Value]) -> None:
    """Build it once on one number, so that what it refuses is refused before anything runs."""
    options = {key: value for key, value in settings.items() if key != "other"}
    if "other" in settings:
        if not for_matrices(rule):
            raise ValueError(f"other belongs to rules for matrices, and {name} is for parameters of any shape")
        lookup(str(settings["other"]))
    create(name, [nn.Parameter(torch.zeros(1, 1) if not for_matrices(rule) else torch.zeros(2, 2))], **options)


def _settings(rule: Rule, written: Sequence[str]) -> dict[str, Value]:
    """The rule's hyperparameters and the options among them."""
    options: dict[str, Value] = {}
    others: list[str] = []
    for text in written:
        key, _, value = (part.strip() for part in text.partition("="))
        if key in options:
            raise ValueError(f"the setting {key!r} is given twice")
        if key in OPTIONS and value:
            options[key] = value
        else:
            others.append(text)
    return {**parse_settings(rule, others), **options}


def _space(
    rule: Rule,
    name: str,
    label: str,
    settings: Mapping[str, Value],
    over: Sequence[str],
    spaces: Mapping[str, Mapping[str, Any]],
) -> dict[str, Range | Choice]:
    """What of `over` this arm can search for. A setting that is given is not searched; with lr given, nothing is."""
    if "lr" in settings:
        return {}
    known = {*rule.defaults, "warmup"}
    for_all = {key: value for key, value in spaces.get("", {}).items() if key in known}
    own = {**spaces.get(name, {}), **spaces.get(label, {})}
    places = overridden(default_space(rule, settings), rule, {**for_all, **own})
    wanted = [*over, *own]
    if "lr" in over and "lr" not in places:
        return {}
    chosen = {key: place for key, place in places.items() if key in wanted and key not in settings}
    return dict(sorted(chosen.items(), key=lambda item: _place(item[0])))


def _place(name: str) -> tuple[int, str]:
    return (COORDINATES.index(name) if name in COORDINATES else len(COORDINATES), name)


def _refuse_unused(arms: Sequence[Arm], over: Sequence[str], spaces: Mapping[str, Mapping[str, Any]]) -> None:
    """A name that no arm has is a mistake, not a wish."""
    settings = sorted({"warmup", *(name for arm in arms for name in arm.rule.defaults)})
    for name in over:
        if name not in settings and name not in DIMENSIONS:
            raise ValueError(f"over: no arm has a setting {name!r}{nearest(name, settings)}")
    names = sorted({name for arm in arms for name in (arm.optimizer, arm.label)})
    for name, places in spaces.items():
        if name and name not in names:
            raise ValueError(f"space: there is no arm {name!r}{nearest(name, names)}")
        for key in places if not name else ():
            if key not in settings:
                raise ValueError(f"space: no arm has a setting {key!r}{nearest(key, settings)}")
