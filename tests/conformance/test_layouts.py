"""How tensors lie in memory, and how large they are: none of it changes the step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

import ravine
from conformance.support import (
    ELEMENTWISE,
    QUIET,
    Target,
    advance,
    assert_same_bits,
    assert_same_everywhere,
    assert_same_steps,
    bits,
    copies,
    create,
    is_blind_to_shape,
    parameters,
    random,
    set_gradients,
    snapshot,
)


def in_place(x: Tensor, view: Tensor) -> Tensor:
    """`view` with the values of `x`."""
    with torch.no_grad():
        return view.copy_(x)


def spread(x: Tensor, make: Callable[..., Tensor]) -> Tensor:
    """A larger tensor from which `make` cuts one of x's shape."""
    return make(*(2 * n for n in x.shape), dtype=x.dtype, device=x.device)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every other row": lambda x: in_place(
        x, torch.full((2 * len(x), *x.shape[1:]), 7.0, dtype=x.dtype, device=x.device)[::2]
    ),
    "a corner": lambda x: in_place(x, spread(x, torch.zeros)[tuple(slice(n) for n in x.shape)]),
    "a column block": lambda x: in_place(
        x, torch.ones(*x.shape[:-1], 9, dtype=x.dtype, device=x.device)[..., 1 : 1 + x.shape[-1]]
    ),
    "at an odd address": lambda x: in_place(
        x, torch.ones(x.numel() + 1, dtype=x.dtype, device=x.device)[1:].view(x.shape)
    ),
    "permuted": lambda x: x.permute(*reversed(range(x.ndim))).contiguous().permute(*reversed(range(x.ndim))),
}
SHAPE = (6, 5)


@pytest.mark.varied(layout=(["transposed"], LAYOUTS), of=(["both"], ["parameter", "gradient", "both"]))
def test_non_contiguous_tensors_step_like_contiguous_ones(spec: str, target: Target, layout: str, of: str) -> None:
    change, start = LAYOUTS[layout], random(SHAPE, 1, device=target.device)
    plain, other = Parameter(start.clone()), Parameter(change(start) if of != "gradient" else start.clone())
    beside = [Parameter(random(SHAPE, 9, device=target.device)) for _ in range(2)]
    one, two = create(spec, [plain, beside[0]], target, lr=0.01), create(spec, [other, beside[1]], target, lr=0.01)
    strides, address = other.stride(), other.data_ptr()
    for step in range(6):
        plain.grad = random(SHAPE, 30 + step, device=target.device)
        other.grad = change(plain.grad) if of != "parameter" else plain.grad.clone()
        for p in beside:
            p.grad = random(SHAPE, 60 + step, device=target.device)
        one.step()
        two.step()
    assert (other.stride(), other.data_ptr()) == (strides, address)
    if spec in ELEMENTWISE:
        assert_same_bits([other], [plain])
    else:  # sums over another order of elements
        torch.testing.assert_close(other, plain, rtol=1e-6, atol=1e-7)


@pytest.mark.of_each_kind
def test_what_lies_around_a_slice_is_left_alone(spec: str, any_target: Target) -> None:
    whole = torch.full((12, 10), 3.0, device=any_target.device)
    p = Parameter(whole[2:8, 1:6])
    optimizer = create(spec, [p], any_target, lr=0.1)
    advance(optimizer, 6)
    inside = torch.zeros_like(whole, dtype=torch.bool)
    inside[2:8, 1:6] = True
    assert (whole[~inside] == 3.0).all()
    assert (whole[inside] != 3.0).any()


@pytest.mark.of_each_kind
def test_channels_last_models_step_like_contiguous_ones(separable: str, target: Target) -> None:
    start = random((4, 3, 2, 5), 1, device=target.device)
    plain, last = Parameter(start.clone()), Parameter(start.to(memory_format=torch.channels_last))
    one, two = create(separable, [plain], target, lr=0.01), create(separable, [last], target, lr=0.01)
    for step in range(6):
        plain.grad = random(start.shape, 30 + step, device=target.device)
        last.grad = plain.grad.to(memory_format=torch.channels_last)
        one.step()
        two.step()
    assert last.is_contiguous(memory_format=torch.channels_last)
    for name, value in two.state[last].items():
        if isinstance(value, Tensor) and value.shape == last.shape:
            by_rows = value.is_contiguous() and not is_blind_to_shape(separable)
            assert value.stride() == last.stride() or by_rows, name
    torch.testing.assert_close(last, plain, rtol=1e-6, atol=1e-7)


@pytest.mark.of_each_kind
def test_changing_the_memory_format_on_the_way(separable: str, target: Target) -> None:
    """`model.to(memory_format=...)` after some steps: parameters move to new memory, states follow."""
    start = random((4, 3, 2, 5), 1, device=target.device)
    plain, moved = Parameter(start.clone()), Parameter(start.clone())
    one, two = create(separable, [plain], target, lr=0.01), create(separable, [moved], target, lr=0.01)
    for step in range(9):
        if step == 4:
            moved.data = moved.data.to(memory_format=torch.channels_last)
        if step == 7:
            moved.data = moved.data.contiguous()
        for p in (plain, moved):
            p.grad = random(start.shape, 30 + step, device=target.device)
        one.step()
        two.step()
    torch.testing.assert_close(moved, plain, rtol=1e-6, atol=1e-7)


@pytest.mark.of_each_kind
def test_transposing_a_square_parameter_in_place(separable: str, target: Target) -> None:
    """The same memory seen in another order: the gradient's order tells, and states follow their elements."""
    start = random((4, 4), 1, device=target.device)
    plain, turned = Parameter(start.clone()), Parameter(start.clone())
    one, two = create(separable, [plain], target, lr=0.01), create(separable, [turned], target, lr=0.01)
    for step in range(6):
        if step == 3:
            with torch.no_grad():
                values = turned.t().contiguous()
                turned.copy_(values)
            turned.data = turned.data.t()
            assert torch.equal(turned, plain)
        for p in (plain, turned):
            p.grad = torch.empty_like(p).copy_(random(start.shape, 30 + step, device=target.device))
        one.step()
        two.step()
    torch.testing.assert_close(turned, plain, rtol=1e-6, atol=1e-7)


@pytest.mark.of_each_kind
def test_new_memory_between_steps(spec: str, any_target: Target) -> None:
    """`p.data = ...`, `model.to(...)` and friends replace a parameter's memory; states may be replaced as well."""
    left, right = parameters(spec, any_target), parameters(spec, any_target)
    one, two = create(spec, left, any_target, lr=0.01), create(spec, right, any_target, lr=0.01)
    for step in range(8):
        if step in (3, 4):
            for p in right:
                p.data = p.data.clone()
        if step == 6:
            for p in right:
                two.state[p] = {k: v.clone() if isinstance(v, Tensor) else v for k, v in two.state[p].items()}
        set_gradients(left, step)
        set_gradients(right, step)
        one.step()
        two.step()
    assert_same_bits(left, right)


@pytest.mark.of_each_kind
def test_parameters_that_are_views_of_one_buffer(spec: str, target: Target) -> None:
    """Flattened models: every parameter is a slice of one long vector, and so is every gradient."""
    apart = parameters(spec, target)
    sizes = [p.numel() for p in apart]
    buffer = torch.cat([p.detach().reshape(-1) for p in apart])
    together = [Parameter(x.view(p.shape)) for x, p in zip(buffer.split(sizes), apart, strict=True)]
    one, two = create(spec, apart, target, lr=0.01), create(spec, together, target, lr=0.01)
    for step in range(6):
        set_gradients(apart, step)
        flat = torch.cat([p.grad.reshape(-1) for p in apart])
        for p, g in zip(together, flat.split(sizes), strict=True):
            p.grad = g.view(p.shape)
        one.step()
        two.step()
    assert_same_steps(spec, together, apart)
    assert bits(buffer) == b"".join(bits(p) for p in together)


@pytest.mark.of_each_kind
def test_expanded_gradients(spec: str, target: Target) -> None:
    """The gradient of `p.sum()` is one number, seen as a tensor of strides 0."""
    left, right = parameters(spec, target), parameters(spec, target)
    one, two = create(spec, left, target, lr=0.01), create(spec, right, target, lr=0.01)
    for _ in range(4):
        for p, q in zip(left, right, strict=True):
            p.grad = torch.tensor(0.25, device=p.device).expand(p.shape)
            q.grad = torch.full_like(q, 0.25)
        one.step()
        two.step()
    assert_same_steps(spec, left, right)


@pytest.mark.of_each_kind
def test_gradients_whose_order_changes_from_step_to_step(spec: str, target: Target) -> None:
    start = random((4, 3, 2, 5), 1, device=target.device)
    plain, other = Parameter(start.clone()), Parameter(start.clone())
    one, two = create(spec, [plain], target, lr=0.01), create(spec, [other], target, lr=0.01)
    orders = [torch.contiguous_format, torch.channels_last, torch.contiguous_format, torch.channels_last]
    for step, order in enumerate(orders):
        plain.grad = random(start.shape, 30 + step, device=target.device)
        other.grad = plain.grad.contiguous(memory_format=order)
        one.step()
        two.step()
    assert_same_steps(spec, [other], [plain])


def test_empty_parameters_step_without_harm(spec: str, any_target: Target) -> None:
    shapes = [(0, 3), (4, 0)] if ravine.lookup(spec).view == "matrix" else [(0,), (0, 3), (4, 0)]
    device = any_target.device
    full, alone = Parameter(random((3, 4), 1, device=device)), Parameter(random((3, 4), 1, device=device))
    empty = [Parameter(torch.empty(s, device=device)) for s in shapes]
    optimizer, single = create(spec, [*empty, full], any_target), create(spec, [alone], any_target)
    for step in range(6):
        full.grad = random((3, 4), 30 + step, device=device)
        alone.grad = full.grad
        for p in empty:
            p.grad = torch.empty_like(p)
        optimizer.step()
        single.step()
    assert_same_steps(spec, [full], [alone])
    assert [optimizer.state[p]["step"].item() for p in empty] == [6.0] * len(empty)
    assert [p.shape for p in empty] == [torch.Size(s) for s in shapes]


@pytest.mark.varied(shape=([(), (1, 1)], [(), (1,), (1, 1), (1, 1, 1, 1)]))
def test_one_element(elementwise: str, target: Target, shape: tuple[int, ...]) -> None:
    p, q = (
        Parameter(torch.full(shape, 2.0, device=target.device)),
        Parameter(torch.full((1,), 2.0, device=target.device)),
    )
    one, two = create(elementwise, [p], target, lr=0.1), create(elementwise, [q], target, lr=0.1)
    for step in range(6):
        q.grad = random((1,), 30 + step, device=target.device)
        p.grad = q.grad.view(shape)
        one.step()
        two.step()
    assert p.shape == shape
    assert_same_bits([p.view(1)], [q])


@pytest.mark.of_each_kind
def test_overlapping_parameters_are_refused(spec: str) -> None:
    """An expanded tensor has one element in several places: no update of it can be right."""
    p = torch.zeros(1, 4).expand(3, 4).requires_grad_()
    with pytest.raises(ValueError, match=r"more than one element .* the same memory"):
        create(spec, [p])


@pytest.mark.of_each_kind
def test_states_made_elsewhere_may_lie_in_any_order(spec: str, target: Target) -> None:
    left, right = (Parameter(random((4, 6), 3, device=target.device)) for _ in range(2))
    one, two = create(spec, [left], target, lr=0.01), create(spec, [right], target, lr=0.01)
    advance(one, 2)
    advance(two, 2)
    state = two.state[right]
    for name, value in state.items():
        if isinstance(value, Tensor) and value.shape == right.shape:
            state[name] = LAYOUTS["transposed"](value)
    advance(one, 3, start=2)
    advance(two, 3, start=2)
    assert_same_bits([left], [right])
    assert_same_everywhere(snapshot(one)["state"], snapshot(two)["state"])


@pytest.mark.of_each_kind
def test_a_failing_step_leaves_nothing_half_done(spec: str, target: Target) -> None:
    """A sparse gradient in the second group is noticed before the first has moved."""
    dense, table = Parameter(random((5, 3), 1)), Parameter(random((5, 3), 2))
    optimizer = create(spec, [{"params": [dense]}, {"params": [table]}], Target(target.engine), lr=0.01)
    advance(optimizer, QUIET)
    before = snapshot(optimizer)
    set_gradients([dense], QUIET)
    table.grad = random((5, 3), 3).to_sparse()
    with pytest.raises(RuntimeError, match="sparse gradients"):
        optimizer.step()
    assert_same_everywhere(snapshot(optimizer), before)
    with torch.no_grad():
        held = copies([dense, table])
    table.grad = None
    optimizer.step()
    assert not torch.equal(dense, held[0]) and torch.equal(table, held[1])


@pytest.mark.of_each_kind
@pytest.mark.parametrize("change", [lambda x: x[:3], lambda x: torch.cat([x, x]), lambda x: x.reshape(2, 12)])
def test_a_parameter_that_changes_its_shape_is_refused(
    spec: str, target: Target, change: Callable[[Tensor], Tensor]
) -> None:
    """States of the old shape cannot be used, and a compiled step must not read past their ends."""
    p = Parameter(random((6, 4), 1, device=target.device))
    optimizer = create(spec, [p], target, **({"momentum": 0.9} if "momentum" in ravine.lookup(spec).defaults else {}))
    advance(optimizer, 2)
    p.grad = None
    p.data = change(p.data)
    set_gradients([p], 2)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=r"has the state .* of shape \(.*\); where its shape has changed"):
        optimizer.step()
    assert_same_everywhere(snapshot(optimizer), before)
    del optimizer.state[p]
    optimizer.step()
    assert optimizer.state[p]["step"].item() == 1
