"""Loading a state dict: everything is checked before anything changes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor


def load(optimizer: Any, state_dict: Mapping[str, Any]) -> None:
    """Load `state_dict` into an optimizer; see `Optimizer.load_state_dict`."""
    state_dict = dict(state_dict)
    for hook in optimizer._optimizer_load_state_dict_pre_hooks.values():
        changed = hook(optimizer, state_dict)
        if changed is not None:
            state_dict = changed
    groups, saved_groups = optimizer.param_groups, state_dict["param_groups"]
    _refuse_other(groups, saved_groups)
    places = chain.from_iterable(group["params"] for group in saved_groups)
    parameters = dict(zip(places, chain.from_iterable(group["params"] for group in groups), strict=True))
    rules = {place: group["rule"] for mine, group in zip(saved_groups, groups, strict=True) for place in mine["params"]}
    state = {}
    for place, saved in state_dict["state"].items():
        if place in parameters:
            p = parameters[place]
            state[p] = {key: _moved(key, value, p) for key, value in saved.items()}
            if saved and "step" not in saved:
                state[p]["step"] = _first_step(optimizer._rules[rules[place]])
        else:
            state[place] = saved
    new_groups = [_merged(group, saved) for group, saved in zip(groups, saved_groups, strict=True)]
    optimizer.state.clear()
    optimizer.state.update(state)
    for group, new in zip(groups, new_groups, strict=True):
        group.clear()
        group.update(new)
    for hook in optimizer._optimizer_load_state_dict_post_hooks.values():
        hook(optimizer)


def _refuse_other(groups: list[dict[str, Any]], saved_groups: list[dict[str, Any]]) -> None:
    if len(groups) != len(saved_groups):
        raise ValueError(f"state_dict has {len(saved_groups)} parameter groups, the optimizer has {len(groups)}")
    for i, (group, saved) in enumerate(zip(groups, saved_groups, strict=True)):
        if len(group["params"]) != len(saved["params"]):
            raise ValueError(
                f"group {i} of state_dict has {len(saved['params'])} parameters, the optimizer's has {len(group['params'])}"
            )
        if saved.get("rule", group["rule"]) != group["rule"]:
            raise ValueError(
                f"group {i} of state_dict was saved by the rule {saved['rule']!r}, the optimizer's runs {group['rule']!r}"
            )


def _merged(group: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    settings = {k: v.clone() if isinstance(v, Tensor) else v for k, v in saved.items() if k != "param_names"}
    if "param_names" in group:
        settings["param_names"] = group["param_names"]
    return {**group, **settings, "params": group["params"], "rule": group["rule"]}


def _moved(key: str, value: Any, p: Tensor) -> Any:
    """A copy of a state's value on its parameter's device; the step stays a float32 number on the host."""
    if key == "step":
        return torch.tensor(float(value), dtype=torch.float32)
    return value.detach().clone().to(p.device) if isinstance(value, Tensor) else value


def _first_step(rule: Any) -> Tensor:
    """The step of a state that has none: torch's SGD counts no steps, and only its first is different."""
    if rule.innermost.name != "sgd" and "step" not in rule.state:
        raise ValueError(f"state_dict has no 'step', which {rule.title} needs")
    return torch.tensor(1.0)
