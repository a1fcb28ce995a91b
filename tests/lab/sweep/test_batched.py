"""Many runs at once: each equal to the run made alone, or refused with a reason, and faster."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ravine.lab.study.arms import Arm, parse
from ravine.lab.sweep import BatchedRuns, Unbatched
from ravine.lab.tasks import make
from ravine.lab.tasks.digits import Digits
from ravine.lab.tasks.task import Task
from ravine.lab.training import Recipe, train

RECIPE = Recipe(steps=8, batch=16, clip=0.5)


def alone(
    task: Task, arm: Arm, cell: dict[str, Any], recipe: Recipe, dtype: torch.dtype = torch.float64
) -> dict[str, torch.Tensor]:
    """The weights of one run, by a loop as anyone writes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = task.new_model().to(dtype)
    optimizer = arm.build(model, cell)
    schedule = recipe.new_schedule(optimizer)
    draw = torch.Generator().manual_seed(1)
    for step in range(1, recipe.steps + 1):
        batch = task.draw(recipe.batch, draw, step)
        batch = {name: x.to(dtype) if x.is_floating_point() else x for name, x in batch.items()}
        task.loss(model, batch).backward()
        if recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def require_equal(task: Task, optimizer: str, cells: list[dict[str, Any]], recipe: Recipe = RECIPE) -> None:
    (arm,) = parse([optimizer], over=())
    runs = BatchedRuns(task, arm, cells, recipe, 1, torch.float64)
    runs.run()
    assert runs.done == recipe.steps
    for i, cell in enumerate(cells):
        weights = alone(task, arm, cell, recipe)
        assert any((weights[name] - p).abs().max() > 1e-6 for name, p in runs.model.named_parameters()), "no step"
        for name, expected in weights.items():
            assert (runs.values[name][i] - expected).abs().max() <= 1e-10, (cell, name)


CELLS = [{"lr": lr, "weight_decay": decay} for lr in (0.01, 0.05) for decay in (0.1, 0.4)]
LR = [{"lr": 0.02}, {"lr": 0.1}, {"lr": 0.005}]


@pytest.mark.parametrize("decay", ["lr", "schedule", "lr_squared", "l2"])
def test_adamw_in_every_form_of_weight_decay(decay: str) -> None:
    require_equal(make("digits", size="tiny"), f"adamw:decay={decay}", CELLS)


@pytest.mark.parametrize(
    ("optimizer", "cells"),
    [
        ("lion", CELLS),
        ("sgd:momentum=0.9,nesterov=true", CELLS),
        ("cautious(adamw)", CELLS),
        ("lamb", CELLS),
        ("radam", LR),
        ("nadamw", CELLS),
        ("adafactor", LR),
        ("adamw", [{"beta2": 0.9}, {"beta2": 0.999}]),
        ("adamw:lr=0.03", [{"eps": 1e-8}, {"eps": 1e-2}]),
        ("muon", CELLS),
        ("muon:other=lion", LR),
        ("normuon", LR),
        ("soap", LR),
        ("lookahead(sgd)", LR),
        ("lookahead(sgd):lr=0.1", [{"lookahead.k": 2, "lookahead.alpha": 0.5}, {"lookahead.k": 3}]),
        ("schedule_free(adamw)", LR),
        ("ema(adamw)", LR),
        ("adamw:engine=reference", LR),
    ],
)
def test_equal_to_separate_runs(optimizer: str, cells: list[dict[str, Any]]) -> None:
    require_equal(make("digits", size="tiny"), optimizer, cells)


@pytest.mark.parametrize(
    ("task", "options"),
    [("digits", {"model": "cnn"}), ("digits", {"model": "vit"}), ("ridge", {}), ("quadratic", {}), ("rosenbrock", {})],
)
def test_equal_on_other_tasks(task: str, options: dict[str, Any]) -> None:
    require_equal(make(task, size="tiny", **options), "adamw", LR, replace(RECIPE, steps=3))


@pytest.mark.filterwarnings("error:There is a performance drop")
def test_equal_on_a_language_model(text: Path) -> None:
    require_equal(make("lm", size="tiny", data=str(text)), "adamw", LR[:2], replace(RECIPE, steps=3, batch=4))


def test_without_clipping_and_with_another_schedule() -> None:
    recipe = replace(RECIPE, clip=None, schedule="cosine", warmup=0.5)
    require_equal(make("digits", size="tiny"), "adamw", CELLS, recipe)


@pytest.mark.parametrize("optimizer", ["schedule_free(adamw)", "lookahead(adamw)", "ema(sgd)", "adamw"])
def test_evaluates_each_run_at_the_weights_of_its_rule(optimizer: str) -> None:
    task = make("digits", size="tiny")
    (arm,) = parse([optimizer], over=())
    runs = BatchedRuns(task, arm, LR, RECIPE, 1)
    runs.run()
    for cell, figures in zip(LR, runs.evaluate("tuning"), strict=True):
        outcome = train(
            task, lambda model, cell=cell: arm.build(model, cell), RECIPE, seed=1, split="tuning", with_curve=False
        )
        assert outcome.final_loss == pytest.approx(figures["loss"], rel=1e-4)
        assert outcome.metrics["accuracy"] == pytest.approx(figures["accuracy"], abs=0.02)


def test_goes_on_after_an_evaluation() -> None:
    task = make("digits", size="tiny")
    (arm,) = parse(["schedule_free(adamw)"], over=())
    seen: list[int] = []
    straight, halted = (BatchedRuns(task, arm, LR, RECIPE, 1) for _ in range(2))
    straight.run(seen.append)
    for _ in range(4):
        halted.step()
    halted.evaluate("tuning")
    halted.run()
    assert seen == list(range(1, RECIPE.steps + 1))
    for name, value in straight.values.items():
        assert torch.equal(value, halted.values[name])


def test_frozen_parameters_stay() -> None:
    (arm,) = parse(["adamw"], over=())
    runs = BatchedRuns(_Frozen(size="tiny"), arm, LR, RECIPE, 1)
    before = [p.clone() for p in runs.model.hidden.parameters()]
    runs.run()
    runs.evaluate("tuning")
    assert set(runs.values) == {"head.weight", "head.bias"}
    assert all(map(torch.equal, before, runs.model.hidden.parameters()))


class _Frozen(Digits):
    def new_model(self) -> torch.nn.Module:
        model = super().new_model()
        for p in model.hidden.parameters():
            p.requires_grad_(False)
        return model


class _Dropout(Digits):
    def new_model(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 10))


@pytest.mark.parametrize(
    ("task", "optimizer", "cells", "changes", "reason"),
    [
        (Digits(size="tiny"), "prodigy", [{"lr": 1.0}], {}, "looks at all parameters"),
        (Digits(size="tiny"), "clip_norm(adamw)", LR, {}, "looks at all parameters"),
        (Digits(size="tiny"), "sophia", LR, {}, "needs hessian from outside"),
        (Digits(size="tiny"), "adamw", [{"warmup": 0.1}], {}, "warm-up"),
        (Digits(size="tiny"), "adamw", LR, {"ema": 0.9}, "averages of the weights"),
        (Digits(size="tiny"), "adamw", LR, {"accumulate": 2}, "micro-batches"),
        (Digits(size="tiny"), "adamw", LR, {"precision": "bfloat16"}, "lower precisions"),
        (make("online", size="tiny"), "adamw", LR, {}, "changes the weights itself"),
        (_Dropout(size="tiny"), "adamw", LR, {}, "torch.vmap cannot follow the model"),
    ],
)
def test_refused_with_a_reason(
    task: Task, optimizer: str, cells: list[dict[str, Any]], changes: dict[str, Any], reason: str
) -> None:
    (arm,) = parse([optimizer], over=())
    with pytest.raises(Unbatched, match=reason):
        BatchedRuns(task, arm, cells, replace(RECIPE, **changes), 1)


@pytest.mark.slow
def test_five_times_as_fast_as_one_after_the_other() -> None:
    """64 cells of the MLP on 2 threads, float32; separate, batched, separate, batched, so that both see the machine."""
    task = make("digits", size="tiny")
    (arm,) = parse(["adamw"], over=())
    cells = [{"lr": 1e-3 * 1.5**i, "weight_decay": 0.01 * 1.5**j} for i in range(8) for j in range(8)]
    recipe = replace(RECIPE, steps=25, batch=task.batch, clip=1.0)

    def separate() -> float:
        """Seconds of the 64 runs, without what `train` does before and after the loop."""
        return sum(
            train(
                task, lambda model, cell=cell: arm.build(model, cell), recipe, seed=1, split="tuning", with_curve=False
            ).seconds
            for cell in cells
        )

    def batched() -> float:
        runs = BatchedRuns(task, arm, cells, recipe, 1)
        start = time.perf_counter()
        runs.run()
        return time.perf_counter() - start

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        batched()
        pairs = [(separate(), batched()) for _ in range(2)]
    finally:
        torch.set_num_threads(before)
    alone_seconds, batched_seconds = map(min, zip(*pairs, strict=True))
    assert alone_seconds / batched_seconds >= 5, pairs
