"""One run: deterministic, scheduled, evaluated at the right weights, and honest about divergence and time."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch
from torch import Tensor

import ravine
from ravine.lab.arms import Arm
from ravine.lab.data import Corpus
from ravine.lab.model import SIZES, VOCABULARY, Transformer
from ravine.lab.training import DIVERGED_LOSS, MakeOptimizer, Outcome, Recipe, evaluate, faster_precision, train

TINY = SIZES["tiny"]
UNIFORM = math.log(VOCABULARY)
RECIPE = Recipe(steps=20, batch=4, evaluation_windows=32)


def adamw(lr: float) -> MakeOptimizer:
    return lambda model: Arm("adamw", "adamw").build(model, lr)


def run(corpus: Corpus, make: MakeOptimizer | None = None, **options: Any) -> Outcome:
    return train(TINY, corpus, make or adamw(1e-2), RECIPE, **{"seed": 1, "split": "tuning", **options})


def test_the_rate_rises_and_falls_to_zero() -> None:
    recipe = Recipe(steps=100, batch=1, warmup=0.1)
    rates = [recipe.multiplier(step) for step in range(101)]
    assert rates[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert max(rates) == rates[9] == 1.0
    assert rates[9:] == pytest.approx([1 - i / 91 for i in range(92)])
    assert rates[100] == 0.0 < rates[99]
    assert all(0 < Recipe(steps=1, batch=1).multiplier(0) <= 1 for _ in range(1))


def test_a_seed_fixes_everything_to_the_bit(corpus: Corpus) -> None:
    one, same, other = run(corpus), run(corpus), run(corpus, seed=2)
    assert one.final_loss == same.final_loss != other.final_loss
    assert one.curve["loss"] == same.curve["loss"] and one.training_curve["loss"] == same.training_curve["loss"]


def test_a_run_leaves_torchs_generator_alone(corpus: Corpus) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(corpus)
    assert torch.equal(torch.rand(3), expected)


def test_training_learns_and_says_so(corpus: Corpus) -> None:
    outcome = run(corpus)
    assert outcome.final_loss is not None and outcome.final_loss < UNIFORM - 1
    assert not outcome.diverged and outcome.diverged_at is None
    assert outcome.curve["step"] == outcome.training_curve["step"] == [2, 4, 6, 8, 10, 12, 14, 16, 17, 18, 19, 20]
    assert outcome.curve["loss"][-1] == outcome.final_loss
    assert outcome.curve["seconds"] == sorted(outcome.curve["seconds"])
    assert outcome.training_curve["loss"][0] > outcome.training_curve["loss"][-1]


def test_without_a_curve_only_the_end_is_evaluated(corpus: Corpus) -> None:
    outcome = run(corpus, with_curve=False)
    assert outcome.curve["step"] == [20]
    assert outcome.curve["loss"] == [run(corpus).final_loss]


def test_splits_are_judged_apart(corpus: Corpus) -> None:
    assert run(corpus, split="tuning").final_loss != run(corpus, split="judging").final_loss
    assert run(corpus, split="tuning").training_curve["loss"] == run(corpus, split="judging").training_curve["loss"]


@pytest.mark.parametrize("name", ["sgd", "lion", "adamw", "amsgrad"])
def test_state_is_counted_in_bytes(name: str, corpus: Corpus) -> None:
    outcome = run(corpus, lambda model: Arm(name, name).build(model, 1e-3))
    floats = {"sgd": 0, "lion": 1, "adamw": 2, "amsgrad": 3}[name]
    assert outcome.state_bytes_per_param == pytest.approx(4 * floats, abs=0.01)


def test_seconds_are_of_training_alone(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(model: Transformer, *rest: Any) -> float:
        time.sleep(0.2)
        return evaluate(model, *rest)

    monkeypatch.setattr("ravine.lab.training.evaluate", slow)
    start = time.perf_counter()
    outcome = run(corpus)
    assert outcome.seconds < time.perf_counter() - start - 12 * 0.2
    assert outcome.tokens_per_second == pytest.approx(20 * 4 * 32 / outcome.seconds)


def test_the_optimizers_part_of_the_time_is_its_own(corpus: Corpus) -> None:
    class Slow(torch.optim.SGD):
        def step(self, *arguments: Any) -> None:  # type: ignore[override]
            time.sleep(0.02)
            super().step(*arguments)

    outcome = run(corpus, lambda model: Slow(model.parameters(), lr=0.1))
    assert 20 * 0.02 <= outcome.optimizer_seconds < outcome.seconds
    quick = run(corpus)
    assert 0 < quick.optimizer_seconds < 0.9 * quick.seconds


def test_a_loss_that_is_not_finite_ends_the_run_and_is_reported(corpus: Corpus) -> None:
    steps: list[int] = []
    outcome = run(corpus, lambda model: torch.optim.SGD(model.parameters(), lr=1e30), on_step=steps.append)
    assert outcome.diverged and outcome.final_loss is None
    assert outcome.diverged_at == steps[-1] < 20
    assert all(map(math.isfinite, outcome.curve["loss"]))


def test_a_run_that_ends_far_worse_than_a_guess_has_diverged(corpus: Corpus) -> None:
    outcome = run(corpus, lambda model: torch.optim.SGD(model.parameters(), lr=1e4))
    assert outcome.diverged and outcome.diverged_at is None
    assert outcome.final_loss is not None and outcome.final_loss > DIVERGED_LOSS


def test_a_run_that_does_not_move_has_not_diverged(corpus: Corpus) -> None:
    outcome = run(corpus, lambda model: torch.optim.SGD(model.parameters(), lr=1e-9))
    assert not outcome.diverged
    assert outcome.final_loss is not None and UNIFORM < outcome.final_loss < DIVERGED_LOSS


def test_evaluation_is_at_the_weights_that_the_rule_owns(corpus: Corpus) -> None:
    torch.manual_seed(0)
    model = Transformer(TINY)
    windows = corpus.windows("tuning", 8, 33)
    before = model.loss(windows).item()
    optimizer = ravine.create("lookahead(sgd)", model.parameters(), lr=1.0, **{"lookahead.k": 5})
    model.loss(windows).backward()
    optimizer.step()
    assert model.loss(windows).item() != before
    assert evaluate(model, optimizer, windows, "float32") == pytest.approx(before, rel=1e-6)


def test_an_evaluation_is_the_mean_over_all_windows(corpus: Corpus) -> None:
    torch.manual_seed(0)
    model = Transformer(TINY)
    windows: Tensor = corpus.windows("tuning", 45, 33)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    by_hand = sum(model.loss(w[None]).item() for w in windows) / 45
    assert evaluate(model, optimizer, windows, "float32") == pytest.approx(by_hand, rel=1e-5)
    assert evaluate(model, optimizer, windows, "bfloat16") == pytest.approx(by_hand, rel=2e-2)


def test_bfloat16_is_taken_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faster_precision(TINY, 2, "cpu") in ("float32", "bfloat16")
    seconds = {"float32": 0.02, "bfloat16": 0.0}
    loss = Transformer.loss

    def slow_in(model: Transformer, windows: Tensor) -> Tensor:
        time.sleep(seconds["bfloat16" if torch.is_autocast_enabled("cpu") else "float32"])
        return loss(model, windows)

    monkeypatch.setattr(Transformer, "loss", slow_in)
    assert faster_precision(TINY, 2, "cpu") == "bfloat16"
    seconds.update(float32=0.0, bfloat16=0.02)
    assert faster_precision(TINY, 2, "cpu") == "float32"
