"""The coordinate check: flat in muP, growing in the standard parametrization; and learning rates that stay."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ravine
from ravine.explain.coordinates import page, write_page
from ravine.lab import data
from ravine.lab.models.transformer import Architecture, Transformer
from ravine.optim import mup, schedules
from ravine.optim.mup import CoordinateCheck

pytestmark = pytest.mark.filterwarnings("ignore:model has the base model's shapes")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def perceptron(width: int) -> nn.Module:
    model = nn.Sequential(
        nn.Linear(16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10, bias=False)
    )
    nn.init.zeros_(model[4].weight)
    return model


def transformer(width: int, layers: int = 2) -> nn.Module:
    model = Transformer(Architecture(width, layers, heads=4, context=16))
    nn.init.zeros_(model.head.weight)
    return model


def perceptron_loss(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(random(64, 16)), random(64, 10, seed=1).argmax(dim=1))


def transformer_loss(model: nn.Module) -> Tensor:
    windows = torch.randint(256, (8, 17), generator=torch.Generator().manual_seed(0))
    return model.loss(windows)


def maker(build: Callable[[int], nn.Module], base: int | None, rule: str, lr: float) -> Any:
    """Models with their optimizers, in muP with this base width, or in the standard parametrization (None)."""

    def make(width: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = build(width)
        if base is None:
            return model, ravine.create(rule, model.parameters(), lr=lr)
        return model, ravine.create(rule, in_mup(model, build(base), lr, weight_decay=0.0, update=rule), lr=lr)

    return make


def in_mup(model: nn.Module, base: nn.Module, lr: float, **settings: Any) -> list[dict[str, Any]]:
    """The model initialised and scaled, and its groups."""
    mup.initialise(model, base)
    mup.scale_readout(model, base)
    if isinstance(model, Transformer):
        widths = [m.shape.width // m.shape.heads for m in (model, base)]
        mup.scale_attention((block.attention.query for block in model.blocks), *widths)
    return mup.groups(model, base, lr, **settings)


LRS = {"adamw": 0.01, "lion": 0.01, "sgd": 2.0, "lamb": 0.1}


@pytest.mark.parametrize("rule", LRS)
def test_a_perceptron_is_flat_in_mup_and_grows_without_it(rule: str) -> None:
    widths = [32, 64, 128, 256]
    scaled = mup.coordinate_check(maker(perceptron, 32, rule, LRS[rule]), widths, perceptron_loss, seeds=4)
    plain = mup.coordinate_check(maker(perceptron, None, rule, LRS[rule]), widths, perceptron_loss, seeds=4)
    assert scaled.flat and scaled.verdict.startswith("Flat"), scaled.verdict
    assert max(abs(scaled.slope(name, step)) for name in scaled.sizes for step in range(1, 6)) < 0.1
    assert "4" in plain.growing and plain.slope("4", 1) > 0.4, plain.verdict
    assert plain.verdict.startswith("Not flat: activations grow with the width in")


def test_a_transformer_is_flat_in_mup_and_grows_without_it() -> None:
    widths = [64, 128, 256]
    scaled = mup.coordinate_check(maker(transformer, 64, "adamw", 0.01), widths, transformer_loss, steps=4, seeds=2)
    plain = mup.coordinate_check(maker(transformer, None, "adamw", 0.01), widths, transformer_loss, steps=4, seeds=2)
    assert scaled.flat, scaled.verdict
    assert plain.slope("blocks.0.contract", 4) > 0.4 and plain.slope("head", 1) > 0.4, plain.verdict


def test_it_is_the_same_twice_and_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    make = maker(perceptron, 32, "adamw", 0.01)
    one, two = (mup.coordinate_check(make, [64, 32, 32], perceptron_loss, steps=2) for _ in range(2))
    assert one == two and one.widths == (32, 64)
    assert torch.equal(torch.randn(3), expected)


def test_sizes_are_those_of_the_activations() -> None:
    def make(width: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = nn.Sequential(nn.Linear(1, width, bias=False), nn.Linear(width, 1, bias=False))
        nn.init.constant_(model[0].weight, -2.0)
        nn.init.constant_(model[1].weight, 1.0)
        return model, torch.optim.SGD(model.parameters(), lr=0.0)

    check = mup.coordinate_check(make, [3, 6, 12], lambda model: model(torch.ones(2, 1)).sum(), steps=1)
    assert check.sizes == {"0": [[2.0, 2.0, 2.0]] * 2, "1": [[6.0, 12.0, 24.0]] * 2}
    assert check.slope("0", 0) == 0 and check.slope("1", 1) == pytest.approx(1.0, rel=1e-12)
    assert check.growing == {"1": pytest.approx(1.0)} and not check.vanishing


def test_verdicts() -> None:
    flat = CoordinateCheck((8, 16), 1, {"a": [[1.0, 9.0], [1.0, 1.1]]})
    assert flat.verdict == (
        "Flat: no module's activations change with the width by more than width^±0.2 (widths 8 to 16, after 1 steps)."
    )
    sizes = {"a": [[1.0, 1.0], [1.0, 2.0]], "b": [[1.0, 1.0], [1.0, 0.5]], "c": [[0.0, 0.0], [0.0, 0.0]]}
    both = CoordinateCheck((8, 16), 1, sizes)
    assert both.verdict == (
        "Not flat: activations grow with the width in 1 of 3 modules, most in a (width^1.00) and shrink with the width "
        "in 1 of 3 modules, most in b (width^-1.00) (widths 8 to 16, after 1 steps)."
    )
    assert math.isnan(both.slope("c", 0))
    broken = CoordinateCheck((8, 16), 0, {"a": [[1.0, math.nan]]})
    assert "most in a (not finite)" in broken.verdict
    assert json.loads(json.dumps(broken.as_dict(), allow_nan=False))["sizes"] == {"a": [[1.0, None]]}


def test_the_page_shows_every_module_and_stands_alone(tmp_path: Path) -> None:
    check = mup.coordinate_check(maker(transformer, 32, "adamw", 0.01), [32, 64], transformer_loss, steps=1, seeds=1)
    write_page(check, tmp_path / "check.html")
    text = (tmp_path / "check.html").read_text(encoding="utf-8")
    assert all(name in text for name in check.sizes) and "step 1" in text and check.verdict[:20] in text
    assert 'src="http' not in text and len(page(check)) > len(text) // 2


@pytest.mark.parametrize(
    ("message", "widths", "settings"),
    [
        ("widths must be at least two different ones, got", [32, 32], {}),
        ("steps must be at least 1, got 0", [32, 64], {"steps": 0}),
        ("seeds must be at least 1, got 0", [32, 64], {"seeds": 0}),
    ],
)
def test_wrong_calls_are_refused(message: str, widths: list[int], settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=message):
        mup.coordinate_check(maker(perceptron, 32, "adamw", 0.01), widths, perceptron_loss, **settings)


def test_models_with_other_modules_are_refused() -> None:
    def make(width: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = nn.Sequential(nn.Linear(16, width), *([nn.ReLU()] if width > 32 else []), nn.Linear(width, 10))
        return model, torch.optim.SGD(model.parameters(), lr=0.1)

    with pytest.raises(ValueError, match="the model of width 64 has other modules than that of width 32"):
        mup.coordinate_check(make, [32, 64], perceptron_loss, steps=1)


# Learning rates that stay

STEPS, EXPONENTS = 50, range(-10, -4)


def final_loss(corpus: data.Corpus, width: int, lr: float, base_width: int | None) -> float:
    """Of the lab's transformer after a short run of AdamW with clipping, warm-up and a linear fall to zero."""
    torch.manual_seed(0)
    model, base = (Transformer(Architecture(n, layers=2, heads=4, context=32)) for n in (width, base_width or width))
    groups: Any = model.parameters() if base_width is None else in_mup(model, base, lr, weight_decay=0.0)
    optimizer = ravine.AdamW(groups, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = schedules.linear(optimizer, STEPS, warmup_steps=STEPS // 10)
    draw = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model.loss(corpus.draw(8, 33, draw)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return model.loss(corpus.windows("tuning", 64, 33)).item()


def best_exponent(losses: dict[int, float]) -> float:
    """log2 of the best learning rate, by a parabola through the lowest loss and its neighbours."""
    low = min(losses, key=lambda e: losses[e])
    if low - 1 not in losses or low + 1 not in losses:
        return float(low)
    a, b, c = (losses[e] for e in (low - 1, low, low + 1))
    return low + (a - c) / (2 * (a - 2 * b + c))


@pytest.mark.slow
def test_the_best_learning_rate_stays_in_mup_and_drifts_without_it() -> None:
    """TP V, Figure 1: over widths 64 to 512 within a factor 2 in muP; in the standard parametrization it falls by 4.

    A few minutes on 2 cores.
    """
    corpus = data.standard_library()

    def best(width: int, base_width: int | None) -> float:
        return best_exponent({e: final_loss(corpus, width, 2.0**e, base_width) for e in EXPONENTS})

    scaled = [best(width, 64) for width in (64, 128, 256, 512)]
    assert max(scaled) - min(scaled) <= 1, scaled
    plain = [best(width, None) for width in (64, 512)]
    assert plain[0] - plain[1] >= 2, plain
