"""Arms of a study: optimizers as they are written on the command line, and where the search for their lr begins."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ravine.lab.model import Transformer
from ravine.optim import create
from ravine.optim.written import parse_settings
from ravine.registry import lookup
from ravine.rule import Rule

Setting = float | int | bool | str

OPTIONS = ("decay", "engine")
"""What an arm may set besides its rule's hyperparameters."""

START = {
    "adamw": 3e-3, "adam": 3e-3, "amsgrad": 3e-3, "rmsprop": 1e-3, "adagrad": 1e-2, "lamb": 1e-2, "lion": 1e-3,
    "sgd": 0.6, "momentum": 1.0,
}  # fmt: skip
"""The learning rate in the middle of the first three trials, by innermost rule; found on the default task."""

STEP = 3.0
"""Neighbouring learning rates are this factor apart; for a rule without an entry in `START`, its square."""


@dataclass(frozen=True)
class Arm:
    """One optimizer with its settings; `label` is unique in a study, `settings` are those given, the rest defaults."""

    label: str
    optimizer: str
    settings: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def rule(self) -> Rule:
        """The rule, wrapped as the arm's name says."""
        return lookup(self.optimizer)

    @property
    def tuned(self) -> bool:
        """Whether the learning rate is searched for: unless it is given, or the rule has none."""
        return "lr" in self.rule.defaults and "lr" not in self.settings

    def build(self, model: Transformer, lr: float | None) -> torch.optim.Optimizer:
        """The optimizer for a model, at this lr (None: its rule has none); only matrices inside the blocks are decayed.

        Embedding, output head and norms are left undecayed, as is usual for language models.
        """
        decayed = dict(model.hidden_matrices())
        others = [(name, p) for name, p in model.named_parameters() if name not in decayed]
        groups: list[dict[str, Any]] = [{"params": list(decayed.items())}, {"params": others}]
        if "weight_decay" in self.rule.defaults:
            groups[1]["weight_decay"] = 0.0
        return create(self.optimizer, groups, **{**self.settings, **({} if lr is None else {"lr": lr})})


def parse(texts: Sequence[str]) -> list[Arm]:
    """Arms from texts such as `"adamw"` or `"lookahead(adamw):lookahead.k=10,weight_decay=0.1"`.

    An arm written twice gets a label of its own, `adamw#2`.

    Raises:
        ValueError: for fewer than two arms, an unknown optimizer or setting (the nearest is offered), or a value
            that the optimizer does not take.

    Example:
        >>> [arm.label for arm in parse(["adamw", "sgd: momentum=0.90", "adamw"])]
        ['adamw', 'sgd:momentum=0.9', 'adamw#2']
    """
    arms: list[Arm] = []
    for text in texts:
        name, colon, written = text.partition(":")
        name = "".join(name.split())
        try:
            settings = _settings(lookup(name), written.split(",")) if colon else {}
            # Built once, on one number, so that what it refuses is refused before anything runs.
            create(name, [nn.Parameter(torch.zeros(1, 1))], **settings)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"arm {text!r}: {error.args[0]}") from None
        label = name + (":" + ",".join(f"{key}={_text(value)}" for key, value in settings.items()) if settings else "")
        same = sum(arm.label.partition("#")[0] == label for arm in arms)
        arms.append(Arm(f"{label}#{same + 1}" if same else label, name, settings))
    if len(arms) < 2:
        raise ValueError(f"compare needs at least two optimizers, got {len(arms)}; try: adamw lion sgd")
    return arms


def _settings(rule: Rule, written: Sequence[str]) -> dict[str, Setting]:
    """The rule's hyperparameters and the options among them."""
    options: dict[str, str] = {}
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


def _text(value: Setting) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# The search for the learning rate


def next_lr(arm: Arm, tried: Mapping[float, float]) -> float:
    """The learning rate to try next: three around the start, then beyond the edge if the best lies on it, else between.

    Every arm searches in this way and stops after the same number of trials.

    Args:
        arm: a tuned arm.
        tried: the final loss on the tuning split by learning rate, infinite where the run diverged.
    """
    start, step = start_of(arm)
    for first in (start, start * step, start / step):
        if _rounded(first, ()) not in tried:
            return _rounded(first, ())
    rates = sorted(tried)
    place = rates.index(best_lr(tried))
    if place == 0:
        return _rounded(rates[0] / step, tried)
    if place == len(rates) - 1:
        return _rounded(rates[-1] * step, tried)
    below, best, above = rates[place - 1 : place + 2]
    neighbour = below if tried[below] <= tried[above] else above
    return _rounded(math.sqrt(best * neighbour), tried)


def best_lr(tried: Mapping[float, float]) -> float:
    """The learning rate with the lowest loss; of equals, as where all diverged, the smallest."""
    return min(sorted(tried), key=lambda lr: tried[lr])


def at_edge(tried: Mapping[float, float]) -> bool:
    """Whether the best learning rate is the smallest or largest tried, so that a better one may lie beyond."""
    return best_lr(tried) in (min(tried), max(tried))


def start_of(arm: Arm) -> tuple[float, float]:
    """Where the search begins, and its step. Heavy-ball momentum β adds up 1/(1 − β) gradients: the start is lower."""
    rule = arm.rule
    name = rule.innermost.name
    if name not in START:
        return float(rule.defaults["lr"]), STEP**2
    start = START[name]
    if name == "sgd":
        start *= 1 - min(float(arm.settings.get("momentum", rule.defaults["momentum"])), 0.99)
    return start, STEP


def _rounded(lr: float, tried: Container[float]) -> float:
    """Two digits, more where that was tried before: what is reported is what ran."""
    return next(r for digits in (2, 4, 17) if (r := float(f"{lr:.{digits}g}")) not in tried)
