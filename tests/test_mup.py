"""muP: the table of Tensor Programs V, exactly, on networks whose neurons are copied; and what is done to a model."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ravine
from ravine.lab.models.transformer import Architecture, Attention, Transformer
from ravine.optim import mup
from ravine.optim.mup.rates import lr_multiplier

VOCABULARY, BASE = 11, 6


class Tied(nn.Module):
    """Embedding, two hidden layers with biases, a norm's gain, and a readout; tied to the embedding or not."""

    def __init__(self, width: int, tied: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.first = nn.Linear(width, width)
        self.gain = nn.Parameter(torch.ones(width))
        self.second = nn.Linear(width, 2 * width)
        self.third = nn.Linear(2 * width, width, bias=False)
        self.head = nn.Linear(width, VOCABULARY)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = torch.tanh(self.first(self.embedding(tokens))) * self.gain
        return self.head(self.third(torch.tanh(self.second(x))))


def rms(x: Tensor) -> float:
    return x.detach().double().square().mean().sqrt().item()


# Sides


def kinds(model: nn.Module, base: nn.Module) -> dict[str, tuple[str, float, float]]:
    return {s.name: (s.kind, s.fan_in, s.fan_out) for s in mup.compare(model, base)}


@pytest.mark.parametrize("tied", [False, True])
def test_sides_that_grow(tied: bool) -> None:
    found = kinds(Tied(24, tied), Tied(6, tied))
    head = {} if tied else {"head.weight": ("vector", 4, 1)}
    assert found == {
        "embedding.weight": ("vector", 1, 4), "first.weight": ("matrix", 4, 4), "first.bias": ("vector", 1, 4),
        "gain": ("vector", 1, 4), "second.weight": ("matrix", 4, 4), "second.bias": ("vector", 1, 4),
        "third.weight": ("matrix", 4, 4), **head, "head.bias": ("fixed", 1, 1),
    }  # fmt: skip


def test_sides_of_convolutions_and_of_layers_that_grow_unlike() -> None:
    def build(n: int, m: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, n, 3), nn.Conv2d(n, m, 3), nn.ConvTranspose2d(m, n, 3), nn.Conv2d(n, 5, 1))

    assert kinds(build(16, 12), build(8, 4)) == {
        "0.weight": ("vector", 1, 2), "0.bias": ("vector", 1, 2), "1.weight": ("matrix", 2, 3),
        "1.bias": ("vector", 1, 3), "2.weight": ("matrix", 3, 2), "2.bias": ("vector", 1, 2),
        "3.weight": ("vector", 2, 1), "3.bias": ("fixed", 1, 1),
    }  # fmt: skip


def test_gpt2s_conv1d_is_stored_the_other_way_round() -> None:
    class Conv1D(nn.Module):
        def __init__(self, out: int, into: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(into, out))

    found = kinds(nn.Sequential(Conv1D(12, 8), Conv1D(5, 12)), nn.Sequential(Conv1D(4, 2), Conv1D(5, 4)))
    assert found == {"0.weight": ("matrix", 4, 3), "1.weight": ("vector", 3, 1)}


@pytest.mark.parametrize(
    ("message", "model", "base"),
    [
        ("only model has 2.bias, 2.weight", nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)),
         nn.Sequential(nn.Linear(2, 4), nn.ReLU())),
        ("only base has bias", nn.Linear(4, 4, bias=False), nn.Linear(2, 2)),
        ("dimensions in model and 3 in base", nn.Conv2d(4, 4, 3), nn.Conv1d(2, 2, 3)),
        ("number of embeddings must not change", nn.Embedding(20, 8), nn.Embedding(10, 4)),
        ("only its input and output sides", nn.Conv1d(4, 4, 5), nn.Conv1d(2, 2, 3)),
        ("a side of 4 in base is 8 in 0.weight of model and 12 in 1.weight",
         nn.Sequential(nn.Linear(3, 8), nn.Linear(12, 3)), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))),
    ],
)  # fmt: skip
def test_models_that_are_not_one_model_at_two_widths_are_refused(
    message: str, model: nn.Module, base: nn.Module
) -> None:
    with pytest.raises(ValueError, match=message):
        mup.compare(model, base)


def test_equal_shapes_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="nothing is scaled"):
        groups = mup.groups(Tied(6), Tied(6), lr=0.1, weight_decay=None)
    assert [group["lr"] for group in groups] == [0.1]


# Kinds of updates

KINDS = {
    "adam": ("adam", "adamw", "amsgrad", "lion", "rmsprop", "adagrad", "radam", "cautious(adamw)", "lookahead(adamw)"),
    "sgd": ("sgd", "momentum"),
    "relative": ("lamb",),
    "muon": ("muon",),
}
EACH = [(kind, rule) for kind, rules in KINDS.items() for rule in rules if "(" in rule or rule in ravine.available()]


@pytest.mark.parametrize(("kind", "rule"), EACH)
def test_rules_are_of_the_kind_that_the_table_says(kind: str, rule: str) -> None:
    assert mup.measure(rule) == mup.UPDATES[kind]


def test_other_optimizers_are_measured_too() -> None:
    def muon(**settings: Any) -> Callable[[Any], torch.optim.Optimizer]:
        return lambda params: torch.optim.Muon(params, lr=1e-3, weight_decay=0.0, **settings)

    assert mup.measure(muon()) == mup.UPDATES["muon"]
    assert mup.measure(muon(adjust_lr_fn="match_rms_adamw")) == mup.UPDATES["muon_rms"]
    assert mup.measure(lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9)) == mup.UPDATES["sgd"]
    assert mup.measure("sgd", momentum=0.9, nesterov=True) == mup.UPDATES["sgd"]


def test_what_follows_no_power_is_said() -> None:
    with pytest.raises(ValueError, match=r"follows no power of the sizes \(gradient 0\.[2-8]"):
        mup.measure("adamw", eps=1.0)
    with pytest.raises(ValueError, match="a matrix did not move"):
        mup.measure("adamw", lr=0.0)


# Copied neurons. A network whose every hidden neuron is there m times, with the weights between hidden neurons divided
# by m, is the same function; in muP it stays that function: each step changes the copies as it changes the original.


def copied(base: nn.Module, tied: bool, m: int) -> nn.Module:
    wide = Tied(m * BASE, tied).double()
    for s in mup.compare(wide, base):
        p = s.base.detach()
        if s.kind == "matrix":
            p = p.repeat_interleave(m, 0).repeat_interleave(m, 1) / m
        elif s.kind == "vector":
            p = p.repeat_interleave(m, -1)
        s.parameter.data.copy_(p)
    return wide


class Polar(torch.optim.Optimizer):
    """Muon without momentum, its orthogonalization by a singular value decomposition; AdamW's sizes if asked for."""

    def __init__(self, params: Any, lr: float = 0.1, match_rms: bool = False) -> None:
        super().__init__(params, {"lr": lr, "match_rms": match_rms})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                left, size, right = torch.linalg.svd(p.grad, full_matrices=False)
                scale = 0.2 * max(p.shape) ** 0.5 if group["match_rms"] else max(1, p.shape[0] / p.shape[1]) ** 0.5
                p -= group["lr"] * scale * (left * (size > 1e-9 * size[0])) @ right


TOKENS = torch.randint(VOCABULARY, (2, 30), generator=torch.Generator().manual_seed(5))


def after_training(model: nn.Module, optimizers: list[torch.optim.Optimizer], steps: int = 6) -> Tensor:
    for _ in range(steps):
        model.zero_grad()
        F.cross_entropy(model(TOKENS[0]), TOKENS[1]).backward()
        for optimizer in optimizers:
            optimizer.step()
    return model(TOKENS[0]).detach()


def pair(tied: bool = False, m: int = 4) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A base model twice, one to train and one to compare with, and its wide copy."""
    torch.manual_seed(1)
    base = Tied(BASE, tied).double()
    wide = copied(base, tied, m)
    mup.scale_readout(wide, base)
    torch.testing.assert_close(wide(TOKENS[0]), base(TOKENS[0]), rtol=1e-12, atol=1e-13)
    return copy.deepcopy(base), base, wide


SETTINGS: dict[str, dict[str, Any]] = {
    "adamw": {"lr": 0.05, "eps": 1e-30}, "torch.AdamW": {"lr": 0.05, "eps": 1e-30}, "lion": {"lr": 0.02},
    "sgd": {"lr": 0.5, "momentum": 0.9, "decay": "lr"},
}  # fmt: skip


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_copied_neurons_stay_copies(name: str, tied: bool) -> None:
    """TP V, Table 8, for Adam-like rules and SGD, with weight decay: the same function after every step."""
    narrow, base, wide = pair(tied)
    make: Any = torch.optim.AdamW if name == "torch.AdamW" else lambda p, **s: ravine.create(name, p, **s)
    settings = {**SETTINGS[name], "weight_decay": 0.1}
    update = "adam" if name == "torch.AdamW" else name
    groups = mup.groups(wide, base, settings["lr"], update=update, weight_decay=0.1)
    assert len({group["lr"] for group in groups}) == 2
    expected = after_training(narrow, [make(narrow.parameters(), **settings)])
    found = after_training(wide, [make(groups, **settings)])
    assert (expected - base(TOKENS[0])).abs().mean() > 0.3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("decay", ["lr", "schedule", "lr_squared"])
def test_decay_takes_the_same_share_at_every_width(decay: Any) -> None:
    narrow, base, wide = pair()
    settings = {"lr": 0.05, "eps": 1e-30, "decay": decay, "weight_decay": 1.0 if decay == "lr_squared" else 0.05}
    groups = mup.groups(wide, base, 0.05, weight_decay=settings["weight_decay"], decay=decay)
    expected = after_training(narrow, [ravine.AdamW(narrow.parameters(), **settings)])
    found = after_training(wide, [ravine.AdamW(groups, **settings)])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_l2_takes_the_same_share_under_sgd() -> None:
    narrow, base, wide = pair()
    groups = mup.groups(wide, base, 0.3, update="sgd", weight_decay=0.01, decay="l2")
    expected = after_training(narrow, [ravine.SGD(narrow.parameters(), lr=0.3, momentum=0.9, weight_decay=0.01)])
    found = after_training(wide, [ravine.SGD(groups, lr=0.3, momentum=0.9)])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("match_rms", [False, True])
def test_orthogonalized_updates_of_matrices_beside_adam(match_rms: bool) -> None:
    """Two calls of `groups`, by `where`, make the groups of two rules."""
    narrow, base, wide = pair()
    kind = "muon_rms" if match_rms else "muon"
    hidden = mup.groups(wide, base, 0.1, weight_decay=None, update=kind, where=lambda s: s.kind == "matrix")
    rest = mup.groups(wide, base, 0.05, weight_decay=0.0, where=lambda s: s.kind != "matrix")
    assert [group["lr"] for group in hidden] == [0.1 / 2 if match_rms else 0.1]
    matrices = [p for name, p in narrow.named_parameters() if name in ("first.weight", "second.weight", "third.weight")]
    others = [p for p in narrow.parameters() if all(p is not q for q in matrices)]
    adam: dict[str, Any] = {"lr": 0.05, "eps": 1e-30, "weight_decay": 0.0}
    expected = after_training(narrow, [Polar(matrices, 0.1, match_rms), ravine.AdamW(others, **adam)])
    found = after_training(wide, [Polar(hidden, 0.1, match_rms), ravine.AdamW(rest, **adam)])
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)


def test_without_mup_the_copies_part() -> None:
    narrow, _, wide = pair()
    settings: dict[str, Any] = {"lr": 0.05, "eps": 1e-30}
    expected = after_training(narrow, [ravine.AdamW(narrow.parameters(), **settings)])
    found = after_training(wide, [ravine.AdamW(wide.parameters(), **settings)])
    assert (found - expected).abs().mean() > 0.3


def test_groups_are_named_and_hold_every_trained_parameter_once() -> None:
    base, wide = Tied(6), Tied(24)
    wide.gain.requires_grad_(False)
    mup.scale_readout(wide, base)
    groups = mup.groups(wide, base, 0.1, weight_decay=0.2)
    names = [name for group in groups for name, _ in group["params"]]
    assert sorted(names) == sorted(name for name, p in wide.named_parameters() if p.requires_grad)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [
        ("vector", 0.1, 0.2), ("matrix, lr × 0.25", 0.025, 0.8), ("fixed", 0.1, 0.2)
    ]  # fmt: skip
    for made in (torch.optim.AdamW(groups, lr=1.0), ravine.AdamW(groups, lr=1.0)):
        assert [group["lr"] for group in made.param_groups] == [0.1, 0.025, 0.1]
    assert all("weight_decay" not in group for group in mup.groups(wide, base, 0.1, weight_decay=None))


def test_relative_steps_are_scaled_by_the_root() -> None:
    """LAMB moves in proportion to the weights, which shrink as 1/√width: lr ∝ 1/√width makes the move ∝ 1/width."""
    (matrix, *_) = (s for s in mup.compare(nn.Linear(64, 64), nn.Linear(16, 16)) if s.kind == "matrix")
    assert lr_multiplier(mup.UPDATES["relative"], matrix) == 0.5


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("update must be one of 'adam', .*, or the name of a rule, got 'adamv'", {"update": "adamv"}),
        ("decay must be one of 'lr', 'schedule', 'lr_squared', 'l2', got 'L2'", {"decay": "L2"}),
        ("no size that holds for all widths", {"decay": "l2", "weight_decay": 0.1}),
        ("gain is a vector, and this update is for matrices", {"update": "muon"}),
    ],
)
def test_wrong_groups_are_refused(message: str, settings: dict[str, Any]) -> None:
    base, wide = Tied(6), Tied(24)
    mup.scale_readout(wide, base)
    with pytest.raises(ValueError, match=message):
        mup.groups(wide, base, 0.1, **{"weight_decay": None, **settings})


def test_sides_that_grow_unlike_are_refused_under_an_update_that_knows_the_shape() -> None:
    with pytest.raises(ValueError, match="have grown by 2 and 4"):
        lr_multiplier(mup.UPDATES["muon"], mup.compare(nn.Linear(16, 12), nn.Linear(4, 6))[0])


# The model


def built(width: int, init: str) -> Tied:
    model = Tied(width)
    for name, p in model.named_parameters():
        if init == "one size" and p.ndim == 2:  # as GPT-2's 0.02
            nn.init.normal_(p, std=0.02)
        elif init == "by fan-in" and p.ndim == 2 and "embedding" not in name:
            nn.init.normal_(p, std=p.shape[1] ** -0.5)
    nn.init.zeros_(model.first.bias)
    return model


@pytest.mark.parametrize("init", ["one size", "by fan-in", "torch's"])
def test_initial_sizes_are_those_of_table_8_whatever_the_models_own(init: str) -> None:
    """Variance 1/fan-in for matrices, independent of the width for vectors, measured from the base."""
    torch.manual_seed(0)
    base, wide = built(64, init), built(256, init)
    mup.initialise(wide, base)
    for s in mup.compare(wide, base):
        expected = rms(s.base) / (2 if s.kind == "matrix" else 1)
        assert rms(s.parameter) == pytest.approx(expected, rel=1e-6), s.name
    assert torch.equal(wide.gain, torch.ones(256)) and torch.equal(wide.first.bias, torch.zeros(256))


def test_a_readout_at_zero_stays_there_and_bad_models_stay_as_they_are() -> None:
    base, wide = Tied(6), Tied(24)
    nn.init.zeros_(base.head.weight)
    mup.initialise(wide, base)
    assert not wide.head.weight.any()
    before = copy.deepcopy(wide.state_dict())
    with pytest.raises(ValueError, match=r"head\.weight is zero in model and not in base"):
        mup.initialise(wide, Tied(6))
    with torch.device("meta"):
        nowhere = Tied(6)
    with pytest.raises(ValueError, match="values of base, which is on the meta device"):
        mup.initialise(wide, nowhere)
    assert all(torch.equal(p, before[name]) for name, p in wide.state_dict().items())
    assert mup.scale_readout(wide, nowhere) == {"head": 0.25}
    assert len(mup.groups(wide, nowhere, 0.1, weight_decay=None)) == 3


@pytest.mark.parametrize("tied", [False, True])
def test_the_readout_is_multiplied_and_nothing_else(tied: bool) -> None:
    base, wide = Tied(6, tied), Tied(24, tied)
    keys, x = list(wide.state_dict()), torch.randn(5, 24)
    assert mup.scale_readout(wide, base) == {"head": 0.25}
    assert mup.scale_readout(wide, base) == {"head": 0.25}
    expected = F.linear(x / 4, wide.head.weight, wide.head.bias)
    assert list(wide.state_dict()) == keys
    assert torch.equal(wide.embedding(TOKENS[0]), wide.embedding.weight[TOKENS[0]])
    for model in (wide, copy.deepcopy(wide), pickle.loads(pickle.dumps(wide))):
        assert torch.equal(model.head(x), expected)


def test_the_readout_is_compiled_and_loaded() -> None:
    base, wide, later = Tied(6), Tied(24), Tied(24)
    mup.scale_readout(wide, base)
    compiled = torch.compile(wide, backend="eager", fullgraph=True)
    assert torch.equal(compiled(TOKENS[0]), wide(TOKENS[0]))
    later.load_state_dict(wide.state_dict())
    assert not torch.equal(later(TOKENS[0]), wide(TOKENS[0]))
    mup.scale_readout(later, base)
    assert torch.equal(later(TOKENS[0]), wide(TOKENS[0]))


def test_a_readout_that_is_not_multiplied_is_found() -> None:
    base, wide = Tied(6), Tied(24)
    with pytest.raises(ValueError, match="readout 'head' is 4 times as wide as in base and not scaled"):
        mup.groups(wide, base, 0.1, weight_decay=None)
    mup.scale_readout(wide, Tied(12))
    with pytest.raises(ValueError, match="readout 'head'"):
        mup.groups(wide, base, 0.1, weight_decay=None)
    assert len(mup.groups(wide, base, 0.1, weight_decay=None, own_readout_scale=True)) == 3


def test_attention_is_divided_by_the_width_of_the_heads() -> None:
    """TP V, Definition 4.1: logits q·k·√d₀/d; 8/d for d₀ = 64. `scale_attention` twice is once."""
    torch.manual_seed(0)
    attention, x = Attention(64, heads=2), torch.randn(3, 5, 64)
    cos, sin = torch.ones(5, 32), torch.zeros(5, 32)
    for _ in range(2):
        mup.scale_attention([attention.query], head_width=32, base_head_width=8)
    q, k, v = (
        F.linear(x, layer.weight).view(3, 5, 2, 32).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=8**0.5 / 32)
    expected = attention.output(y.transpose(1, 2).reshape(3, 5, 64))
    torch.testing.assert_close(attention(x, cos, sin), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="head_width must be at least 1, got 0"):
        mup.scale_attention([attention.query], 0, 8)


def test_the_labs_model_has_its_readout_found() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for tied in (False, True):
            base, wide = (Transformer(Architecture(n, layers=1, heads=2, context=8, tied=tied)) for n in (16, 48))
            mup.initialise(wide, base)
            assert mup.scale_readout(wide, base) == {"head": pytest.approx(1 / 3)}
            assert {g["name"] for g in mup.groups(wide, base, 0.1, weight_decay=None)} == {
                "vector",
                "matrix, lr × 0.3333",
            }
