"""The loss of a network on a plane: planes, projections, paths, and checkpoints of other models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ravine.explain.landscape import Result, network_landscape, planes
from ravine.explain.landscape.measures import moves, oscillation
from ravine.explain.landscape.training import record
from ravine.lab.single import prepare
from ravine.lab.study.arms import parse
from ravine.lab.tasks import make
from ravine.lab.training import Recipe, evaluate

ARMS = ["adamw:lr=0.03", "sgd:lr=0.6", "muon:lr=0.06"]
STEPS = 12

numbers = st.floats(-3, 3)


@pytest.fixture(scope="module")
def task() -> Any:
    return make("digits", size="tiny")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, task: Any) -> list[Path]:
    """Three of `ravine train`, with the weights of `ARMS` at the end."""
    files = []
    for i, arm in enumerate(ARMS):
        single = prepare(task, arm, steps=STEPS, precision="float32", out=str(tmp_path_factory.mktemp("run") / str(i)))
        single.run()
        files.append(single.checkpoint)
    return files


@pytest.fixture(scope="module")
def drawn() -> Result:
    return network_landscape(ARMS, steps=STEPS, cells=7)


def some_plane(kind: str) -> planes.Plane:
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(3, 40, generator=generator)
    if kind == "checkpoints":
        return planes.through(list(points), ["a", "b", "c"])
    if kind == "pca":
        return planes.principal([torch.randn(9, 40, generator=generator) for _ in range(2)])
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 1))
    return planes.random(model, planes.weights_of(model), seed=1)


@pytest.mark.parametrize("kind", planes.PLANES)
@given(a=numbers, b=numbers)
def test_a_point_of_the_plane_is_projected_on_itself(kind: str, a: float, b: float) -> None:
    plane = some_plane(kind)
    assert plane.project(plane.at(a, b)).tolist() == pytest.approx([a, b], abs=1e-6)


@pytest.mark.parametrize("kind", planes.PLANES)
def test_the_projection_is_the_nearest_point(kind: str) -> None:
    plane = some_plane(kind)
    away = plane.origin + torch.randn(len(plane.origin), generator=torch.Generator().manual_seed(5))
    nearest = plane.project(away)
    rest = away.double() - plane.at(float(nearest[0]), float(nearest[1]))
    assert (plane.directions.double() @ rest).abs().max() < 1e-9


@pytest.mark.parametrize("kind", planes.PLANES)
def test_the_share_of_a_path_in_the_plane(kind: str) -> None:
    plane = some_plane(kind)
    inside = torch.stack([plane.at(float(t), float(t * t)) for t in range(5)])
    across = torch.randn(len(plane.origin), generator=torch.Generator().manual_seed(6)).double()
    basis = torch.linalg.qr(plane.directions.double().T).Q
    across = across - basis @ (basis.T @ across)
    outside = torch.stack([plane.origin.double() + t * across for t in range(5)])
    assert plane.share(inside) == pytest.approx(1.0)
    assert plane.share(outside) == pytest.approx(0.0, abs=1e-12)
    assert plane.share(inside[:1]) == 1.0


def test_the_plane_through_three_points_holds_them_at_their_distances() -> None:
    a, b, c = torch.randn(3, 50, generator=torch.Generator().manual_seed(1)).double()
    plane = planes.through([a, b, c], ["a", "b", "c"])
    at = plane.project(torch.stack([a, b, c]))
    assert at[0].tolist() == pytest.approx([0, 0], abs=1e-12) and float(at[1, 1]) == pytest.approx(0, abs=1e-12)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        points = (a, b, c)
        assert float((at[i] - at[j]).norm()) == pytest.approx(float((points[i] - points[j]).norm()))


@pytest.mark.parametrize("third", [0.5, 1.0, 0.0, 3.0])
def test_three_points_on_a_line_have_no_plane(third: float) -> None:
    a, b = torch.zeros(10), torch.ones(10)
    with pytest.raises(ValueError, match="a, b, c lie on one line"):
        planes.through([a, b, a + third * (b - a)], ["a", "b", "c"])


def test_random_directions_are_as_long_as_the_networks_filters() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4), torch.nn.Linear(5, 6))
    plane = planes.random(model, planes.weights_of(model), seed=2)
    for direction in plane.directions:
        place = 0
        for p in planes.trained(model):
            part = direction[place : place + p.numel()].reshape(p.shape)
            place += p.numel()
            if p.ndim < 2:
                assert not part.any()
            else:
                assert part.flatten(1).norm(dim=1).tolist() == pytest.approx(p.flatten(1).norm(dim=1).tolist())
    again = planes.random(model, planes.weights_of(model), seed=2)
    assert torch.equal(again.directions, plane.directions)
    assert not torch.equal(planes.random(model, planes.weights_of(model), seed=3).directions, plane.directions)


@pytest.mark.parametrize("arm", ["sgd:lr=3", "schedule_free(adamw):lr=0.03"])
def test_a_recorded_run_is_the_run_itself(task: Any, arm: str) -> None:
    (parsed,) = parse([arm], over=["lr"])
    told: list[int] = []
    run = record(task, parsed, Recipe(STEPS, 32), seed=1, trials=9, tell=told.append)
    assert told == list(range(1, STEPS + 1)) == run.at[1:]
    path = run.path.numpy()
    assert run.oscillation == pytest.approx(oscillation(path), rel=1e-4)
    assert run.moves == pytest.approx(moves(path).tolist(), rel=1e-4)
    model = task.new_model()
    planes.put(model, run.points[-1])
    expected = evaluate(task, run.model, run.optimizer, "tuning")["loss"]
    assert evaluate(task, model, None, "tuning")["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_learning_rate_that_is_not_given_is_searched_for(task: Any) -> None:
    (bare,), (best_known,) = parse(["sgd"], over=["lr"]), parse(["sgd:lr=0.6"], over=["lr"])
    found = record(task, bare, Recipe(STEPS, 32), seed=1, trials=5, tell=lambda step: None)
    known = record(task, best_known, Recipe(STEPS, 32), seed=1, trials=5, tell=lambda step: None)
    assert found.tuned and not known.tuned and found.settings["lr"] in (0.006, 0.06, 0.6, 6.0, 60.0)

    def end(run: Any) -> float:
        model = task.new_model()
        planes.put(model, run.points[-1])
        return evaluate(task, model, None, "tuning")["loss"]

    assert end(found) <= end(known)
    untuned = record(task, bare, Recipe(3, 32), seed=1, trials=1, tell=lambda step: None)
    assert untuned.settings == {"lr": 0.6} and not untuned.tuned


def test_all_begin_at_one_point_and_the_plane_goes_through_the_ends(drawn: Result) -> None:
    first = drawn.tracks[0]
    for track in drawn.tracks:
        assert track.points[0] == pytest.approx(first.points[0], abs=1e-6)
        assert track.losses[0] == pytest.approx(first.losses[0], abs=1e-6)
        assert track.losses[-1] < track.losses[0]
        assert track.in_plane is not None and 0.0 < track.in_plane < 1.0
        assert list(track.at) == list(range(STEPS + 1)) and len(track.moves) == STEPS
    ends = np.array([track.points[-1] for track in drawn.tracks])
    assert ends[0] == pytest.approx([0, 0], abs=1e-6) and ends[1][1] == pytest.approx(0, abs=1e-6)
    assert drawn.minimum is None and drawn.level is None and drawn.steps_to(first) is None
    x, y = drawn.ground.x, drawn.ground.y
    shown = np.concatenate([track.points for track in drawn.tracks])
    assert (shown >= [x[0], y[0]]).all() and (shown <= [x[-1], y[-1]]).all()
    assert (x[-1] - x[0]) / (y[-1] - y[0]) == pytest.approx(4 / 3)


def test_the_ground_is_the_loss_of_the_weights_there(checkpoints: list[Path], task: Any) -> None:
    result = network_landscape([], checkpoints=checkpoints, cells=7)
    assert result.tracks == () and result.figure() is not None
    weights = []
    for file in checkpoints:
        content = torch.load(file, weights_only=True)["model"]
        model = task.new_model()
        model.load_state_dict(content)
        weights.append(planes.weights_of(model))
    plane = planes.through(weights, ["a", "b", "c"])
    row, column = 2, 4
    planes.put(model, plane.at(result.ground.x[column], result.ground.y[row]))
    assert result.ground.heights[row, column] == pytest.approx(evaluate(task, model, None, "tuning")["loss"], rel=1e-5)
    assert [name for name, _ in result.ground.marks] == ["0/checkpoint.pt", "1/checkpoint.pt", "2/checkpoint.pt"]


def test_the_paths_end_at_their_own_checkpoints(checkpoints: list[Path], drawn: Result) -> None:
    result = network_landscape(ARMS[:1], checkpoints=checkpoints, steps=STEPS, cells=5)
    marks = dict(result.ground.marks)
    assert result.tracks[0].points[-1] == pytest.approx(marks["0/checkpoint.pt"], abs=1e-5)
    assert marks["start"] == pytest.approx(drawn.tracks[0].points[0], abs=1e-4)


@pytest.mark.parametrize("plane", ["pca", "random"])
def test_other_planes(plane: str) -> None:
    result = network_landscape(ARMS[:2], plane=plane, steps=STEPS, cells=5)
    told = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert told["plane"] == plane and np.isfinite(result.ground.heights).all()
    shares = [track.in_plane or 0.0 for track in result.tracks]
    if plane == "pca":
        assert max(shares) > 0.8  # two paths of nearly straight lines
        assert re.match(r"principal direction 1 \(\d+% of the variance\)", result.ground.x_name)
    else:
        assert max(shares) < 0.05  # two of 2 410 directions
        assert (result.ground.x[0], result.ground.x[-1]) == (-1.0, 1.0)
    assert result.figure() is not None


def test_the_same_call_gives_the_same() -> None:
    one, two = (network_landscape(ARMS[:1], plane="random", steps=4, cells=5).as_dict() for _ in range(2))
    assert one == two


def damaged(file: Path, to: Path, change: Any) -> Path:
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, to)
    return to


def test_a_checkpoint_of_another_model_is_refused_in_one_sentence(checkpoints: list[Path], tmp_path: Path) -> None:
    def missing(content: Any) -> None:
        del content["model"]["head.bias"]

    def more(content: Any) -> None:
        content["model"]["gate.weight"] = torch.zeros(3)

    def broken(content: Any) -> None:
        content["model"]["head.bias"][0] = torch.nan

    text = tmp_path / "text.pt"
    text.write_text("no checkpoint")
    third = checkpoints[0]
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (checkpoints[2], {"size": "small"}, "its hidden.0.weight is (32, 64), and there it is (128, 64)"),
        (checkpoints[2], {"task": "quadratic"}, "is of another model than the task quadratic"),
        (damaged(third, tmp_path / "a.pt", missing), {}, "it has no head.bias"),
        (damaged(third, tmp_path / "b.pt", more), {}, "that has no gate.weight"),
        (damaged(third, tmp_path / "c.pt", broken), {}, "holds weights that are not finite"),
        (text, {}, "is not a checkpoint of ravine"),
        (tmp_path / "nowhere.pt", {}, "cannot read"),
        (checkpoints[1], {}, "lie on one line"),
    ]
    for file, options, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            network_landscape([], checkpoints=[*checkpoints[:2], file], cells=5, **options)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"plane": "pcaa"}, "plane must be one of checkpoints, pca, random, got 'pcaa'; did you mean 'pca'?"),
        ({"plane": "checkpoints"}, "there are 2; take 'pca' or 'random'"),
        ({"checkpoints": ["a", "b"]}, "checkpoints must be three files"),
        ({"checkpoints": ["a", "b", "c"], "plane": "pca"}, "checkpoints mean nothing to it"),
        ({"arms": []}, "at least one optimizer is wanted, or three checkpoints"),
        ({"cells": 4}, "cells must be a whole number from 5 to 201"),
        ({"trials": 0}, "trials must be a whole number from 1 to 100"),
        ({"task": "digit"}, "did you mean 'digits'?"),
        ({"size": "huge"}, "size must be one of"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        network_landscape(**({"arms": ARMS[:2], "steps": 2} | wrong))
    assert "\n" not in str(error.value)
