"""Rules that are silent in their first steps: what is asked of every optimizer elsewhere, over enough steps to move."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import Parameter

from conformance.support import (
    Target,
    advance,
    assert_same_bits,
    assert_same_everywhere,
    copies,
    create,
    members,
    parameters,
    set_gradients,
    snapshot,
    targets,
)

SPECS = pytest.mark.parametrize(
    "spec", ["rectified(adamw)", "rectified(schedule_free(adamw))", "lookahead(rectified(adamw))"]
)
ENGINES = pytest.mark.parametrize("target", targets(), ids=str)
SILENT = 4


@SPECS
@ENGINES
def test_nothing_moves_at_first_and_everything_then(spec: str, target: Target) -> None:
    optimizer = create(spec, parameters(spec, target), target, lr=0.05, weight_decay=0.1)
    before = copies(members(optimizer))
    advance(optimizer, SILENT)
    assert_same_bits(members(optimizer), before)
    advance(optimizer, 1, start=SILENT)
    assert all(not torch.equal(p, q) for p, q in zip(members(optimizer), before, strict=True))


@SPECS
@ENGINES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("steps", [2, 4, 7])
def test_loading_and_continuing_is_continuing(spec: str, target: Target, dtype: torch.dtype, steps: int) -> None:
    """Saved in silence, at its end, and after it: to the bit."""
    optimizer = create(spec, parameters(spec, target, dtype), target, lr=0.05)
    advance(optimizer, steps)
    other = create(spec, [Parameter(p.detach().clone()) for p in members(optimizer)], target, lr=0.5)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(optimizer, 6, start=steps)
    advance(other, 6, start=steps)
    assert_same_everywhere(snapshot(other), snapshot(optimizer))


@SPECS
@ENGINES
def test_a_late_parameter_is_silent_by_its_own_steps(spec: str, target: Target) -> None:
    first, late = parameters(spec, target)[:2]
    optimizer = create(spec, [first, late], target, lr=0.05)
    start = late.detach().clone()
    for step in range(10):
        set_gradients([first, late], step)
        if step < 3:
            late.grad = None
        optimizer.step()
        assert torch.equal(late, start) == (step < 3 + SILENT)


@SPECS
@ENGINES
def test_settings_of_the_group_are_those_of_the_next_step(spec: str, target: Target) -> None:
    """The learning rate, and every form of weight decay, which is scaled by the factor too."""
    changes = [{}, {"lr": 0.1}, {"weight_decay": 0.0}, {"decay": "l2"}, {"decay": "schedule"}, {"betas": (0.5, 0.99)}]
    ends = []
    for change in changes:
        optimizer = create(spec, parameters(spec, target), target, lr=0.05, weight_decay=0.3)
        advance(optimizer, 6)
        group = optimizer.param_groups[0]
        group.update({k: v for k, v in change.items() if k != "betas"})
        if "betas" in change:
            group.update({"betas": (0.5, 0.99)} if "betas" in group else {"beta2": 0.99})
        advance(optimizer, 2, start=6)
        ends.append(copies(members(optimizer)))
    for i, one in enumerate(ends):
        for other in ends[:i]:
            assert any(not torch.equal(p, q) for p, q in zip(one, other, strict=True))
