"""Wrapped rules on compiled engines: NumPy's bits where each element is on its own, host scalars in double."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.engines.arithmetic import Arithmetic, loaded, same_bits, stored
from tests.engines.test_bits import tensors
from torch.nn import Parameter

import ravine
from ravine.engine.predict import predict_bytes
from ravine.optim.settings import given_to_rule
from ravine.rule import lookup

ELEMENTWISE: list[tuple[str, dict[str, Any]]] = [
    ("schedule_free(sgd)", {"lr": 0.3}),
    ("schedule_free(adamw)", {}),
    ("schedule_free(adamw)", {"schedule_free.r": 0.5, "schedule_free.weight_lr_power": 1.5, "weight_decay": 0.0}),
    ("schedule_free(adam)", {"weight_decay": 0.1, "schedule_free.beta": 0.98}),
    ("schedule_free(rmsprop)", {"centered": True, "maximize": True}),
    ("rectified(adamw)", {}),
    ("rectified(schedule_free(adamw))", {}),
    ("lookahead(rectified(amsgrad))", {"lookahead.k": 3}),
    ("ema(adamw)", {"ema.beta": 0.9}),
    ("ema(lion)", {"weight_decay": 0.1}),
]
REDUCING: list[tuple[str, dict[str, Any]]] = [
    ("clipped_update(adamw)", {"clipped_update.d": 0.5}),
    ("schedule_free(clipped_update(adamw))", {"clipped_update.d": 0.5}),
    ("rectified(schedule_free(cautious(adamw)))", {}),
    ("ema(clip_norm(clipped_update(lamb)))", {}),
]
SIZES = [0, 1, 7, 4097]


def label(case: tuple[str, dict[str, Any]]) -> str:
    return f"{case[0]} {case[1] or ''}".strip()


class WithHostStates(Arithmetic):
    """The arithmetic reference for rules whose `host` states are Python floats."""

    def __init__(self, spec: str, parameters: list[torch.Tensor], **settings: Any) -> None:
        super().__init__(spec, parameters, **settings)
        for states in self.states:
            for symbol in states:
                if self.rule.state[symbol].kind == "host":
                    states[symbol] = float(self.rule.state[symbol].init)

    def step(self, gradients: list[torch.Tensor]) -> None:
        """One step of every parameter; for rules without totals."""
        self.t += 1
        hyper = given_to_rule(self.rule, self.group)
        for i, gradient in enumerate(gradients):
            states = [x if isinstance(x, float) else loaded(x) for x in self.states[i].values()]
            p, *new = self.rule(loaded(self.parameters[i]), loaded(gradient), *states, t=self.t, **hyper)
            like = self.parameters[i]
            self.parameters[i] = stored(p, like)
            self.states[i] = {
                s: x if isinstance(x, float) else stored(x, like) for s, x in zip(self.states[i], new, strict=True)
            }


def compare(case: tuple[str, dict[str, Any]], dtype: torch.dtype, engine: str, steps: int) -> None:
    spec, options = case
    start = tensors(SIZES, dtype, 1)
    parameters = [Parameter(x.clone()) for x in start]
    optimizer = ravine.create(spec, parameters, engine=engine, **options)
    expected = WithHostStates(spec, start, **options)
    lr = optimizer.param_groups[0]["lr"]
    for step in range(steps):
        now = lr * min(1.0, (step + 1) / 10)
        optimizer.param_groups[0]["lr"] = expected.group["lr"] = now
        gradients = tensors(SIZES, dtype, 100 + step)
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g.clone()
        optimizer.step()
        expected.step(gradients)
    for p, q, states in zip(parameters, expected.parameters, expected.states, strict=True):
        assert same_bits(p, q), f"{(p != q).sum()} of {p.numel()} elements differ"
        for symbol, theirs in states.items():
            ours = optimizer.state[p][lookup(spec).state[symbol].name]
            assert ours == theirs if isinstance(theirs, float) else same_bits(ours, theirs), symbol


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", ELEMENTWISE, ids=label)
def test_native_gives_the_bits_of_numpy(case: tuple[str, dict[str, Any]], dtype: torch.dtype) -> None:
    """With zeros of both signs, denormals, infinities and NaN, over 20 steps with warm-up."""
    compare(case, dtype, "native", steps=20)


@pytest.mark.parametrize("case", [ELEMENTWISE[1], ELEMENTWISE[6], ELEMENTWISE[8]], ids=label)
def test_triton_gives_the_bits_of_numpy(case: tuple[str, dict[str, Any]]) -> None:
    compare(case, torch.float32, "triton", steps=6 if case[0].startswith("rectified") else 2)


@pytest.mark.parametrize("case", REDUCING, ids=label)
def test_native_agrees_with_reference_on_reductions(case: tuple[str, dict[str, Any]]) -> None:
    spec, options = case
    ends = []
    for engine in ("reference", "native"):
        parameters = [Parameter(x) for x in tensors(SIZES, torch.float64, 1, special=False)]
        optimizer = ravine.create(spec, parameters, engine=engine, lr=0.05, **options)
        for step in range(8):
            for p, g in zip(parameters, tensors(SIZES, torch.float64, 9 + step, special=False), strict=True):
                p.grad = g
            optimizer.step()
        ends.append([p.detach() for p in parameters])
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("spec", "floor"),
    [
        ("schedule_free(adamw)", 28), ("schedule_free(sgd)", 20), ("rectified(schedule_free(adamw))", 28),
        ("rectified(adamw)", 28), ("ema(adamw)", 36), ("clipped_update(adamw)", 36),
    ],
)  # fmt: skip
def test_the_bytes_they_move_are_the_least(spec: str, floor: int) -> None:
    """float32: p and each state read and written, g read; a clipped update reads g, m, v and p a second time.

    The clipped update stores m and v in its first pass (g, m, v read, m, v written: 20), and reads m, v, p and writes p
    in its second (16).
    """
    assert predict_bytes(lookup(spec), {}, t=10) == floor
