"""Parameters that hold several matrices, or one the other way round: each block steps as a parameter of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

import ravine

RULES = ["muon", "normuon", "soap", "shampoo", "centralized(muon)", "ema(normuon)"]
STEPS = 3
Cut = Callable[[Tensor], list[Tensor]]

WAYS: dict[str, tuple[dict[str, Any], tuple[int, ...], Cut]] = {
    "equal blocks": ({"split": 3}, (6, 8), lambda x: list(x.split(2))),
    "blocks of these sizes": ({"split": (4, 2)}, (6, 8), lambda x: list(x.split([4, 2]))),
    "a kernel's blocks": ({"split": 2}, (6, 2, 2, 2), lambda x: list(x.split(3))),
    "a stack": ({"split": "stack"}, (3, 4, 5), lambda x: list(x.unbind())),
    "turned": ({"transposed": True}, (8, 6), lambda x: [x.mT]),
    "turned and cut": ({"transposed": True, "split": (4, 2)}, (8, 6), lambda x: list(x.mT.split([4, 2]))),
    "a turned stack": ({"transposed": True, "split": "stack"}, (3, 4, 5), lambda x: list(x.mT.unbind())),
}


def random(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def advance(optimizer: ravine.Optimizer, p: Parameter, steps: range) -> None:
    for k in steps:
        p.grad = random(tuple(p.shape), 10 + k, p.dtype)
        optimizer.step()


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize("made", RULES)
@pytest.mark.parametrize("way", WAYS)
def test_a_block_steps_like_a_parameter_of_its_own(way: str, made: str, engine: str) -> None:
    settings, shape, cut = WAYS[way]
    whole = Parameter(random(shape, 1))
    alone = [Parameter(block.contiguous().clone()) for block in cut(whole.detach())]
    optimizer = ravine.create(made, [whole], engine=engine, lr=0.1, **settings)
    by_block = ravine.create(made, alone, engine=engine, lr=0.1)
    for k in range(STEPS):
        whole.grad = random(shape, 10 + k)
        for p, g in zip(alone, cut(whole.grad), strict=True):
            p.grad = g.contiguous()
        optimizer.step()
        by_block.step()
    for p, q in zip(cut(whole.detach()), alone, strict=True):
        torch.testing.assert_close(p, q.detach(), rtol=1e-12, atol=1e-13)
    assert not torch.equal(whole, random(shape, 1))


@pytest.mark.parametrize("made", ["normuon", "soap"])
@pytest.mark.parametrize("way", WAYS)
def test_a_cut_parameter_is_saved_and_goes_on(way: str, made: str) -> None:
    settings, shape, _ = WAYS[way]
    straight, resumed = Parameter(random(shape, 1)), Parameter(random(shape, 1))
    optimizer = ravine.create(made, [straight], **settings)
    advance(optimizer, straight, range(2 * STEPS))
    first = ravine.create(made, [resumed], **settings)
    advance(first, resumed, range(STEPS))
    second = ravine.create(made, [resumed])
    second.load_state_dict(first.state_dict())
    advance(second, resumed, range(STEPS, 2 * STEPS))
    assert torch.equal(straight, resumed)


def test_a_cut_can_change_between_steps() -> None:
    p = Parameter(random((6, 8), 1))
    optimizer = ravine.Muon([p], split=3)
    advance(optimizer, p, range(1))
    optimizer.param_groups[0]["split"] = None
    advance(optimizer, p, range(1, 2))
    expected = Parameter(random((6, 8), 1))
    first = ravine.Muon([expected], split=3)
    advance(first, expected, range(1))
    second = ravine.Muon([expected])
    second.load_state_dict({**first.state_dict(), "param_groups": second.state_dict()["param_groups"]})
    advance(second, expected, range(1, 2))
    torch.testing.assert_close(p, expected)


@pytest.mark.parametrize(
    ("settings", "shape", "said"),
    [
        ({"split": 4}, (6, 8), r"split=4 does not divide the 6 rows of a parameter of shape \(6, 8\)"),
        ({"split": (1, 2)}, (6, 8), r"split=\(1, 2\) does not divide the 6 rows"),
        ({"split": 0}, (6, 8), "split must be None, a number of equal blocks, .*, got 0"),
        ({"split": ()}, (6, 8), r"split must be None, .*, got \(\)"),
        ({"split": True}, (6, 8), "split must be None, .*, got True"),
        ({"split": "heads"}, (6, 8), "split must be None, .*, got 'heads'"),
        (
            {"split": "stack"},
            (6, 8),
            r"split='stack' needs a parameter of 3 dimensions or more, got the shape \(6, 8\)",
        ),
        (
            {"transposed": True},
            (6, 2, 2),
            r"transposed=True needs a matrix, or split='stack', got the shape \(6, 2, 2\)",
        ),
    ],
)
def test_a_cut_that_cannot_be_is_refused(settings: dict[str, Any], shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ravine.Muon([{"params": [Parameter(torch.ones(shape))], **settings}])


def test_transposed_is_true_or_false() -> None:
    with pytest.raises(TypeError, match="transposed must be True or False, got 1"):
        ravine.Muon([Parameter(torch.ones(2, 2))], transposed=1)


def test_blocks_of_which_some_lack_a_state_are_refused() -> None:
    p = Parameter(torch.ones(6, 3))
    p.grad = torch.ones_like(p)
    optimizer = ravine.SOAP([p], split=(4, 2), max_precond_dim=3)
    with pytest.raises(
        ValueError, match=r"split cuts .* \(6, 3\) into blocks of which some have states that others lack"
    ):
        optimizer.step()


def test_only_matrix_rules_are_asked_for_blocks() -> None:
    assert {"split", "transposed"} <= set(ravine.Muon([Parameter(torch.ones(2, 2))]).param_groups[0])
    assert not {"split", "transposed"} & set(ravine.AdamW([Parameter(torch.ones(2))]).param_groups[0])
    with pytest.raises(TypeError, match="unexpected keyword argument 'split'"):
        ravine.AdamW([Parameter(torch.ones(2))], split=2)
