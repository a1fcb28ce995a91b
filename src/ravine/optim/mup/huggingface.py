"""Base models for Hugging Face's GPT-2 and for models with a config like Llama's (Mistral, Qwen, Gemma, ...)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

GPT2 = ("n_embd", "n_head", ("n_inner",))
LLAMA = ("hidden_size", "num_attention_heads", ("num_key_value_heads", "intermediate_size"))


def base_config(config: Any, width: int) -> Any:
    """A copy of a config at another width, its heads as wide as before and fewer.

    So attention needs no other scale. For heads that grow wider with the model, write the config of the base yourself,
    and see `scale_attention`.

    Args:
        config: a config with `n_embd` and `n_head`, as GPT-2's, or with `hidden_size` and `num_attention_heads`.
        width: the hidden size of the base model.

    Raises:
        TypeError: for a config of neither kind.
        ValueError: if at this width some number of heads or channels would not be whole.
    """
    names = next(((hidden, heads, more) for hidden, heads, more in (GPT2, LLAMA) if hasattr(config, heads)), None)
    if names is None or not hasattr(config, names[0]):
        raise TypeError(
            f"{type(config).__name__} has neither n_embd and n_head nor hidden_size and num_attention_heads; "
            "build the base model yourself"
        )
    hidden, heads, more = names
    whole = getattr(config, hidden)
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise ValueError(f"width must be a whole number of at least 1, got {width!r}")
    made = copy.deepcopy(config)
    for name in (hidden, heads, *more):
        size = getattr(config, name, None)
        if size is None:  # n_inner: 4 · n_embd at any width
            continue
        if size * width % whole:
            raise ValueError(
                f"{name} = {size} at hidden size {whole} would be {size * width / whole:g} at {width}; "
                "choose a width at which it is whole"
            )
        setattr(made, name, size * width // whole)
    return made


def base_model(model: nn.Module, width: int, device: torch.device | str = "cpu") -> nn.Module:
    """A Hugging Face model at its base width, newly initialised; the random numbers of the caller are not used up.

    Args:
        model: with a `config`, such as `GPT2LMHeadModel` or `LlamaForCausalLM`.
        width: the hidden size of the base model.
        device: `"meta"` costs no memory and is enough for `scale_readout` and `groups`; `initialise` needs values.

    Raises:
        TypeError: for a model without such a config.
        ValueError: if at this width some number of heads or channels would not be whole.
    """
    if not hasattr(model, "config"):
        raise TypeError(f"{type(model).__name__} has no config; build the base model yourself")
    config = base_config(model.config, width)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        made: nn.Module = type(model)(config)
    return made
