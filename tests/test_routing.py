"""Muon on the matrices, AdamW on the rest: one line, and every way to get it wrong is an error."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.nn import Parameter

import ravine
from ravine.compose import cautious
from ravine.optim.grouping import Groups, by_name, layerwise_lr, no_decay
from ravine.optim.routing import route
from ravine.rules.muon import muon
from small_models import GPT2, Convolutional, Experts, Recurrent, Transformer

MATRIX_RULES = ["muon", "normuon", "soap", "shampoo"]


def names(groups: Groups, rule: str) -> set[str]:
    return {name for group in groups if group["rule"].name == rule for name, _ in group["params"]}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    words = torch.randint(50, (4, 6), generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(words).flatten(0, 1), words.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_every_parameter_goes_to_exactly_one_rule() -> None:
    model = Transformer(tied=True)
    groups = route(model)
    assert names(groups, "muon") == {
        f"body.layers.{i}.{name}"
        for i in range(2)
        for name in ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
    }
    routed = [p for group in groups for _, p in group["params"]]
    assert len(routed) == len(set(routed)) and set(routed) == set(model.parameters())


def test_groups_say_which_matrices_a_parameter_is_made_of() -> None:
    def forms(model: nn.Module) -> dict[str, tuple[object, object]]:
        groups = route(model)
        return {n: (g.get("split"), g.get("transposed")) for g in groups for n, _ in g["params"] if len(g) > 2}

    assert forms(Transformer())["body.layers.0.self_attn.in_proj_weight"] == (3, None)
    gpt2 = forms(GPT2())
    assert gpt2["h.0.attn.c_attn.weight"] == (3, True) and gpt2["h.0.c_fc.weight"] == (None, True)
    assert forms(Recurrent())["recurrent.weight_hh_l0"] == (4, None)
    assert forms(nn.Sequential(Experts(True), nn.Linear(8, 2)))["0.down"] == ("stack", True)
    assert forms(Convolutional())["blocks.0.second.weight"] == (2, None)


def test_groups_without_a_form_have_no_keys_for_it() -> None:
    groups = route(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), lr=0.1)
    assert [set(group) for group in groups] == [{"params", "rule", "scale", "lr"}, {"params", "rule", "lr"}]


def test_one_lr_and_one_decay_are_for_both_rules() -> None:
    groups = route(Transformer(), lr=3e-3, weight_decay=0.2, momentum=0.9, other={"betas": (0.9, 0.95)})
    assert {group["lr"] for group in groups} == {3e-3}
    assert {group["weight_decay"] for group in groups} == {0.2}
    *matrices, rest = groups
    assert all(group["momentum"] == 0.9 and group["scale"] == "match_rms_adamw" for group in matrices)
    assert rest["betas"] == (0.9, 0.95) and "momentum" not in rest and "scale" not in rest
    assert {group["scale"] for group in route(Transformer(), scale="original")[:-1]} == {"original"}
    assert route(Transformer(), lr=1.0, other={"rule": "lion", "lr": 0.1})[-1]["lr"] == 0.1


def test_overrides_by_name() -> None:
    model = Transformer()
    groups = route(model, overrides={"body.layers.0.*weight": "other", "*.linear1.weight": "matrix"})
    assert names(groups, "muon") == {
        "body.layers.0.linear1.weight",
        *(f"body.layers.1.{n}" for n in ("linear1.weight", "linear2.weight")),
        *(f"body.layers.1.self_attn.{n}" for n in ("in_proj_weight", "out_proj.weight")),
    }
    assert "out.weight" in names(route(model, overrides={"out.weight": "matrix"}), "muon")
    assert "out.weight" in names(route(model, head="embedding"), "muon")


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"embedding.weight": "matrix"}, "Muon cannot step 'embedding.weight' of shape .50, 8.: an embedding"),
        ({"*.norm1.weight": "matrix"}, "Muon cannot step 'body.layers.0.norm1.weight' of shape .8,.: it is no matrix"),
        ({"positions": "matrix"}, "'positions' of shape .1, 6, 8.: it is no matrix"),
        ({"embeding.weight": "other"}, "'embeding.weight' fits no trained parameter; did you mean 'embedding.weight'"),
        ({"*.linear1.weight": "adamw"}, "must be 'matrix' or 'other', got 'adamw'"),
    ],
)
def test_wrong_overrides(overrides: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        route(Transformer(), overrides=overrides)


def test_a_tied_head_cannot_be_sent_to_the_matrices_under_either_name() -> None:
    for name in ("embedding.weight", "out.weight"):
        with pytest.raises(ValueError, match="an embedding is a table"):
            route(Transformer(tied=True), overrides={name: "matrix"})


def test_a_flattened_model_has_nothing_to_route() -> None:
    class FlatParameter(Parameter):
        pass

    model = nn.Module()
    model.register_parameter("_flat_param", FlatParameter(torch.ones(12)))
    with pytest.raises(ValueError, match=r"no hidden matrix for Muon .it has 1 vector.*use_orig_params=True"):
        route(model)
    with pytest.raises(ValueError, match="flattened by FSDP"):
        route(model, overrides={"_flat_param": "matrix"})


def test_a_model_without_hidden_matrices() -> None:
    with pytest.raises(ValueError, match=r"Linear has no hidden matrix for Muon .it has 1 head, 1 bias"):
        ravine.Muon(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="no parameters that are trained"):
        route(nn.ReLU())


def test_splits_by_name() -> None:
    model = nn.Sequential(nn.Linear(4, 12), nn.Linear(12, 12), nn.Linear(12, 2))
    groups = route(model, split={"0.*": (6, 3, 3), "1.*": 2})
    assert [group.get("split") for group in groups] == [(6, 3, 3), 2, None]
    assert route(Transformer(), split={"*in_proj_weight": None})[0].get("split") is None
    for split, complaint in (
        ({"0.*": 5}, "0.weight: split=5 does not divide the 12 rows"),
        ({"0.*": (6, 3)}, "0.weight: "),
        ({"0.*": "stack"}, "0.weight: split='stack' needs a parameter of 3 dimensions"),
        ({"2.*": 2}, "split's pattern '2.\\*' fits no trained parameter"),
    ):
        with pytest.raises(ValueError, match=complaint):
            route(model, split=split)


def test_settings_are_checked_at_once() -> None:
    with pytest.raises(TypeError, match="'momentun'; did you mean 'momentum'"):
        route(Transformer(), momentun=0.9)
    with pytest.raises(TypeError, match="AdamW got an unexpected keyword argument 'momentum'"):
        route(Transformer(), other={"momentum": 0.9})
    with pytest.raises(ValueError, match="unknown optimizer 'muonn'; did you mean 'muon'"):
        route(Transformer(), "muonn")
    with pytest.raises(ValueError, match="other must be a rule for parameters of any shape, got 'normuon'"):
        route(Transformer(), other="normuon")
    with pytest.raises(TypeError, match="expected a model"):
        route(Transformer().parameters())
    with pytest.raises(TypeError, match="transposed follows from the layers"):
        route(Transformer(), transposed=True)


def test_the_table_shows_every_parameter_with_its_reason_and_the_sums() -> None:
    model = Transformer()
    text = str(route(model, lr=1e-3))
    lines = text.splitlines()
    assert lines[0].split() == ["name", "shape", "role", "rule", "scale", "lr", "split", "why"]
    for name, p in model.named_parameters():
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert str(tuple(p.shape)) in line
    assert next(line for line in lines if line.startswith("out.weight")).endswith(
        "as many outputs as the embedding has rows"
    )
    sums = lines[-3:]
    total = sum(p.numel() for p in model.parameters())
    assert sum(int(line.split()[2].replace(",", "")) for line in sums) == total
    assert [line.split()[4] for line in sums] == ["muon", "muon", "adamw"]


def test_groups_of_the_helpers_are_routed_and_routed_ones_are_grouped() -> None:
    model = Transformer()
    first = route(layerwise_lr(no_decay(model, 0.1), lr=1.0, decay=0.5), lr=7.0)
    second = layerwise_lr(no_decay(route(model), 0.1), lr=1.0, decay=0.5)

    def settings(groups: Groups) -> dict[str, object]:
        return {n: (g["rule"].name, g["lr"], g["weight_decay"], g.get("split")) for g in groups for n, _ in g["params"]}

    assert settings(first) == settings(second)
    assert settings(first)["body.layers.1.linear1.weight"] == ("muon", 0.5, 0.1, None)
    assert settings(first)["embedding.weight"] == ("adamw", 0.125, 0.0, None)
    with pytest.raises(ValueError, match=r"Muon cannot step 'embedding.weight'"):
        by_name(route(model), {"embedding.*": {"rule": "muon"}})
    with pytest.raises(TypeError, match="where the groups are first made"):
        route(no_decay(model), head="out")


@pytest.mark.parametrize("rule", MATRIX_RULES)
def test_the_class_of_a_matrix_rule_takes_a_model(rule: str) -> None:
    torch.manual_seed(0)
    model = Transformer()
    made = ravine.optimizer(ravine.lookup(rule))
    optimizer = made(model, lr=1e-2, weight_decay=0.05)
    assert type(optimizer) is made
    assert {group["rule"] for group in optimizer.param_groups} == {rule, "adamw"}
    assert {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups} == {(1e-2, 0.05)}
    losses = train(model, optimizer, 20)
    assert math.isfinite(losses[-1]) and losses[-1] < 0.8 * losses[0]


def test_without_settings_both_rules_have_those_of_the_matrices() -> None:
    optimizer = ravine.Muon(Transformer())
    assert {(g["lr"], g["weight_decay"]) for g in optimizer.param_groups} == {(muon.defaults["lr"], 0.1)}
    assert {g["scale"] for g in optimizer.param_groups if g["rule"] == "muon"} == {"match_rms_adamw"}
    assert optimizer.defaults["scale"] == "match_rms_adamw"


def test_the_class_takes_the_options_of_routing() -> None:
    optimizer = ravine.Muon(
        Transformer(),
        other={"rule": "lion", "lr": 1e-4},
        overrides={"*.linear1.*": "other"},
        head=(),
        engine="reference",
    )
    assert [group["rule"] for group in optimizer.param_groups] == ["muon", "muon", "lion"]
    assert "out.weight" in optimizer.param_groups[1]["param_names"]
    assert "body.layers.0.linear1.weight" in optimizer.param_groups[2]["param_names"]
    assert optimizer.engine == "reference" and optimizer.param_groups[2]["lr"] == 1e-4
    assert ravine.Muon(Transformer(), 0.02).param_groups[-1]["lr"] == 0.02
    wrapped = ravine.optimizer(cautious(muon))(Transformer())
    assert {group["rule"] for group in wrapped.param_groups} == {"cautious(muon)", "adamw"}


def test_the_class_takes_groups_of_a_model() -> None:
    """Not yet routed, they are routed; routed, both rules get the lr and decay of the class where they have none."""
    model = Transformer()
    optimizer = ravine.Muon(no_decay(model), lr=0.02, other="lion", weight_decay=0.3)
    found = {(g["rule"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert found == {("muon", 0.02, 0.3), ("lion", 0.02, 0.3), ("lion", 0.02, 0.0)}
    optimizer = ravine.Muon(route(model, weight_decay=0.3), lr=0.02)
    assert {(g["rule"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups} == {
        ("muon", 0.02, 0.3), ("adamw", 0.02, 0.3)
    }  # fmt: skip
    assert {g["weight_decay"] for g in ravine.Muon(route(model)).param_groups} == {0.1}
    with pytest.raises(TypeError, match="only with a model"):
        ravine.Muon(route(model), other="lion")


def test_it_steps_each_group_as_its_rule_alone_would() -> None:
    """Muon on the routed matrices and AdamW on the rest give the same bits as one optimizer of each."""
    torch.manual_seed(0)
    model = Transformer()
    twin = copy.deepcopy(model)
    one = ravine.Muon(model, lr=1e-2, other={"betas": (0.9, 0.95)}, engine="reference")
    groups = route(twin)
    matrices = [group for group in groups if group["rule"] is muon]
    two = (
        ravine.Muon(matrices, lr=1e-2, engine="reference"),
        ravine.AdamW(groups[-1]["params"], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1, engine="reference"),
    )
    words = torch.randint(50, (4, 6))
    for _ in range(3):
        for m in (model, twin):
            m.zero_grad()
            nn.functional.cross_entropy(m(words).flatten(0, 1), words.flatten()).backward()
        one.step()
        for optimizer in two:
            optimizer.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)


def test_fused_and_transposed_weights_step_as_the_matrices_that_they_are_made_of() -> None:
    """GPT-2's (d, 3d) is three (d, d) matrices the other way round; an LSTM's (4h, d) is four."""
    torch.manual_seed(0)
    gpt2, lstm = GPT2(), Recurrent()
    fused = gpt2.h[0]["attn"].c_attn.weight
    gates = lstm.recurrent.weight_ih_l0
    pairs = [(gpt2, fused, [part.T for part in fused.split(8, 1)]), (lstm, gates, list(gates.split(5)))]
    for model, whole, parts in pairs:
        apart = [Parameter(part.detach().clone(memory_format=torch.contiguous_format)) for part in parts]
        gradient = torch.randn_like(whole)
        whole.grad = gradient
        of_parts = [g.T for g in gradient.split(8, 1)] if whole is fused else gradient.split(5)
        for p, g in zip(apart, of_parts, strict=True):
            p.grad = g.contiguous()
        ravine.Muon(model, lr=0.1, scale="original", engine="reference").step()
        ravine.Muon(apart, lr=0.1, engine="reference").step()
        stepped = [part.T for part in whole.split(8, 1)] if whole is fused else whole.split(5)
        for p, q in zip(apart, stepped, strict=True):
            torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-6, atol=1e-7)


def test_one_checkpoint_and_one_scheduler() -> None:
    torch.manual_seed(0)
    model = Transformer()
    optimizer = ravine.Muon(model, lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    train(model, optimizer, 2)
    scheduler.step()
    assert {group["lr"] for group in optimizer.param_groups} == {5e-3}
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    other = Transformer()
    other.load_state_dict(weights)
    resumed = ravine.Muon(other)
    resumed.load_state_dict(state)
    assert train(other, resumed, 3) == train(model, optimizer, 3)


def test_parameters_given_to_a_matrix_rule_are_all_its_own() -> None:
    matrices = [Parameter(torch.randn(6, 4)), Parameter(torch.randn(4, 2, 3, 3))]
    assert ravine.Muon(matrices, split=2).param_groups[0]["split"] == 2
    optimizer = ravine.Muon(iter(matrices), lr=0.1)
    assert [group["rule"] for group in optimizer.param_groups] == ["muon"]
    assert optimizer.param_groups[0]["scale"] == "original"
    named = ravine.Muon([("a.weight", matrices[0]), ("b.weight", matrices[1])])
    assert named.param_groups[0]["param_names"] == ["a.weight", "b.weight"]


@pytest.mark.parametrize("rule", MATRIX_RULES)
def test_what_is_no_matrix_is_refused_with_the_way_out(rule: str) -> None:
    made, title = ravine.optimizer(ravine.lookup(rule)), ravine.lookup(rule).title
    good = Parameter(torch.randn(3, 4))
    way_out = rf"ravine\.{title}\(model\) gives such to AdamW"
    for shape in ((4,), (), (1, 4), (4, 1), (1, 3, 3)):
        with pytest.raises(ValueError, match=rf"parameter 1 of shape .*{way_out}"):
            made([good, Parameter(torch.randn(shape))])
    with pytest.raises(ValueError, match=rf"'ln.weight' of shape \(4,\) is none; {way_out}"):
        made([("fc.weight", good), ("ln.weight", Parameter(torch.ones(4)))])
    with pytest.raises(ValueError, match="is none"):
        made([{"params": [good]}, {"params": iter([Parameter(torch.ones(4))])}])
    made([{"params": [good]}, {"params": [Parameter(torch.ones(4))], "rule": "adamw"}])


@pytest.mark.parametrize(
    "name", ["tok_emb.weight", "model.embed_tokens.weight", "wte.weight", "a.word_embeddings.weight"]
)
def test_named_embeddings_are_refused(name: str) -> None:
    table = Parameter(torch.randn(5, 4))
    with pytest.raises(ValueError, match="has the name of an embedding"):
        ravine.Muon([(name, table)])
    ravine.Muon([table])


@pytest.mark.parametrize(
    "name", ["patch_embed.proj.weight", "members.weight", "embed_mlp.fc.weight", "remember.weight"]
)
def test_names_that_only_look_like_embeddings_are_not(name: str) -> None:
    ravine.Muon([(name, Parameter(torch.randn(5, 4)))])


def test_a_rule_for_any_shape_does_not_take_a_model() -> None:
    with pytest.raises(TypeError, match=r"AdamW takes parameters; pass model.parameters\(\)"):
        ravine.AdamW(Transformer())
    with pytest.raises(TypeError, match=r"other: only with a model"):
        ravine.Muon([Parameter(torch.randn(3, 4))], other="lion")


def test_the_signature_and_the_documentation_name_the_options() -> None:
    assert {"other", "overrides", "head", "split"} <= set(ravine.Muon.__init__.__signature__.parameters)
    assert "match_rms_adamw" in ravine.Muon.__doc__ and "overrides, head, split" in ravine.Muon.__doc__
    assert "overrides" not in ravine.AdamW.__init__.__signature__.parameters
