"""The converter of weight decay: exact where it says so, by optimizers that run side by side, and only there."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Parameter
from typer.testing import CliRunner

import ravine
from ravine.cli import app
from ravine.explain.converter import MEANINGS, STRENGTHS, convert, follows_its_gradient

PEAK = 0.02
CONSTANT = [PEAK] * 30
COSINE = [PEAK * (0.1 + 0.9 * (1 + torch.cos(torch.tensor(torch.pi * i / 30)).item()) / 2) for i in range(30)]
WARMED_UP = [PEAK * min(1, (i + 1) / 10) for i in range(30)]
LRS = {"constant": CONSTANT, "cosine": COSINE, "warm-up": WARMED_UP}
DECOUPLED = [name for name, m in MEANINGS.items() if m.form != "l2"]
ULPS = 1e-13


def path(create: Any, lrs: list[float]) -> torch.Tensor:
    """A parameter's way through steps of these learning rates, on gradients that depend on where it is."""
    p = Parameter(torch.linspace(-1.0, 2.0, 12, dtype=torch.float64).reshape(3, 4))
    optimizer = create([p])
    way = []
    for step, lr in enumerate(lrs):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = (torch.sin(torch.arange(12.0, dtype=torch.float64) + step).reshape(3, 4) + 0.1 * p).detach()
        optimizer.step()
        way.append(p.detach().clone())
    return torch.stack(way)


def of_meaning(name: str, weight_decay: float, rule: str = "adamw", **settings: Any) -> Any:
    """An optimizer that decays as the meaning says, written out step by step for the meaning that ravine has not."""
    form = MEANINGS[name].form
    if form != "corrected":
        given = {"lr": PEAK, "weight_decay": weight_decay, "decay": form, **settings}
        return lambda params: with_settings(rule, params, given)

    class Corrected:
        """λ · lr² / max_lr under torch's AdamW, whose own λ is set anew in every step."""

        def __init__(self, params: Any) -> None:
            self.inner = torch.optim.AdamW(params, lr=PEAK)
            self.param_groups = self.inner.param_groups

        def step(self) -> None:
            group = self.param_groups[0]
            group["weight_decay"] = weight_decay * group["lr"] / PEAK
            self.inner.step()

    return Corrected


@pytest.mark.parametrize("lrs", LRS)
@pytest.mark.parametrize("target", DECOUPLED)
@pytest.mark.parametrize("source", ["torch", "paper", "palm", "timm-corrected"])
def test_decoupled_forms_agree_where_it_says_so(source: str, target: str, lrs: str) -> None:
    made = convert(source, target, lr=PEAK, weight_decay=0.3)
    one = path(of_meaning(source, 0.3), LRS[lrs])
    two = path(of_meaning(target, made.converted), LRS[lrs])
    agree = torch.allclose(one, two, rtol=1e-10, atol=1e-10)
    assert agree == (made.holds == "always" or lrs == "constant")
    powers = {STRENGTHS[MEANINGS[name].form].lr_power for name in (source, target)}
    assert made.exact == (len(powers) == 1)


@pytest.mark.parametrize("lrs", LRS)
@pytest.mark.parametrize("target", ["paper", "composer", "optimi-decoupled"])
def test_torchs_adamw_under_another_name(target: str, lrs: str) -> None:
    """torch.optim.AdamW itself and ravine with the converted λ: lr·λ and (lr / max_lr)·λ', λ' = max_lr·λ."""
    made = convert("torch", target, lr=PEAK, weight_decay=0.3)
    assert made.exact
    one = path(lambda params: torch.optim.AdamW(params, lr=PEAK, weight_decay=0.3), LRS[lrs])
    two = path(lambda params: with_settings("adamw", params, made.in_ravine), LRS[lrs])
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def with_settings(rule: str, params: Any, settings: Any) -> Any:
    optimizer = ravine.create(rule, params, engine="reference", **settings)
    optimizer.param_groups[0]["max_lr"] = PEAK
    return optimizer


@pytest.mark.parametrize("lrs", LRS)
def test_l2_of_sgd_is_decay(lrs: str) -> None:
    """Loshchilov & Hutter 2019, Proposition 1, with torch.optim.SGD: its weight_decay adds λ·p to the gradient."""
    made = convert("torch-l2", "paper", lr=PEAK, weight_decay=0.3, optimizer="sgd")
    assert made.exact and made.holds == "always"
    one = path(lambda params: torch.optim.SGD(params, lr=PEAK, weight_decay=0.3), LRS[lrs])
    two = path(lambda params: with_settings("sgd", params, made.in_ravine), LRS[lrs])
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("rule", "settings"), [("adamw", {}), ("sgd", {"momentum": 0.9}), ("momentum", {}), ("rmsprop", {}), ("lion", {})]
)
def test_l2_is_no_decay_elsewhere(rule: str, settings: dict[str, Any]) -> None:
    """It is refused with the reason, and rightly: no λ between a thousandth and a thousandfold takes the same way."""
    for source, target in (("torch-l2", "torch"), ("torch", "torch-l2"), ("l2", "palm")):
        with pytest.raises(ValueError, match=f"no λ of {target!r} does under {rule} .* averaged or rescaled"):
            convert(source, target, lr=PEAK, weight_decay=0.3, optimizer=rule, settings=settings)
    wanted = path(of_meaning("l2", 0.3, rule, **settings), CONSTANT)
    gaps = [
        (path(of_meaning("lr", 0.3 * 10 ** (k / 4), rule, **settings), CONSTANT) - wanted).abs().max().item()
        for k in range(-12, 13)
    ]
    assert min(gaps) > 1e-3 * (wanted[-1] - wanted[0]).abs().max().item()


def test_which_rules_follow_their_gradient() -> None:
    assert [name for name in ravine.available() if name != "adafactor_transformers" and _follows(name)] == ["sgd"]


def _follows(name: str) -> bool:
    return follows_its_gradient(ravine.lookup(name), {})


@given(st.sampled_from(DECOUPLED), st.sampled_from(DECOUPLED), st.floats(1e-6, 10), st.floats(0, 10))
def test_there_and_back(source: str, target: str, lr: float, weight_decay: float) -> None:
    there = convert(source, target, lr=lr, weight_decay=weight_decay)
    back = convert(target, source, lr=lr, weight_decay=there.converted)
    assert back.converted == pytest.approx(weight_decay, rel=ULPS)
    assert there.exact == back.exact
    assert there.in_ravine["decay"] in ("lr", "schedule", "lr_squared")
    ours = convert(there.in_ravine["decay"], source, lr=lr, weight_decay=there.in_ravine["weight_decay"])
    assert ours.converted == pytest.approx(weight_decay, rel=ULPS)


def test_over_a_run() -> None:
    """By hand: linear from 1 over 4 steps has lr/peak = 1, ¾, ½, ¼; squares add up to 1.875, the values to 2.5."""
    made = convert("torch", "palm", lr=0.1, weight_decay=0.2, schedule="linear", steps=4, warmup_steps=0, floor=0.0)
    assert made.converted == pytest.approx(2.0, rel=1e-15)
    assert made.schedule is not None and not made.exact
    assert made.schedule.share == pytest.approx(0.75, rel=1e-15)
    assert made.schedule.same_total == pytest.approx(2.0 / 0.75, rel=1e-15)
    assert convert("torch", "palm", lr=0.1, weight_decay=0.2, schedule="constant", steps=4).exact


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"source": "torhc"}, "unknown weight decay 'torhc'; did you mean 'torch'"),
        ({"lr": 0.0}, "lr must be a finite number above 0, got 0.0"),
        ({"lr": float("nan")}, "lr must be a finite number above 0, got nan"),
        ({"weight_decay": -0.1}, "weight_decay must be a finite number at least 0, got -0.1"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
    ],
)
def test_bad_input(arguments: dict[str, Any], sentence: str) -> None:
    given = {"source": "torch", "target": "palm", "lr": 0.1, "weight_decay": 0.1, **arguments}
    with pytest.raises(ValueError, match=sentence):
        convert(given.pop("source"), given.pop("target"), **given)


def test_the_command() -> None:
    run = CliRunner()
    asked = ["decay", "--from", "torch", "--to", "schedule", "--lr", "1e-3", "--weight-decay", "0.1"]
    shown = run.invoke(app, asked)
    assert shown.exit_code == 0
    assert "λ = 0.0001" in shown.stdout and "Exact: " in shown.stdout
    assert "In ravine: lr=0.001, weight_decay=0.0001, decay='schedule'" in shown.stdout
    told = json.loads(run.invoke(app, [*asked, "--json", "-"]).stdout)
    assert told["converted"] == pytest.approx(1e-4) and told["exact"] and told["source"]["form"] == "lr"
    run_over = run.invoke(app, [*asked[:4], "palm", *asked[5:], "--schedule", "cosine", "--warmup", "100"])
    assert "Exact at the highest learning rate only" in run_over.stdout and "times as much" in run_over.stdout


def test_the_command_alone_lists_the_meanings() -> None:
    run = CliRunner()
    listed = json.loads(run.invoke(app, ["decay", "--json", "-"]).stdout)
    assert [row["name"] for row in listed] == list(MEANINGS)
    shown = run.invoke(app, ["decay"]).stdout
    assert all(row["name"] in shown and row["line"] in shown for row in listed)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from", "torch"], "a conversion needs --to, --lr, --weight-decay too"),
        (["--from", "torch", "--to", "l2", "--lr", "1", "--weight-decay", "1"], "no λ of 'l2' does under adamw"),
        (
            ["--from", "torch", "--to", "lr", "--lr", "1", "--weight-decay", "1", "--optimizer", "admw"],
            "did you mean 'adamw'",
        ),
    ],
)
def test_wrong_calls(arguments: list[str], sentence: str) -> None:
    done = CliRunner().invoke(app, ["decay", *arguments])
    assert done.exit_code == 2
    assert sentence in done.stderr and done.stderr.count("\n") == 1
