"""One number through real steps of an optimizer: what the trace says is what the step does."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ravine
from ravine.explain.at_step import ElementStep, followed_steps
from ravine.explain.element import Element
from ravine.explain.vectors import Summary
from ravine.registry import available, lookup, wrappers

from .reading import evaluated
from .test_trace import CALLS

NAMES = [*available(), *(f"{wrapper}(adamw)" for wrapper in wrappers()), "lookahead(cautious(lamb))", "clip_norm(muon)"]
FORMS = [
    pytest.param(name, shape, id=f"{name}-{'x'.join(map(str, shape))}")
    for name in NAMES
    for shape in ((7,), (6, 5), (4, 3, 2))
    if len(shape) > 1 or not lookup(name).steps_matrices
]
LOOKS_AT_ALL = {"normuon", "shampoo", "soap"}
"""Rules with products of matrices or sums of whose order the engines' bits are; the others agree to the bit."""


@functools.cache
def stepped(name: str, shape: tuple[int, ...]) -> tuple[list[ElementStep], list[float], list[float]]:
    """Six steps as they are told, and the number after each and its gradient as they are."""
    generator = torch.Generator().manual_seed(0)
    weight, other = (nn.Parameter(torch.randn(s, generator=generator)) for s in (shape, (5, 3)))
    optimizer = ravine.create(name, [weight, other], **({"lookahead.k": 2} if "lookahead" in name else {}))
    element = tuple(min(n - 1, 2) for n in shape)
    after, gradients = [], []
    with followed_steps(optimizer, weight, element) as steps:
        for _ in range(6):
            weight.grad, other.grad = (torch.randn(p.shape, generator=generator) for p in (weight, other))
            gradients.append(weight.grad[element].item())
            optimizer.step()
            after.append(weight[element].item())
    return steps, after, gradients


@pytest.mark.parametrize(("name", "shape"), FORMS)
def test_it_is_what_the_optimizer_does(name: str, shape: tuple[int, ...]) -> None:
    steps, after, gradients = stepped(name, shape)
    assert [step.gradient for step in steps] == gradients
    assert [step.t for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.after for step in steps] == after
    told = [step.computed for step in steps]
    if lookup(name).innermost.name in LOOKS_AT_ALL:
        np.testing.assert_allclose(told, after, rtol=1e-6)
    else:
        assert told == after
    assert [step.before for step in steps[1:]] == after[:-1]
    assert len({step.after for step in steps}) > 1


@pytest.mark.parametrize(("name", "shape"), FORMS)
def test_the_numbers_in_a_line_give_its_value(name: str, shape: tuple[int, ...]) -> None:
    """Each formula with the numbers of one element, and what sums over all gave, in place."""
    computed = 0
    for step in stepped(name, shape)[0]:
        for line in step.lines:
            whole = line.remark.startswith("of all")
            if whole or isinstance(line.value, Summary) or any(line.substituted.startswith(call) for call in CALLS):
                continue
            # In float32, what is near zero is the difference of numbers near one.
            assert evaluated(line.filled) == pytest.approx(line.value, rel=2e-5, abs=1e-6, nan_ok=True), (
                line.substituted
            )
            computed += 1
    assert computed >= 6


@pytest.mark.parametrize(("name", "shape"), FORMS)
def test_the_last_line_of_the_parameter_is_where_it_goes(name: str, shape: tuple[int, ...]) -> None:
    for step in stepped(name, shape)[0]:
        told = [line.value for line in step.lines if line.symbol == "p"]
        assert step.computed == (told[-1] if told else step.before)


def one(*values: Any, **settings: Any) -> tuple[nn.Parameter, Any]:
    weight = nn.Parameter(torch.tensor(values))
    weight.grad = torch.ones_like(weight)
    return weight, ravine.create(params=[weight], **settings)


def test_sums_over_all_parameters_are_those_of_the_step() -> None:
    """The norm that gradients are clipped by is that of all of them, not of the one that is followed."""
    weight, other = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
    weight.grad, other.grad = torch.full((2,), 3.0), torch.full((3,), 40.0)
    optimizer = ravine.create("clip_norm(sgd)", [weight, other], lr=1.0)
    with followed_steps(optimizer, weight, (0,)) as steps:
        optimizer.step()
    (line,) = (line for line in steps[0].lines if line.symbol == "g")
    norm = (2 * 9 + 3 * 1600) ** 0.5
    assert line.value == pytest.approx(3 / norm, rel=1e-5)
    assert "Σ(g²) = 4818, of all 2 numbers" in line.remark
    assert steps[0].over_all_parameters


def test_the_number_with_the_largest_gradient_is_the_default() -> None:
    weight = nn.Parameter(torch.zeros(2, 3))
    weight.grad = torch.tensor([[0.0, 1.0, 2.0], [-5.0, 4.0, 3.0]])
    optimizer = ravine.SGD([weight], lr=1.0)
    with followed_steps(optimizer, weight) as steps:
        optimizer.step()
        weight.grad = torch.ones(2, 3)
        optimizer.step()
    assert [step.element for step in steps] == [(1, 0), (1, 0)]


def test_a_parameter_cut_into_blocks_is_followed_in_its_block() -> None:
    generator = torch.Generator().manual_seed(1)
    fused = nn.Parameter(torch.randn(9, 4, generator=generator))
    optimizer = ravine.Optimizer([{"params": [fused], "split": 3}], "muon", lr=0.1)
    with followed_steps(optimizer, fused, (7, 2)) as steps:
        for _ in range(2):
            fused.grad = torch.randn(9, 4, generator=generator)
            optimizer.step()
            assert steps[-1].computed == pytest.approx(fused[7, 2].item(), rel=1e-6)
    assert "of all 3 × 4 numbers" in {line.remark for line in steps[0].lines}


def test_low_precision_is_computed_in_float32_and_stored_rounded() -> None:
    weight, optimizer = one(1.0, name="sgd", lr=0.001)
    weight.data = weight.data.to(torch.bfloat16)
    weight.grad = torch.ones(1, dtype=torch.bfloat16)
    with followed_steps(optimizer, weight, (0,)) as steps:
        optimizer.step()
    assert steps[0].computed == steps[0].after == weight.item() == 1.0
    assert steps[0].lines[-1].value == pytest.approx(0.999)


@pytest.mark.parametrize("decay", ["lr", "schedule", "lr_squared", "l2"])
def test_every_form_of_weight_decay(decay: Any) -> None:
    weight, optimizer = one(2.0, name="adamw", lr=0.5, weight_decay=0.1, decay=decay)
    with followed_steps(optimizer, weight, (0,)) as steps:
        optimizer.step()
    assert steps[0].computed == steps[0].after == weight.item()
    assert steps[0].settings["weight_decay"] == 0.1 and steps[0].decay == decay
    extra = [line.symbol for line in steps[0].lines if line.symbol in ("g", "weight_decay")]
    assert len(extra) == (0 if decay == "lr" else 1)


def test_a_learning_rate_in_a_tensor_is_a_number() -> None:
    weight, optimizer = one(2.0, name="sgd", lr=torch.tensor(0.5))
    with followed_steps(optimizer, weight, (0,)) as steps:
        optimizer.step()
    assert steps[0].settings["lr"] == 0.5 and steps[0].after == 1.5


def test_only_steps_with_a_gradient_are_told() -> None:
    weight, optimizer = one(2.0, name="sgd", lr=0.5)
    with followed_steps(optimizer, weight, (0,)) as steps:
        weight.grad = None
        optimizer.step()
        weight.grad = torch.ones(1)
        optimizer.step()
    optimizer.step()
    assert [step.t for step in steps] == [1]


def test_following_changes_nothing() -> None:
    def run(followed: bool) -> Tensor:
        torch.manual_seed(3)
        weight = nn.Parameter(torch.randn(6, 5))
        optimizer = ravine.create("clip_norm(normuon)", [weight])
        for _ in range(3):
            weight.grad = torch.randn(6, 5)
            if followed:
                with followed_steps(optimizer, weight, (0, 0)):
                    optimizer.step()
            else:
                optimizer.step()
        return weight.detach()

    assert torch.equal(run(True), run(False))


def test_an_element_of_what_is_not_of_the_parameters_shape() -> None:
    place = Element((4, 3), (2, 1))
    assert place.of(np.arange(12.0).reshape(4, 3)) == 7.0
    assert place.of(np.arange(4.0).reshape(4, 1)) == 2.0
    assert place.of(np.arange(3.0).reshape(1, 3)) == 1.0
    assert place.of(2.5) == 2.5
    assert place.of(np.eye(4)) == Summary((4, 4), 2.0)
