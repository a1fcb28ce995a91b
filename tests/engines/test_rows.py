"""Compiled kernels that go row by row, and those that hand matrices to torch, against the reference engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.engines.arithmetic import same_bits
from torch.nn import Parameter

import ravine
from ravine.engine import native
from ravine.math import column_mean, maximum, mean, norm, row_mean, sqrt, sum, where
from ravine.rule import Rule, State, rule

SHAPES = [(5, 3), (7, 1), (1, 9), (2, 3, 4), (64, 300), (300, 7), (3, 2, 3, 3), (0, 4), (4, 0)]
VECTORS = [(7,), ()]
MATRICES = [(5, 3), (64, 300), (4, 4), (2, 3, 4), (33, 20), (33, 20)]


@rule(
    paper="made for this test: every reduction of every kind of value",
    state={"r": State("r", kind="row"), "c": State("c", kind="column", init=0.5), "v": "v"},
)
def everything(p, g, r, c, v, *, t, lr=0.1, beta=0.9, weight_decay=0.0):
    """Everything: rows, columns, what is one per matrix and one per parameter, each from the others."""
    r = beta * r + (1 - beta) * row_mean(g**2)
    c = maximum(c, column_mean(g * g))
    per_matrix = column_mean(r) + row_mean(c)
    share = sum(c) / (1 + norm(r)) + mean(g > 0) + mean(r)
    v = v + r * c / (per_matrix + 1e-8)
    u = where(g > row_mean(g), g, 0.5 * g) / (sqrt(v) + share + per_matrix)
    u = u / (1e-3 + row_mean(u**2) + column_mean(u) ** 2)
    p = p - lr * (u + weight_decay * p)
    return p, r, c, v


def run(
    made: Rule, engine: str, shapes: list[tuple[int, ...]], dtype: torch.dtype, steps: int = 3, **settings: Any
) -> tuple[list[Parameter], ravine.Optimizer]:
    generator = torch.Generator().manual_seed(3)

    def random(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    params = [Parameter(random(shape)) for shape in shapes]
    optimizer = ravine.Optimizer(params, made, engine=engine, **settings)
    for _ in range(steps):
        for p in params:
            p.grad = random(tuple(p.shape))
        optimizer.step()
    return params, optimizer


CASES = [
    (everything, SHAPES, {"weight_decay": 0.1}),
    (ravine.lookup("adafactor"), [*SHAPES, *VECTORS], {"beta1": 0.9, "weight_decay": 0.1}),
    (ravine.lookup("centralized(adamw)"), [*SHAPES, *VECTORS], {}),
    (ravine.lookup("clip_norm(adafactor)"), [*SHAPES, *VECTORS], {}),
    (ravine.lookup("clip_norm(prodigy)"), [*SHAPES, *VECTORS], {"d0": 0.1}),
    (ravine.lookup("muon"), MATRICES, {"scale": "match_rms_adamw"}),
    (ravine.lookup("clip_norm(normuon)"), MATRICES, {}),
    (ravine.lookup("cautious(soap)"), [(4, 4), (3, 3), (6, 6)], {"every": 2}),
    (ravine.lookup("lookahead(shampoo)"), [(4, 4), (3, 3), (2, 2, 2)], {"lookahead.k": 2}),
]


@pytest.mark.parametrize("engine", ["native", "triton"])
@pytest.mark.parametrize(("made", "shapes", "settings"), CASES, ids=lambda x: getattr(x, "name", None))
def test_the_reference_engine_says_the_same(made: Rule, shapes: Any, settings: Any, engine: str) -> None:
    expected, by_rule = run(made, "reference", shapes, torch.float64, **settings)
    found, compiled = run(made, engine, shapes, torch.float64, **settings)
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12, equal_nan=True)
        for name, value in by_rule.state[q].items():
            torch.testing.assert_close(compiled.state[p][name], value, rtol=1e-9, atol=1e-12, equal_nan=True)
    shared = {s.name for s in made.state.values() if s.kind == "shared"}
    assert {k: compiled.param_groups[0][k] for k in shared} == pytest.approx(
        {k: by_rule.param_groups[0][k] for k in shared}, rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("made", [everything, ravine.lookup("adafactor")], ids=lambda made: made.name)
def test_bits_do_not_depend_on_the_number_of_threads(made: Rule, dtype: torch.dtype) -> None:
    shapes = [(700, 300), (40, 5000), (5, 3), (20, 30, 40)]
    before = torch.get_num_threads()
    outcomes = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            outcomes.append(run(made, "native", shapes, dtype)[0])
    finally:
        torch.set_num_threads(before)
    for outcome in outcomes[1:]:
        assert all(same_bits(a, b) for a, b in zip(outcome, outcomes[0], strict=True))


@pytest.mark.parametrize("made", ["lamb", "adafactor", "lookahead(cautious(adamw))", "clip_norm(adafactor)"])
def test_bits_do_not_depend_on_how_many_tensors_run_together(made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(30, 40), (7, 9), (200, 30), (30, 40), (5, 5), (300, 200)]
    outcomes = []
    for together in (1, 1500, 10**9):
        monkeypatch.setattr(native, "BLOCK", together)
        outcomes.append(run(ravine.lookup(made), "native", shapes, torch.float32, steps=7)[0])
    for outcome in outcomes[1:]:
        assert all(same_bits(a, b) for a, b in zip(outcome, outcomes[0], strict=True))


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_totals_that_wait_for_different_others_are_refused(engine: str) -> None:
    """Prodigy inside clip_norm knows its sums only after the clipping; another Prodigy would not wait for it."""
    params = [Parameter(torch.ones(2)), Parameter(torch.ones(3))]
    groups = [{"params": params[:1], "rule": "clip_norm(prodigy)"}, {"params": params[1:], "rule": "prodigy"}]
    optimizer = ravine.Optimizer(groups, "prodigy", engine=engine)
    for p in params:
        p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="at different depths"):
        optimizer.step()


@pytest.mark.parametrize("made", ["adafactor", "centralized(adamw)", "muon"])
@pytest.mark.parametrize("engine", ["reference", "native"])
def test_parameters_in_another_order_of_memory_step_as_they_look(made: str, engine: str) -> None:
    start = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    turned = Parameter(start.t().clone(memory_format=torch.preserve_format))
    straight = Parameter(start.t().contiguous())
    assert turned.stride() != straight.stride()
    for p in (turned, straight):
        optimizer = ravine.Optimizer([p], made, engine=engine, lr=0.1)
        for k in range(3):
            p.grad = torch.randn(8, 6, generator=torch.Generator().manual_seed(10 + k))
            optimizer.step()
    assert turned.stride() == (1, 8)
    assert same_bits(turned, straight)
