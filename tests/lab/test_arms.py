"""Arms: how they are written, what is refused, and the search for the learning rate."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ravine.lab.arms import START, Arm, at_edge, best_lr, next_lr, parse, start_of
from ravine.lab.model import SIZES, Transformer
from ravine.registry import available


def test_an_arm_is_a_rule_and_its_settings() -> None:
    plain, wrapped, tuned = parse(
        ["adamw", "lookahead(sgd) : lookahead.k=10, momentum = 0.9,nesterov=true", "lion:lr=3e-4"]
    )
    assert (plain.label, plain.optimizer, plain.settings) == ("adamw", "adamw", {})
    assert wrapped.label == "lookahead(sgd):lookahead.k=10,momentum=0.9,nesterov=true"
    assert wrapped.settings == {"lookahead.k": 10, "momentum": 0.9, "nesterov": True}
    assert plain.tuned and wrapped.tuned and not tuned.tuned


def test_equal_arms_have_labels_of_their_own() -> None:
    labels = [arm.label for arm in parse(["adamw", "adamw", "adamw:beta1=0.90", "adamw", "adamw: beta1=0.9"])]
    assert labels == ["adamw", "adamw#2", "adamw:beta1=0.9", "adamw#3", "adamw:beta1=0.9#2"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("adamww", "unknown optimizer 'adamww'; did you mean 'adamw'?"),
        ("lookahed(adamw)", "unknown wrapper 'lookahed'; did you mean 'lookahead'?"),
        ("lookahead(lookahead(adamw))", "already there"),
        ("adamw:weigth_decay=1", "did you mean 'weight_decay'?"),
        ("adamw:lr=fast", "lr must be a number, got 'fast'"),
        ("adamw:lr=nan", "lr must be in [0, inf), got nan"),
        ("adamw:beta2=1.5", "beta2 must be in [0, 1), got 1.5"),
        ("adamw:lr", "a setting is written key=value, got 'lr'"),
        ("adamw:", "a setting is written key=value, got ''"),
        ("adamw:lr=1,lr=2", "'lr' is given twice"),
        ("adamw:decay=l2,decay=l2", "'decay' is given twice"),
        ("adamw:decay=no", "decay must be one of"),
        ("adamw:engine=steam", "engine must be one of"),
        ("sgd:nesterov=perhaps", "nesterov must be true or false, got 'perhaps'"),
        ("", "unknown optimizer ''"),
    ],
)
def test_what_is_wrong_with_an_arm_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(["sgd", text])
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("texts", [[], ["adamw"]])
def test_one_arm_is_no_comparison(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="at least two optimizers"):
        parse(texts)


names = st.sampled_from(["adamw", "lion", "sgd", "lookahead(adamw)", "", "(", "adamw)", "lookahead("])
parts = st.text(st.sampled_from("abelrt0123456789=.,:()-+einfa\n "), max_size=12)


@given(names, parts, st.sampled_from(["", ":"]))
def test_any_text_is_an_arm_or_refused_by_name(name: str, settings: str, colon: str) -> None:
    text = name + colon + settings
    try:
        arm, _ = parse([text, "adamw"])
    except ValueError as error:
        assert repr(text) in str(error)
        return
    again, _ = parse([arm.label, "adamw"])
    assert (again.optimizer, again.settings) == (arm.optimizer, arm.settings)


def test_only_matrices_inside_the_blocks_are_decayed() -> None:
    model = Transformer(SIZES["tiny"])
    (arm, _) = parse(["adamw:weight_decay=0.5", "sgd"])
    optimizer = arm.build(model, 1.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    inside = {f"attention.{x}" for x in ("query", "key", "value", "output")} | {"expand", "contract"}
    assert moved == {f"blocks.0.{name}.weight" for name in inside}
    assert all(torch.allclose(p, before[name] / 2) for name, p in model.named_parameters() if name in moved)


# The search


def search(arm: Arm, loss: object, trials: int) -> dict[float, float]:
    tried: dict[float, float] = {}
    for _ in range(trials):
        lr = next_lr(arm, tried)
        assert lr not in tried
        tried[lr] = loss(lr)  # type: ignore[operator]
    return tried


@pytest.mark.parametrize("factor", [0.1, 1.0, 5.0])
def test_the_search_closes_in_on_the_best_rate(factor: float) -> None:
    arm = Arm("adamw", "adamw")
    optimum = factor * START["adamw"]
    tried = search(arm, lambda lr: math.log(lr / optimum) ** 2, 8)
    assert not at_edge(tried)
    assert best_lr(tried) == pytest.approx(optimum, rel=0.5)


def test_the_search_goes_beyond_the_edge_and_says_when_it_ends_there() -> None:
    arm = Arm("adamw", "adamw")
    up = search(arm, lambda lr: -lr, 5)
    down = search(arm, lambda lr: lr, 5)
    assert sorted(up) == [0.001, 0.003, 0.009, 0.027, 0.081] and at_edge(up) and best_lr(up) == 0.081
    assert min(down) == pytest.approx(0.003 / 27, rel=0.1) and at_edge(down) and best_lr(down) == min(down)


def test_rates_that_diverge_send_the_search_down() -> None:
    tried = search(Arm("adamw", "adamw"), lambda lr: math.inf if lr > 2e-4 else 1.0 + lr, 6)
    assert best_lr(tried) < 2e-4
    all_lost = search(Arm("adamw", "adamw"), lambda lr: math.inf, 5)
    assert best_lr(all_lost) == min(all_lost)


@given(st.lists(st.floats(1, 10), min_size=12, max_size=12))
def test_no_rate_is_tried_twice(losses: list[float]) -> None:
    remaining = iter(losses)
    assert len(search(Arm("sgd", "sgd"), lambda lr: next(remaining), 12)) == 12


def test_every_rule_has_a_place_to_begin() -> None:
    for name in available():
        start, step = start_of(Arm(name, name))
        assert start > 0 and step > 1
    assert start_of(Arm("x", "cautious(adamw)")) == start_of(Arm("adamw", "adamw"))
    assert start_of(Arm("x", "sgd", {"momentum": 0.9}))[0] == pytest.approx(START["sgd"] / 10)
