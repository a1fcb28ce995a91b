"""Recipes: what is allowed, and which schedule comes of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ravine
from ravine.lab.training import Recipe
from ravine.optim.schedules import SCHEDULES


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(3, 3))]


def multipliers(recipe: Recipe, optimizer: torch.optim.Optimizer | None = None) -> list[float]:
    shape = recipe.new_schedule(optimizer or torch.optim.SGD(weights(), lr=1.0)).shape
    return [shape(step) for step in range(recipe.steps + 1)]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": 1.5}, "steps must be a whole number of at least 1, got 1.5"),
        ({"batch": True}, "batch must be a whole number of at least 1, got True"),
        ({"accumulate": 3}, "accumulate must divide batch = 8, got 3"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'"),
        ({"warmup": 1.1}, "warmup must be a number in [0, 1], got 1.1"),
        ({"warmup": float("nan")}, "warmup must be a number in [0, 1], got nan"),
        ({"floor": -0.1}, "floor must be a number in [0, 1], got -0.1"),
        ({"floor": 0.1, "schedule": "constant"}, "floor: the schedule 'constant' has none, got 0.1"),
        ({"clip": 0}, "clip must be a number above 0, or None, got 0"),
        ({"clip": "1"}, "clip must be a number above 0, or None, got '1'"),
        ({"ema": 1.0}, "ema must be a number in (0, 1), or None, got 1.0"),
        ({"precision": "half"}, "precision must be one of 'float32', 'bfloat16', 'float16', got 'half'"),
        ({"compile": 1}, "compile must be True or False, got 1"),
    ],
)
def test_what_is_not_allowed_is_refused_in_a_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        Recipe(**{"steps": 10, "batch": 8, **wrong})
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


def test_the_rate_rises_and_falls() -> None:
    rates = multipliers(Recipe(steps=100, batch=1))
    assert rates[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert rates[10:] == pytest.approx([1 - i / 90 for i in range(91)])
    assert multipliers(Recipe(steps=4, batch=1, warmup=0.0)) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert multipliers(Recipe(steps=4, batch=1, warmup=0.0, floor=0.5))[-1] == 0.5


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.25, 1.0])
def test_every_schedule_has_its_peak_after_the_warm_up(schedule: str, warmup: float) -> None:
    recipe = Recipe(steps=8, batch=1, schedule=schedule, warmup=warmup)
    rates = multipliers(recipe)
    assert rates[: recipe.warmup_steps] == pytest.approx(
        [(i + 1) / recipe.warmup_steps for i in range(round(8 * warmup))]
    )
    assert max(rates) == 1.0 and all(rate > 0 for rate in rates[:8])
    assert schedule == "constant" or warmup == 1.0 or rates[-1] < 1.0


@pytest.mark.parametrize("name", ["schedule_free(adamw)", "rectified(schedule_free(adamw))"])
def test_schedule_free_is_warmed_up_and_not_brought_down(name: str) -> None:
    recipe, optimizer = Recipe(steps=8, batch=1, warmup=0.25), ravine.create(name, weights(), lr=1.0)
    assert multipliers(recipe, optimizer) == [0.5] + 8 * [1.0]
    (note,) = recipe.notes(optimizer)
    assert name in note and "not brought down" in note


@pytest.mark.parametrize("name", ["adamw", "lookahead(adamw)", "ema(adamw)"])
def test_other_rules_have_the_schedule_also_if_they_own_weights(name: str) -> None:
    recipe = Recipe(steps=8, batch=1, warmup=0.25)
    optimizer = ravine.create(name, weights(), lr=1.0)
    assert multipliers(recipe, optimizer) == multipliers(recipe)
    assert recipe.notes(optimizer) == []


def test_an_average_is_not_taken_where_the_rule_has_one() -> None:
    recipe = Recipe(steps=8, batch=1, ema=0.9, schedule="constant")
    assert recipe.notes(ravine.create("adamw", weights())) == []
    (note,) = recipe.notes(ravine.create("lookahead(adamw)", weights()))
    assert note == "ema is not used: lookahead(adamw) evaluates at weights of its own"


def test_settings_make_the_recipe_again() -> None:
    recipe = Recipe(steps=8, batch=4, accumulate=2, schedule="wsd", clip=None, ema=0.99, precision="bfloat16")
    assert Recipe(**recipe.settings()) == recipe
