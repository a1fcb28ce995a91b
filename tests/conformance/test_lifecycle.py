"""Copies, pickles, printed forms and hooks: what Python and torch do with any optimizer."""

from __future__ import annotations

import copy
import io
import pickle
from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import register_optimizer_step_post_hook

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


def trained(spec: str, target: Target) -> ravine.Optimizer:
    optimizer = create(spec, parameters(spec, target), target, lr=0.01, weight_decay=0.1)
    advance(optimizer, 4)
    return optimizer


@pytest.mark.of_each_kind
def test_a_deep_copy_continues_on_its_own(spec: str, target: Target) -> None:
    optimizer = trained(spec, target)
    other = copy.deepcopy(optimizer)
    assert type(other) is type(optimizer)
    assert all(p is not q for p, q in zip(members(optimizer), members(other), strict=True))
    before = snapshot(optimizer)
    advance(other, 3, start=4)
    assert_same_everywhere(snapshot(optimizer), before)
    advance(optimizer, 3, start=4)
    assert_same_everywhere(snapshot(optimizer), snapshot(other))


@pytest.mark.of_each_kind
def test_a_deep_copy_with_its_model_belongs_to_that_model(spec: str, target: Target) -> None:
    model = torch.nn.ParameterList(parameters(spec, target))
    optimizer = create(spec, model.parameters(), target, lr=0.01)
    advance(optimizer, 2)
    model_copy, optimizer_copy = copy.deepcopy((model, optimizer))
    assert all(p is q for p, q in zip(model_copy.parameters(), members(optimizer_copy), strict=True))
    advance(optimizer_copy, 2, start=2)
    advance(optimizer, 2, start=2)
    assert_same_bits(model.parameters(), model_copy.parameters())


@pytest.mark.varied(protocol=([pickle.HIGHEST_PROTOCOL], range(2, pickle.HIGHEST_PROTOCOL + 1)))
def test_a_pickle_continues(spec: str, target: Target, protocol: int) -> None:
    optimizer = trained(spec, target)
    other = pickle.loads(pickle.dumps(optimizer, protocol))
    assert type(other) is type(optimizer) and repr(other) == repr(optimizer)
    advance(optimizer, 3, start=4)
    advance(other, 3, start=4)
    assert_same_everywhere(snapshot(optimizer), snapshot(other))


@pytest.mark.of_each_kind
def test_whole_optimizers_pass_through_torch_save(spec: str, target: Target) -> None:
    optimizer = trained(spec, target)
    file = io.BytesIO()
    torch.save(optimizer, file)
    file.seek(0)
    other = torch.load(file, weights_only=False)
    advance(optimizer, 2, start=4)
    advance(other, 2, start=4)
    assert_same_bits(members(optimizer), members(other))


@ravine.rule(paper="a test", state={"m": "average"})
def mine(p: Any, g: Any, m: Any, *, t: int, lr: float = 0.1, beta: float = 0.5, weight_decay: float = 0.0) -> Any:
    """Mine: a rule of one's own, in a module of one's own."""
    m = beta * m + (1 - beta) * g
    p = p - lr * (m + weight_decay * p)
    return p, m


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_rule_of_ones_own_is_copied_pickled_and_saved(target: Target, wrapped: bool) -> None:
    rule = ravine.compose.lookahead(ravine.compose.cautious(mine, rescale=False), k=2) if wrapped else mine
    optimizer = ravine.optimizer(rule)(parameters(target=target), engine=target.engine)
    advance(optimizer, 3)
    others = [pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)]
    fresh = ravine.optimizer(rule)([Parameter(p.detach().clone()) for p in members(optimizer)], engine=target.engine)
    fresh.load_state_dict(optimizer.state_dict())
    name = "conformance.test_lifecycle:mine"
    assert optimizer.param_groups[0]["rule"] == (f"lookahead(cautious({name}))" if wrapped else name)
    advance(optimizer, 3, start=3)
    for other in (*others, fresh):
        advance(other, 3, start=3)
        assert_same_everywhere(snapshot(other), snapshot(optimizer))


def test_repr_shows_the_name_and_every_setting(spec: str) -> None:
    optimizer = create(spec, [{"params": parameters(spec)[:1]}, {"params": parameters(spec)[:1], "lr": 0.25}])
    text = repr(optimizer)
    assert text.startswith(ravine.lookup(spec).title + " (") and text.endswith(")")
    assert "Parameter Group 0" in text and "Parameter Group 1" in text and "lr: 0.25" in text
    for name in optimizer.param_groups[0]:
        assert name == "params" or f"{name}: " in text


# Hooks


@pytest.mark.of_each_kind
def test_step_hooks_run_before_and_after(spec: str, target: Target) -> None:
    optimizer = trained(spec, target)
    seen: list[tuple[str, bool]] = []
    start = members(optimizer)[0].detach().clone()

    def moved() -> bool:
        return not torch.equal(members(optimizer)[0], start)

    before = optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("before", moved())))
    after = optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("after", moved())))
    advance(optimizer, 1, start=4)
    assert seen == [("before", False), ("after", True)]
    before.remove()
    after.remove()
    advance(optimizer, 1, start=5)
    assert len(seen) == 2


@pytest.mark.of_each_kind
def test_a_step_hook_may_change_the_arguments_and_the_gradients(spec: str, target: Target) -> None:
    left, right = parameters(spec, target), parameters(spec, target)
    one, two = create(spec, left, target, lr=0.01), create(spec, right, target, lr=0.01)
    calls: list[str] = []

    def halve(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for p in members(optimizer):
            p.grad = p.grad / 2
        return (optimizer, lambda: calls.append("closure")), kwargs

    one.register_step_pre_hook(halve)
    for step in range(3):
        set_gradients(left, step)
        set_gradients(right, step)
        for p in right:
            p.grad = p.grad / 2
        one.step()
        two.step()
    assert calls == ["closure"] * 3
    assert_same_bits(left, right)


@pytest.mark.of_each_kind
def test_hooks_for_all_optimizers_see_each_step_once(spec: str) -> None:
    steps: list[torch.optim.Optimizer] = []
    handle = register_optimizer_step_post_hook(lambda o, args, kwargs: steps.append(o))
    try:
        optimizer = trained(spec, Target("reference"))
        base = ravine.Optimizer(parameters(spec), spec, engine="reference")
        advance(base, 1)
        advance(copy.deepcopy(base), 1)
        advance(pickle.loads(pickle.dumps(optimizer)), 1)
    finally:
        handle.remove()
    assert len(steps) == 4 + 1 + 1 + 1


@pytest.mark.of_each_kind
def test_zero_grad(spec: str) -> None:
    optimizer = create(spec, parameters(spec))
    set_gradients(members(optimizer), 0)
    optimizer.zero_grad(set_to_none=False)
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in members(optimizer))
    optimizer.zero_grad()
    assert all(p.grad is None for p in members(optimizer))


def test_a_subclass_may_extend_the_step(target: Target) -> None:
    class Counting(ravine.AdamW):  # type: ignore[misc, name-defined]
        """AdamW that counts its steps."""

        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self.count = 0

        def step(self, closure: Any = None) -> Any:
            self.count += 1
            return super().step(closure)

    left, right = parameters(target=target), parameters(target=target)
    counting, plain = Counting(left, lr=0.01, engine=target.engine), create("adamw", right, target, lr=0.01)
    advance(counting, 3)
    advance(plain, 3)
    assert counting.count == 3
    assert_same_bits(left, right)


@pytest.mark.of_each_kind
def test_states_are_where_torch_users_look(spec: str, target: Target) -> None:
    """`optimizer.state[p]` holds the states by name, and what is written into them takes effect."""
    optimizer = trained(spec, target)
    names = [s.name for s in ravine.lookup(spec).state.values()]
    p = members(optimizer)[0]
    held = {k: v for k, v in optimizer.state[p].items() if k in names and isinstance(v, Tensor)}
    other = copy.deepcopy(optimizer)
    q = members(other)[0]
    with torch.no_grad():
        for name in held:
            other.state[q][name].fill_(10.0)
    advance(optimizer, 1, start=4)
    advance(other, 1, start=4)
    assert torch.equal(p, q) == (not held)


@pytest.mark.of_each_kind
@pytest.mark.parametrize("way", ["clear", "del", "new dict"])
def test_deleting_states_begins_anew(spec: str, target: Target, way: str) -> None:
    """Warm restarts delete states: the next step is a first step, from the parameters as they are."""
    optimizer = trained(spec, target)
    if way == "clear":
        optimizer.state.clear()
    elif way == "del":
        for p in members(optimizer):
            del optimizer.state[p]
    else:
        optimizer.state = defaultdict(dict)
    for state in ravine.lookup(spec).state.values():
        if state.kind == "shared":
            del optimizer.param_groups[0][state.name]
    fresh = create(spec, [Parameter(p.detach().clone()) for p in members(optimizer)], target, lr=0.01, weight_decay=0.1)
    advance(optimizer, 3)
    advance(fresh, 3)
    assert_same_everywhere(snapshot(optimizer), snapshot(fresh))


@pytest.mark.of_each_kind
def test_a_state_that_is_replaced_is_used(spec: str, target: Target) -> None:
    """A new dict under `optimizer.state[p]`, or a new step in it, is what the next step goes on from and writes to."""
    optimizer = trained(spec, target)
    other = copy.deepcopy(optimizer)
    p, q = members(optimizer)[1], members(other)[1]
    replaced = {k: v.clone() if isinstance(v, Tensor) else v for k, v in other.state[q].items()}
    replaced["step"] = torch.tensor(40.0)
    other.state[q] = replaced
    optimizer.state[p]["step"] = torch.tensor(40.0)
    advance(optimizer, 3, start=4)
    advance(other, 3, start=4)
    assert_same_everywhere(snapshot(optimizer), snapshot(other))
    assert other.state[q] is replaced and replaced["step"].item() == optimizer.state[p]["step"].item() == 43.0
    optimizer.state[p]["step"].fill_(9.0)
    advance(optimizer, 1, start=7)
    assert optimizer.state[p]["step"].item() == 10.0
