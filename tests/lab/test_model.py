"""The transformer: causal, aware of order, and as large as it says."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from ravine.lab.model import SIZES, Architecture, Transformer, rotate

TINY = SIZES["tiny"]


def model_of(shape: Architecture = TINY) -> Transformer:
    torch.manual_seed(0)
    return Transformer(shape)


def test_the_small_model_has_about_a_million_parameters() -> None:
    assert sum(p.numel() for p in Transformer(SIZES["small"]).parameters()) == pytest.approx(0.9e6, rel=0.1)


def test_no_position_sees_what_comes_after_it() -> None:
    model = model_of()
    tokens = torch.randint(256, (2, 20))
    changed = tokens.clone()
    changed[:, 12] = (changed[:, 12] + 1) % 256
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :12], after[:, :12])
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


def test_an_impossible_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 2 \\* heads = 6, got 32"):
        Architecture(width=32, layers=1, heads=3, context=8)
    with pytest.raises(ValueError, match="at least 1"):
        Architecture(width=32, layers=0, heads=2, context=8)
