"""Arms as they are written, and what is wrong with some."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from ravine.bench.arms import STANDARD, parse
from ravine.bench.problems import elements_of, make_problem, shapes_of


def test_the_standard_arms_are_written_as_they_are_labelled() -> None:
    assert [arm.label for arm in parse(STANDARD)] == list(STANDARD)


def test_an_arm_written_twice_is_one() -> None:
    assert [arm.label for arm in parse(["adamw", "lion", " adamw", "lion:lr=1e-4"])] == [
        "adamw",
        "lion",
        "lion:lr=0.0001",
    ]


def test_settings_reach_the_optimizer() -> None:
    (arm,) = parse(["sgd:momentum=0.9, nesterov=True, lr=0.5"])
    (group,) = arm.build([Parameter(torch.zeros(2))], "reference").param_groups
    assert (group["momentum"], group["nesterov"], group["lr"]) == (0.9, True, 0.5)
    assert arm.label == "sgd:momentum=0.9,nesterov=true,lr=0.5"


@pytest.mark.parametrize(
    ("label", "period"),
    [("adamw", 1), ("lookahead(adamw)", 5), ("lookahead(lion):lookahead.k=7", 7), ("clip_norm(lookahead(adamw))", 5)],
)
def test_the_period_is_lookaheads(label: str, period: int) -> None:
    (arm,) = parse([label])
    assert arm.period == period


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("addamw", r"'addamw'; did you mean 'adamw'"),
        ("lookahed(adamw)", r"'lookahed'; did you mean 'lookahead'"),
        ("cautious(lookahead(adamw))", "cautious needs the rule's update"),
        ("adamw:wieght_decay=0.1", r"did you mean 'weight_decay'"),
        ("adamw:lr", "key=value, got 'lr'"),
        ("adamw:", "key=value, got ''"),
        ("adamw:lr=fast", "lr must be a number, got 'fast'"),
        ("adamw:lr=-1", r"lr must be in \[0, inf\), got -1"),
        ("sgd:nesterov=true", "nesterov=True needs momentum"),
        ("", "unknown optimizer ''"),
    ],
)
def test_a_wrong_arm_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises((KeyError, TypeError, ValueError), match=says):
        parse([text])


def test_the_shapes_are_those_they_are_called() -> None:
    gpt = shapes_of("gpt")
    assert len(gpt) == 98
    assert gpt[:2] == [(16000, 512), (512, 512)]
    assert gpt[2:14] == [
        (512,), (512,), (1536, 512), (1536,), (512, 512), (512,),
        (512,), (512,), (2048, 512), (2048,), (512, 2048), (512,),
    ]  # fmt: skip
    assert gpt[2:14] * 8 == gpt[2:]
    assert shapes_of("small") == [(256,)] * 1000
    for name in ("gpt", "small"):
        assert 0 < elements_of(name, quick=True) < elements_of(name) / 9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_everyone_is_given_parameters_of_their_own(dtype: torch.dtype) -> None:
    problem = make_problem("small", dtype, torch.device("cpu"), quick=True)
    one, other = problem.parameters(), problem.parameters()
    assert [p.shape for p in one] == shapes_of("small", quick=True)
    assert all(p.dtype == dtype and p.grad is not None and p.grad.dtype == dtype for p in one)
    addresses = {x.data_ptr() for p in (*one, *other) for x in (p, p.grad) if x is not None}
    assert len(addresses) == 4 * len(one)
    assert all(torch.equal(p, q) for p, q in zip(one, other, strict=True))
    assert not torch.equal(one[0], one[0].grad)
