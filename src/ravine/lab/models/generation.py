"""Text from a model: one token after another, each drawn from what the model expects to follow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import SupportsIndex

import torch
from torch import Tensor, nn


def generate(
    model: nn.Module,
    prompt: Sequence[int],
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
    cache: bool = True,
    context: int | None = None,
) -> Iterator[int]:
    """New tokens after a prompt, each as soon as it is drawn.

    The model reads a window of the text that grows with each token. Where it would grow beyond `context` tokens, only
    the last `context // 2` are kept, and the cache is filled anew from them. So each token follows from the last
    `context // 2` to `context`, the same ones with and without a cache, and positions count from the window's first
    token. Of a prompt that is longer than the context, the last `context` tokens are read.

    The model is in evaluation mode (no dropout) until the iterator ends or is dropped, and then as it was.

    Args:
        model: gives logits (1, time, vocabulary) for tokens (1, time). With a method `new_cache()`, as `Transformer`
            and Hugging Face's models here have, it is called with a cache as second argument.
        prompt: the tokens to go on from, at least one.
        count: of new tokens.
        temperature: logits are divided by it; 0 takes the likeliest token always.
        top_k: draw from the k likeliest tokens alone.
        generator: the source of randomness, on the CPU; torch's global one by default.
        cache: keep keys and values, instead of reading the window again for every token.
        context: the longest sequence that the model takes; by default its own `context`.

    Raises:
        ValueError: for bad arguments (at once), and when the logits are not finite.

    Example:
        >>> from ravine.lab.models.transformer import SIZES, Transformer
        >>> len(list(generate(Transformer(SIZES["tiny"]), b"def ", 5)))
        5
    """
    context = getattr(model, "context", None) if context is None else context
    if context is None:
        raise ValueError(f"context must be given: {type(model).__name__} does not say how long a sequence it takes")
    for name, value, least in (("context", context, 1), ("count", count, 0), ("top_k", top_k, 1)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature must be at least 0 and finite, got {temperature!r}")
    window = _tokens(prompt, getattr(model, "vocabulary", None))[-context:]
    return _generate(model, window, count, temperature, top_k, generator, cache, context)


@torch.inference_mode()
def _generate(
    model: nn.Module,
    window: list[int],
    count: int,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
    cache: bool,
    context: int,
) -> Iterator[int]:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    new_cache = getattr(model, "new_cache", None) if cache else None
    with _evaluating(model):
        past = new_cache() if new_cache else None
        unread = window
        for _ in range(count):
            tokens = torch.tensor([unread], device=device)  # (1, T)
            logits = model(tokens) if past is None else model(tokens, past)  # (1, T, V)
            token = _draw(logits[0, -1].float().cpu(), temperature, top_k, generator)
            yield token
            window.append(token)
            unread = window if past is None else [token]
            if len(window) > context:
                window = unread = window[-max(1, context // 2) :]
                past = new_cache() if new_cache else None


def _draw(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> int:
    """A token from logits (vocabulary,)."""
    if not logits.isfinite().all():
        raise ValueError("the model's logits are not finite: its weights have diverged")
    if temperature == 0:
        return int(logits.argmax())
    if top_k is not None and top_k < len(logits):
        logits, tokens = logits.topk(top_k)
    else:
        tokens = torch.arange(len(logits))
    # Shifted first: divided by a tiny temperature, the largest may overflow.
    p = ((logits - logits.max()) / temperature).softmax(-1)
    return int(tokens[torch.multinomial(p, 1, generator=generator)])


def _tokens(prompt: Sequence[int], vocabulary: int | None) -> list[int]:
    """The prompt as a list. Checked here: on a GPU, a token too large fails without a word of it."""
    if not len(prompt):
        raise ValueError("prompt must hold at least one token")
    for token in prompt:
        if not isinstance(token, SupportsIndex) or token.__index__() < 0:
            raise ValueError(f"prompt must hold token numbers, got {token!r}")
        if vocabulary is not None and token.__index__() >= vocabulary:
            raise ValueError(f"prompt must hold tokens below {vocabulary}, the model's vocabulary, got {token}")
    return [token.__index__() for token in prompt]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout and its like switched off, each module afterwards as it was."""
    trained = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in trained:
            module.training = True
