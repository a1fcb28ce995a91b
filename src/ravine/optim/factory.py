"""Optimizer classes from rules: `ravine.AdamW`, `ravine.optimizer(my_rule)`, `ravine.create("adamw", ...)`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from ravine.optim.base import Optimizer, rule_named
from ravine.optim.blocks import KEYS
from ravine.optim.grouping import for_matrices
from ravine.optim.routing import OPTIONS, for_class
from ravine.optim.settings import COMMON, defaults_of
from ravine.rule import Rule

_classes: dict[Rule, type[Optimizer]] = {}

MODEL_OR_MATRICES = """\
    params: a model, whose hidden matrices this rule steps, with scale="match_rms_adamw" where it has a scale, and
        `other` the rest, at the same lr and weight_decay; or parameters, named or not, or groups: all matrices."""
ROUTING = [
    '    other: with a model, the rule of the rest, or its settings, {"rule": "adamw", "betas": (0.9, 0.95)}.',
    "    overrides, head, split: with a model, as for ravine.route; with parameters, split is that of all of them.",
]


def optimizer(rule: Rule) -> type[Optimizer]:
    """The optimizer class of a rule, the user's own or a wrapped one.

    Args:
        rule: a function declared with `@ravine.rule`, or a wrapper around one.

    Returns:
        A drop-in `torch.optim.Optimizer` class that takes the rule's hyperparameters, positionally in the rule's
        order or by name, and the keyword-only options `decay`, `engine`, `maximize` of every ravine optimizer.

    Raises:
        TypeError: if `rule` is not a rule.

    Example:
        >>> from ravine.compose import lookahead
        >>> from ravine.rules.adam import adamw
        >>> optimizer(lookahead(adamw, k=10))
        <class 'ravine.LookaheadAdamW'>
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"optimizer() takes a rule (a function declared with @ravine.rule), got {rule!r}")
    if rule not in _classes:
        _classes[rule] = _make(rule)
    return _classes[rule]


def create(name: str, params: Iterable[Any], **settings: Any) -> Optimizer:
    """An optimizer by the name of its rule.

    Args:
        name: a name of `ravine.available()`, or wrappers around one: `"lookahead(cautious(adamw))"`.
        params: as for every `torch.optim.Optimizer`.
        settings: hyperparameters and options.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    return optimizer(rule_named(name))(params, **settings)


def _make(rule: Rule) -> type[Optimizer]:
    signature = _signature(rule)
    names = [n for n, q in signature.parameters.items() if q.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD][2:]

    def __init__(self: Optimizer, params: Iterable[Any], *positional: Any, **settings: Any) -> None:
        if len(positional) > len(names):
            most, given = len(names) + 1, len(positional) + 1
            raise TypeError(f"{rule.title} takes at most {most} positional arguments, got {given}")
        for name, value in zip(names, positional, strict=False):
            if name in settings:
                raise TypeError(f"{rule.title} got {name} twice, by position and by name")
            settings[name] = value
        params, settings = for_class(rule, params, settings)
        Optimizer.__init__(self, params, rule, **settings)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    made = type(rule.title, (Optimizer,), {"__init__": __init__, "__reduce__": _reduce, "rule": rule})
    made.__doc__, made.__module__ = _doc(rule), "ravine"
    return made


def _reduce(self: Optimizer) -> Any:
    return (_empty, (self.rule,), self.__getstate__())


def _empty(rule: Rule) -> Optimizer:
    made = optimizer(rule)
    return made.__new__(made)


def _signature(rule: Rule) -> inspect.Signature:
    """torch's for an optimizer of that name: hyperparameters first, options of every optimizer keyword-only."""
    kinds = inspect.Parameter
    own = [name for name in defaults_of(rule) if name not in COMMON and name not in KEYS and name != "decay"]
    settings = defaults_of(rule)
    plain = [name for name in own if name.isidentifier()]
    parameters = [kinds("self", kinds.POSITIONAL_OR_KEYWORD), kinds("params", kinds.POSITIONAL_OR_KEYWORD)]
    parameters += [kinds(name, kinds.POSITIONAL_OR_KEYWORD, default=settings[name]) for name in plain]
    routing = OPTIONS if for_matrices(rule) else {}
    options = {
        **routing,
        "engine": "auto",
        **{k: v for k, v in settings.items() if k == "decay" or k in KEYS},
        **COMMON,
    }
    parameters += [kinds(name, kinds.KEYWORD_ONLY, default=value) for name, value in options.items()]
    if len(plain) < len(own):
        parameters.append(kinds("wrapper_settings", kinds.VAR_KEYWORD))
    return inspect.Signature(parameters)


def _doc(rule: Rule) -> str:
    params = MODEL_OR_MATRICES if for_matrices(rule) else "    params: parameters, named parameters or groups."
    lines = [rule.doc, "", f"Source: {rule.paper}.", "", "Args:", params]
    for name, value in defaults_of(rule).items():
        names = rule.packed.get(name, (name,))
        allowed = rule.ranges.get(names[0], "")
        note = f" ({', '.join(names)})" if name in rule.packed else ""
        inside = f", in {allowed}" if allowed else ""
        if name not in COMMON and name not in OPTIONS:
            lines.append(f"    {name}: default {value!r}{note}{inside}.")
    lines += ROUTING if for_matrices(rule) else []
    lines += [
        '    engine: "auto", "reference", "native" or "triton".',
        "    maximize: ascend instead of descending; default False.",
        "    foreach, fused: accepted for torch's sake; they change nothing.",
    ]
    return "\n".join(lines)
