"""Predicted bytes: the floors that each rule's mathematics allows, and what the engines then do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ravine.bench.arms import MATRIX_RULES, STANDARD, parse
from ravine.engine.batch import Batch, Unsupported, drive
from ravine.engine.emit import Program
from ravine.engine.native import Native
from ravine.engine.predict import predict_bytes
from ravine.math import ZERO, row_mean, total
from ravine.registry import lookup
from ravine.rule import State, rule

FLOORS = {
    "sgd": 12,
    "sgd:momentum=0.9": 20,
    "sgd:momentum=0.9,nesterov=true": 20,
    "momentum": 20,
    "lion": 20,
    "adagrad": 20,
    "rmsprop": 20,
    "rmsprop:momentum=0.9,centered=true": 36,
    "adam": 28,
    "adam:weight_decay=0.1": 28,
    "adamw": 28,
    "amsgrad": 36,
    "adamw:amsgrad=true": 36,
    "lamb": 40,
    "cautious(adamw)": 40,
    "cautious(adamw):cautious.rescale=false": 28,
    "cautious(lion)": 28,
    "clip_norm(adamw)": 32,
    "lookahead(adamw)": 29.6,
    "radam": 28,
    "nadamw": 28,
    "adopt": 28,
    "adan": 44,
    "ademamix": 36,
    "mars": 44,
    "stableadamw": 36,
    "schedule_free(adamw)": 28,
    "adafactor": 24,
    "adafactor_paper": 24,
    "prodigy": 40,
    "muon": 28,
    "normuon": 36,
}
"""Bytes a parameter in float32; for Lookahead the mean over its k steps, four of 28 and one of 36."""


@pytest.mark.parametrize("label", FLOORS)
def test_the_floors_are_reached(label: str) -> None:
    (arm,) = parse([label])
    assert arm.predicted_bytes(torch.float32) == FLOORS[label]


def test_every_standard_arm_has_a_floor() -> None:
    assert {*STANDARD, *MATRIX_RULES} <= set(FLOORS)


def test_the_mean_of_soap_is_over_its_period() -> None:
    """Of ten steps, one puts the second moments in the order of the refreshed bases."""
    (arm,) = parse(["soap"])
    found = [predict_bytes(lookup("soap"), {}, t) for t in range(101, 111)]
    assert arm.predicted_bytes(torch.float32) == pytest.approx(sum(found) / 10)
    assert len(set(found)) == 2


@pytest.mark.parametrize(("dtype", "times"), [(torch.float64, 2), (torch.bfloat16, 0.5), (torch.float16, 0.5)])
def test_one_pass_moves_bytes_in_proportion_to_the_type(dtype: torch.dtype, times: float) -> None:
    for name in ("sgd", "lion", "adamw", "amsgrad"):
        assert predict_bytes(lookup(name), {}, t=2, dtype=dtype) == times * FLOORS[name]


def test_only_the_steps_that_synchronize_cost_more() -> None:
    wrapped = lookup("lookahead(adamw)")
    assert [predict_bytes(wrapped, {"lookahead.k": 3}, t) for t in range(1, 7)] == [28, 28, 36, 28, 28, 36]


def test_weight_decay_costs_no_bytes_in_any_form() -> None:
    for hyper in ({"weight_decay": ZERO}, {"weight_decay": 0.1}, {"weight_decay": ZERO, "l2": 0.1}):
        assert predict_bytes(lookup("lion"), hyper, t=1) == 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "label", ["sgd", "adamw", "lamb", "cautious(adamw)", "clip_norm(lion)", "rmsprop:centered=true"]
)
def test_the_native_engine_moves_what_was_predicted(label: str, dtype: torch.dtype) -> None:
    planned = []

    class Watched(Native):
        def compile(self, program: Program) -> Any:
            planned.append(program.plan.bytes_per_element)
            return super().compile(program)

    (arm,) = parse([label])
    of = lookup(arm.optimizer)
    hyper = {**of.defaults, **arm.settings}
    p = torch.ones(64, 32, dtype=dtype)
    absent = of.absent_states(hyper, (64, 32))
    states = {symbol: [torch.zeros_like(p)] for symbol in of.state if symbol not in absent}
    drive([Watched().step([Batch(of, hyper, 3, [p], [torch.ones_like(p)], states)])])
    assert planned == [predict_bytes(of, arm.settings, t=3, dtype=dtype)]


def test_states_that_grow_slower_than_the_parameters_count_as_nothing() -> None:
    @rule(paper="none", state={"r": State("row_mean", kind="row")})
    def rows_only(p, g, r, *, t, lr=0.1):  # type: ignore[no-untyped-def]
        """Rows: an example."""
        return p - lr * g / r, r

    assert predict_bytes(rows_only, {}, t=1) == 12
    assert predict_bytes(lookup("adafactor"), {}, t=1, dtype=torch.bfloat16) == 12


def test_what_no_engine_can_compile_has_no_plan() -> None:
    @rule(paper="none")
    def all_rows(p, g, *, t, lr=0.1):  # type: ignore[no-untyped-def]
        """AllRows: an example."""
        return (p - lr * total(row_mean(g)) * g,)

    with pytest.raises(Unsupported, match="row"):
        predict_bytes(all_rows, {}, t=1)


def test_host_states_are_no_tensors() -> None:
    @rule(paper="none", state={"product": State("product", init="start", kind="host")})
    def counted(p, g, product, *, t, lr=0.1, start=1.0):  # type: ignore[no-untyped-def]
        """Counted: an example."""
        product = product * 0.5
        return p - lr * product * g, product

    assert predict_bytes(counted, {}, t=1) == 12


def test_an_unknown_hyperparameter_is_refused() -> None:
    with pytest.raises(TypeError, match=r"'wieght_decay'.*'weight_decay'"):
        predict_bytes(lookup("adamw"), {"wieght_decay": 0.1}, t=1)
