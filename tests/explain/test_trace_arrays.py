"""Traces of vectors and matrices: the rule's own lines on arrays, and every formula worth its value."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest

from ravine.explain.trace import Line, Trace, trace
from ravine.explain.vectors import Summary
from ravine.registry import available, lookup, wrappers
from ravine.rule import DECAYS, Rule

from .reading import evaluated, value_of
from .test_trace import CALLS, FLAGS, WRAPPED, last, takes_an_lr

VECTOR = ("(x - 1)**2 + 20*y**2 + x*z/4 + z**4", [2.0, -1.0, 0.5])
MATRIX = ("sum((x - 1)**2) + x[0,1]*x[1,2]", [[1.0, 2.0, 0.5], [3.0, -4.0, 0.25]])
FITTING = [f"{wrapper}({'sgd' if wrapper == 'momentum' else 'adamw'})" for wrapper in wrappers()]
NAMES = [*filter(takes_an_lr, available()), *FITTING, *WRAPPED, "clip_norm(muon)", "lookahead(soap)"]
PROBLEMS = {"vector": VECTOR, "matrix": MATRIX}
CASES = [
    *((name, {}) for name in NAMES),
    *FLAGS,
    ("adafactor", {"eps_form": "paper"}),
    ("shampoo", {"max_precond_dim": 2}),
]
FORMS = [
    pytest.param(name, hyper, form, id="-".join([name, *hyper, form]))
    for form in PROBLEMS
    for name, hyper in CASES
    if form == "matrix" or not lookup(name).steps_matrices
]  # fmt: skip


STEPS = 6  # rectified moves nothing in the first 4
READ_BACK = 3


@functools.cache
def traced(name: str, form: str, *hyper: tuple[str, Any]) -> Trace:
    return trace(name, *PROBLEMS[form], STEPS, **{"lr": 0.1, "weight_decay": 0.02, **dict(hyper)})


def by_hand(rule: Rule, made: Trace, given: dict[str, Any]) -> list[list[Any]]:
    """The same steps by calling the rule with arrays: θ and the states that exist after each."""
    assert made.loss is not None
    theta, states, after = made.steps[0].theta_before, list(made.start.values()), []
    for t in range(1, len(made.steps) + 1):
        inputs = {name: made.loss.curvature(theta) for name in rule.inputs if t % 10 == 1}
        theta, *states = rule(theta, made.loss.slope(theta), *states, t=t, **given, **inputs)
        after.append([theta, *states])
    return after


@pytest.mark.parametrize(("name", "hyper", "form"), FORMS)
def test_a_trace_of_arrays_is_the_rule(name: str, hyper: dict[str, Any], form: str) -> None:
    rule = lookup(name)
    made = traced(name, form, *hyper.items())
    l2 = {"weight_decay": 0.0, "l2": 0.02} if rule.decay == "l2" else {"weight_decay": 0.02}
    expected = by_hand(rule, made, {**hyper, "lr": 0.1, **l2})
    symbols = ["p", *(symbol.rsplit(".", 1)[-1] for symbol in made.start)]
    before = [made.steps[0].theta_before, *made.start.values()]
    for step, after in zip(made.steps, expected, strict=True):
        assert np.array_equal(step.theta_before, before[0]) and np.array_equal(step.theta_after, after[0])
        for symbol, old, new in zip(symbols, before, after, strict=True):
            told = [line.value for line in step.lines if line.symbol == symbol]
            assert np.array_equal(new, told[-1] if told else old), f"{symbol} has no line in step {step.t}, and changed"
        before = after
    assert not np.array_equal(made.steps[-1].theta_after, np.array(PROBLEMS[form][1]))


def is_of_helpers(line: Line) -> bool:
    return any(line.substituted.startswith(call) for call in CALLS)


@pytest.mark.parametrize(("name", "hyper", "form"), FORMS)
def test_the_arrays_in_a_line_give_its_value(name: str, hyper: dict[str, Any], form: str) -> None:
    """The formula with its arrays, to the last digits."""
    computed = 0
    for step in traced(name, form, *hyper.items()).steps:
        for line in step.lines:
            if not is_of_helpers(line):
                value = np.broadcast_to(evaluated(line.filled), np.shape(line.value))
                np.testing.assert_allclose(value, line.value, rtol=1e-9, atol=1e-13, err_msg=line.substituted)
                computed += 1
    assert computed >= 8


ROUNDED_AWAY = ("inverse_root", "/ (√v + ε)) @ Q_Rᵀ")  # what six digits do not determine: quotients of zeros


@pytest.mark.parametrize(("name", "hyper", "form"), FORMS)
def test_the_text_of_a_line_gives_its_value(name: str, hyper: dict[str, Any], form: str) -> None:
    """The formula as it is printed, computed again as it is written, to the six digits that it shows."""
    for step in traced(name, form, *hyper.items()).steps[:READ_BACK]:
        for line in step.lines:
            if not is_of_helpers(line) and not any(word in line.formula for word in ROUNDED_AWAY):
                value = np.broadcast_to(value_of(line.substituted), np.shape(line.value))
                np.testing.assert_allclose(value, line.value, rtol=2e-3, atol=1e-4, err_msg=line.substituted)


@pytest.mark.parametrize("decay", DECAYS)
def test_every_form_of_weight_decay_has_its_line(decay: Any) -> None:
    made = trace("adamw", *VECTOR, 1, lr=0.5, weight_decay=0.25, decay=decay)
    lines = [line for line in made.steps[0].lines if line.symbol in ("g", "weight_decay")]
    assert len(lines) == (1 if decay == "lr" else 2)


def test_the_elements_of_a_vector_go_their_own_ways() -> None:
    """An elementwise rule on a vector is the rule on each of its numbers."""
    made = trace("adamw", "(x-1)**2 + 20*y**2", [2.0, -1.0], 5, lr=0.1)
    parts = [trace("adamw", loss, x0, 5, lr=0.1) for loss, x0 in (("(x-1)**2", 2.0), ("20*x**2", -1.0))]
    for step, *single in zip(made.steps, *(part.steps for part in parts), strict=True):
        assert np.array_equal(step.theta_after, [each.theta_after for each in single])
        assert step.loss_after == pytest.approx(sum(each.loss_after or 0.0 for each in single))


def test_the_gradient_of_coordinates_is_written_out() -> None:
    (step,) = trace("sgd", "x**2 + 20*y**2", [2.0, -1.0], lr=0.01).steps
    gradient = last(step.lines, "g")
    assert (gradient.formula, gradient.substituted) == ("(2·x, 40·y)", "(2·2, 40·(−1))")
    assert np.array_equal(gradient.value, [4.0, -40.0])
    assert last(step.lines, "p").substituted == "(2, −1) − 0.01·((4, −40) + 0·(2, −1))"


def test_a_matrix_is_written_row_by_row() -> None:
    (step,) = trace("adagrad", "x[0,0]**2 + x[1,0]*x[0,1]", [[1.0, 2.0], [3.0, 4.0]], lr=0.5).steps
    gradient = last(step.lines, "g")
    assert (gradient.formula, gradient.substituted) == ("[2·x₀₀, x₁₀; x₀₁, 0]", "[2·1, 3; 2, 0]")
    assert last(step.lines, "v").substituted == "[0, 0; 0, 0] + [2, 3; 2, 0]²"


def test_without_a_loss_it_is_the_distance_to_one() -> None:
    assert trace("sgd").steps[0].loss_before == 1.0
    assert trace("sgd", x0=[2.0, 3.0]).steps[0].loss_before == 5.0


def test_many_elements_are_told_by_the_first() -> None:
    made = trace("sgd", "sum(x**2)", list(range(12)), lr=0.5)
    line = last(made.steps[0].lines, "p")
    assert line.substituted == "θ − 0.5·(g + 0·θ)"
    assert made.as_dict()["steps"][0]["theta_after"] == [0.0] * 12


def test_arrays_in_json_are_lists() -> None:
    made = json.loads(json.dumps(trace("muon", None, [[1.0, 2.0], [3.0, 4.0]]).as_dict(), allow_nan=False))
    step = made["steps"][0]
    assert np.shape(step["theta_before"]) == np.shape(step["lines"][0]["value"]) == (2, 2)
    diverging = trace("sgd", "x**8 + y", [10.0, 1.0], 4, lr=1e80).as_dict()
    assert diverging["steps"][-1]["theta_after"] == [None, pytest.approx(-4e80)]


def test_a_hessian_is_given_where_a_rule_asks_for_one() -> None:
    made = trace("sophia", "x**4 + 3*y**2", [2.0, 1.0], 11)
    given = [step.t for step in made.steps if any(line.symbol == "hessian" for line in step.lines)]
    assert given == [1, 11]
    line = last(made.steps[0].lines, "hessian")
    assert np.array_equal(line.value, [48.0, 6.0])
    assert last(made.steps[0].lines, "h").value == pytest.approx([0.48, 0.06])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"rule": "muon", "x0": [1.0, 2.0]}, "muon steps matrices, got the vector (1, 2) as x0; write 1,2;3,4"),
        ({"x0": [1.0, 2.0], "loss": "x**2"}, "x in the loss is a vector of 2; write x and y, x[0], x[1], or sum"),
        ({"x0": [1.0, 2.0, 3.0, 4.0], "loss": "y"}, "unknown name 'y' in the loss; x is a vector of 4"),
        ({"x0": [1.0, 2.0], "loss": "x[2]"}, "x[2] in the loss is not in x, whose last is x[1]"),
        ({"x0": [1.0, 2.0], "loss": "x[0,0]"}, "is not in x"),
        ({"x0": [1.0, 2.0], "loss": "x[-1]"}, "elements are x[0] or x[0, 1]"),
        ({"x0": [1.0, 2.0], "loss": "sum(x) + y"}, "sum in the loss is over the elements of x"),
        ({"x0": [1.0, 2.0], "loss": "sum(mean(x))"}, "mean in the loss stands inside sum"),
        ({"x0": [1.0, 2.0], "loss": "sum(x*x[0])"}, "x[0] in the loss stands inside sum, where x is each element"),
        ({"x0": [1.0, 2.0], "loss": "sum(3)"}, "sum in the loss needs x inside"),
        ({"x0": [1.0, float("inf")]}, "x0 must be a finite number"),
        ({"x0": [1.0, -1.0], "loss": "log(x) + log(y)"}, "the loss is NaN at x0 = (1, −1)"),
        ({"x0": [0.0, 0.0], "loss": "sqrt(x) + y"}, "derivative is (∞, 1) at x0 = (0, 0)"),
        ({"x0": [[[1.0]]]}, "x0 must be a number, a vector or a matrix"),
    ],
)  # fmt: skip
def test_bad_calls_get_one_sentence(call: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as caught:
        trace(**{"rule": "adamw", **call})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_summary_says_size_and_norm() -> None:
    summary = Summary.of(np.full((3, 4), 2.0))
    assert str(summary) == "3 × 4 numbers, norm 6.9282"
