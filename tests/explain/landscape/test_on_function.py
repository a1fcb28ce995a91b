"""`landscape`: what is tuned, what is said, and what is refused."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravine.explain.landscape import landscape
from ravine.explain.landscape.descent import descend
from ravine.explain.landscape.functions import LANDSCAPES
from ravine.explain.landscape.measures import steps_to, target
from ravine.explain.landscape.tuning import COARSE, FINER, tune
from ravine.registry import lookup

OWN = """
import math
import torch

def bowl(x, y):
    return (x - 1) ** 2 + 3 * (y + 0.5) ** 2

def valley(x, y):
    return bowl(x, y) - 7

def slope(x, y):
    return x + 0 * y

def half(x, y):
    return x.item() ** 2 + y ** 2

def plain(x, y):
    return 3.5

def fixed(x, y):
    return torch.tensor(1.0, dtype=torch.float64)

def both(x, y):
    return torch.stack([x, y])

def logarithm(x, y):
    return torch.log(x) + y ** 2

def cone(x, y):
    return torch.sqrt(x ** 2 + y ** 2)

def kink(x, y):
    return torch.relu(x) + y ** 2

def three(x, y, z):
    return x + y + z

def broken(x, y):
    return x * [][0]
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A file of functions."""
    path = tmp_path / "own.py"
    path.write_text(OWN, encoding="utf-8")
    return str(path)


def test_a_learning_rate_that_is_not_given_is_the_best_of_the_grid() -> None:
    ravine, adam = LANDSCAPES["ravine"], lookup("adam")
    result = landscape("ravine", ["adam"])
    (track,) = result.tracks
    level = target(75.0, 0.0)
    assert track.tuned and result.level == pytest.approx(level)
    runs = descend(ravine, adam, [{"lr": lr} for lr in COARSE], start=ravine.start, steps=ravine.steps)
    on_ground = [run for run in runs if run.diverged_at is None and all(map(ravine.contains, run.points))]
    arrived = [found for run in on_ground if (found := steps_to(run.losses, level)) is not None]
    assert (result.steps_to(track) or math.inf) <= min(arrived)
    (alone,) = descend(ravine, adam, [{"lr": track.lr}], start=ravine.start, steps=ravine.steps)
    assert np.array_equal(alone.points, track.points) and np.array_equal(alone.losses, track.losses)


def test_every_optimizer_gets_as_many_tries() -> None:
    asked: list[float] = []

    def runs(settings):  # type: ignore[no-untyped-def]
        asked.extend(one["lr"] for one in settings)
        one = LANDSCAPES["ravine"]
        return descend(one, lookup("sgd"), settings, start=one.start, steps=50)

    best = tune(runs, {}, 0.075, lambda point: True)
    assert len(set(asked)) == len(asked) == len(COARSE) + FINER
    assert best.lr in asked and not best.at_edge


def test_a_best_on_the_edge_is_said() -> None:
    result = landscape("ravine", ["adadelta"], steps=20)
    (track,) = result.tracks
    assert track.at_edge and track.lr == COARSE[-1]
    assert any("adadelta is the largest that was tried" in remark for remark in result.remarks)


def test_the_same_call_gives_the_same() -> None:
    one, two = (landscape("beale", ["adam", "muon"], steps=60, noise=0.1, seed=3).as_dict() for _ in range(2))
    assert one == two
    assert landscape("beale", ["adam"], steps=60, noise=0.1, seed=4).as_dict()["arms"]["adam"] != one["arms"]["adam"]


def test_weight_decay_is_zero_unless_it_is_given() -> None:
    result = landscape("ravine", ["adamw:lr=0.1", "adam:lr=0.1", "adamw:lr=0.1,weight_decay=0.5"], steps=30)
    left_out, without, given_ = result.tracks
    assert np.array_equal(left_out.points, without.points)
    assert not np.array_equal(given_.points, without.points)
    assert [track.decay_left_out for track in result.tracks] == [True, False, False]
    assert sum("Weight decay that was not given is 0" in remark for remark in result.remarks) == 1


def test_matrix_rules_divergence_and_rules_without_lr_are_said() -> None:
    result = landscape("ravine", ["muon:lr=0.1", "sgd:lr=1", "adafactor_transformers"], steps=60)
    said = " ".join(result.remarks)
    assert "muon steps matrices: the point is a matrix of one row to it." in said
    assert "sgd:lr=1.0 diverged at step" in said and result.steps_to(result.tracks[1]) is None
    assert "adafactor_transformers takes no learning rate." in said and result.tracks[2].lr is None


def test_json_holds_every_number() -> None:
    result = landscape("ravine", ["sgd:lr=0.03", "sgd:lr=1"], steps=40)
    told = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    arm = told["arms"]["sgd:lr=0.03"]
    assert told["condition"] == 50.0 and told["minimum"] == 0.0 and told["level"] == pytest.approx(0.075)
    assert arm["points"] == result.tracks[0].points.tolist() and arm["final_point"] == arm["points"][-1]
    assert arm["losses"] == result.tracks[0].losses.tolist() and arm["final_loss"] == arm["losses"][-1]
    assert len(arm["moves"]) == 40 and arm["path_length"] == pytest.approx(sum(arm["moves"]))
    assert arm["steps"] == list(range(41))
    assert told["arms"]["sgd:lr=1.0"]["diverged_at"] == result.tracks[1].diverged_at
    ground = told["ground"]
    column, row = 7, 9
    expected = LANDSCAPES["ravine"].value(ground["x"][column], ground["y"][row])
    assert ground["loss"][row][column] == pytest.approx(expected)


def test_a_function_of_ones_own(own: str) -> None:
    result = landscape(f"{own}:valley", ["sgd", "adam:lr=0.1"], steps=80, start=(-1.5, 1.5))
    assert result.minimum == pytest.approx(-7.0, abs=1e-9)
    mark = dict(result.ground.marks)["minimum"]
    assert mark == pytest.approx((1.0, -0.5), abs=1e-4)
    assert result.tracks[0].points[-1] == pytest.approx((1.0, -0.5), abs=1e-3)
    assert result.title == "own.py:valley"
    assert any("the lowest value that was found, -7 at (1, -0.5)" in remark for remark in result.remarks)
    named = landscape("ravine", ["sgd:lr=0.01"], steps=5, x=(-3, 4), y=(-1, 2), start=(2.0, 1.0))
    assert (named.ground.x[0], named.ground.x[-1], named.ground.y[0], named.ground.y[-1]) == (-3, 4, -1, 2)


def test_a_function_that_only_falls_is_measured_to_what_was_found(own: str) -> None:
    result = landscape(f"{own}:slope", ["sgd:lr=1"], steps=50, start=(0.0, 0.0))
    assert result.minimum == pytest.approx(-50.0)


def test_a_minimum_with_a_kink_is_found_where_no_path_meets_it(own: str) -> None:
    result = landscape(f"{own}:cone", ["sgd:lr=0.01"], steps=20, start=(-1.5, 1.4))
    assert result.minimum == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    ("function", "start", "message"),
    [
        ("half", (-1.5, 1.5), "half is not differentiable at (-1.5, 1.5): torch gives the gradient (0, 3)"),
        ("plain", (-1.5, 1.5), "plain is not differentiable at (-1.5, 1.5): it gives 3.5"),
        ("fixed", (-1.5, 1.5), "fixed is not differentiable at (-1.5, 1.5)"),
        ("both", (-1.5, 1.5), "both is not differentiable at (-1.5, 1.5): it gives a tensor of shape (2,)"),
        ("cone", (0.0, 0.0), "cone is not differentiable at (0, 0): its gradient is (nan, nan)"),
        ("kink", (0.0, 1.0), "kink is not differentiable at (0, 1): torch gives the gradient (0, 2)"),
        ("logarithm", (-1.5, 1.5), "logarithm is nan at (-1.5, 1.5)"),
        ("logarithm", (1.5, 1.5), "logarithm is nan at (-2, -2)"),
        ("three", (-1.5, 1.5), "three must be a function of (x, y)"),
        ("broken", (-1.5, 1.5), "own.py, line 39: broken raised IndexError"),
        ("bowls", (-1.5, 1.5), "own.py has no function 'bowls'; did you mean 'bowl'?"),
    ],
)
def test_a_function_that_will_not_do_is_refused_in_one_sentence(
    own: str, function: str, start: tuple[float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        landscape(f"{own}:{function}", ["sgd:lr=0.1"], steps=5, start=start)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"on": "ravin"}, "unknown landscape 'ravin'; did you mean 'ravine'?"),
        ({"on": "nowhere.py:f"}, "on: there is no file"),
        ({"arms": ["sdg"]}, "unknown optimizer 'sdg'; did you mean 'sgd'?"),
        ({"arms": ["sgd:lrr=1"]}, "no hyperparameter 'lrr'; did you mean 'lr'?"),
        ({"arms": []}, "at least one optimizer"),
        ({"steps": 0}, "steps must be a whole number from 1 to"),
        ({"steps": True}, "steps must be a whole number from 1 to"),
        ({"start": (math.nan, 0.0)}, "start must be two finite numbers"),
        ({"x": (1.0, 1.0)}, "x must be a finite number and a greater one"),
        ({"y": (0.0, math.inf)}, "y must be a finite number and a greater one"),
        ({"noise": -0.1}, "noise must be a finite number of at least 0"),
        ({"noise": math.inf}, "noise must be a finite number of at least 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"schedule": "linea"}, "did you mean 'linear'?"),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        landscape(**({"on": "ravine", "arms": ["sgd:lr=0.01"], "steps": 5} | wrong))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@settings(max_examples=40)
@given(
    start=st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), lr=st.floats(1e-6, 1e6),
    name=st.sampled_from(["sgd", "adam", "lion", "muon", "rmsprop", "adadelta"]),
)  # fmt: skip
def test_whatever_the_learning_rate_every_number_is_finite(start: tuple[float, float], lr: float, name: str) -> None:
    result = landscape("saddle", [f"{name}:lr={lr!r}"], steps=5, start=start)
    told = result.as_dict()["arms"]
    assert all(math.isfinite(loss) for arm in told.values() for loss in arm["losses"])
