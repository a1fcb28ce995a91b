"""Loading a state dict: everything is checked before anything changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ravine.engine.graph import counts_no_steps
from ravine.optim.blocks import blocks_of, held_shape
from ravine.optim.evaluation import ASIDE
from ravine.optim.settings import check, decay_of, renamed, unpacked
from ravine.rule import Rule

OF_THE_RUN = ("capturable", "differentiable")  # how torch's step ran, not what it computed


def load(optimizer: Any, state_dict: Mapping[str, Any]) -> None:
    """Load `state_dict` into an optimizer; see `Optimizer.load_state_dict`."""
    state_dict = _as_dict(state_dict)
    for hook in optimizer._optimizer_load_state_dict_pre_hooks.values():
        changed = hook(optimizer, state_dict)
        if changed is not None:
            state_dict = changed
    groups, saved_groups = optimizer.param_groups, _as_dict(state_dict, "state", "param_groups")["param_groups"]
    _refuse_other(groups, saved_groups)
    state, new_groups = {}, []
    for group, saved_group in zip(groups, saved_groups, strict=True):
        rule = optimizer._rules[group["rule"]]
        new = _merged(rule, group, saved_group)
        check(rule, new)
        new_groups.append(new)
        for place, p in zip(saved_group["params"], group["params"], strict=True):
            if place in state_dict["state"]:
                state[p] = _state(rule, new, place, p, state_dict["state"][place])
    places = set(chain.from_iterable(group["params"] for group in saved_groups))
    foreign = {place: value for place, value in state_dict["state"].items() if place not in places}
    optimizer.state.clear()
    optimizer.state.update({**foreign, **state})
    for group, new in zip(groups, new_groups, strict=True):
        group.clear()
        group.update(new)
    for hook in optimizer._optimizer_load_state_dict_post_hooks.values():
        hook(optimizer)


def _as_dict(state_dict: Any, *keys: str) -> dict[str, Any]:
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"a state dict is a dict with 'state' and 'param_groups', got {type(state_dict).__name__}")
    for key in keys:
        if key not in state_dict:
            held = ", ".join(map(repr, list(state_dict)[:5])) or "nothing"
            raise ValueError(f"the state dict has no {key!r}, so it is not an optimizer's; it has {held}")
    return dict(state_dict)


def _refuse_other(groups: list[dict[str, Any]], saved_groups: list[dict[str, Any]]) -> None:
    if len(groups) != len(saved_groups):
        raise ValueError(f"state_dict has {len(saved_groups)} parameter groups, the optimizer has {len(groups)}")
    for i, (group, saved) in enumerate(zip(groups, saved_groups, strict=True)):
        if len(group["params"]) != len(saved["params"]):
            there, here = len(saved["params"]), len(group["params"])
            raise ValueError(f"group {i} of state_dict has {there} parameters, the optimizer's has {here}")
        if saved.get("rule", group["rule"]) != group["rule"]:
            there, here = saved["rule"], group["rule"]
            raise ValueError(f"group {i} of state_dict was saved by the rule {there!r}, the optimizer's runs {here!r}")


def _merged(rule: Rule, group: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """The group after loading: what was saved, and of its own what was not."""
    own = ("params", "param_names", "rule", *OF_THE_RUN)
    settings = {k: v.clone() if isinstance(v, Tensor) else v for k, v in saved.items() if k not in own}
    known = {theirs for theirs, alias in rule.aliases.items() if alias.name in settings}
    settings = renamed(rule, {k: v for k, v in settings.items() if k not in known})
    decoupled = settings.pop("decoupled_weight_decay", None)
    if decoupled is not None and "decay" in group:
        settings.setdefault("decay", decay_of(decoupled))
    return {**group, **settings}


def _state(rule: Rule, group: Mapping[str, Any], place: Any, p: Tensor, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's state, copied to its device.

    Raises:
        ValueError: if a state is missing, has another shape or no values, or the step is not a count.
    """
    state = {key: _moved(key, value, place, p) for key, value in saved.items() if value is not None}
    if not state:
        return state
    hyper, blocks = unpacked(rule, group), blocks_of(group, p, rule)
    shape = blocks.shapes[0] if blocks else rule.seen_shape(tuple(p.shape))
    if "step" not in state:
        state["step"] = _first_step(rule, hyper)
    absent = rule.absent_states(hyper, shape)
    for symbol, declared in rule.state.items():
        if symbol in absent or declared.kind == "shared":
            continue
        value = state.get(declared.name)
        if declared.kind == "host" and isinstance(value, Tensor) and value.numel() == 1:
            value = state[declared.name] = float(value)  # torch keeps NAdam's product in a tensor
        if value is None and state["step"] > 0:
            raise ValueError(f"the state of parameter {place} has no {declared.name!r}, which {rule.title} needs")
        expected = held_shape(declared, p, rule, blocks)
        if isinstance(value, Tensor) and tuple(value.shape) != expected:
            raise ValueError(
                f"{declared.name!r} of parameter {place} has shape {tuple(value.shape)} in the state dict, "
                f"and must have {expected} here"
            )
    aside = state.get(ASIDE)
    if aside is not None and (not isinstance(aside, Tensor) or aside.shape != p.shape):
        raise ValueError(f"{ASIDE!r} of parameter {place} must be a tensor of shape {tuple(p.shape)}")
    return state


def _moved(key: str, value: Any, place: Any, p: Tensor) -> Any:
    """A copy of a state's value on its parameter's device; the step stays a float32 number on the host."""
    if isinstance(value, Tensor) and value.is_meta and not p.is_meta:
        raise ValueError(f"{key!r} of parameter {place} is on the meta device and has no values")
    if key == "step":
        return torch.tensor(_count(value, place), dtype=torch.float32, device="cpu")
    return value.detach().to(p.device, copy=True) if isinstance(value, Tensor) else value


def _count(value: Any, place: Any) -> float:
    try:
        count = float(value)
    except (TypeError, ValueError, RuntimeError):
        count = math.nan
    if not count >= 0 or count != math.floor(count):
        raise ValueError(f"'step' of parameter {place} must be a count of steps, got {value!r}")
    return count


def _first_step(rule: Rule, hyper: Mapping[str, Any]) -> Tensor:
    """The step of a state that has none, as in torch's SGD and Muon, whose steps but the first are all the same."""
    if not counts_no_steps(rule, {**rule.defaults, **hyper}):
        raise ValueError(f"state_dict has no 'step', which {rule.title} needs")
    return torch.tensor(1.0, device="cpu")
