"""Arms: how they are written, what is refused, where they search, and which optimizer they are for a model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ravine.lab.models.transformer import SIZES, Transformer
from ravine.lab.study.arms import Arm, parse
from ravine.lab.study.space import Choice, Range
from ravine.registry import available


def test_an_arm_is_a_rule_and_its_settings() -> None:
    plain, wrapped, tuned = parse(
        ["adamw", "lookahead(sgd) : lookahead.k=10, momentum = 0.9,nesterov=true", "lion:lr=3e-4"]
    )
    assert (plain.label, plain.optimizer, plain.settings) == ("adamw", "adamw", {})
    assert wrapped.label == "lookahead(sgd):lookahead.k=10,momentum=0.9,nesterov=true"
    assert wrapped.settings == {"lookahead.k": 10, "momentum": 0.9, "nesterov": True}
    assert plain.space and wrapped.space and not tuned.space


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
        ("adamw:other=lion", "other belongs to rules for matrices"),
        ("muon:other=lyon", "unknown optimizer 'lyon'; did you mean 'lion'?"),
        ("sgd:nesterov=perhaps", "nesterov must be true or false, got 'perhaps'"),
        ("", "unknown optimizer ''"),
    ],
)
def test_what_is_wrong_with_an_arm_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(["sgd", text])
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


names = st.sampled_from(["adamw", "lion", "sgd", "lookahead(adamw)", "", "(", "adamw)", "lookahead("])
parts = st.text(st.sampled_from("abelrt0123456789=.,:()-+einfa\n "), max_size=12)


@given(names, parts, st.sampled_from(["", ":"]))
def test_any_text_is_an_arm_or_refused_by_name(name: str, settings: str, colon: str) -> None:
    text = name + colon + settings
    try:
        (arm,) = parse([text])
    except ValueError as error:
        assert repr(text) in str(error)
        return
    (again,) = parse([arm.label])
    assert (again.optimizer, again.settings) == (arm.optimizer, arm.settings)


@pytest.mark.parametrize("name", available())
def test_every_optimizer_has_a_space_with_its_usual_learning_rate_inside(name: str) -> None:
    (arm,) = parse([name])
    lr = arm.space.get("lr")
    if "lr" in arm.rule.defaults:
        assert isinstance(lr, Range) and lr.log and 10 < lr.high / lr.low < 1e5
    assert set(arm.space) <= {"lr", "beta2"}


def test_what_is_given_is_not_searched_for_and_with_lr_nothing_is() -> None:
    one, other, third = parse(["adamw:beta2=0.99", "adamw:lr=0.1", "adamw"], over=("lr", "beta2", "warmup"))
    assert list(one.space) == ["lr", "warmup"]
    assert other.space == {}
    assert list(third.space) == ["lr", "beta2", "warmup"]


def test_spaces_are_overridden_for_all_for_an_optimizer_and_for_an_arm() -> None:
    spaces = {"": {"lr": "1e-5..1e-1"}, "lion": {"lr": "1e-6..1e-3"}, "adamw:beta1=0.8": {"beta2": [0.5, 0.9, 0.99]}}
    adamw, lion, own = parse(["adamw", "lion", "adamw:beta1=0.8"], spaces=spaces)
    assert adamw.space["lr"] == own.space["lr"] == Range(1e-5, 1e-1)
    assert lion.space["lr"] == Range(1e-6, 1e-3)
    assert own.space["beta2"] == Choice((0.5, 0.9, 0.99)) and adamw.space["beta2"] == Choice((0.95, 0.999))


@pytest.mark.parametrize(
    ("over", "spaces", "complaint"),
    [
        (("lr", "beta22"), {}, "over: no arm has a setting 'beta22'; did you mean 'beta2'?"),
        (("lr",), {"adam": {"lr": "1..2"}}, "space: there is no arm 'adam'; did you mean 'adamw'?"),
        (("lr",), {"": {"lrr": "1..2"}}, "space: no arm has a setting 'lrr'; did you mean 'lr'?"),
        (("lr",), {"sgd": {"beta2": "1..2"}}, "sgd has no setting 'beta2' to search for"),
        (("lr",), {"": {"lr": "2..1"}}, "the space of lr: a range goes from a number to a greater one, got 2.0 to 1.0"),
        (("lr",), {"": {"lr": "0..1"}}, "a logarithmic range begins above 0"),
        (("lr",), {"": {"lr": 1}}, "the space of lr is written 1e-4..1e-2 or 0.9|0.99, got 1"),
        (("lr",), {"": {"lr": "a..b"}}, "the space of lr: could not convert string to float"),
        (("lr",), {"": {"lr": "1|1"}}, "a choice is between two different values or more"),
    ],
)
def test_what_is_wrong_with_a_space_is_said(
    over: tuple[str, ...], spaces: dict[str, dict[str, object]], complaint: str
) -> None:
    with pytest.raises(ValueError) as error:
        parse(["adamw", "sgd"], over, spaces)
    assert complaint in str(error.value)


def built(text: str, **settings: float) -> torch.optim.Optimizer:
    (arm,) = parse([text])
    return arm.build(Transformer(SIZES["tiny"]), settings)


def test_norms_and_embeddings_are_not_decayed() -> None:
    model = Transformer(SIZES["tiny"])
    (arm,) = parse(["adamw:weight_decay=0.3"])
    decayed = {
        id(p): group["weight_decay"] for group in arm.build(model, {"lr": 0.1}).param_groups for p in group["params"]
    }
    for name, p in model.named_parameters():
        assert decayed[id(p)] == (0.0 if "norm" in name or name.startswith("embedding") else 0.3), name


def test_in_a_model_without_matrices_everything_is_decayed() -> None:
    model = nn.Module()
    model.point = nn.Parameter(torch.ones(5))
    (arm,) = parse(["adamw:weight_decay=0.3"])
    assert [group["weight_decay"] for group in arm.build(model, {}).param_groups] == [0.3]


def test_settings_reach_every_group_and_the_schedules_do_not() -> None:
    optimizer = built("adamw", lr=0.25, beta2=0.95, warmup=0.3)
    assert all(group["lr"] == 0.25 and group["betas"] == (0.9, 0.95) for group in optimizer.param_groups)


def test_muon_steps_matrices_and_another_rule_the_rest() -> None:
    model = Transformer(SIZES["tiny"])
    (arm,) = parse(["muon:other=lion,momentum=0.9"])
    optimizer = arm.build(model, {"lr": 0.25})
    rules = {group["rule"]: group for group in optimizer.param_groups}
    assert set(rules) == {"muon", "lion"} and all(group["lr"] == 0.25 for group in optimizer.param_groups)
    assert rules["muon"]["momentum"] == 0.9
    routing = arm.routing(model)
    assert routing is not None and {row["name"] for row in routing} == {name for name, _ in model.named_parameters()}
    assert {row["rule"] for row in routing if row["name"].startswith("blocks.") and "norm" not in row["name"]} == {
        "muon"
    }
    assert {row["rule"] for row in routing if row["name"] in ("embedding.weight", "head.weight")} == {"lion"}
    assert parse(["adamw"])[0].routing(model) is None


def test_an_arm_of_a_wrapped_matrix_rule_is_routed_too() -> None:
    optimizer = built("cautious(muon)", lr=0.1)
    assert {group["rule"] for group in optimizer.param_groups} == {"cautious(muon)", "adamw"}


def test_a_matrix_rule_without_matrices_is_refused() -> None:
    with pytest.raises(ValueError, match="no hidden matrix"):
        Arm("muon", "muon").build(nn.Sequential(nn.Linear(3, 1)), {})
