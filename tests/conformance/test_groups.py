"""Parameter groups with settings and rules of their own, wrappers through the optimizer, weights used at evaluation."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter

import ravine
from conformance.support import (
    QUIET,
    Target,
    advance,
    assert_same_bits,
    assert_same_everywhere,
    assert_same_steps,
    copies,
    create,
    members,
    parameters,
    random,
    set_gradients,
    snapshot,
)
from ravine.compose import clip_norm, lookahead

LOOKAHEAD = [spec for spec in ("lookahead(adamw)", "lookahead(cautious(clip_norm(adamw)))")]


# Groups


@pytest.mark.of_each_kind
def test_groups_have_their_own_settings(separable: str, target: Target) -> None:
    together, apart = parameters(separable, target), parameters(separable, target)
    groups: list[dict[str, Any]] = [
        {"params": together[:1], "lr": 0.01, "weight_decay": 0.0},
        {"params": together[1:2], "lr": 0.03, "decay": "l2", "weight_decay": 0.1},
        {"params": together[2:], "maximize": True},
    ]
    one = create(separable, groups, target, lr=0.02, weight_decay=0.2)
    settings = [{k: v for k, v in g.items() if k != "params"} for g in groups]
    slices = [apart[:1], apart[1:2], apart[2:]]
    many = [
        create(separable, part, target, **{"lr": 0.02, "weight_decay": 0.2, **own})
        for part, own in zip(slices, settings, strict=True)
    ]
    for step in range(6):
        set_gradients(together, step)
        set_gradients(apart, step)
        one.step()
        for optimizer in many:
            optimizer.step()
    assert_same_steps(separable, together, apart)


def test_groups_may_name_different_rules(target: Target) -> None:
    """One optimizer with five rules: one schedule, one checkpoint, each group stepping as that rule does alone.

    The constructor's lr is for all of them, its betas are not.
    """
    names = ["adamw", "lion", "sgd", "lookahead(adamw)", "lamb"]
    params, alone = ([Parameter(random((4, 3), i, device=target.device)) for i in range(5)] for _ in range(2))
    groups = [{"params": [p], "rule": name} for p, name in zip(params, names, strict=True)]
    one = ravine.Optimizer(groups, "adamw", engine=target.engine, lr=0.02, betas=(0.8, 0.9))
    own = [{"betas": (0.8, 0.9)} if name == "adamw" else {} for name in names]
    many = [create(name, [p], target, lr=0.02, **s) for p, name, s in zip(alone, names, own, strict=True)]
    for step in range(7):
        set_gradients(params, step)
        set_gradients(alone, step)
        one.step()
        for optimizer in many:
            optimizer.step()
    assert_same_bits(params, alone)
    assert [g["rule"] for g in one.param_groups] == names
    assert "betas" not in one.param_groups[2] and [g["lr"] for g in one.param_groups] == [0.02] * 5

    other = ravine.Optimizer(
        [{"params": [Parameter(p.detach().clone())], "rule": n} for p, n in zip(params, names, strict=True)],
        engine=target.engine,
    )
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    advance(one, 3, start=7)
    advance(other, 3, start=7)
    assert_same_everywhere(snapshot(one), snapshot(other))


def test_a_groups_settings_are_checked_against_its_own_rule() -> None:
    p = Parameter(torch.ones(2, 2))
    with pytest.raises(TypeError, match="SGD got an unexpected keyword argument 'betas'"):
        ravine.AdamW([{"params": [p], "rule": "sgd", "betas": (0.9, 0.99)}])
    with pytest.raises(ValueError, match="unknown optimizer 'sdg'; did you mean 'sgd'"):
        ravine.AdamW([{"params": [p], "rule": "sdg"}])
    optimizer = ravine.AdamW([{"params": [p], "rule": "sgd", "momentum": 0.9}])
    assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.of_each_kind
def test_a_group_added_on_the_way_begins_at_its_own_step(separable: str, target: Target) -> None:
    params, alone = parameters(separable, target), parameters(separable, target)
    one = create(separable, params[:2], target, lr=0.01)
    first, second = create(separable, alone[:2], target, lr=0.01), create(separable, alone[2:], target, lr=0.02)
    advance(one, 4)
    advance(first, 4)
    one.add_param_group({"params": params[2:], "lr": 0.02})
    for step in range(4, 9):
        set_gradients(params, step)
        set_gradients(alone, step)
        for optimizer in (one, first, second):
            optimizer.step()
    assert_same_steps(separable, params, alone)
    assert [g["lr"] for g in one.param_groups] == [0.01, 0.02]


@pytest.mark.of_each_kind
def test_parameters_taken_out_of_a_group_rest(separable: str, target: Target) -> None:
    params, alone = parameters(separable, target), parameters(separable, target)
    one, two = create(separable, params, target, lr=0.01), create(separable, alone, target, lr=0.01)
    advance(one, 3)
    advance(two, 3)
    gone = one.param_groups[0]["params"].pop(1)
    before = gone.detach().clone()
    for step in range(3, 6):
        set_gradients(params, step)
        set_gradients(alone, step)
        one.step()
        two.step()
    assert torch.equal(gone, before)
    rest = [(p, q) for p, q in zip(params, alone, strict=True) if p is not gone]
    assert_same_steps(separable, [p for p, _ in rest], [q for _, q in rest])


SETTING = {
    "lr": 0.05,
    "weight_decay": 0.3,
    "momentum": 0.5,
    "betas": (0.5, 0.6, 0.7),
    "beta": 0.4,
    "eps": 0.5,
    "alpha": 0.5,
    "rho": 0.5,
    "momentum_decay": 0.5,
}


def changeable(spec: str) -> dict[str, Any]:
    """Another value for every setting that steps look at: not for those that states begin from."""
    group, begun = create(spec, parameters(spec)).param_groups[0], {s.init for s in ravine.lookup(spec).state.values()}
    values = {k: v for k, v in SETTING.items() if k in group and k not in begun}
    several = {k: len(group[k]) for k in values if isinstance(group[k], tuple)}
    return values | {k: (v if isinstance(v := values[k], tuple) else (v,) * n)[:n] for k, n in several.items()}


def test_settings_changed_on_the_way_take_effect(spec: str, target: Target) -> None:
    """Users write to `param_groups` between steps: every key, one after the other, changes the run.

    At the next step, or at the first that looks at it: RAdam divides by its second moment from step 6 on.
    """
    for key, value in changeable(spec).items():
        left, right = parameters(spec, target), parameters(spec, target)
        one, two = create(spec, left, target), create(spec, right, target)
        advance(one, 3)
        advance(two, 3)
        assert_same_bits(left, right)
        two.param_groups[0][key] = value
        advance(one, 4, start=3)
        advance(two, 4, start=3)
        assert any(not torch.equal(p, q) for p, q in zip(left, right, strict=True)), key


def test_a_learning_rate_written_to_the_group_is_that_of_the_next_step(spec: str, target: Target) -> None:
    left, right = parameters(spec, target), parameters(spec, target)
    one, two = create(spec, left, target), create(spec, right, target)
    for optimizer in (one, two):
        advance(optimizer, QUIET)
    two.param_groups[0]["lr"] = 0.05
    for optimizer in (one, two):
        advance(optimizer, 1, start=QUIET)
    assert any(not torch.equal(p, q) for p, q in zip(left, right, strict=True))


ORDERS = [("lr", "l2", "none"), ("l2", "none", "l2"), ("none", "l2", "lr"), ("schedule", "none", "l2")]


@pytest.mark.varied(order=(ORDERS[:1], ORDERS))
def test_forms_of_decay_do_not_leak_between_optimizers(spec: str, target: Target, order: tuple[str, ...]) -> None:
    """Compiled steps are kept by structure: whether and how weights decay must be part of it, in any order of use."""
    expected = {}
    momentum = {"momentum": 0.9} if "momentum" in ravine.lookup(spec).defaults else {}  # SGD without: lr is l2
    for decay in order:
        params = parameters(spec, target, torch.float64)
        form = {"weight_decay": 0.3, "decay": decay} if decay != "none" else {"weight_decay": 0.0}
        form |= momentum
        optimizer = create(spec, params, target, lr=0.05, **form)
        plain = create(spec, parameters(spec, dtype=torch.float64), lr=0.05, **form)
        advance(optimizer, QUIET + 1)
        advance(plain, QUIET + 1)
        for p, q in zip(params, members(plain), strict=True):
            torch.testing.assert_close(p.cpu(), q, rtol=1e-12, atol=1e-13)
        expected[decay] = params
    for a, b in ((a, b) for a in expected for b in expected if a < b):
        assert any(not torch.equal(p, q) for p, q in zip(expected[a], expected[b], strict=True)), (a, b)


# Totals over all groups


def test_the_clipped_norm_is_that_of_all_groups(target: Target) -> None:
    """clip_norm scales by the norm over every parameter of the optimizer: torch's clipping before the step."""
    params, plain = parameters(target=target, dtype=torch.float64), parameters(target=target, dtype=torch.float64)
    clipped = ravine.optimizer(clip_norm(ravine.rules.sgd, max_norm=0.5))(
        [{"params": params[:1], "lr": 0.1}, {"params": params[1:], "lr": 0.2}], engine=target.engine
    )
    sgd = create("sgd", [{"params": plain[:1], "lr": 0.1}, {"params": plain[1:], "lr": 0.2}], target)
    for step in range(5):
        set_gradients(params, step)
        set_gradients(plain, step)
        if step == 2:
            params[2].grad = plain[2].grad = None
        clipped.step()
        torch.nn.utils.clip_grad_norm_(plain, 0.5)
        sgd.step()
    for p, q in zip(params, plain, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


def test_the_norm_is_shared_by_groups_of_different_rules(target: Target) -> None:
    params, plain = parameters(target=target, dtype=torch.float64), parameters(target=target, dtype=torch.float64)
    rules = ["clip_norm(adamw)", "clip_norm(lion)", "clip_norm(sgd)", "clip_norm(lamb)"]
    clipped = ravine.Optimizer(
        [{"params": [p], "rule": r, "lr": 0.01} for p, r in zip(params, rules, strict=True)], engine=target.engine
    )
    bare = [r.removeprefix("clip_norm(").removesuffix(")") for r in rules]
    separate = ravine.Optimizer(
        [{"params": [p], "rule": r, "lr": 0.01} for p, r in zip(plain, bare, strict=True)], engine=target.engine
    )
    for step in range(4):
        set_gradients(params, step)
        set_gradients(plain, step)
        clipped.step()
        torch.nn.utils.clip_grad_norm_(plain, 1.0)
        separate.step()
    for p, q in zip(params, plain, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


def test_a_late_parameter_under_a_total(target: Target) -> None:
    """Parameters at different steps run as different batches, and are clipped by one norm all the same."""
    params, plain = parameters(target=target, dtype=torch.float64), parameters(target=target, dtype=torch.float64)
    clipped, adamw = create("clip_norm(adamw)", params, target, lr=0.01), create("adamw", plain, target, lr=0.01)
    for step in range(6):
        set_gradients(params, step)
        set_gradients(plain, step)
        if step < 3:
            params[1].grad = plain[1].grad = None
        clipped.step()
        torch.nn.utils.clip_grad_norm_(plain, 1.0)
        adamw.step()
    for p, q in zip(params, plain, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


def test_nan_in_one_parameter_reaches_all_through_a_total(target: Target) -> None:
    params = parameters(target=target)
    optimizer = create("clip_norm(sgd)", params, target, lr=0.1)
    set_gradients(params, 0)
    with torch.no_grad():
        params[0].grad[0, 0] = torch.nan
    optimizer.step()
    assert all(p.isnan().all() for p in params)


# Wrappers through the optimizer


def test_lookahead_follows_its_paper(target: Target) -> None:
    """Zhang et al. 2019, Algorithm 1, in NumPy around plain descent: k = 3, α = 0.4."""
    start = random((5,), 1, torch.float64)
    p = Parameter(start.clone().to(target.device))
    optimizer = ravine.optimizer(lookahead(ravine.rules.sgd, k=3, alpha=0.4))([p], lr=0.1, engine=target.engine)
    fast = slow = start.numpy()
    for step in range(1, 11):
        g = random((5,), 50 + step, torch.float64)
        p.grad = g.to(target.device)
        optimizer.step()
        fast = fast - 0.1 * g.numpy()
        if step % 3 == 0:
            fast = slow = slow + 0.4 * (fast - slow)
        np.testing.assert_allclose(p.detach().cpu().numpy(), fast, rtol=1e-14)
        np.testing.assert_allclose(optimizer.state[p]["lookahead.slow"].cpu().numpy(), slow, rtol=1e-14)


def test_a_wrappers_settings_are_group_settings(target: Target) -> None:
    left, right = parameters(target=target), parameters(target=target)
    one = create("lookahead(adamw)", left, target, **{"lookahead.k": 2, "lookahead.alpha": 0.25})
    two = ravine.optimizer(lookahead(ravine.rules.adamw, k=2, alpha=0.25))(right, engine=target.engine)
    assert one.param_groups[0]["lookahead.k"] == two.param_groups[0]["lookahead.k"] == 2
    advance(one, 5)
    advance(two, 5)
    assert_same_bits(left, right)
    with pytest.raises(TypeError, match=r"did you mean 'lookahead\.alpha'"):
        create("lookahead(adamw)", left, **{"lookahead.alfa": 0.25})


def test_rules_are_at_hand_by_name() -> None:
    """`ravine.rules.lion` is the rule, though a module of that name holds it."""
    for name in ravine.available():
        assert getattr(ravine.rules, name) is ravine.lookup(name)
        assert lookahead(getattr(ravine.rules, name)).base is ravine.lookup(name)


# Weights used at evaluation


@pytest.mark.parametrize("which", LOOKAHEAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_slow_weights_are_used_at_evaluation(which: str, target: Target, dtype: torch.dtype) -> None:
    params = parameters(which, target, dtype)
    optimizer = create(which, params, target, lr=0.05)
    advance(optimizer, 7)
    fast, slow = copies(params), copies(optimizer.state[p]["lookahead.slow"] for p in params)
    assert any(not torch.equal(f, s) for f, s in zip(fast, slow, strict=True))
    with optimizer.evaluation_weights():
        assert_same_bits(params, slow)
    assert_same_bits(params, fast)
    with pytest.raises(KeyboardInterrupt), optimizer.evaluation_weights():
        raise KeyboardInterrupt
    assert_same_bits(params, fast)
    advance(optimizer, 3, start=7)


@pytest.mark.of_each_kind
def test_evaluating_on_the_way_does_not_change_the_run(spec: str, target: Target) -> None:
    left, right = parameters(spec, target), parameters(spec, target)
    one, two = create(spec, left, target), create(spec, right, target)
    with one.evaluation_weights():
        assert_same_bits(left, right)
    for step in range(7):
        advance(one, 1, start=step)
        advance(two, 1, start=step)
        before = snapshot(one)
        with one.evaluation_weights():
            pass
        assert_same_everywhere(snapshot(one), before)
    assert_same_bits(left, right)


def test_without_slow_weights_the_parameters_themselves_are_used(target: Target) -> None:
    params = parameters(target=target)
    optimizer = create("adamw", params, target)
    advance(optimizer, 2)
    before = copies(params)
    with optimizer.evaluation_weights():
        assert_same_bits(params, before)
