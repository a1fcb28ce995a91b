"""Local Hugging Face directories: their weights, their vocabulary, and never their code."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from ravine.lab.models import describe, generate, parse
from ravine.optim.roles import roles

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


def config_of(kind: str) -> Any:
    if kind == "gpt2":
        return transformers.GPT2Config(
            vocab_size=70, n_positions=24, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
    return transformers.LlamaConfig(
        vocab_size=70, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=24,
    )  # fmt: skip


def saved(folder: Path, kind: str = "llama") -> Any:
    """A small model with weights, in a directory."""
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config_of(kind))
    model.save_pretrained(folder)
    return model.eval()


def edit(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError) as error:
        parse(f"hf:{folder}").build()
    return str(error.value)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_directory_gives_its_model(tmp_path: Path, kind: str) -> None:
    original, tokens = saved(tmp_path, kind), torch.randint(70, (2, 20))
    source = parse(f"hf:{tmp_path}")
    assert source.settings() == {"kind": "hf", "name": tmp_path.name, "sha256": source.sha256}
    built = source.build()
    model = built.model
    assert built.loss is None and model.training and model.vocabulary == 70 and model.context == 24
    model.eval()
    assert torch.equal(model(tokens), original(tokens).logits)
    assert describe(model)["parameters"] == sum(p.numel() for p in original.parameters())
    assert describe(model)["name"] == type(original).__name__
    heads = [role for role in roles(model) if role.kind == "head"]
    assert len(heads) == 1 and len(heads[0].parameter) == 70


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_config_alone_gives_new_weights(tmp_path: Path, kind: str) -> None:
    config_of(kind).save_pretrained(tmp_path)
    edit(tmp_path, architectures=None, dtype="bfloat16")
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(parse(f"hf:{tmp_path}").build().model.eval())
    one, other, third = (model(torch.arange(9)[None]) for model in models)
    assert one.shape == (1, 9, 70) and one.dtype == torch.float32
    assert torch.equal(one, other) and not torch.equal(one, third)


def test_weights_of_half_size_are_trained_in_float32(tmp_path: Path) -> None:
    original = saved(tmp_path)
    original.bfloat16().save_pretrained(tmp_path)
    model = parse(f"hf:{tmp_path}").build().model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.model.lm_head.weight, original.lm_head.weight.float())


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_it_generates_with_its_own_cache(tmp_path: Path, kind: str) -> None:
    saved(tmp_path, kind)
    model, tokens = parse(f"hf:{tmp_path}").build().model.eval(), torch.randint(70, (1, 20))
    with torch.inference_mode():
        cache = model.new_cache()
        pieces = [model(tokens[:, a:b], cache) for a, b in ((0, 12), (12, 13), (13, 20))]
        assert (torch.cat(pieces, dim=1) - model(tokens)).abs().max() < 1e-4
    one, other = (list(generate(model, [3, 4], 60, temperature=0, cache=cache)) for cache in (True, False))
    assert one == other and len(one) == 60


def test_it_trains(tmp_path: Path) -> None:
    saved(tmp_path, "gpt2")
    model, tokens = parse(f"hf:{tmp_path}").build().model, torch.randint(70, (4, 20))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        logits = model(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_safetensors_are_preferred_to_pickles(tmp_path: Path) -> None:
    original = saved(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    assert torch.equal(parse(f"hf:{tmp_path}").build().model.model.lm_head.weight, original.lm_head.weight)


def test_pickles_are_read_as_plain_tensors_alone(tmp_path: Path) -> None:
    original = saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(original.state_dict(), tmp_path / "pytorch_model.bin")
    assert torch.equal(parse(f"hf:{tmp_path}").build().model.model.lm_head.weight, original.lm_head.weight)

    class Harmful:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))):
        save(original.state_dict() | {"lm_head.weight": Harmful()}, tmp_path / "pytorch_model.bin")
        weights = tmp_path / "pytorch_model.bin"
        assert refusal(tmp_path).startswith(f"hf: {weights} holds more than plain tensors, which is never loaded")
        assert not (tmp_path / "ran").exists()


def test_code_in_the_directory_is_never_run(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    edit(tmp_path, auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    assert refusal(tmp_path) == f"hf: {tmp_path}/config.json asks for code of its own (auto_map), which is never run"
    edit(tmp_path, auto_map={}, text_config={"auto_map": {}})
    assert "asks for code of its own" in refusal(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_implementation", "somebody/attention"),
        ("_attn_implementation", "flash_attention_2"),  # which transformers fetches where it is not installed
        ("experts_implementation", {"": "somebody/experts:forward"}),
        ("_attn_implementation_internal", "somebody/attention@v1"),
    ],
)
def test_kernels_from_the_network_are_refused(tmp_path: Path, key: str, value: Any) -> None:
    saved(tmp_path)
    edit(tmp_path, **{key: value})
    assert refusal(tmp_path) == f"hf: {tmp_path}/config.json asks for {key} {value!r}, which may be fetched code"


def test_transformers_own_attention_may_be_chosen(tmp_path: Path) -> None:
    saved(tmp_path)
    edit(tmp_path, attn_implementation="eager", _attn_implementation_autoset=True)
    assert parse(f"hf:{tmp_path}").build().model.model.config._attn_implementation == "eager"


def test_the_hash_is_of_config_and_weights(tmp_path: Path) -> None:
    saved(tmp_path)
    source = parse(f"hf:{tmp_path}")
    (tmp_path / "README.md").write_text("something")
    assert parse(f"hf:{tmp_path}", expected_sha256=source.sha256) == source
    hashes = {source.sha256}
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    hashes.add(parse(f"hf:{tmp_path}").sha256)
    edit(tmp_path, rms_norm_eps=1e-5)
    hashes.add(parse(f"hf:{tmp_path}").sha256)
    weights.rename(tmp_path / "model-00001-of-00001.safetensors")
    hashes.add(parse(f"hf:{tmp_path}").sha256)
    assert len(hashes) == 4
    with pytest.raises(ValueError, match=r"has changed: its sha256 is"):
        source.build()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model_type": "unheard_of"}, "hf: cannot load {0}: ValueError: "),
        ({"model_type": None}, "hf: {0}/config.json names no model_type"),
        ({"quantization_config": {"bits": 4}}, "hf: {0} is quantized, and cannot be trained; save it without"),
        ({"transformers_weights": "other.safetensors"}, "hf: {0}/config.json names a file of weights; call it model"),
        ({"vocab_size": 90}, "hf: lm_head.weight has shape (70, 16) in {0}, but its config asks for (90, 16)"),
        ({"num_attention_heads": 3}, "hf: cannot load {0}: StrictDataclassClassValidationError: Class validation"),
        (
            {"num_hidden_layers": 3},
            "hf: the weights in {0} lack 9 of the model's, such as model.layers.2.input",
        ),
    ],
)
def test_what_cannot_be_loaded_is_refused(tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    saved(tmp_path)
    edit(tmp_path, **entries)
    assert refusal(tmp_path).startswith(message.format(tmp_path))


def test_weights_that_are_not_used_are_said(tmp_path: Path) -> None:
    saved(tmp_path)
    edit(tmp_path, num_hidden_layers=1)
    with pytest.warns(UserWarning, match=r"^hf: 9 weights in .* are not the model's, such as model\.layers\.1\."):
        parse(f"hf:{tmp_path}").build()


def test_what_is_no_model_directory_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == f"hf: there is no directory {tmp_path}/none"
    assert refusal(tmp_path) == f"hf: {tmp_path} has no config.json, so it is not the directory of a Hugging Face model"
    (tmp_path / "config.json").write_text("[")
    assert refusal(tmp_path).startswith(f"cannot read {tmp_path}/config.json: ")
    (tmp_path / "config.json").write_text("[]")
    assert refusal(tmp_path) == f"hf: {tmp_path}/config.json names no model_type"
    (tmp_path / "adapter_config.json").write_text("{}")
    assert refusal(tmp_path).endswith("holds an adapter; merge it into its base model and save that")


def test_weights_under_another_name_are_not_replaced_by_new_ones(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "consolidated.safetensors")
    assert refusal(tmp_path) == (
        f"hf: {tmp_path} holds consolidated.safetensors, but no model.safetensors; save it as transformers does"
    )


def test_it_is_quiet_and_leaves_transformers_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    saved(tmp_path)
    source, before = parse(f"hf:{tmp_path}"), (logging.get_verbosity(), logging.is_progress_bar_enabled())
    capfd.readouterr()
    source.build()
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
