"""torch.optim.Muon and ravine.Muon understand each other's names and checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import Parameter

import ravine


def pair(shape: tuple[int, int] = (6, 8)) -> tuple[Parameter, Parameter]:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return Parameter(start.clone()), Parameter(start.clone())


def advance(optimizer: torch.optim.Optimizer, p: Parameter, first: int, steps: int) -> None:
    for k in range(first, first + steps):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 + k))
        optimizer.step()


SETTINGS: list[dict[str, Any]] = [
    {}, {"ns_steps": 3}, {"adjust_lr_fn": "match_rms_adamw"},
    {"ns_coefficients": (3.4445, -4.775, 2.0315), "eps": 1e-7},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_torchs_names_mean_the_same(settings: dict[str, Any]) -> None:
    """torch iterates in bfloat16, so the two part by some per cent of the way."""
    ours, theirs = pair()
    start = ours.detach().clone()
    advance(ravine.Muon([ours], lr=0.02, **settings), ours, 0, 5)
    advance(torch.optim.Muon([theirs], lr=0.02, **settings), theirs, 0, 5)
    assert (ours - theirs).norm() <= 0.05 * (theirs - start).norm()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_either_goes_on_from_the_others_checkpoint(settings: dict[str, Any]) -> None:
    ours, theirs = pair()
    optimizer, torchs = ravine.Muon([ours], lr=0.02, **settings), torch.optim.Muon([theirs], lr=0.02)
    start = ours.detach().clone()
    advance(optimizer, ours, 0, 3)
    theirs.data.copy_(ours.detach())
    torchs.load_state_dict(optimizer.state_dict())
    advance(torchs, theirs, 3, 3)
    back, other = ravine.Muon([ours], lr=0.5), ours
    back.load_state_dict(torchs.state_dict())
    other.data.copy_(theirs.detach())
    advance(back, other, 6, 3)
    straight, _ = pair()
    advance(ravine.Muon([straight], lr=0.02, **settings), straight, 0, 9)
    assert (other - straight).norm() <= 0.05 * (straight - start).norm()
    assert back.param_groups[0]["scale"] == settings.get("adjust_lr_fn", "original")


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"eps": 1e-6}, ValueError, "eps must be 1e-07, got 1e-06"),
        ({"ns_steps": 3, "steps": 3}, TypeError, "give either steps or torch's ns_steps, not both"),
        (
            {"ns_coefficients": (1.0, 2.0, 3.0)},
            ValueError,
            "coefficients must be one of 'jordan', 'polar_express', got",
        ),
        ({"ns_step": 3}, TypeError, "unexpected keyword argument 'ns_step'"),
    ],
)
def test_what_torchs_names_cannot_say_is_refused(settings: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ravine.Muon([pair()[0]], **settings)


def test_a_rule_that_counts_steps_needs_them_in_a_checkpoint() -> None:
    p, _ = pair()
    optimizer = ravine.NAdam([p])
    advance(optimizer, p, 0, 1)
    saved = optimizer.state_dict()
    del saved["state"][0]["step"]
    with pytest.raises(ValueError, match="has no 'step', which NAdam needs"):
        ravine.NAdam([p]).load_state_dict(saved)
