"""Causal language models from a local Hugging Face directory, which never gets to run code of its own."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from ravine.lab.files import read_json

OTHER_WEIGHTS = (".safetensors", ".gguf", ".h5", ".msgpack", ".onnx", ".pth")
"""Weights under other names, or of other libraries. `.bin` and `.pt` are left out: a trainer's own files end so."""

PLAIN_IMPLEMENTATIONS = {"eager", "sdpa", "flex_attention", "batched_mm", "grouped_mm"}
"""Ways to compute attention and experts that are in transformers and torch; others are fetched from the network."""


class CausalLM(nn.Module):
    """A Hugging Face causal language model, called as the laboratory calls its own: tokens in, logits out.

    Args:
        model: from `AutoModelForCausalLM`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def vocabulary(self) -> int:
        """Number of logits of a position; a tokenizer may have fewer tokens, never more."""
        head = self.model.get_output_embeddings()
        return len(head.weight) if head is not None else self.model.config.get_text_config().vocab_size

    @property
    def context(self) -> int | None:
        """The longest sequence in tokens, None where the config does not say."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def new_cache(self) -> Any:
        """An empty cache of keys and values."""
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    def get_output_embeddings(self) -> nn.Module | None:
        """The output head; the roles of parameters are found by it."""
        return self.model.get_output_embeddings()

    def forward(self, tokens: Tensor, cache: Any = None) -> Tensor:
        """Logits (batch, time, vocabulary) of the token after each of tokens (batch, time).

        Args:
            tokens: token numbers.
            cache: of the tokens before these, from `new_cache()`; these are added to it.
        """
        return self.model(input_ids=tokens, past_key_values=cache, use_cache=cache is not None).logits


def digest(folder: Path) -> str:
    """The sha256 of a directory's config and weights: of their names, each with the sha256 of what it holds.

    Raises:
        ValueError: if it is no directory of a model, or one that may not be used; see `load`.
    """
    _require_plain(folder)
    lines = []
    for path in (folder / "config.json", *sorted(folder.glob("*.index.json")), *_weights(folder)):
        with path.open("rb") as file:
            lines.append(f"{path.name} {file_digest(file, 'sha256').hexdigest()}\n")
    return sha256("".join(lines).encode()).hexdigest()


def load(folder: Path) -> CausalLM:
    """The model in a directory, in float32: with its weights if there are any, else with new ones.

    Weights are read from safetensors where there are any, else from pickles by torch's loader for plain tensors alone.

    Raises:
        ImportError: without transformers.
        ValueError: if it is not a causal language model that transformers knows; if its config names code to be
            run or kernels to be fetched; for adapters and quantized models; if weights are missing or do not fit.
    """
    _require_plain(folder)
    weights = _weights(folder)
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError:
        raise ImportError('hf: models need transformers: pip install "ravine[hf]"') from None
    local: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(str(folder), **local)
            if not weights:
                made = AutoModelForCausalLM.from_config(config, trust_remote_code=False, dtype=torch.float32)
                return CausalLM(made)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(folder),
                config=config,
                dtype=torch.float32,
                use_safetensors=weights[0].suffix == ".safetensors",
                weights_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported, and refused below
                **local,
            )
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except UnpicklingError as error:
            why = "holds more than plain tensors, which is never loaded; save it as safetensors"
            raise ValueError(f"hf: {weights[0]} {why}") from error
        except Exception as error:
            said = textwrap.shorten(str(error), 300, placeholder=" …")
            raise ValueError(f"hf: cannot load {folder}: {type(error).__name__}: {said}") from error
    model, report = loaded
    _check_fit(folder, report)
    return CausalLM(model)


def _check_fit(folder: Path, report: dict[str, Any]) -> None:
    """Refuse weights that would leave parts of the model as they were drawn; warn of those that no part has."""
    for name, found, asked in sorted(report["mismatched_keys"]):
        raise ValueError(f"hf: {name} has shape {tuple(found)} in {folder}, but its config asks for {tuple(asked)}")
    missing, left = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if missing:
        raise ValueError(f"hf: the weights in {folder} lack {len(missing)} of the model's, such as {missing[0]}")
    if left:
        warnings.warn(f"hf: {len(left)} weights in {folder} are not the model's, such as {left[0]}", stacklevel=4)


def _weights(folder: Path) -> list[Path]:
    """The files of weights: safetensors, or pickles where there are none."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        found = sorted(folder.glob(pattern))
        if found:
            return found
    other = sorted(path.name for path in folder.iterdir() if path.suffix in OTHER_WEIGHTS)
    if other:  # to go on with new weights would be a surprise
        raise ValueError(f"hf: {folder} holds {other[0]}, but no model.safetensors; save it as transformers does")
    return []


def _require_plain(folder: Path) -> None:
    """Refuse what would make transformers run or fetch anything beyond the directory's config and weights."""
    if not folder.is_dir():
        raise ValueError(f"hf: there is no directory {folder}")
    if (folder / "adapter_config.json").exists():
        raise ValueError(f"hf: {folder} holds an adapter; merge it into its base model and save that")
    if not (folder / "config.json").is_file():
        raise ValueError(f"hf: {folder} has no config.json, so it is not the directory of a Hugging Face model")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ValueError(f"hf: {folder}/config.json names no model_type")
    for key, value in _entries(config):
        if key == "auto_map":
            raise ValueError(f"hf: {folder}/config.json asks for code of its own (auto_map), which is never run")
        if "attn_implementation" in key or "experts_implementation" in key:
            names = value.values() if isinstance(value, dict) else [value]
            if any(isinstance(name, str) and name not in PLAIN_IMPLEMENTATIONS for name in names):
                raise ValueError(f"hf: {folder}/config.json asks for {key} {value!r}, which may be fetched code")
        if key == "transformers_weights":
            raise ValueError(f"hf: {folder}/config.json names a file of weights; call it model.safetensors instead")
        if key == "quantization_config" and value:
            raise ValueError(f"hf: {folder} is quantized, and cannot be trained; save it without quantization")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values of a JSON value, at any depth."""
    if isinstance(value, dict):
        yield from value.items()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _entries(inner)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports: what matters of them is raised."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
