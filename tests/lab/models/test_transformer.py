"""The transformer: causal, aware of order, as large as it says, and with default options what it has always been."""

from __future__ import annotations

import dataclasses
import math
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ravine.lab.models import SIZES, Architecture, Transformer, describe
from ravine.lab.models.transformer import Attention, rotate
from ravine.optim.roles import roles

TINY = SIZES["tiny"]

shapes = st.builds(
    Architecture,
    width=st.sampled_from([16, 32]),
    layers=st.integers(1, 3),
    heads=st.sampled_from([2, 4]),
    context=st.just(24),
    vocabulary=st.sampled_from([7, 256]),
    kv_heads=st.sampled_from([None, 1, 2]),
    mlp=st.sampled_from(["relu2", "gelu", "swiglu"]),
    tied=st.booleans(),
)
"""All options."""


def model_of(shape: Architecture = TINY, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    return Transformer(shape)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_with_default_options_the_weights_are_drawn_as_before_there_were_any(size: str, tied: bool) -> None:
    """Measured figures and recorded studies rest on these draws: the same seed must give the same model, to the bit."""
    shape = dataclasses.replace(SIZES[size], tied=tied)
    model = model_of(shape, seed=3)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    width, layers = shape.width, shape.layers
    names = ["query", "key", "value", "output"]
    drawn: dict[str, Tensor] = {"embedding.weight": nn.Embedding(256, width).weight}
    for i in range(layers):
        drawn[f"blocks.{i}.attention_norm.weight"] = torch.ones(width)
        drawn |= {f"blocks.{i}.attention.{n}.weight": nn.Linear(width, width, bias=False).weight for n in names}
        drawn[f"blocks.{i}.mlp_norm.weight"] = torch.ones(width)
        drawn[f"blocks.{i}.expand.weight"] = nn.Linear(width, 4 * width, bias=False).weight
        drawn[f"blocks.{i}.contract.weight"] = nn.Linear(4 * width, width, bias=False).weight
    drawn["norm.weight"] = torch.ones(width)
    drawn["head.weight"] = nn.Linear(width, 256, bias=False).weight
    for name, p in drawn.items():
        if p.ndim == 2:
            adds = name.endswith(("output.weight", "contract.weight"))
            nn.init.normal_(p, std=p.shape[1] ** -0.5 / (math.sqrt(2 * layers) if adds else 1))
    assert torch.equal(torch.get_rng_state(), after)
    if tied:
        drawn["head.weight"] = drawn["embedding.weight"]
    state = model.state_dict()
    assert list(state) == list(drawn)
    assert all(torch.equal(state[name], drawn[name]) for name in drawn)


def test_with_default_options_the_loss_and_gradients_are_what_they_were_to_the_bit() -> None:
    shape = dataclasses.replace(TINY, layers=2)
    model = model_of(shape)
    windows = torch.randint(256, (3, 30))
    model.loss(windows).backward()

    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    pairs, time = shape.width // shape.heads // 2, 29
    angle = torch.outer(torch.arange(time), 10_000.0 ** (-torch.arange(pairs) / pairs))
    cos, sin = angle.cos().repeat(1, 2), torch.cat((-angle.sin(), angle.sin()), dim=1)

    def turned(x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        return torch.addcmul(x * cos, torch.cat((b, a), dim=-1), sin)

    x = F.embedding(windows[:, :-1], weights["embedding.weight"])
    for i in range(shape.layers):
        w = {name.removeprefix(f"blocks.{i}."): p for name, p in weights.items() if name.startswith(f"blocks.{i}.")}
        y = F.rms_norm(x, (32,), w["attention_norm.weight"])
        q, k, v = (
            F.linear(y, w[f"attention.{name}.weight"]).view(3, time, 2, 16).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        y = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        x = x + F.linear(y.transpose(1, 2).reshape(3, time, 32), w["attention.output.weight"])
        y = F.linear(F.rms_norm(x, (32,), w["mlp_norm.weight"]), w["expand.weight"])
        x = x + F.linear(F.relu(y).square(), w["contract.weight"])
    logits = F.linear(F.rms_norm(x, (32,), weights["norm.weight"]), weights["head.weight"])
    F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).backward()

    assert torch.equal(model(windows[:, :-1]), logits)
    for name, p in model.named_parameters():
        assert torch.equal(p.grad, weights[name].grad), name


def test_sizes_have_as_many_parameters_as_they_say() -> None:
    counts = {}
    for size, shape in SIZES.items():
        with torch.device("meta"):
            counts[size] = describe(Transformer(shape))["parameters"]
    assert counts == {"tiny": 28_768, "small": 853_120, "base": 25_436_672}


@given(shapes)
def test_parameters_are_counted_by_hand(shape: Architecture) -> None:
    c, head = shape.width, shape.width // shape.heads
    hidden = {"relu2": 2 * 4 * c * c, "gelu": 2 * 4 * c * c, "swiglu": 3 * c * {16: 48, 32: 96}[c]}[shape.mlp]
    block = 2 * c * c + 2 * c * head * (shape.kv_heads or shape.heads) + hidden + 2 * c
    expected = shape.layers * block + c + shape.vocabulary * c * (1 if shape.tied else 2)
    assert describe(Transformer(shape))["parameters"] == expected


@given(shapes)
def test_no_position_sees_what_comes_after_it(shape: Architecture) -> None:
    model = model_of(shape)
    tokens = torch.randint(shape.vocabulary, (2, 20))
    changed = tokens.clone()
    changed[:, 12] = (changed[:, 12] + 1) % shape.vocabulary
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12], rtol=1e-6, atol=1e-6)
    assert all(not torch.equal(before[:, t], after[:, t]) for t in range(12, 20))


def test_order_matters() -> None:
    model = model_of()
    one = model(torch.tensor([[5, 6, 7]]))[0, -1]
    other = model(torch.tensor([[6, 5, 7]]))[0, -1]
    assert not torch.allclose(one, other, atol=1e-4)


def test_attention_depends_on_distances_alone() -> None:
    model = model_of()
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def score(i: int, j: int) -> float:
        turned = (
            rotate(q, model.cos[i : i + 1], model.sin[i : i + 1]),
            rotate(k, model.cos[j : j + 1], model.sin[j : j + 1]),
        )
        return (turned[0] * turned[1]).sum().item()

    assert score(3, 1) == pytest.approx(score(23, 21), rel=1e-4)
    assert abs(score(3, 1) - score(3, 2)) > 1e-3
    assert rotate(q, model.cos[9:10], model.sin[9:10]).norm().item() == pytest.approx(q.norm().item(), rel=1e-5)


def test_queries_share_keys_in_groups_of_neighbours() -> None:
    """Grouped-query attention is attention whose keys and values are copied for each query head of the group."""
    torch.manual_seed(0)
    grouped, full = Attention(32, heads=4, kv_heads=2), Attention(32, heads=4)
    full.load_state_dict(
        {
            name: weight.view(2, 1, 8, 32).expand(2, 2, 8, 32).reshape(32, 32) if len(weight) == 16 else weight
            for name, weight in grouped.state_dict().items()
        }
    )
    x, (cos, sin) = torch.randn(3, 7, 32), torch.randn(2, 7, 8)
    torch.testing.assert_close(grouped(x, cos, sin), full(x, cos, sin))


@pytest.mark.parametrize("mlp", ["relu2", "gelu", "swiglu"])
def test_the_perceptron_is_the_one_that_was_asked_for(mlp: Any) -> None:
    block = model_of(dataclasses.replace(TINY, mlp=mlp)).blocks[0]
    nn.init.zeros_(block.attention.output.weight)
    x, nowhere = torch.randn(2, 5, 32), torch.zeros(5, 16)
    y = x / (x.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()
    hidden = y @ block.expand.weight.T
    if mlp == "relu2":
        hidden = hidden.clamp(min=0) ** 2
    elif mlp == "gelu":
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    else:
        gate = y @ block.gate.weight.T
        hidden = hidden * gate * torch.sigmoid(gate)
    torch.testing.assert_close(block(x, nowhere, nowhere), x + hidden @ block.contract.weight.T, rtol=1e-4, atol=1e-5)


@given(shapes)
def test_every_parameter_learns(shape: Architecture) -> None:
    model = model_of(shape)
    model.loss(torch.randint(shape.vocabulary, (4, 25))).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@given(shapes)
def test_the_roles_of_its_parameters_are_found_whatever_the_options(shape: Architecture) -> None:
    model = model_of(shape)
    found = {role.name: role for role in roles(model)}
    hidden = {name for name, _ in model.hidden_matrices()}
    assert {name for name, role in found.items() if role.kind == "matrix"} == hidden
    assert all(found[name].split is None for name in hidden)
    assert [name for name, role in found.items() if role.kind == "head"] == (
        ["embedding.weight"] if shape.tied else ["head.weight"]
    )


def test_loss_is_the_cross_entropy_of_the_next_byte() -> None:
    model = model_of()
    windows = torch.randint(256, (3, 11))
    log_p = model(windows[:, :-1]).log_softmax(-1)
    by_hand = -sum(log_p[b, t, windows[b, t + 1]].item() for b in range(3) for t in range(10)) / 30
    assert model.loss(windows).item() == pytest.approx(by_hand, rel=1e-5)
    assert by_hand == pytest.approx(math.log(256), abs=1.5)


def test_a_tied_head_is_the_embedding() -> None:
    tied = model_of(dataclasses.replace(TINY, tied=True))
    assert tied.head.weight is tied.embedding.weight
    free = sum(p.numel() for p in model_of().parameters())
    assert sum(p.numel() for p in tied.parameters()) == free - 256 * TINY.width


def test_a_model_can_be_pickled() -> None:
    model = model_of(dataclasses.replace(TINY, kv_heads=1, mlp="swiglu", tied=True))
    tokens = torch.randint(256, (1, 9))
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(tokens), model(tokens)) and again.head.weight is again.embedding.weight


def test_a_description_is_plain_and_looks_through_wrappers() -> None:
    shape = dataclasses.replace(TINY, vocabulary=100, kv_heads=1)
    model = Transformer(shape)
    model.embedding.requires_grad_(False)
    expected = {
        "name": "Transformer",
        "parameters": 2 * 100 * 32 + 32 + (2 * 32 * 32 + 2 * 32 * 16 + 8 * 32 * 32 + 2 * 32),
        "trained": 100 * 32 + 32 + (2 * 32 * 32 + 2 * 32 * 16 + 8 * 32 * 32 + 2 * 32),
        "vocabulary": 100,
        "context": 32,
        "architecture": dataclasses.asdict(shape),
    }
    assert describe(model) == expected
    assert describe(nn.DataParallel(model)) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "width must be a multiple of 2 * heads = 6, got 32"),
        ({"layers": 0}, "layers must be a whole number of at least 1, got 0"),
        ({"context": True}, "context must be a whole number of at least 1, got True"),
        ({"width": 32.0}, "width must be a whole number of at least 1, got 32.0"),
        ({"vocabulary": -5}, "vocabulary must be a whole number of at least 1, got -5"),
        ({"kv_heads": 0}, "kv_heads must be a whole number of at least 1, got 0"),
        ({"heads": 4, "kv_heads": 3}, "kv_heads must divide heads = 4, got 3"),
        ({"mlp": "relu"}, "mlp must be one of relu2, gelu, swiglu, got 'relu'"),
        ({"tied": 1}, "tied must be true or false, got 1"),
    ],
)
def test_an_impossible_shape_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        dataclasses.replace(TINY, **change)
    assert str(error.value) == message


def test_more_tokens_than_the_context_are_refused() -> None:
    with pytest.raises(ValueError, match="the model's context is 32 tokens, got 33"):
        model_of()(torch.zeros(1, 33, dtype=torch.long))
