"""Weight decay in its four forms, as lines in the words of rules.

A rule writes `p - lr * (u + weight_decay * p)`. What it is given there for `weight_decay`, and whether the gradient
is changed before, is the form's doing (`ravine.optim.settings.substituted_decay`); here stands what a reader is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ravine.rule import Decay


class Form(NamedTuple):
    """A form of weight decay: the line it adds before the rule's (None for no line), and what it means."""

    symbol: str | None
    source: str
    meaning: str


FORMS: Mapping[Decay, Form] = MappingProxyType(
    {
        "lr": Form(None, "weight_decay", "weights shrink by the learning rate times λ, as in PyTorch's AdamW"),
        "schedule": Form(
            "weight_decay", "weight_decay / max_lr", "weights shrink by λ times the schedule's share of its maximum"
        ),
        "lr_squared": Form(
            "weight_decay", "lr * weight_decay", "weights shrink by the squared learning rate times λ, as in PaLM"
        ),
        "l2": Form(
            "g", "g + weight_decay * p", "the gradient of λ/2·‖θ‖² is added to the gradient; the rule itself sees λ = 0"
        ),
    }
)
