"""Arms of a measurement: optimizers as they are written on the command line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import Parameter

from ravine.engine.batch import Unsupported
from ravine.engine.predict import predict_bytes
from ravine.optim import Optimizer, create
from ravine.optim.settings import given_to_rule
from ravine.optim.written import parse_settings
from ravine.registry import lookup

STANDARD = (
    "adamw", "adam", "lion", "sgd:momentum=0.9", "sgd", "adagrad", "rmsprop", "lamb", "cautious(adamw)",
    "cautious(adamw):cautious.rescale=false", "lookahead(adamw)", "clip_norm(adamw)", "radam", "nadamw", "adopt",
    "adan", "ademamix", "mars", "stableadamw", "schedule_free(adamw)", "adafactor", "adafactor_paper", "prodigy",
)  # fmt: skip
MATRIX_RULES = ("muon", "normuon")
"""What is measured when no optimizer is named: on all shapes of the GPT, and on its hidden matrices."""


@dataclass(frozen=True)
class Arm:
    """One optimizer with its settings; `label` is how it is written, `settings` are those given, the rest defaults."""

    label: str
    optimizer: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def period(self) -> int:
        """After how many steps the cost of a step repeats: Lookahead's k, what a rule does `every` so often, else 1."""
        hyper = {**lookup(self.optimizer).defaults, **self.settings}
        return math.lcm(*(int(hyper.get(name, 1)) for name in ("lookahead.k", "every")))

    @property
    def steps_matrices(self) -> bool:
        """Whether the optimizer is meant for hidden matrices."""
        return lookup(self.optimizer).steps_matrices

    def build(self, parameters: list[Parameter], engine: str) -> Optimizer:
        """The optimizer, for these parameters on this engine."""
        return create(self.optimizer, parameters, engine=engine, **self.settings)

    def predicted_bytes(self, dtype: torch.dtype) -> float | None:
        """Bytes per parameter that the planner expects a step to move, the mean over a period.

        None where the compiled engines cannot run the rule, which has no plan then.
        """
        optimizer = self.build([Parameter(torch.zeros(2, 2, dtype=dtype))], "reference")
        (group,) = optimizer.param_groups
        rule = optimizer.rule_of(group)
        hyper = given_to_rule(rule, group)
        # The first steps may differ from all later ones (t == 1), so the period looked at begins after them.
        steps = range(10 * self.period + 1, 11 * self.period + 1)
        try:
            return sum(predict_bytes(rule, hyper, t, dtype) for t in steps) / self.period
        except Unsupported:
            return None


def parse(texts: Iterable[str]) -> list[Arm]:
    """Arms from texts such as `"adamw"` or `"sgd:momentum=0.9,nesterov=true"`; one written twice is one arm.

    Raises:
        KeyError, TypeError, ValueError: for an unknown optimizer or setting (the nearest is offered), or a value that
            the optimizer does not take.

    Example:
        >>> [arm.label for arm in parse(["adamw", "sgd: momentum=0.90"])]
        ['adamw', 'sgd:momentum=0.9']
    """
    arms: dict[str, Arm] = {}
    for text in texts:
        name, colon, written = text.partition(":")
        name = "".join(name.split())
        settings = parse_settings(lookup(name), written.split(",")) if colon else {}
        label = name + (":" + ",".join(f"{key}={_text(value)}" for key, value in settings.items()) if settings else "")
        arm = Arm(label, name, settings)
        arm.build([Parameter(torch.zeros(2, 2))], "reference")  # refuses now what it would refuse when its turn comes
        arms.setdefault(label, arm)
    return list(arms.values())


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
