"""What each parameter of a model is: by the types of its modules, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import nn

from ravine.optim.roles import Role, roles
from ravine.optim.structure import repeated_blocks
from small_models import (
    GPT2,
    Convolutional,
    Experts,
    GatedMLP,
    GroupedAttention,
    Recurrent,
    Transformer,
    VisionTransformer,
)


def of(model: nn.Module, **options: object) -> dict[str, Role]:
    return {role.name: role for role in roles(model, **options)}


def named(found: Iterable[Role], kind: str) -> set[str]:
    return {role.name for role in found if role.kind == kind}


def test_a_transformer() -> None:
    found = of(Transformer())
    assert named(found.values(), "matrix") == {
        f"body.layers.{i}.{name}"
        for i in range(2)
        for name in ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
    }
    assert named(found.values(), "embedding") == {"embedding.weight"}
    assert named(found.values(), "head") == {"out.weight"}
    assert named(found.values(), "free") == {"positions"}
    assert len(named(found.values(), "norm")) == 2 * 2 * 2 + 2
    assert len(named(found.values(), "bias")) == 2 * 4
    assert found["body.layers.0.self_attn.in_proj_weight"].split == 3
    assert found["body.layers.0.linear1.weight"].split is None
    assert list(found) == [name for name, _ in Transformer().named_parameters()]


def test_a_tied_head_is_one_parameter_under_both_names() -> None:
    found = of(Transformer(tied=True))
    head = found["embedding.weight"]
    assert head.kind == "head" and head.names == ("embedding.weight", "out.weight")
    assert head.matches("out.*") and "embedding" in head.unfit and "tied to embedding.weight" in head.why
    assert "out.weight" not in found
    assert named(found.values(), "embedding") == set()


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, None)])
def test_the_gates_of_recurrent_layers(kind: type[nn.RNNBase], gates: int | None) -> None:
    found = of(Recurrent(kind, num_layers=2, bidirectional=False))
    weights = [f"recurrent.weight_{which}_l{i}" for i in range(2) for which in ("ih", "hh")]
    assert named(found.values(), "matrix") == set(weights)
    assert {found[name].split for name in weights} == {gates}
    assert named(found.values(), "head") == {"out.weight"}
    assert named(found.values(), "embedding") == {"words.weight"}
    cell = {nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell, nn.RNN: nn.RNNCell}[kind]
    assert {role.split for role in roles(cell(3, 4)) if role.kind == "matrix"} == {gates}


def test_the_projection_of_an_lstm_is_one_matrix() -> None:
    assert of(Recurrent(nn.LSTM, proj_size=3))["recurrent.weight_hr_l0"].split is None


def test_a_recurrent_layer_whose_gates_are_single_rows_has_no_matrix() -> None:
    assert named(roles(nn.LSTM(3, 1)), "matrix") == set()


def test_convolutions() -> None:
    found = of(Convolutional())
    assert found["stem.weight"].kind == "matrix" and found["stem.weight"].split is None
    assert found["blocks.0.second.weight"].split == 2, "a convolution of two groups is two matrices"
    assert found["depthwise.weight"].kind == "vector", "a depthwise convolution has one row of each channel"
    assert "4 groups" in found["depthwise.weight"].unfit
    assert found["up.weight"].kind == "matrix"
    assert found["blocks.1.norm.weight"].kind == found["blocks.1.norm.bias"].kind == "norm"
    assert named(found.values(), "head") == {"classifier.weight"}
    to_one_channel = roles(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3), nn.Conv2d(1, 4, 3)), head=())
    assert [role.kind for role in to_one_channel][::2] == ["matrix", "vector", "matrix"]


def test_gpt2_has_transposed_weights_and_a_tied_head() -> None:
    found = of(GPT2())
    fused = found["h.0.attn.c_attn.weight"]
    assert (fused.kind, fused.split, fused.transposed) == ("matrix", 3, True)
    other = found["h.1.c_fc.weight"]
    assert (other.kind, other.split, other.transposed) == ("matrix", None, True)
    assert named(found.values(), "head") == {"lm_head.weight"}
    assert set(found["lm_head.weight"].names) == {"lm_head.weight", "wte.weight"}


def test_fused_attention_is_told_by_the_numbers_of_its_module() -> None:
    found = of(nn.ModuleList([GroupedAttention(), GatedMLP()]), head=())
    assert found["0.qkv_proj.weight"].split == (12, 6, 6)
    assert found["0.o_proj.weight"].split is None
    assert found["1.gate_up.weight"].split is None, "the feed-forward layer only shares the attention's config"


def test_query_projections_of_grouped_attention_are_not_taken_for_fused_ones() -> None:
    attention = nn.Module()
    attention.num_heads, attention.num_kv_heads, attention.head_dim = 4, 2, 3
    attention.q, attention.k = nn.Linear(12, 12), nn.Linear(12, 6)
    assert {role.split for role in roles(attention, head=())} == {None}


@pytest.mark.parametrize("transposed", [False, True])
def test_experts_are_stacks_of_matrices(transposed: bool) -> None:
    found = of(nn.Sequential(Experts(transposed), nn.Linear(8, 4)))
    for name in ("0.gate_up", "0.down"):
        assert (found[name].kind, found[name].split, found[name].transposed) == ("matrix", "stack", transposed)
    assert found["0.down_offset"].kind == "free"
    assert found["1.weight"].kind == "head"


def test_a_vision_transformer() -> None:
    found = of(VisionTransformer())
    assert found["cls_token"].kind == "vector"
    assert found["pos_embed"].kind == "free" and found["pos_embed"].unfit
    assert found["patch_embed.0.weight"].kind == "matrix"
    assert found["blocks.2.qkv.weight"].split == 3
    assert named(found.values(), "head") == {"head.weight"}, "its method tells, not the order"
    assert named(roles(VisionTransformer(classes=0)), "head") == set()


def test_unknown_modules_hold_matrices_only_where_that_is_sure() -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places = nn.Parameter(torch.randn(4, 4))

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))
            self.inner = nn.Linear(4, 4)

    class MyNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))

    found = of(nn.Sequential(Dense(), Table(), Holder(), MyNorm(), nn.Linear(4, 2)))
    kinds = {name: role.kind for name, role in found.items() if "bias" not in name}
    assert kinds == {
        "0.weight": "matrix", "1.places": "free", "2.weight": "free", "2.inner.weight": "matrix", "3.scale": "norm",
        "4.weight": "head",
    }  # fmt: skip


def test_vectors_of_every_shape() -> None:
    holder = nn.Module()
    for i, shape in enumerate([(), (3,), (1, 3), (3, 1), (1, 1, 3)]):
        holder.register_parameter(f"p{i}", nn.Parameter(torch.ones(shape)))
    assert [role.kind for role in roles(holder)] == ["vector"] * 5
    assert all(role.unfit for role in roles(holder))
    assert [role.kind for role in roles(nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 4), nn.Linear(4, 1)))] == [
        "vector", "bias", "matrix", "bias", "head", "bias"
    ]  # fmt: skip


def test_frozen_parameters_are_left_out_but_still_tell_where_the_head_is() -> None:
    model = Transformer()
    model.out.requires_grad_(False)
    model.embedding.requires_grad_(False)
    found = of(model)
    assert not {"out.weight", "embedding.weight"} & set(found)
    assert named(found.values(), "head") == set()


def test_a_head_registered_first_is_found_by_its_outputs() -> None:
    model = nn.ModuleDict({"head": nn.Linear(8, 50), "embedding": nn.Embedding(50, 8), "body": nn.Linear(8, 8)})
    assert named(roles(model), "head") == {"head.weight"}


def test_among_layers_with_as_many_outputs_as_words_the_last_is_the_head() -> None:
    model = nn.Sequential(nn.Embedding(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    assert named(roles(model), "head") == {"2.weight"}


def test_a_backbone_has_no_head() -> None:
    model = Transformer()
    del model.out
    assert named(roles(model), "head") == set()
    assert named(roles(nn.LSTM(3, 4)), "head") == set()
    assert named(roles(nn.Sequential(nn.Linear(4, 8), nn.MultiheadAttention(8, 2))), "head") == set()


def test_the_head_that_is_named() -> None:
    two = nn.ModuleDict({"body": nn.Linear(4, 8), "policy": nn.Linear(8, 3), "value": nn.Linear(8, 2)})
    both = {"policy.weight", "value.weight"}
    assert named(roles(two), "head") == {"value.weight"}
    assert named(roles(two, head=["policy", "value"]), "head") == both
    assert named(roles(two, head=[two["policy"], "val*.weight"]), "head") == both
    assert named(roles(two, head=()), "head") == set()
    with pytest.raises(ValueError, match="'polisy' fits no module or parameter of the model; did you mean 'policy'"):
        roles(two, head="polisy")
    with pytest.raises(ValueError, match="another Linear"):
        roles(two, head=nn.Linear(8, 3))
    with pytest.raises(TypeError, match="pattern of names"):
        roles(two, head=[3])


def test_parametrizations_are_looked_through() -> None:
    parametrizations = torch.nn.utils.parametrizations
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5), nn.LSTM(5, 5), nn.Linear(5, 2))
    parametrizations.orthogonal(model[0])
    parametrizations.weight_norm(model[1])
    parametrizations.spectral_norm(model[2], "weight_hh_l0")
    parametrizations.weight_norm(model[3])
    found = of(model)
    assert found["0.parametrizations.weight.original"].kind == "matrix"
    assert found["1.parametrizations.weight.original0"].kind == "vector"
    assert found["1.parametrizations.weight.original1"].kind == "matrix"
    assert found["2.parametrizations.weight_hh_l0.original"].split == 4
    assert found["3.parametrizations.weight.original1"].kind == "head"


def test_compiled_and_data_parallel_models_have_the_same_roles() -> None:
    plain = [(role.name, role.kind, role.split) for role in roles(Transformer())]
    compiled, inside = torch.compile(Transformer()), Transformer()
    inside.body.layers[0] = torch.compile(inside.body.layers[0])
    for model in (compiled, nn.DataParallel(Transformer()), nn.DataParallel(compiled), inside):
        assert [(role.name, role.kind, role.split) for role in roles(model)] == plain
    assert repeated_blocks(inside) == {"body.layers.0": 1, "body.layers.1": 2}


def test_adapters_around_frozen_layers() -> None:
    """The build of peft: a frozen layer, and two trained ones beside it, inside a wrapper that passes methods on."""

    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base_layer = base.requires_grad_(False)
            self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 2, bias=False)})
            self.lora_B = nn.ModuleDict({"default": nn.Linear(2, base.out_features, bias=False)})

    class Wrapper(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.base_model = model

        def get_output_embeddings(self) -> nn.Module:
            return self.base_model.out

    model = Transformer().requires_grad_(False)
    model.body.layers[0].linear1 = Adapted(model.body.layers[0].linear1)
    found = roles(Wrapper(model))
    prefix = "base_model.body.layers.0.linear1.lora_"
    assert [(role.name, role.kind) for role in found] == [
        (f"{prefix}A.default.weight", "matrix"),
        (f"{prefix}B.default.weight", "matrix"),
    ]


def test_flattened_parameters_are_vectors() -> None:
    class FlatParameter(nn.Parameter):
        pass

    model = nn.Linear(3, 3)
    model.register_parameter("_flat", FlatParameter(torch.ones(12)))
    assert of(model)["_flat"].kind == "vector" and "flattened" in of(model)["_flat"].unfit


def test_what_is_no_model() -> None:
    with pytest.raises(TypeError, match="takes a model"):
        roles(nn.Linear(2, 2).parameters())


def test_hugging_face_models() -> None:
    transformers = pytest.importorskip("transformers")
    small = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 0}
    gpt2 = of(transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, **small)))
    assert (
        gpt2["transformer.h.0.attn.c_attn.weight"].split,
        gpt2["transformer.h.0.attn.c_attn.weight"].transposed,
    ) == (3, True)
    assert gpt2["transformer.h.0.mlp.c_fc.weight"].split is None
    assert named(gpt2.values(), "head") == {"transformer.wte.weight"}
    assert named(gpt2.values(), "embedding") == {"transformer.wpe.weight"}
    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    llama = of(transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=1, **shape, **small)))
    assert named(llama.values(), "head") == {"lm_head.weight"}
    assert len(named(llama.values(), "matrix")) == 7
    assert {role.split for role in llama.values()} == {None}
    assert len(named(llama.values(), "norm")) == 3


def test_timm_models() -> None:
    timm = pytest.importorskip("timm", exc_type=Exception)
    found = of(timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=10))
    assert found["blocks.0.attn.qkv.weight"].split == 3
    assert named(found.values(), "head") == {"head.weight"}
    assert found["pos_embed"].kind == "free"
