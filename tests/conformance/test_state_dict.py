"""Checkpoints: saving, loading and continuing is continuing, to the bit; and what does not fit changes nothing."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

import ravine
from conformance.support import (
    Target,
    advance,
    assert_same_bits,
    assert_same_everywhere,
    create,
    members,
    parameters,
    set_gradients,
    snapshot,
)

SETTINGS = {"lr": 0.01, "weight_decay": 0.1}


def through_a_file(state_dict: Any, **options: Any) -> Any:
    """Saved with torch.save, loaded with weights_only=True."""
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True, **options)


WAYS: dict[str, Callable[[Any], Any]] = {
    "live": lambda d: d,
    "deep copy": copy.deepcopy,
    "file": through_a_file,
    "file to cpu": lambda d: through_a_file(d, map_location="cpu"),
    "file, mapped": lambda d: through_a_file(d, map_location=torch.device("cpu")),
}


def trained(spec: str, target: Target, dtype: torch.dtype = torch.float32, steps: int = 7) -> ravine.Optimizer:
    optimizer = create(spec, parameters(spec, target, dtype), target, **SETTINGS)
    advance(optimizer, steps)
    return optimizer


def fresh_copy(optimizer: ravine.Optimizer, spec: str, target: Target, **settings: Any) -> ravine.Optimizer:
    """A new optimizer on copies of another's parameters, with no states."""
    return create(spec, [Parameter(p.detach().clone()) for p in members(optimizer)], target, **{**SETTINGS, **settings})


@pytest.mark.varied(way=(["file"], WAYS))
def test_loading_and_continuing_is_continuing(spec: str, target: Target, dtype: torch.dtype, way: str) -> None:
    """To the bit, in float32 and bfloat16, states included, whatever the new optimizer was constructed with."""
    optimizer = trained(spec, target, dtype)
    other = fresh_copy(optimizer, spec, target, lr=0.5, weight_decay=0.0)
    other.load_state_dict(WAYS[way](optimizer.state_dict()))
    advance(optimizer, 6, start=7)
    advance(other, 6, start=7)
    assert_same_everywhere(snapshot(other), snapshot(optimizer))


@pytest.mark.of_each_kind
def test_a_saved_optimizer_on_the_interpreter_continues(spec: str, any_target: Target) -> None:
    """Engines read and write the same checkpoints: half of the way on one, half on another."""
    optimizer = trained(spec, any_target, steps=2)
    other = fresh_copy(optimizer, spec, Target("reference", any_target.device))
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    assert_same_everywhere(other.state_dict(), optimizer.state_dict())
    advance(optimizer, 1, start=2)
    advance(other, 1, start=2)
    for p, q in zip(members(optimizer), members(other), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_keys_are_torchs_or_the_declared_names(spec: str, target: Target) -> None:
    optimizer = trained(spec, target)
    saved = optimizer.state_dict()
    rule = ravine.lookup(spec)
    assert set(saved) == {"state", "param_groups"}
    assert list(saved["state"]) == list(range(len(members(optimizer))))
    declared = {state.name for state in rule.state.values() if state.kind != "shared"}
    for state in saved["state"].values():
        assert {"step"} <= set(state) <= {"step", *declared}
        assert state["step"].dtype == torch.float32 and state["step"].shape == () and state["step"].item() == 7
        assert state["step"].device.type == "cpu"
    (group,) = saved["param_groups"]
    assert group["rule"] == spec and group["params"] == list(saved["state"])
    assert not set(rule.packs) & set(group)


@pytest.mark.of_each_kind
def test_checkpoints_hold_plain_values_only(spec: str) -> None:
    """What a group holds survives weights_only=True, also when numbers came from NumPy."""
    optimizer = create(spec, parameters(spec), lr=np.float64(0.01), weight_decay=np.float32(0.5))
    advance(optimizer, 2)
    for group in through_a_file(optimizer.state_dict())["param_groups"]:
        for key, value in group.items():
            assert type(value) in (int, float, bool, str, tuple, list, type(None)), key


@pytest.mark.of_each_kind
def test_loading_leaves_its_input_alone(spec: str, target: Target) -> None:
    """Neither loading nor later steps write to the dict; and later steps of the source do not reach the copy."""
    optimizer = trained(spec, target)
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    other = fresh_copy(optimizer, spec, target)
    other.load_state_dict(saved)
    assert_same_everywhere(saved, before)
    advance(other, 7, start=7)
    assert_same_everywhere(saved, before)
    loaded = snapshot(other)
    advance(optimizer, 2, start=7)
    assert_same_everywhere(snapshot(other), loaded)


@pytest.mark.of_each_kind
def test_a_tensor_lr_is_copied_on_loading(spec: str) -> None:
    lr = torch.tensor(0.02)
    optimizer = create(spec, parameters(spec), lr=lr)
    advance(optimizer, 2)
    other = fresh_copy(optimizer, spec, Target("reference"))
    saved = optimizer.state_dict()
    other.load_state_dict(saved)
    other.param_groups[0]["lr"].fill_(0.5)
    assert lr.item() == saved["param_groups"][0]["lr"].item() == torch.tensor(0.02).item()


@pytest.mark.of_each_kind
@pytest.mark.parametrize("named", [(True, True), (True, False), (False, True)], ids=str)
def test_named_and_unnamed_parameters(spec: str, target: Target, named: tuple[bool, bool]) -> None:
    def named_or_not(params: list[Parameter], with_names: bool) -> list[Any]:
        return [(f"layer.{i}", p) for i, p in enumerate(params)] if with_names else params

    optimizer = create(spec, named_or_not(parameters(spec, target), named[0]), target, **SETTINGS)
    advance(optimizer, 4)
    assert ("param_names" in optimizer.param_groups[0]) == named[0]
    copied = [Parameter(p.detach().clone()) for p in members(optimizer)]
    other = create(spec, named_or_not(copied, named[1]), target, **SETTINGS)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    assert ("param_names" in other.param_groups[0]) == named[1]
    advance(optimizer, 3, start=4)
    advance(other, 3, start=4)
    assert_same_bits(members(optimizer), members(other))


@pytest.mark.of_each_kind
@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_states_keep_their_type(separable: str, target: Target, held: torch.dtype) -> None:
    """A bfloat16 model may have float32 states, and the other way round: loading and stepping keep them so."""
    for dtype in (torch.bfloat16, torch.float32):
        optimizer = trained(separable, target, dtype)
        saved = optimizer.state_dict()
        for state in saved["state"].values():
            for key, value in state.items():
                if isinstance(value, Tensor) and key != "step":
                    state[key] = value.to(held)
        other = fresh_copy(optimizer, separable, target)
        other.load_state_dict(through_a_file(saved))
        advance(other, 3, start=7)
        for p in members(other):
            assert p.dtype == dtype
            kept = {v.dtype for k, v in other.state[p].items() if isinstance(v, Tensor) and k != "step"}
            assert kept <= {held}


def test_float32_states_of_bfloat16_parameters_are_not_rounded(target: Target) -> None:
    """Momentum in float32 beside bfloat16 weights moves as float32 momentum does: that is what it is kept for."""
    start = parameters(dtype=torch.bfloat16, target=target)[0]
    rounded, exact = Parameter(start.detach().clone()), Parameter(start.detach().float())
    one = create("momentum", [rounded], target, lr=0.01)
    two = create("momentum", [exact], target, lr=0.01)
    for p, optimizer in ((rounded, one), (exact, two)):
        p.grad = torch.ones_like(p)
        optimizer.step()
    state = one.state_dict()
    state["state"][0]["momentum_buffer"] = two.state[exact]["momentum_buffer"].clone()
    one.load_state_dict(state)
    for step in range(5):
        set_gradients([rounded], step)
        exact.grad = rounded.grad.float()
        one.step()
        two.step()
    assert_same_bits([one.state[rounded]["momentum_buffer"]], [two.state[exact]["momentum_buffer"]])


@pytest.mark.of_each_kind
def test_states_move_to_the_parameters_device(spec: str, target: Target) -> None:
    """States go where the parameter is, here to the device without memory; steps stay on the host."""
    optimizer = trained(spec, target)
    elsewhere = [Parameter(p.detach().to("meta")) for p in members(optimizer)]
    other = create(spec, elsewhere)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    for p in elsewhere:
        for key, value in other.state[p].items():
            if isinstance(value, Tensor):
                assert value.device.type == ("cpu" if key == "step" else "meta"), key


@pytest.mark.of_each_kind
def test_a_checkpoint_from_a_gpu_loads_on_the_cpu(spec: str, target: Target) -> None:
    """Also without `map_location`, where states come as they were; and back to where the parameters are."""
    optimizer = trained(spec, target)
    on_cpu = [Parameter(p.detach().cpu().clone()) for p in members(optimizer)]
    other = create(spec, on_cpu)
    other.load_state_dict(optimizer.state_dict())
    advance(other, 2, start=7)
    back = fresh_copy(optimizer, spec, target)
    back.load_state_dict(other.state_dict())
    held = [(p, v) for p in members(back) for k, v in back.state[p].items() if k != "step" and isinstance(v, Tensor)]
    assert all(v.device == p.device for p, v in held)
    assert all(p.device.type == "cpu" for p in on_cpu)


@pytest.mark.of_each_kind
def test_optimizers_that_have_not_stepped(spec: str, target: Target) -> None:
    """A dict without states makes the loader begin anew, with the saved settings."""
    untouched = create(spec, parameters(spec, target), target, lr=0.02)
    optimizer = trained(spec, target)
    optimizer.load_state_dict(through_a_file(untouched.state_dict()))
    assert len(optimizer.state) == 0 and optimizer.param_groups[0]["lr"] == 0.02
    one = create(spec, [Parameter(p.detach().clone()) for p in members(optimizer)], target, lr=0.02)
    advance(optimizer, 3)
    advance(one, 3)
    assert_same_bits(members(optimizer), members(one))


@pytest.mark.of_each_kind
def test_parameters_that_rested_have_no_state_and_load_so(spec: str, target: Target) -> None:
    optimizer = create(spec, parameters(spec, target), target, **SETTINGS)
    resting = members(optimizer)[1]
    for step in range(5):
        set_gradients(members(optimizer), step)
        resting.grad = None
        optimizer.step()
    saved = through_a_file(optimizer.state_dict())
    assert 1 not in saved["state"]
    other = fresh_copy(optimizer, spec, target)
    other.load_state_dict(saved)
    advance(optimizer, 3, start=5)
    advance(other, 3, start=5)
    assert_same_everywhere(snapshot(other), snapshot(optimizer))
    assert other.state[members(other)[1]]["step"].item() == 3


@pytest.mark.of_each_kind
def test_keys_that_a_saved_group_lacks_come_from_the_constructor(spec: str) -> None:
    optimizer = trained(spec, Target("reference"))
    saved = optimizer.state_dict()
    for key in ("weight_decay", "maximize", "rule", "decay", "max_lr", "foreach"):
        saved["param_groups"][0].pop(key)
    other = fresh_copy(optimizer, spec, Target("reference"), weight_decay=0.25, lr=0.5)
    other.load_state_dict(saved)
    group = other.param_groups[0]
    assert (group["weight_decay"], group["lr"], group["maximize"]) == (0.25, 0.01, False)
    assert group["rule"] == spec and group["decay"] == ravine.lookup(spec).decay


@pytest.mark.of_each_kind
def test_keys_that_others_put_into_groups_are_kept(spec: str) -> None:
    """Schedulers and frameworks write `initial_lr`, `max_momentum` or names of their own."""
    optimizer = trained(spec, Target("reference"))
    optimizer.param_groups[0] |= {"initial_lr": 0.01, "layer": "head", "lr_scale": 0.5}
    other = fresh_copy(optimizer, spec, Target("reference"))
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    assert (other.param_groups[0]["layer"], other.param_groups[0]["lr_scale"]) == ("head", 0.5)
    advance(other, 1)


# What does not fit


def without(state_dict: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in state_dict.items() if k != key}


def changed(state_dict: dict[str, Any], **group: Any) -> dict[str, Any]:
    groups = [{**g, **group} for g in state_dict["param_groups"]]
    return {**state_dict, "param_groups": groups}


def with_state(state_dict: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    return {**state_dict, "state": {i: change(dict(s)) if i == 1 else s for i, s in state_dict["state"].items()}}


def of_another_shape(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v if k == "step" else torch.ones(2, 7, 3) for k, v in state.items()}


BAD: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "no groups": ("param_groups", lambda d: without(d, "param_groups")),
    "no state": ("state", lambda d: without(d, "state")),
    "nothing": ("state dict", lambda d: None),
    "a model's dict": ("an optimizer's", lambda d: {"weight": torch.ones(2)}),
    "another rule": ("rule", lambda d: changed(d, rule="another")),
    "more groups": ("2 parameter groups", lambda d: {**d, "param_groups": d["param_groups"] * 2}),
    "fewer parameters": ("group 0 .* 1 parameters", lambda d: changed(d, params=[0])),
    "lr below zero": ("lr must be in", lambda d: changed(d, lr=-1.0)),
    "lr of no number": ("lr must be a number", lambda d: changed(d, lr="fast")),
    "an unknown decay": ("decay must be one of", lambda d: changed(d, decay="none")),
    "another shape": (r"shape \(2, 7, 3\)", lambda d: with_state(d, of_another_shape)),
    "a step of no number": ("step", lambda d: with_state(d, lambda s: {**s, "step": "seven"})),
    "a negative step": ("step", lambda d: with_state(d, lambda s: {**s, "step": torch.tensor(-1.0)})),
}


@pytest.mark.of_each_kind
@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_refused_and_changes_nothing(spec: str, target: Target, what: str) -> None:
    said, spoil = BAD[what]
    optimizer = create(spec, parameters(spec, target), target, **_with_states(spec))
    advance(optimizer, 3)
    before = snapshot(optimizer)
    bad = spoil(copy.deepcopy(optimizer.state_dict()))
    with pytest.raises((ValueError, TypeError), match=said) as caught:
        optimizer.load_state_dict(bad)
    assert "\n" not in str(caught.value)
    assert_same_everywhere(snapshot(optimizer), before)
    advance(optimizer, 1, start=3)


def _with_states(spec: str) -> dict[str, Any]:
    return {"momentum": 0.9} if "momentum" in ravine.lookup(spec).defaults else {}


@pytest.mark.of_each_kind
def test_a_missing_state_is_named(spec: str) -> None:
    optimizer = create(spec, parameters(spec), **_with_states(spec))
    advance(optimizer, 3)
    before, saved = snapshot(optimizer), optimizer.state_dict()
    names = [k for k in saved["state"][0] if k != "step"]
    saved["state"] = {i: without(s, names[0]) for i, s in saved["state"].items()}
    with pytest.raises(ValueError, match=f"{names[0]!r}"):
        optimizer.load_state_dict(saved)
    assert_same_everywhere(snapshot(optimizer), before)


def test_a_checkpoint_of_another_optimizer_is_refused() -> None:
    for saver, loader in (
        ("adamw", "lion"),
        ("lion", "lookahead(adamw)"),
        ("adamw", "adam"),
        ("lookahead(adamw)", "adamw"),
    ):
        optimizer = trained(saver, Target("reference"))
        other = fresh_copy(optimizer, loader, Target("reference"))
        with pytest.raises(ValueError, match="was saved by the rule"):
            other.load_state_dict(optimizer.state_dict())


def test_nothing_is_imported_because_a_checkpoint_says_so(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_rules.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    optimizer = trained("adamw", Target("reference"))
    saved = changed(optimizer.state_dict(), rule="evil_rules:steal")
    with pytest.raises(ValueError, match="evil_rules:steal"):
        optimizer.load_state_dict(saved)


# Hooks


@pytest.mark.of_each_kind
def test_state_dict_hooks(spec: str) -> None:
    optimizer = trained(spec, Target("reference"))
    seen: list[str] = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda o, d: {**d, "note": 1})
    other = fresh_copy(optimizer, spec, Target("reference"))
    other.register_load_state_dict_pre_hook(
        lambda o, d: (seen.append(f"before loading {d['note']}"), without(d, "note"))[1]
    )
    other.register_load_state_dict_post_hook(lambda o: seen.append(f"loaded {len(o.state)}"))
    saved = optimizer.state_dict()
    assert saved["note"] == 1
    other.load_state_dict(saved)
    assert seen == ["before saving", "before loading 1", f"loaded {len(members(optimizer))}"]
    advance(optimizer, 2, start=7)
    advance(other, 2, start=7)
    assert_same_bits(members(optimizer), members(other))
