"""What a training loop relies on: loss falls, what has no gradient rests, each parameter counts its steps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

import ravine
import ravine.engine
from conformance.support import (
    ELEMENTWISE,
    QUIET,
    SEPARABLE,
    SPECS,
    Target,
    advance,
    assert_same_bits,
    assert_same_everywhere,
    assert_same_steps,
    copies,
    create,
    engines_for,
    parameters,
    random,
    set_gradients,
    shapes_of,
    snapshot,
)


def distance(params: list[Parameter], goals: list[Tensor]) -> Tensor:
    """A bowl of unequal curvatures with its lowest point at the goals."""
    return sum(((0.5 + i) * (p - q) ** 2).sum() for i, (p, q) in enumerate(zip(params, goals, strict=True)))


def descend(spec: str, target: Target, steps: int, sign: float, **settings: object) -> tuple[float, float]:
    """The bowl's value before and after some steps on `sign` times it."""
    params = parameters(spec, target)
    goals = [p.detach() + random(p.shape, 7 + i, p.dtype, target.device) for i, p in enumerate(params)]
    optimizer = create(spec, params, target, **settings)
    first = distance(params, goals).item()
    for _ in range(steps):
        optimizer.zero_grad()
        (sign * distance(params, goals)).backward()
        optimizer.step()
    return first, distance(params, goals).item()


def test_loss_falls_with_the_defaults(spec: str, any_target: Target) -> None:
    first, last = descend(spec, any_target, 10, 1.0)
    assert last < first


def test_loss_falls_far_with_a_fitting_learning_rate(spec: str, target: Target) -> None:
    """The unit of a learning rate is the rule's own: Adam's are far below 1, Adadelta's and LARS's far above."""
    losses: dict[float, tuple[float, float]] = {}
    for lr in (5e-2, 0.3, 1e-2, 3.0, 30.0):
        first, last = losses[lr] = descend(spec, target, 60, 1.0, lr=lr)
        if last < 0.2 * first:
            return
    raise AssertionError(losses)


def test_loss_rises_under_maximize(spec: str, target: Target) -> None:
    first, last = descend(spec, target, 10, 1.0, maximize=True, lr=1e-2)
    assert last > first


@pytest.mark.of_each_kind
def test_maximizing_is_descending_on_the_negated_loss(spec: str, target: Target) -> None:
    """torch negates the gradient before anything else, so weight decay shrinks weights either way."""
    settings = {"lr": 0.01, "weight_decay": 0.1}
    up, down = parameters(spec, target), parameters(spec, target)
    ascending, descending = create(spec, up, target, maximize=True, **settings), create(spec, down, target, **settings)
    for step in range(8):
        set_gradients(up, step)
        for p, q in zip(up, down, strict=True):
            q.grad = -p.grad
        ascending.step()
        descending.step()
    assert_same_steps(spec, up, down)


@pytest.mark.of_each_kind
@pytest.mark.parametrize("decay", ["lr", "schedule", "lr_squared", "l2"])
def test_a_tensor_lr_is_the_float_it_holds(spec: str, target: Target, decay: str) -> None:
    left, right = parameters(spec, target), parameters(spec, target)
    lr = torch.tensor(0.01, dtype=torch.float64)
    one = create(spec, left, target, lr=lr, weight_decay=0.1, decay=decay)
    other = create(spec, right, target, lr=0.01, weight_decay=0.1, decay=decay)
    advance(one, 3)
    advance(other, 3)
    lr.fill_(0.003)
    other.param_groups[0]["lr"] = 0.003
    advance(one, 3, start=3)
    advance(other, 3, start=3)
    assert_same_bits(left, right)
    assert one.param_groups[0]["lr"] is lr and lr.item() == 0.003


@pytest.mark.of_each_kind
def test_a_float32_lr_tensor_is_taken_as_it_is(spec: str, target: Target) -> None:
    """torch.tensor(0.1) is 0.10000000149: that number is the learning rate, and it is not written to."""
    left, right = parameters(spec, target), parameters(spec, target)
    lr = torch.tensor([0.1])
    one, other = create(spec, left, target, lr=lr), create(spec, right, target, lr=lr.item())
    advance(one, 4)
    advance(other, 4)
    assert_same_bits(left, right)
    assert lr.tolist() == [torch.tensor(0.1).item()]


def test_gradients_are_not_modified(spec: str, target: Target) -> None:
    params = parameters(spec, target)
    optimizer = create(spec, params, target, weight_decay=0.1, maximize=True)
    for step in range(3):
        set_gradients(params, step)
        held, before = [p.grad for p in params], copies(p.grad for p in params)
        optimizer.step()
        assert all(p.grad is g for p, g in zip(params, held, strict=True))
        assert_same_bits(held, before)


def test_a_late_first_gradient_gets_its_own_step(separable: str, any_target: Target) -> None:
    """A parameter whose first gradient comes at step 4 moves as if training had begun there."""
    params = parameters(separable, any_target)
    late, alone = params[1], Parameter(params[1].detach().clone())
    optimizer, single = create(separable, params, any_target, lr=0.01), create(separable, [alone], any_target, lr=0.01)
    for step in range(9):
        set_gradients(params, step)
        alone.grad = late.grad
        if step < 4:
            late.grad = None
            before = late.detach().clone()
        else:
            single.step()
        optimizer.step()
        if step < 4:
            assert torch.equal(late, before)
            assert late not in optimizer.state
    assert_same_steps(separable, [late], [alone])
    assert [optimizer.state[p]["step"].item() for p in params[:2]] == [9.0, 5.0]
    assert optimizer.state[late].keys() == single.state[alone].keys()
    if ravine.lookup(separable).view != "matrix":
        assert_same_everywhere(dict(optimizer.state[late]), dict(single.state[alone]))


@pytest.mark.of_each_kind
def test_parameters_without_a_gradient_rest(spec: str, target: Target) -> None:
    params = parameters(spec, target)
    optimizer = create(spec, params, target, lr=0.1, weight_decay=0.5)
    advance(optimizer, 3)
    before = snapshot(optimizer)
    optimizer.zero_grad()
    optimizer.step()
    assert_same_everywhere(snapshot(optimizer), before)


@pytest.mark.of_each_kind
def test_freezing_and_unfreezing_a_layer(spec: str, target: Target) -> None:
    """requires_grad off and on: the layer keeps its states and its own count while it rests."""
    shapes = shapes_of(spec)
    layers = [Parameter(random(s, 20 + i, device=target.device)) for i, s in enumerate(shapes[:2])]
    alone = Parameter(layers[0].detach().clone())
    optimizer, single = create(spec, layers, target, lr=0.01), create(spec, [alone], target, lr=0.01)
    for resting in (False, True, False):
        layers[0].requires_grad_(not resting)
        before = copies(layers)
        for step in range(QUIET):
            optimizer.zero_grad()
            sum((p * random(p.shape, 50 + step, device=target.device)).sum() for p in layers).backward()
            optimizer.step()
            alone.grad = layers[0].grad
            single.step()
            assert torch.equal(layers[0], before[0]) or not resting
            if spec in SEPARABLE:
                assert_same_steps(spec, [layers[0]], [alone])
        assert torch.equal(layers[0], before[0]) == resting
        assert not torch.equal(layers[1], before[1])
    assert [optimizer.state[p]["step"].item() for p in layers] == [2 * QUIET, 3 * QUIET]


@pytest.mark.of_each_kind
def test_no_gradients_at_all_is_no_step(spec: str, any_target: Target) -> None:
    params = parameters(spec, any_target)
    optimizer = create(spec, params, any_target)
    before = copies(params)
    optimizer.step()
    assert_same_bits(params, before)
    assert len(optimizer.state) == 0


@pytest.mark.varied(decay=(["lr", "l2"], ["lr", "schedule", "lr_squared", "l2"]))
def test_lr_zero_with_zero_gradients_moves_nothing(spec: str, target: Target, decay: str) -> None:
    """`torch.distributed.checkpoint` makes states in this way; 0/0 must not arise."""
    params = parameters(spec, target)
    optimizer = create(spec, params, target, lr=0.0, weight_decay=0.1, decay=decay)
    before = copies(params)
    for _ in range(7):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert_same_bits(params, before)
    for p in params:
        for name, value in optimizer.state[p].items():
            assert math.isfinite(float(torch.as_tensor(value).double().sum())), name


@pytest.mark.of_each_kind
def test_a_closure_is_called_once_with_gradients_enabled(spec: str, target: Target) -> None:
    left, right = parameters(spec, target), parameters(spec, target)
    one, other = create(spec, left, target, lr=0.01), create(spec, right, target, lr=0.01)
    goals = [torch.zeros_like(p) for p in left]
    calls = []

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        one.zero_grad()
        loss = distance(left, goals)
        loss.backward()
        calls.append(loss.item())
        return loss

    for step in range(3):
        with torch.no_grad():
            returned = one.step(closure)
        other.zero_grad()
        loss = distance(right, goals)
        loss.backward()
        assert other.step() is None
        assert len(calls) == step + 1
        assert returned.item() == loss.item()
    assert_same_bits(left, right)


@pytest.mark.of_each_kind
def test_nan_and_infinity_stay_in_their_parameter(separable: str, target: Target) -> None:
    """They pass through the formulas as IEEE arithmetic has it: no error, and no other parameter is touched."""
    params, clean = parameters(separable, target), parameters(separable, target)
    one, other = create(separable, params, target, lr=0.01), create(separable, clean, target, lr=0.01)
    for step in range(3):
        set_gradients(params, step)
        set_gradients(clean, step)
        with torch.no_grad():
            params[0].grad.view(-1)[1] = (math.nan, math.inf, -math.inf)[step]
        one.step()
        other.step()
    assert_same_bits(params[1:], clean[1:])


def test_what_is_separable_and_elementwise() -> None:
    """The helpers find out what each rule is; these are known."""
    assert {"sgd", "adamw", "lion", "lookahead(adamw)"} <= set(ELEMENTWISE)
    assert set(ELEMENTWISE) < set(SEPARABLE) < set(SPECS)
    assert {"lamb", "cautious(adamw)"} <= set(SEPARABLE) - set(ELEMENTWISE)
    assert "clip_norm(lamb)" not in SEPARABLE


def test_compiled_engines_run_what_needs_no_whole_matrices() -> None:
    """So no optimizer falls out of these tests because an engine refuses it."""
    for spec in SPECS:
        rule = ravine.lookup(spec)
        if rule.view is None and not any(s.kind in ("left", "right") for s in rule.state.values()):
            assert engines_for(spec) == [name for name in ravine.engine.NAMES if name != "auto"], spec


def test_nan_stays_in_its_element(elementwise: str, any_target: Target) -> None:
    params, clean = parameters(elementwise, any_target), parameters(elementwise, any_target)
    one, other = create(elementwise, params, any_target, lr=0.01), create(elementwise, clean, any_target, lr=0.01)
    for step in range(3):
        set_gradients(params, step)
        set_gradients(clean, step)
        with torch.no_grad():
            params[0].grad.view(-1)[1] = math.nan
        one.step()
        other.step()
    with torch.no_grad():
        assert params[0].view(-1)[1].isnan()
        params[0].view(-1)[1] = clean[0].view(-1)[1]
    assert_same_bits(params, clean)


@pytest.mark.of_each_kind
@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad], ids=["no_grad", "enable_grad"])
def test_steps_build_no_graph(spec: str, target: Target, context: type) -> None:
    params = parameters(spec, target)
    optimizer = create(spec, params, target)
    with context():
        advance(optimizer, 2)
        assert torch.is_grad_enabled() == (context is torch.enable_grad)
    for p in params:
        assert p.is_leaf and p.requires_grad and p.grad_fn is None
        assert not any(v.requires_grad for v in optimizer.state[p].values() if isinstance(v, Tensor))


@pytest.mark.of_each_kind
def test_many_parameters_step_as_each_would_alone(separable: str, target: Target) -> None:
    together, apart = parameters(separable, target), parameters(separable, target)
    one = create(separable, together, target, lr=0.01)
    many = [create(separable, [p], target, lr=0.01) for p in apart]
    for step in range(6):
        set_gradients(together, step)
        set_gradients(apart, step)
        one.step()
        for optimizer in many:
            optimizer.step()
    assert_same_steps(separable, together, apart)
