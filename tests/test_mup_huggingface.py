"""Base models from Hugging Face configs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ravine.optim import mup

GPT2 = SimpleNamespace(n_embd=768, n_head=12, n_inner=None, n_layer=2)
LLAMA = SimpleNamespace(
    hidden_size=4096, num_attention_heads=32, num_key_value_heads=8, intermediate_size=14336, head_dim=128
)


def test_heads_keep_their_width() -> None:
    small = mup.base_config(GPT2, 256)
    assert vars(small) == {"n_embd": 256, "n_head": 4, "n_inner": None, "n_layer": 2} and GPT2.n_embd == 768
    assert vars(mup.base_config(LLAMA, 1024)) == {
        "hidden_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 3584,
        "head_dim": 128,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "message", "config", "width"),
    [
        (ValueError, "n_head = 12 at hidden size 768 would be 1.5625 at 100", GPT2, 100),
        (ValueError, "num_key_value_heads = 8 at hidden size 4096 would be 0.5 at 256", LLAMA, 256),
        (ValueError, "width must be a whole number of at least 1, got 0", GPT2, 0),
        (TypeError, "SimpleNamespace has neither n_embd and n_head nor", SimpleNamespace(d_model=512), 256),
    ],
)
def test_what_cannot_be_scaled_is_refused(error: type[Exception], message: str, config: Any, width: int) -> None:
    with pytest.raises(error, match=message):
        mup.base_config(config, width)


def test_a_model_without_config_is_refused() -> None:
    with pytest.raises(TypeError, match="Linear has no config"):
        mup.base_model(nn.Linear(2, 2), 1)


def models(name: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    if name == "gpt2":
        config = transformers.GPT2Config(n_embd=64, n_head=4, n_layer=2, vocab_size=101, n_positions=16)
        return transformers.GPT2LMHeadModel(config)
    config = transformers.LlamaConfig(
        hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=160, num_hidden_layers=2,
        vocab_size=101,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_models_are_scaled_and_trained(name: str) -> None:
    model = models(name)
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    base = mup.base_model(model, 32)
    assert torch.equal(torch.randn(2), expected)
    mup.initialise(model, base)
    assert mup.scale_readout(model, base) == {"lm_head": 0.5}
    for s in mup.compare(model, base):
        std = 0.02 / (2**0.5 if s.kind == "matrix" else 1)
        if s.parameter.ndim == 2 and "c_proj" not in s.name:  # GPT-2's c_proj is divided by √(2 layers) besides
            assert s.parameter.std().item() == pytest.approx(std, rel=0.1), s.name
    groups = mup.groups(model, base, 1e-3, weight_decay=0.1)
    assert [group["name"] for group in groups] == ["vector", "matrix, lr × 0.5"]
    matrices = {name for name, _ in groups[1]["params"]}
    assert matrices == {n for n, p in model.named_parameters() if (p.ndim == 2 and ".h." in n) or "_proj.weight" in n}
    optimizer = torch.optim.AdamW(groups)
    tokens = torch.arange(32).view(2, 16)
    losses = []
    for _ in range(3):
        loss = model(input_ids=tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_meta_device_is_enough_for_groups() -> None:
    model = models("gpt2")
    base = mup.base_model(model, 32, device="meta")
    assert all(p.is_meta for p in base.parameters())
    mup.scale_readout(model, base)
    assert len(mup.groups(model, base, 1e-3, weight_decay=0.1)) == 2
    with pytest.raises(ValueError, match="meta device"):
        mup.initialise(model, base)
