"""Published settings: the numbers are those of the papers, and what is built has them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import ravine
from ravine.optim import presets
from ravine.optim.presets import PRESETS, gpt3, llama2, modded_nanogpt, palm
from small_models import Transformer


def test_presets_are_known_by_their_names() -> None:
    assert presets.available() == ["gpt3", "llama2", "modded_nanogpt", "palm"]
    assert all(getattr(presets, name) is preset for name, preset in PRESETS.items())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_each_builds_its_optimizer_and_trains(name: str) -> None:
    torch.manual_seed(0)
    model = Transformer()
    optimizer = PRESETS[name].optimizer(model, engine="reference")
    words = torch.randint(50, (4, 6))
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(words).flatten(0, 1), words.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses)) and losses[-1] != losses[0]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_text_has_every_number_and_the_source(name: str) -> None:
    preset = PRESETS[name]
    text = str(preset)
    for key, value in preset.settings.items():
        assert f"{key}={value}" in text
    assert preset.source in text and preset.rule in text and "schedule" in text


def test_llama2() -> None:
    """Touvron et al. 2023, Section 2.2: AdamW (0.9, 0.95), eps 1e-5, 2000 warm-up steps, to 10 %, decay 0.1, clip 1."""
    (group,) = llama2.optimizer(Transformer().parameters()).param_groups
    assert group["rule"] == "clip_norm(adamw)" and group["clip_norm.max_norm"] == 1.0
    assert (group["betas"], group["eps"], group["weight_decay"], group["lr"]) == ((0.9, 0.95), 1e-5, 0.1, 3e-4)
    shape = llama2.schedule(llama2.optimizer(Transformer()), 500_000).shape
    assert shape(1999) == 1.0 and shape(999) == 0.5
    assert shape(251_000) == pytest.approx(0.55) and shape(500_000) == pytest.approx(0.1)
    assert llama2.optimizer(Transformer(), lr="70B").param_groups[0]["lr"] == 1.5e-4
    with pytest.raises(ValueError, match="warms up for 2000 steps, which does not fit into total_steps=1000"):
        llama2.schedule(llama2.optimizer(Transformer()), 1000)


def test_the_clip_of_a_preset_is_over_all_parameters() -> None:
    """The gradients' norm over the model is 3 times the limit: torch's clip_grad_norm_ and AdamW take the same step."""
    torch.manual_seed(0)
    ours, theirs = Transformer(), Transformer()
    theirs.load_state_dict(ours.state_dict())
    one = llama2.optimizer(ours, lr=1e-2, engine="reference")
    other = torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1)
    gradients = [torch.randn(p.shape) for p in ours.parameters()]
    norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))
    for p, q, g in zip(ours.parameters(), theirs.parameters(), gradients, strict=True):
        p.grad, q.grad = 3 * g / norm, 3 * g / norm
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    one.step()
    other.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


def test_gpt3() -> None:
    """Brown et al. 2020, Table 2.1 and Appendix B: warm-up over 375M tokens, cosine to 10 % over 260B tokens."""
    (group,) = gpt3.optimizer(Transformer().parameters(), lr="1.3B").param_groups
    assert (group["betas"], group["eps"], group["weight_decay"], group["lr"]) == ((0.9, 0.95), 1e-8, 0.1, 2e-4)
    assert list(gpt3.lr_by_size.values()) == [6e-4, 3e-4, 2.5e-4, 2e-4, 1.6e-4, 1.2e-4, 1e-4, 0.6e-4]
    optimizer = gpt3.optimizer(Transformer())
    shape = gpt3.schedule(optimizer, total_steps=520_000, tokens_per_step=0.5e6).shape
    assert shape.warmup_steps == 750 and shape(749) == 1.0
    assert shape(520_000) == pytest.approx(0.1) == shape(600_000)
    with pytest.raises(ValueError, match="tokens_per_step is needed"):
        gpt3.schedule(gpt3.optimizer(Transformer()), 1000)
    with pytest.raises(ValueError, match=r"gpt3 has no size '1.3b'; did you mean '1.3B'"):
        gpt3.optimizer(Transformer(), lr="1.3b")


def test_palm() -> None:
    """Chowdhery et al. 2022, Section 5: lr 1e-2 for 10k steps, then 1/√k; β1 0.9; β2 = 1 − k^−0.8; decay lr²."""
    weight = nn.Parameter(torch.full((2, 2), 2.0))
    optimizer = palm.optimizer([weight], engine="reference")
    (group,) = optimizer.param_groups
    assert (group["beta1"], group["beta2"], group["beta2_decay"]) == (0.9, None, -0.8)
    assert group["decay"] == "lr_squared"
    assert group["factored"] is False
    schedule = palm.schedule(optimizer, 255_000)
    for step in (10_000, 14_400, 255_000):
        assert 1e-2 * schedule.shape(step) == pytest.approx(step**-0.5)
    assert {schedule.shape(step) for step in (0, 5000, 9999)} == {1.0}

    # A step without a gradient decays by lr², lr being 1/√k here.
    group["lr"] = 40_000**-0.5
    weight.grad = torch.zeros(2, 2)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 2.0 * (1 - 1 / 40_000)), rtol=1e-7, atol=0)


def test_palms_steps_are_relative_to_the_weights() -> None:
    """Adafactor without factoring is Adam with parameter scaling: the first step moves by lr·(1 − β1)·RMS(p)."""
    weight = nn.Parameter(torch.full((4, 4), 3.0))
    optimizer = palm.optimizer([weight], weight_decay=0.0, engine="reference")
    weight.grad = torch.full((4, 4), 1e-3)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 3.0 - 1e-2 * 0.1 * 3.0), rtol=1e-6, atol=0)


def test_modded_nanogpt() -> None:
    """The record of 25 May 2025: Muon 0.05; Adam 0.22 head, 0.6 embedding, 0.04 vectors; flat for 60 %."""
    model = Transformer()
    optimizer = modded_nanogpt.optimizer(model)
    found = {
        name: (group["rule"], group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    assert found["body.layers.0.linear1.weight"] == ("muon", 0.05, 0.0)
    assert found["out.weight"] == ("adamw", 0.22, 0.0)
    assert found["embedding.weight"] == ("adamw", 0.6, 0.0)
    assert found["norm.weight"] == found["body.layers.0.linear1.bias"] == ("adamw", 0.04, 0.0)
    assert {group["scale"] for group in optimizer.param_groups if group["rule"] == "muon"} == {"original"}
    assert {group["betas"] for group in optimizer.param_groups if group["rule"] == "adamw"} == {(0.8, 0.95)}
    assert {group["eps"] for group in optimizer.param_groups if group["rule"] == "adamw"} == {1e-10}
    shape = modded_nanogpt.schedule(optimizer, 1770).shape
    for step in (0, 1000, 1062, 1416, 1769):
        x = step / 1770
        w = min(1.0, (1 - x) / 0.4)
        assert shape(step) == pytest.approx(w + (1 - w) * 0.1)
    with pytest.raises(TypeError, match="needs the model"):
        modded_nanogpt.optimizer(model.parameters())


def test_presets_take_groups() -> None:
    groups = ravine.optim.grouping.no_decay(Transformer())
    optimizer = llama2.optimizer(groups)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.1}
    assert {group["lr"] for group in optimizer.param_groups} == {3e-4}
