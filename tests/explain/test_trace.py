"""Traces: the rule's own lines with the rule's own numbers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import ravine.compose
import ravine.math
from ravine.compose import cautious, lookahead
from ravine.explain.trace import MOST_STEPS, Line, Trace, trace
from ravine.math import ZERO, maximum, sqrt
from ravine.optim.settings import substituted_decay
from ravine.registry import available, lookup, wrappers
from ravine.rule import DECAYS, Rule, State, rule
from ravine.rules.adam import adamw

from .reading import as_python

WRAPPED = [
    "lookahead(adamw)",
    "lookahead(cautious(adamw))",
    "clip_norm(lion)",
    "clip_norm(lookahead(sgd))",
    "maximize(adam)",
    "cautious(lamb)",
    "lookahead(clip_norm(cautious(rmsprop)))",
]
FLAGS: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("adamw", {"amsgrad": True, "eps_form": "hat"}),
    ("rmsprop", {"momentum": 0.5, "centered": True}),
    ("lookahead(adamw)", {"lookahead.k": 1}),
    ("cautious(adamw)", {"cautious.rescale": False}),
]


def takes_an_lr(name: str) -> bool:
    """Whether a rule takes any lr under its defaults: transformers' Adafactor takes one or finds it, never both."""
    rule = lookup(name)
    return rule.check is None or rule.check({**rule.defaults, "lr": 0.123}) is None


FOLLOWED = list(filter(takes_an_lr, available()))
CASES = [*((name, {}) for name in [*FOLLOWED, *WRAPPED]), *FLAGS]


def last(lines: tuple[Line, ...], symbol: str) -> Line:
    return [line for line in lines if line.symbol == symbol][-1]


def test_the_worked_exercise() -> None:
    """L(θ) = (θ − 1)², θ₀ = 2, η = 0.1, λ = 0.01: Loshchilov & Hutter 2019, Algorithm 2, by hand."""
    (step,) = trace("adamw", "(x-1)**2", 2.0, lr=0.1, weight_decay=0.01).steps
    expected = {"g": 2.0, "m": 0.2, "v": 0.004, "m_hat": 2.0, "v_hat": 4.0, "p": 1.898}
    assert {symbol: last(step.lines, symbol).value for symbol in expected} == pytest.approx(expected, abs=1e-8)
    assert [line.symbol for line in step.lines] == ["g", "m", "v", "m_hat", "v_hat", "p"]
    assert (step.t, step.theta_before, step.loss_before) == (1, 2.0, 1.0)
    assert step.theta_after == pytest.approx(1.898, abs=1e-8)
    assert step.loss_after == pytest.approx(0.8064, abs=1e-5)
    assert last(step.lines, "g").formula == "2·(θ − 1)"
    assert last(step.lines, "m").formula == "β₁·m + (1 − β₁)·g"
    assert last(step.lines, "m").substituted == "0.9·0 + (1 − 0.9)·2"
    assert last(step.lines, "p").substituted == "2 − 0.1·(2 / (√4 + 1e-8) + 0.01·2)"


def walked(rule: Rule, hyper: dict[str, Any], theta: float, steps: int) -> list[list[float]]:
    """The same steps by calling the rule with the states that exist, as a user would: θ and states after each."""
    settings = {**rule.defaults, **hyper}
    absent = rule.absent_states(settings, np.shape(rule.lifted(theta)))
    inits = {k: s.init for k, s in rule.state.items() if k not in absent}
    states = [theta if init == "p" else float(settings.get(init, init)) for init in inits.values()]
    after = []
    for t in range(1, steps + 1):
        inputs = {name: 2.0 for name in rule.inputs if t % 10 == 1}  # the Hessian
        theta, *states = rule(theta, 2 * (theta - 1), *states, t=t, **hyper, **inputs)
        after.append([theta, *states])
    return after


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_a_trace_is_the_rule(name: str, hyper: dict[str, Any], decay: str) -> None:
    found = lookup(name)
    made = trace(name, "(x-1)**2", 2.0, 3, decay=decay, lr=0.1, weight_decay=0.02, **hyper)
    given = {**hyper, "lr": 0.1} | substituted_decay(decay, 0.02, 0.1, 0.1)
    expected = walked(found, given, 2.0, 3)
    absent = found.absent_states({**found.defaults, **hyper}, np.shape(found.lifted(2.0)))
    present = [symbol.rsplit(".", 1)[-1] for symbol in found.state if symbol not in absent]
    assert set(made.start) == {symbol for symbol in found.state if symbol not in absent}
    before = [2.0, *made.start.values()]
    for step, after in zip(made.steps, expected, strict=True):
        assert (step.theta_before, step.theta_after) == (before[0], after[0])
        for symbol, old, new in zip(["p", *present], before, after, strict=True):
            told = [line.value for line in step.lines if line.symbol == symbol]
            assert new == (told[-1] if told else old), f"{symbol} has no line in step {step.t}, and changed"
        before = after
    assert made.steps[-1].theta_after != 2.0


HELPERS = [name for name in vars(ravine.compose) if name.endswith("_of")]  # what wrappers take a rule's update with
CALLS = {f"{name}(" for name in [*available(), *wrappers(), *HELPERS, "turned"]}  # turned is SOAP's own


def on_a_number(name: str) -> Any:
    """A word for matrices, on a number as a matrix of one row and column."""
    return lambda x, *rest: getattr(ravine.math, name)(np.full((1, 1), float(x)), *rest).item()


WORDS = {name: getattr(ravine.math, name) for name in ravine.math.__all__} | {"max": max, "min": min, "Σ": float}
WORDS |= {name: on_a_number(name) for name in ("orthogonalize", "eigenbasis", "inverse_root")}


@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_the_numbers_in_a_line_give_its_value(name: str, hyper: dict[str, Any]) -> None:
    """Each substituted formula, computed again as it is written, to the six digits that it shows."""
    computed = 0
    for step in trace(name, "(x-1)**2 + x/4", 3.0, 4, lr=0.25, weight_decay=0.05, **hyper).steps:
        for line in step.lines:
            if not any(line.substituted.startswith(call) for call in CALLS):
                value = eval(as_python(line.substituted), {**WORDS})
                assert value == pytest.approx(line.value, rel=1e-3, abs=1e-4), line
                computed += 1
    assert computed >= 8


def test_wrappers_nest() -> None:
    (first, second) = trace("lookahead(cautious(adamw))", "x**2", 1.0, 2, **{"lookahead.k": 2}).steps
    sections = list(dict.fromkeys(line.section for line in second.lines))
    assert sections == [
        (),
        ("lookahead", "cautious", "adamw"),
        ("lookahead", "cautious"),
        ("lookahead",),
    ]
    assert "slow" not in {line.symbol for line in first.lines}
    assert last(second.lines, "slow").formula == "slow + α·(θ − slow)"
    assert next(line.formula for line in second.lines if line.section == ("lookahead",)) == "cautious(θ, g)"
    assert (
        next(line.formula for line in first.lines if line.section == sections[2]) == "update_and_decay_of(adamw(θ, g))"
    )


def test_settings_given_to_a_wrapper_are_its_defaults() -> None:
    wrapped = lookahead(cautious(adamw, rescale=False), k=1, alpha=0.25)
    (step,) = trace(wrapped, "x**2", 1.0).steps
    assert last(step.lines, "slow").substituted.startswith("1 + 0.25·(")
    assert not any("mean" in line.formula for line in step.lines)


def test_only_branches_taken_have_lines() -> None:
    plain = trace("sgd", "x**2", 1.0, 3)
    assert [[line.symbol for line in step.lines] for step in plain.steps] == [["g", "p"]] * 3
    heavy = trace("sgd", "x**2", 1.0, 2, momentum=0.9, dampening=0.5)
    assert [last(step.lines, "m").formula for step in heavy.steps] == ["μ·m + 1·g", "μ·m + (1 − τ)·g"]


@pytest.mark.parametrize(
    ("decay", "symbol", "substituted", "value"),
    [
        ("schedule", "weight_decay", "0.5 / 0.1", 5.0),
        ("lr_squared", "weight_decay", "0.1·0.5", 0.05),
        ("l2", "g", "4 + 0.5·2", 5.0),
    ],
)
def test_the_line_of_weight_decay(decay: Any, symbol: str, substituted: str, value: float) -> None:
    (step,) = trace("lion", "x**2", 2.0, decay=decay, lr=0.1, weight_decay=0.5).steps
    line = last(step.lines, symbol)
    assert line.substituted == substituted
    assert line.value == pytest.approx(value, rel=1e-15)


@rule(
    paper="made for this test",
    state={
        "m": "m",
        "prod": State("prod", init="first", kind="host"),
        "old": "old",
        "late": State("late", when="flag"),
    },
)
def odd(p, g, m, prod, old, late, *, t, lr=0.1, beta1=0.9, beta2=0.5, first=2.0, flag=False):
    """Odd: every kind of statement a rule may have."""
    mu, mu_next = (beta1 * (1 - 0.5 * beta2**s) for s in (t, t + 1))
    prod *= mu
    a, b = g + m, g - m
    total: float = 0.0
    for part in (a, b):
        total = total + part
    u = m = beta1 * m + (1 - beta1) * total if t > 1 else total * mu_next
    if flag:
        late = late + 1
    elif t == 1:
        u = -u
    else:
        pass
    return p - lr * maximum(u, sqrt(abs(prod))), m, prod, g, late


def test_every_statement_of_the_language_is_followed() -> None:
    made = trace(odd, "x**2", 1.5, 2)
    first, second = made.steps
    assert made.start == {"m": 0.0, "prod": 2.0, "old": 0.0}
    assert [line.symbol for line in first.lines] == [
        "g", "mu", "mu_next", "prod", "a", "b", "total", "total", "total", "m", "u", "u", "p", "old",
    ]  # fmt: skip
    assert last(first.lines, "mu_next").formula == "β₁·(1 − 0.5·β₂ᵗ⁺¹)"
    assert last(first.lines, "prod").substituted == "2·0.675"
    assert [line.formula for line in first.lines if line.symbol == "u"] == ["m", "−u"]
    assert last(first.lines, "m").formula == "total·mu_next"
    assert last(second.lines, "m").formula == "β₁·m + (1 − β₁)·total"
    assert last(first.lines, "old").value == 3.0
    assert last(first.lines, "p").formula == "θ − η·max(u, √|prod|)"


def test_states_that_come_back_absent_stay_absent() -> None:
    """Without momentum SGD's buffer is `ZERO` in every step, not only in the first."""
    made = trace("sgd", "x**2", 1.0, 3)
    assert made.start == {}
    assert "m" not in {line.symbol for step in made.steps for line in step.lines}


@rule(paper="made for this test")
def restless(p, g, *, t, lr=0.1):
    """Restless: loops with `while`, which a trace does not follow."""
    while t > 1:
        t = t - 1
    return (p - lr * g,)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        ({"rule": "admaw"}, KeyError, "did you mean 'adamw'"),
        ({"rule": "cautious(lookahead(adamw))"}, TypeError, "lookahead"),
        ({"steps": 0}, ValueError, "steps must be from 1"),
        ({"steps": MOST_STEPS + 1}, ValueError, "steps must be from 1"),
        ({"x0": math.nan}, ValueError, "x0 must be a finite number"),
        ({"loss": "log(x - 3)"}, ValueError, "the loss is NaN"),
        ({"loss": "sqrt(x - 2)"}, ValueError, "derivative is ∞"),
        ({"lr": -0.1}, ValueError, "lr must be in"),
        ({"weigth_decay": 0.1}, TypeError, "did you mean 'weight_decay'"),
        ({"decay": "l3"}, ValueError, "decay must be one of"),
        ({"rule": restless, "decay": "l2"}, ValueError, "no weight decay"),
        ({"rule": restless}, ValueError, "`while` statement in restless"),
    ],
)
def test_bad_calls_get_one_sentence(call: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        trace(**{"rule": "adamw", "loss": "(x-1)**2", "x0": 2.0, **call})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_without_source_is_refused() -> None:
    made: dict[str, Any] = {}
    source = "def typed(p, g, *, t, lr=0.1):\n    'Typed: at the prompt.'\n    return (p - lr * g,)\n"
    exec(source, made)
    with pytest.raises(ValueError, match="define the rule in a file"):
        trace(rule(paper="none")(made["typed"]), "x**2", 1.0)


def test_a_trace_that_departs_from_the_rule_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravine.explain.follow._Run.execute", lambda self, node: self.names.update(p=np.float64(7.0)))
    with pytest.raises(RuntimeError, match="departs from the rule at step 1"):
        trace("sgd", "x**2", 1.0)


def as_json(made: Trace) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(json.dumps(made.as_dict(), allow_nan=False))
    return loaded


def test_json_has_the_documented_keys() -> None:
    made = as_json(trace("lookahead(adamw)", "(x-1)**2", 2.0, 2))
    assert set(made) == {"steps"}
    assert [step["t"] for step in made["steps"]] == [1, 2]
    for step in made["steps"]:
        assert set(step) == {"t", "theta_before", "theta_after", "loss_before", "loss_after", "lines"}
        assert all(set(line) == {"symbol", "formula", "substituted", "value"} for line in step["lines"])


def test_a_diverging_run_is_told_to_the_end() -> None:
    """θ² under a step far too long: infinite, then NaN, and null in JSON, which has neither."""
    made = trace("sgd", "x**8", 10.0, 4, lr=1e80)
    assert not math.isfinite(made.steps[-1].theta_after)
    assert as_json(made)["steps"][-1]["theta_after"] is None


def test_absent_values_read_as_zero() -> None:
    assert ZERO == 0.0
    (step,) = trace("adamw", "x**2", 1.0, weight_decay=0.0).steps
    assert last(step.lines, "p").substituted.endswith("+ 0·1)")
