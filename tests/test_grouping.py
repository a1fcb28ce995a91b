"""Groups by what parameters are: composable, complete, and refused with a reason where a name fits nothing."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

import ravine
from ravine.optim.grouping import Groups, by_name, by_role, layerwise_lr, no_decay, of
from ravine.optim.routing import route
from small_models import GPT2, Convolutional, Recurrent, Transformer, VisionTransformer


def of_each(groups: Groups, key: str) -> dict[str, Any]:
    return {name: group.get(key) for group in groups for name, _ in group["params"]}


MODELS = [Transformer, lambda: Transformer(tied=True), Recurrent, Convolutional, GPT2, VisionTransformer]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(
    "group",
    [
        of,
        no_decay,
        lambda m: layerwise_lr(m, lr=1.0),
        lambda m: by_name(m, {"*": {"lr": 1.0}}),
        lambda m: by_role(m, {}),
    ],
)
def test_every_parameter_is_in_one_group(make: Any, group: Any) -> None:
    model = make()
    placed = [p for made in group(model) for _, p in made["params"]]
    assert len(placed) == len(set(placed)) and set(placed) == set(model.parameters())


def test_no_decay_on_what_is_no_matrix() -> None:
    decay = of_each(no_decay(Transformer(), 0.1), "weight_decay")
    decayed = {name for name, value in decay.items() if value == 0.1}
    assert decayed == {
        "out.weight",
        *(
            f"body.layers.{i}.{name}"
            for i in range(2)
            for name in ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
        ),
    }
    assert {value for name, value in decay.items() if name not in decayed} == {0.0}
    assert of_each(no_decay(Transformer()), "weight_decay")["out.weight"] is None
    assert of_each(no_decay(Transformer(tied=True), 0.1), "weight_decay")["embedding.weight"] == 0.1


def test_a_step_does_not_decay_what_it_should_not() -> None:
    """With zero gradients AdamW multiplies by 1 − lr·λ (Loshchilov & Hutter 2019), and leaves the others alone."""
    model = Transformer()
    before = copy.deepcopy(dict(model.named_parameters()))
    groups = no_decay(model, 0.5)
    optimizer = ravine.AdamW(groups, lr=0.1, engine="reference")
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    decay = of_each(groups, "weight_decay")
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, before[name] * (1 - 0.1 * decay[name]), rtol=1e-6, atol=0)


def test_learning_rates_by_depth() -> None:
    """ELECTRA's and BEiT's rule: N blocks, embeddings below the first, the head above the last."""
    lr = of_each(layerwise_lr(Transformer(), lr=1.0, decay=0.5), "lr")
    assert lr["embedding.weight"] == lr["positions"] == 0.125
    assert lr["body.layers.0.linear1.weight"] == lr["body.layers.0.norm1.bias"] == 0.25
    assert lr["body.layers.1.self_attn.in_proj_weight"] == 0.5
    assert lr["norm.weight"] == lr["out.weight"] == 1.0


def test_depth_in_other_builds() -> None:
    vision = of_each(layerwise_lr(VisionTransformer(), lr=1.0, decay=0.5), "lr")
    assert vision["cls_token"] == vision["pos_embed"] == vision["patch_embed.0.weight"] == 0.5**4
    assert vision["blocks.0.qkv.weight"] == 0.5**3 and vision["blocks.2.qkv.weight"] == 0.5
    assert vision["norm.weight"] == vision["head.weight"] == 1.0, "the head counts as the last, though registered first"
    residual = of_each(layerwise_lr(Convolutional(), lr=1.0, decay=0.5), "lr")
    assert [residual[f"{n}.weight"] for n in ("stem", "blocks.0.first", "blocks.2.first", "up", "classifier")] == [
        0.5**4, 0.5**3, 0.5, 1.0, 1.0
    ]  # fmt: skip
    assert of_each(layerwise_lr(GPT2(), lr=1.0, decay=0.5), "lr")["lm_head.weight"] == 1.0
    flat = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    assert of_each(layerwise_lr(flat, lr=1.0, decay=0.1), "lr") == pytest.approx(
        {"0.weight": 0.01, "0.bias": 0.01, "2.weight": 0.1, "2.bias": 0.1, "4.weight": 1.0, "4.bias": 1.0}
    )


def test_lists_of_blocks_count_on_and_lists_inside_of_blocks_do_not() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Sequential(nn.Linear(2, 2)) for _ in range(3))

    model = nn.ModuleDict({name: nn.ModuleList([Block(), Block()]) for name in ("encoder", "between", "decoder")})
    lr = of_each(layerwise_lr(model, lr=1.0, decay=0.5), "lr")
    depth = {name.split(".experts")[0]: math.log2(value) for name, value in lr.items()}
    assert list(depth.values()) == [-5, -4, -3, -2, -1, 0]


def test_depth_of_ones_own() -> None:
    lr = of_each(layerwise_lr(Transformer(), lr=1.0, decay=0.5, depth=lambda name: 2 * ("layers" in name)), "lr")
    assert lr["embedding.weight"] == lr["out.weight"] == 0.25 and lr["body.layers.0.linear1.weight"] == 1.0


def test_layerwise_lr_scales_what_groups_have() -> None:
    model = Transformer()
    lr = of_each(layerwise_lr(by_role(model, {"head": {"lr": 8.0}}), lr=1.0, decay=0.5), "lr")
    assert lr["out.weight"] == 8.0 and lr["norm.weight"] == 1.0
    with pytest.raises(ValueError, match="needs lr"):
        layerwise_lr(model)
    for decay in (0.0, 1.5, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"decay must be in \(0, 1\]"):
            layerwise_lr(model, lr=1.0, decay=decay)


def test_by_name_later_patterns_override() -> None:
    model = Transformer()
    groups = by_name(model, {"*.bias": {"lr": 1.0, "weight_decay": 0.0}, "norm.*": {"lr": 2.0}})
    assert of_each(groups, "lr")["norm.bias"] == 2.0 and of_each(groups, "weight_decay")["norm.bias"] == 0.0
    assert of_each(groups, "lr")["norm.weight"] == 2.0 and of_each(groups, "lr")["out.weight"] is None
    with pytest.raises(ValueError, match=r"'nrom.weight' fits no trained parameter; did you mean 'norm.weight'"):
        by_name(model, {"nrom.weight": {"lr": 2.0}})
    with pytest.raises(ValueError, match=r"a role is one of .*got 'heads'; did you mean 'head'"):
        by_role(model, {"heads": {"lr": 1.0}})


def test_helpers_compose_in_any_order() -> None:
    model = Transformer()

    def settings(groups: Groups) -> dict[str, Any]:
        return {n: (g["lr"], g["weight_decay"]) for g in groups for n, _ in g["params"]}

    one = no_decay(layerwise_lr(model, lr=1.0), 0.1)
    assert settings(one) == settings(layerwise_lr(no_decay(model, 0.1), lr=1.0))
    optimizer = torch.optim.AdamW(one)
    assert {(g["lr"], g["weight_decay"]) for g in optimizer.param_groups} == set(settings(one).values())


def test_parameters_with_the_same_settings_share_a_group() -> None:
    assert len(no_decay(Transformer(), 0.1)) == 2
    assert len(layerwise_lr(Transformer(), lr=1.0)) == 4
    assert len(no_decay(layerwise_lr(Transformer(), lr=1.0), 0.1)) == 4 + 4 - 1, "depth 0 has nothing to decay"


def test_groups_leave_the_model_and_each_other_alone() -> None:
    model = Transformer()
    first = of(model)
    before = [dict(group) for group in first]
    layerwise_lr(no_decay(first, 0.1), lr=1.0)
    torch.optim.AdamW(first)
    assert [dict(group) for group in first] == before
    copied = copy.deepcopy(no_decay(model, 0.1))
    assert [group["weight_decay"] for group in copied] == [0.0, 0.1]


def test_what_is_neither_model_nor_groups() -> None:
    with pytest.raises(TypeError, match="expected a model"):
        no_decay(list(Transformer().parameters()))
    with pytest.raises(ValueError, match="no parameters that are trained"):
        no_decay(Transformer().requires_grad_(False))


def test_the_text_of_groups() -> None:
    text = str(route(Transformer(), lr=1e-3))
    assert text.count("\n") > 30 and text.splitlines()[-1].split()[:2] == ["2", "21"]
    text = repr(no_decay(Transformer(), 0.1))
    assert text == "<parameter groups of Transformer: weight_decay=0.0: 20, weight_decay=0.1: 9>"
