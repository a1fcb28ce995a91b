"""Generation: the cache changes how long it takes and nothing else."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ravine.lab.models import SIZES, Architecture, Transformer, generate
from ravine.lab.models.cache import LayerCache

from .test_transformer import model_of, shapes

TINY = SIZES["tiny"]


class Counting(nn.Module):
    """Expects each token to be followed by the next number; notes what it was asked to read."""

    def __init__(self, vocabulary: int = 50) -> None:
        super().__init__()
        self.read: list[list[int]] = []
        self.vocabulary = vocabulary

    def forward(self, tokens: Tensor) -> Tensor:
        self.read.append(tokens[0].tolist())
        return nn.functional.one_hot((tokens + 1) % self.vocabulary, self.vocabulary).float()


class Fixed(nn.Module):
    """Expects the same after every token."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits.expand(*tokens.shape, -1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(shapes, st.lists(st.integers(1, 23), max_size=4), st.integers(1, 2))
def test_logits_with_a_cache_are_those_without(shape: Architecture, cuts: list[int], batch: int) -> None:
    """Wherever the sequence is cut into pieces that follow one another."""
    model = model_of(shape)
    tokens = torch.randint(shape.vocabulary, (batch, shape.context))
    edges = sorted({0, *cuts, shape.context})
    with torch.inference_mode():
        whole, cache = model(tokens), model.new_cache()
        pieces = [model(tokens[:, a:b], cache) for a, b in itertools.pairwise(edges)]
    assert cache.length == shape.context
    assert (torch.cat(pieces, dim=1) - whole).abs().max() < 1e-4


@settings(max_examples=30)
@given(shapes, st.integers(1, 30), st.integers(0, 60), st.sampled_from([0.0, 0.7, 1.0]), st.sampled_from([None, 1, 5]))
def test_the_tokens_are_the_same_with_and_without_a_cache(
    shape: Architecture, prompt: int, count: int, temperature: float, top_k: int | None
) -> None:
    """Also of prompts longer than the context, 24 tokens, and far beyond it."""
    model = model_of(shape).double()  # so that two expectations that differ by rounding draw the same token
    tokens = torch.randint(shape.vocabulary, (prompt,)).tolist()
    one, other = (
        list(generate(model, tokens, count, temperature=temperature, top_k=top_k, generator=seeded(), cache=cache))
        for cache in (True, False)
    )
    assert one == other and len(one) == count


def test_under_autocast_the_cache_holds_what_the_products_give() -> None:
    model, tokens = model_of(dataclasses.replace(TINY, kv_heads=1)), torch.randint(256, (1, 20))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        whole, cache = model(tokens), model.new_cache()
        pieces = torch.cat([model(tokens[:, a:b], cache) for a, b in ((0, 15), (15, 16), (16, 20))], dim=1)
        keys, values = cache.layers[0].append(torch.zeros(1, 1, 0, 16), torch.zeros(1, 1, 0, 16))
    assert keys.dtype == values.dtype == torch.bfloat16
    torch.testing.assert_close(pieces, whole, rtol=0.05, atol=0.05)


def test_the_cache_never_moves() -> None:
    cache = LayerCache(capacity=10)
    keys, values = cache.append(torch.ones(2, 1, 4, 8), torch.zeros(2, 1, 4, 8))
    places = keys.data_ptr(), values.data_ptr()
    for length in range(5, 11):
        keys, values = cache.append(torch.full((2, 1, 1, 8), length), torch.zeros(2, 1, 1, 8))
        assert (keys.data_ptr(), values.data_ptr()) == places and keys.shape == (2, 1, length, 8)
    assert keys[0, 0, :, 0].tolist() == [1, 1, 1, 1, 5, 6, 7, 8, 9, 10]
    with pytest.raises(ValueError, match="the cache has room for 10 tokens, got 11"):
        cache.append(torch.ones(2, 1, 1, 8), torch.zeros(2, 1, 1, 8))
    with pytest.raises(ValueError, match="the cache holds 2 sequences, got 1"):
        cache.append(torch.ones(1, 1, 0, 8), torch.zeros(1, 1, 0, 8))


def test_a_full_model_refuses_more() -> None:
    model = model_of()
    cache = model.new_cache()
    model(torch.zeros(1, 30, dtype=torch.long), cache)
    with pytest.raises(ValueError, match="the model's context is 32 tokens, got 33"):
        model(torch.zeros(1, 3, dtype=torch.long), cache)
    assert cache.length == 30


def test_a_full_window_goes_on_with_its_last_half() -> None:
    model = Counting()
    assert list(generate(model, [0, 1, 2], 7, temperature=0, context=6)) == [3, 4, 5, 6, 7, 8, 9]
    assert model.read == [
        [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5],  # full
        [4, 5, 6], [4, 5, 6, 7], [4, 5, 6, 7, 8],
    ]  # fmt: skip


def test_of_a_long_prompt_the_end_is_read() -> None:
    model = Counting()
    assert list(generate(model, range(20), 2, temperature=0, context=4)) == [20, 21]
    assert model.read == [[16, 17, 18, 19], [19, 20]]


def test_a_context_of_one_token_is_enough() -> None:
    model = Counting()
    assert list(generate(model, [5], 3, temperature=0, context=1)) == [6, 7, 8]
    assert model.read == [[5], [6], [7]]


def test_with_a_cache_each_token_is_read_once() -> None:
    model, read = model_of(), []
    model.embedding.register_forward_hook(lambda module, inputs, output: read.append(inputs[0].numel()))
    list(generate(model, range(8), 40))
    # 8 tokens, then one by one up to 32; again the last 16, and one by one.
    assert read == [8] + [1] * 24 + [16] + [1] * 14


def test_tokens_come_as_often_as_the_model_expects_them() -> None:
    logits = torch.tensor([0.0, -1.0, 2.0, 1.0, -3.0])
    drawn = list(generate(Fixed(logits), [0], 4000, temperature=0.8, generator=seeded(), context=1))
    seen = torch.bincount(torch.tensor(drawn), minlength=5) / 4000
    p = (logits / 0.8).softmax(-1)
    assert ((seen - p).abs() < 5 * (p * (1 - p) / 4000).sqrt()).all()  # five standard deviations


def test_only_the_k_likeliest_are_drawn() -> None:
    model = Fixed(torch.tensor([0.0, -1.0, 2.0, 1.0, -3.0]))
    for k, likeliest in ((1, {2}), (3, {0, 2, 3}), (1000, {0, 1, 2, 3, 4})):
        assert {*generate(model, [0], 300, temperature=3.0, top_k=k, generator=seeded(), context=1)} == likeliest


def test_a_tiny_temperature_is_greedy() -> None:
    model = model_of()
    assert list(generate(model, [65], 20, temperature=1e-40)) == list(generate(model, [65], 20, temperature=0))


def test_the_same_seed_gives_the_same_text() -> None:
    model = model_of()
    one, other, third = (list(generate(model, b"def", 30, generator=seeded(seed))) for seed in (1, 1, 2))
    assert one == other != third


def test_each_token_comes_as_soon_as_it_is_drawn() -> None:
    model = Counting()
    tokens = generate(model, [0], 1000, temperature=0, context=8)
    assert isinstance(tokens, Iterator) and model.read == []
    assert [next(tokens), next(tokens)] == [1, 2]
    assert len(model.read) == 2


def test_dropout_is_off_meanwhile_and_gradients_are_on_for_others() -> None:
    class Careless(Transformer):
        def forward(self, tokens: Tensor, cache: Any = None) -> Tensor:
            assert torch.is_inference_mode_enabled()
            return super().forward(tokens, cache) + nn.functional.dropout(torch.ones(256), training=self.training)

    torch.manual_seed(0)
    model = Careless(TINY)
    model.norm.eval()
    tokens = generate(model, [1], 5, temperature=0)
    next(tokens)
    assert not model.training
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    tokens.close()  # type: ignore[attr-defined]
    assert model.training and model.blocks[0].training and not model.norm.training


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "prompt must hold at least one token"),
        ([256], {}, "prompt must hold tokens below 256, the model's vocabulary, got 256"),
        ([-1], {}, "prompt must hold token numbers, got -1"),
        ("text", {}, "prompt must hold token numbers, got 't'"),
        ([1], {"count": -1}, "count must be a whole number of at least 0, got -1"),
        ([1], {"temperature": -0.5}, "temperature must be at least 0 and finite, got -0.5"),
        ([1], {"temperature": float("nan")}, "temperature must be at least 0 and finite, got nan"),
        ([1], {"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ([1], {"context": 0}, "context must be a whole number of at least 1, got 0"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(prompt: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        generate(model_of(), prompt, **{"count": 3} | options)
    assert str(error.value) == message


def test_a_model_that_does_not_tell_its_context_is_asked_for_it() -> None:
    with pytest.raises(ValueError, match="context must be given: Counting does not say"):
        generate(Counting(), [1], 3)


def test_a_diverged_model_says_so() -> None:
    model = model_of()
    nn.init.constant_(model.norm.weight, float("nan"))
    with pytest.raises(ValueError, match="logits are not finite: its weights have diverged"):
        next(generate(model, [1], 3))


@pytest.mark.slow
def test_the_cache_makes_512_tokens_at_least_ten_times_faster() -> None:
    """In seconds of one core's work, so that others on the machine do not count."""
    model = model_of(Architecture(width=128, layers=4, heads=4, context=1024))
    prompt = torch.randint(256, (512,)).tolist()
    list(generate(model, prompt, 8))
    seconds, texts = [], []
    for cache in (True, False):
        start = time.process_time()
        texts.append(list(generate(model, prompt, 512, temperature=0, cache=cache)))
        seconds.append(time.process_time() - start)
    assert texts[0] == texts[1]
    assert seconds[1] > 10 * seconds[0], seconds
