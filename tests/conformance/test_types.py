"""The types of tensors: what a step computes in, what it rounds to, and which types may meet in one group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

import ravine
from conformance.support import (
    ELEMENTWISE,
    Target,
    advance,
    assert_same_bits,
    assert_same_everywhere,
    assert_same_steps,
    copies,
    create,
    parameters,
    random,
    set_gradients,
    set_inputs,
    shapes_of,
    snapshot,
)

TYPES = [torch.float32, torch.bfloat16, torch.float64, torch.float16]


@pytest.mark.varied(dtype=(TYPES[:2], TYPES))
def test_each_step_is_computed_wide_and_rounded_once(separable: str, target: Target, dtype: torch.dtype) -> None:
    """float32 work for float32, bfloat16 and float16, float64 for float64: the rule itself, in NumPy, says what to get.

    Compiled engines give those bits for elementwise rules. Elsewhere 4 ulps of the work type (1e-6 with sums) may
    tip a rounding to the parameter's type: one more ulp of that. Products of matrices add what is large to what is
    small, so there an ulp is that of the largest element.
    """
    work = np.float64 if dtype == torch.float64 else np.float32
    params = parameters(separable, target, dtype)
    optimizer = create(separable, params, target, lr=0.01, weight_decay=0.1, decay="lr")
    rule = ravine.lookup(separable)
    exact = separable in ELEMENTWISE and target.engine != "reference"
    slack = 0.0 if exact else torch.finfo(dtype).eps + (4 * np.finfo(work).eps if separable in ELEMENTWISE else 1e-6)
    advance(optimizer, 2)
    for step in range(2, 6):
        set_gradients(params, step)
        set_inputs(optimizer, step)
        expected = []
        for p in params:
            shape = rule.seen_shape(tuple(p.shape))
            states = [optimizer.state[p][s.name] for s in held_by(rule, p)]
            given = [seen(x, shape if np.shape(x) == p.shape else np.shape(x), work) for x in (p, p.grad, *states)]
            inputs = {name: seen(column[p], shape, work) for name, column in optimizer.inputs.items()}
            expected.append(rule(*given, t=step + 1, lr=0.01, weight_decay=0.1, **inputs))
        optimizer.step()
        for p, wanted in zip(params, expected, strict=True):
            now = [("full", p), *((s.kind, optimizer.state[p][s.name]) for s in held_by(rule, p))]
            for (kind, got), value in zip(now, wanted, strict=True):
                if kind == "host":
                    assert type(got) is float and got == value
                    continue
                assert got.dtype == (dtype if kind == "full" else torch.from_numpy(np.zeros(1, work)).dtype)
                rounded = torch.from_numpy(np.ascontiguousarray(value)).to(got.dtype).reshape(got.shape)
                if exact:
                    assert_same_bits([got.cpu()], [rounded])
                else:
                    size = rounded.abs().max().item() if rule.view == "matrix" else 1e-2
                    torch.testing.assert_close(got.cpu(), rounded, rtol=slack, atol=slack * size)


def held_by(rule: ravine.Rule, p: Tensor) -> list[ravine.State]:
    """The states of a parameter, in the rule's order."""
    absent = rule.absent_states(rule.defaults, rule.seen_shape(tuple(p.shape)))
    return [state for symbol, state in rule.state.items() if symbol not in absent]


def seen(x: Any, shape: tuple[int, ...], work: type) -> Any:
    """A tensor as the rule computes with it in NumPy; a host state is a float as it is."""
    return x.detach().cpu().double().numpy().astype(work).reshape(shape) if isinstance(x, Tensor) else x


@pytest.mark.of_each_kind
def test_types_may_be_mixed_in_one_group(separable: str, any_target: Target) -> None:
    shapes = shapes_of(separable)[:2]
    starts = [random(s, 10 * i + j, d, any_target.device) for i, d in enumerate(TYPES) for j, s in enumerate(shapes)]
    mixed, apart = [Parameter(x.clone()) for x in starts], [Parameter(x.clone()) for x in starts]
    one = create(separable, mixed, any_target, lr=0.01)
    many = [create(separable, [p], any_target, lr=0.01) for p in apart]
    for step in range(4):
        set_gradients(mixed, step)
        set_gradients(apart, step)
        one.step()
        for optimizer in many:
            optimizer.step()
    assert_same_steps(separable, mixed, apart)
    for p in mixed:
        full = [one.state[p][s.name] for s in held_by(ravine.lookup(separable), p) if s.kind == "full"]
        assert all(v.dtype == p.dtype for v in full)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_gradients_of_another_type(name: str, target: Target) -> None:
    """torch lets `p.grad_dtype` differ: bfloat16 weights with gradients summed in float32. It may change on the way."""
    starts = [random((5, 3), i, torch.bfloat16, target.device) for i in range(3)]
    params, exact = [Parameter(x.clone()) for x in starts], [Parameter(x.float()) for x in starts]
    one, two = create(name, params, target, lr=0.01), create(name, exact, target, lr=0.01)
    choices = [torch.float32, torch.bfloat16, torch.float64]
    for step in range(6):
        for i, (p, q) in enumerate(zip(params, exact, strict=True)):
            p.grad_dtype = None
            p.grad = random((5, 3), 30 * step + i, choices[(step // 2 + i) % 3 if step else 0], target.device)
            q.grad = p.grad.float()
        held = copies(p.grad for p in params)
        one.step()
        two.step()
        assert_same_bits([p.grad for p in params], held)
        with torch.no_grad():  # what one step of it rounds, the other rounds too; then both go on from the same numbers
            for p, q in zip(params, exact, strict=True):
                torch.testing.assert_close(p, q.to(p.dtype), rtol=2 * torch.finfo(torch.bfloat16).eps, atol=1e-4)
                q.copy_(p)
                for key, value in one.state[p].items():
                    two.state[q][key].copy_(value)


@pytest.mark.of_each_kind
@pytest.mark.parametrize("dtype", [torch.int64, torch.float8_e4m3fn], ids=str)
def test_other_types_rest_or_are_refused(spec: str, target: Target, dtype: torch.dtype) -> None:
    """Quantized weights are often handed over with all the others, frozen: only a gradient makes them an error."""
    params, codes = parameters(spec, target), torch.ones(4, 4, device=target.device).to(dtype)
    optimizer = create(spec, [*params, codes], target)
    advance_all_but(optimizer, codes, 2)
    before = snapshot(optimizer)
    set_gradients(params, 2)
    codes.grad = torch.ones(4, 4, device=target.device).to(dtype)
    with pytest.raises(TypeError, match=f"is of type {dtype}; .* steps float32, float64, bfloat16, float16"):
        optimizer.step()
    assert_same_everywhere(snapshot(optimizer), before)


def advance_all_but(optimizer: ravine.Optimizer, resting: Tensor, steps: int) -> None:
    for step in range(steps):
        set_gradients([p for group in optimizer.param_groups for p in group["params"] if p is not resting], step)
        optimizer.step()
