"""Equations: every rule's, from its source."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap

import pytest

from ravine.catalogue import info, state_bytes_per_param
from ravine.explain.decay import FORMS
from ravine.explain.equations import equations, show
from ravine.explain.source import own_function
from ravine.math import has
from ravine.optim.settings import substituted_decay
from ravine.registry import available, lookup
from ravine.rule import DECAYS

from .test_trace import WRAPPED, odd


def test_adamw_reads_as_in_the_paper() -> None:
    (section,) = equations("adamw")
    assert [line.text for line in section.lines] == [
        "if eps_form = 'hat':",
        "ε ← ε / √(1 − β₂ᵗ)",
        "m ← β₁·m + (1 − β₁)·g",
        "v ← β₂·v + (1 − β₂)·g²",
        "m̂ ← m / (1 − β₁ᵗ)",
        "v̂ ← v / (1 − β₂ᵗ)",
        "if amsgrad:",
        "vₘₐₓ ← max(vₘₐₓ, v)",
        "v̂ ← vₘₐₓ / (1 − β₂ᵗ)",
        "θ ← θ − η·(m̂ / (√v̂ + ε) + λ·θ)",
    ]
    assert [line.indent for line in section.lines] == [0, 1, 0, 0, 0, 0, 0, 1, 1, 0]
    assert section.lines[-1].latex == (
        r"\theta \leftarrow \theta - \eta \, \left(\frac{\hat{m}}{\sqrt{\hat{v}} + \epsilon} + \lambda \, \theta\right)"
    )


def test_wrappers_come_first_and_call_what_they_wrap() -> None:
    sections = equations("lookahead(cautious(adamw))")
    assert [section.name for section in sections] == ["lookahead", "cautious", "adamw"]
    assert [line.text for line in sections[0].lines] == [
        "θ ← cautious(θ, g)", "if t mod k = 0:", "slow ← slow + α·(θ − slow)", "θ ← slow",
    ]  # fmt: skip
    assert sections[1].lines[0].text == "u, decay ← update_and_decay_of(adamw(θ, g))"
    assert sections[1].lines[-1].text == "θ ← θ − (u + decay)"
    assert equations("maximize(sgd)")[0].lines[0].text == "θ ← sgd(θ, −g)"


@pytest.mark.parametrize("name", [*available(), *WRAPPED])
def test_every_rule_is_shown(name: str) -> None:
    rule = lookup(name)
    shown = show(name)
    assert any(line.text.startswith("θ ← ") for line in shown.sections[-1].lines)
    for section in shown.sections:
        for line in section.lines:
            assert line.latex.count("{") == line.latex.count("}")
            assert len(re.findall(r"\\left\b", line.latex)) == len(re.findall(r"\\right\b", line.latex))
            assert line.latex.isascii()
    assert {state.symbol: state.key for state in shown.states} == {k: s.name for k, s in rule.state.items()}
    assert sum(s.bytes_per_param for s in shown.states if s.present) == shown.info.state_bytes_per_param
    assert [row.name for row in shown.decays if row.customary] == [rule.decay]
    assert shown.hyper == dict(rule.defaults)
    assert json.loads(json.dumps(shown.as_dict()))["name"] == name


@pytest.mark.parametrize("name", available())
def test_no_line_of_the_source_is_missing(name: str) -> None:
    """As many equations as the source has targets of assignments, conditions, loops, and new values in returns.

    What gives several values at once, a call that is not spelled out, has one line for all its targets.
    """
    rule = lookup(name)
    expected = 0
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(own_function(rule))))):
        match node:
            case ast.Assign(targets, value):
                spelled_out = isinstance(value, (ast.Tuple, ast.GeneratorExp))
                expected += sum(len(t.elts) if isinstance(t, ast.Tuple) and spelled_out else 1 for t in targets)
            case ast.If(_, _, orelse):
                expected += 2 if orelse else 1
            case ast.AugAssign() | ast.AnnAssign() | ast.For():
                expected += 1
            case ast.Return(value):
                elements = value.elts if isinstance(value, ast.Tuple) else [value]
                expected += sum(ast.unparse(e) != s for e, s in zip(elements, ("p", *rule.state), strict=True))
    (section,) = equations(name)
    assert len(section.lines) == expected


def test_values_made_together_have_a_line_each() -> None:
    """`a, b = (f(x) for x in (y, z))` is a ← f(y) and b ← f(z)."""
    (section,) = equations(odd)
    assert [line.text for line in section.lines][:2] == ["μ ← β₁·(1 − 0.5·β₂ᵗ)", "mu_next ← β₁·(1 − 0.5·β₂ᵗ⁺¹)"]


def test_what_a_return_computes_has_a_line() -> None:
    """ADOPT's first step returns g² for v."""
    (section,) = equations("adopt")
    assert [(line.text, line.indent) for line in section.lines][:2] == [("if t = 1:", 0), ("v ← g²", 1)]


@pytest.mark.parametrize("decay", DECAYS)
def test_the_forms_of_decay_shown_are_those_used(decay: str) -> None:
    """Each form's line, computed, is what the optimizer gives the rule."""
    form = FORMS[decay]
    numbers = {"weight_decay": 0.3, "lr": 0.2, "max_lr": 0.8, "g": 2.0, "p": 5.0}
    shown = eval(form.source, dict(numbers))
    used = substituted_decay(decay, 0.3, 0.2, 0.8)
    if form.symbol == "g":
        assert shown == pytest.approx(2.0 + used["l2"] * 5.0)
        assert used["weight_decay"] == 0.0
    else:
        assert shown == pytest.approx(used["weight_decay"])
        assert not has(used["l2"])


def test_info_of_a_rule_a_preset_and_a_wrapped_rule() -> None:
    facts = info("adamw")
    assert (facts.name, facts.title, facts.decay, facts.preset_of) == ("adamw", "AdamW", "lr", None)
    assert dict(facts.states) == {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"}
    assert list(facts.defaults)[:2] == ["lr", "betas"]
    assert facts.defaults["betas"] == (0.9, 0.999)
    assert "arXiv:1711.05101" in facts.paper

    adam = info("adam")
    assert (adam.preset_of, adam.decay, adam.defaults["weight_decay"]) == ("adamw", "l2", 0.0)

    wrapped = info("lookahead(adamw)")
    assert (wrapped.name, wrapped.title) == ("lookahead(adamw)", "LookaheadAdamW")
    assert wrapped.defaults["lookahead.k"] == 5
    assert wrapped.states["lookahead.slow"] == "lookahead.slow"
    assert wrapped.state_bytes_per_param == 12


@pytest.mark.parametrize(
    ("name", "size"),
    [("sgd", 0), ("momentum", 4), ("lion", 4), ("adagrad", 4), ("rmsprop", 4), ("adam", 8), ("adamw", 8),
     ("amsgrad", 12), ("lamb", 8), ("adadelta", 8), ("adamax", 8), ("nadam", 8), ("nadamw", 8), ("radam", 8),
     ("adopt", 8), ("nesterov", 4)],
)  # fmt: skip
def test_bytes_of_state(name: str, size: int) -> None:
    """One float32 buffer is 4 bytes: what each algorithm keeps, counted from its paper."""
    assert info(name).state_bytes_per_param == size


def test_bytes_of_state_follow_the_settings() -> None:
    assert state_bytes_per_param(lookup("sgd"), momentum=0.9) == 4
    assert state_bytes_per_param(lookup("rmsprop"), momentum=0.9, centered=True) == 12


def test_info_of_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(KeyError, match="did you mean") as caught:
        info("adam_w")
    assert "'adamw'" in caught.value.args[0]
