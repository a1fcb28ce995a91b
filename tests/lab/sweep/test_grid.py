"""A sweep: its maps, the best cells, what is refused, and what an interruption leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ravine.lab.sweep import Sweep, prepare
from ravine.lab.sweep import grid as grids
from ravine.lab.training import train

BUDGET: dict[str, Any] = {"task": "ridge", "size": "tiny", "steps": 6, "cells": 3}


def sweep(out: Path, optimizer: str = "adamw", **options: Any) -> Sweep:
    return prepare(optimizer, **{**BUDGET, "out": str(out), **options})


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_map_for_each_form_of_weight_decay(tmp_path: Path) -> None:
    made = sweep(tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == [] and made.cells == 36
    result = made.run()
    assert [one["decay"] for one in result["maps"]] == ["lr", "schedule", "lr_squared", "l2"]
    assert result == json.loads((made.out / "sweep.json").read_text(encoding="utf-8"))
    assert made.page == made.out / "sweep.html" and made.page.exists()
    for one in result["maps"]:
        assert one["batched"] and one["why_not_batched"] is None
        losses = {(x, y): one["loss"][j][i] for i, x in enumerate(one["x"]) for j, y in enumerate(one["y"])}
        finished = {place: loss for place, loss in losses.items() if loss is not None}
        assert one["diverged"] == len(losses) - len(finished)
        place, least = min(finished.items(), key=lambda item: item[1])
        assert one["best"] == {"lr": place[0], "weight_decay": place[1], "loss": least}
        ends = {"lr": (one["x"][0], one["x"][-1]), "weight_decay": (one["y"][0], one["y"][-1])}
        assert one["at_edge"] == [name for name, outer in ends.items() if one["best"][name] in outer]


def test_cells_are_single_runs(tmp_path: Path) -> None:
    made = sweep(tmp_path, decay=["l2"], task="digits", space={"weight_decay": "1e-3..1e-1"})
    (one,) = made.run()["maps"]
    assert one["y"] == [0.001, 0.01, 0.1]
    for cell in ({"lr": one["x"][0], "weight_decay": 0.1}, {"lr": one["x"][2], "weight_decay": 0.01}):
        outcome = train(
            made.task, lambda model, cell=cell: made.maps[0].arm.build(model, cell), made.recipe, seed=1,
            split="tuning", with_curve=False,
        )  # fmt: skip
        i, j = one["x"].index(cell["lr"]), one["y"].index(cell["weight_decay"])
        assert one["loss"][j][i] == pytest.approx(outcome.final_loss, rel=1e-4)


def test_one_by_one_gives_the_same_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = sweep(tmp_path / "a", decay=["lr"]).run()["maps"][0]
    monkeypatch.setattr(grids, "LARGEST_BATCHED", 1)
    alone = sweep(tmp_path / "b", decay=["lr"]).run()["maps"][0]
    assert not alone["batched"] and "train side by side" in alone["why_not_batched"]
    for row, expected in zip(alone["loss"], together["loss"], strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


def test_warmup_is_swept_in_runs_of_their_own(tmp_path: Path) -> None:
    made = sweep(tmp_path, over=("lr", "warmup"), cells=2, space={"warmup": "0.1..0.9"}, steps=10)
    (one,) = made.run()["maps"]
    assert "warm-up" in one["why_not_batched"] and one["y"] == [0.1, 0.9]
    cell = {"lr": one["x"][1], "warmup": 0.9}
    outcome = train(
        made.task, lambda model: made.maps[0].arm.build(model, cell), replace(made.recipe, warmup=0.9), seed=1,
        split="tuning", with_curve=False,
    )  # fmt: skip
    assert one["loss"][1][1] == outcome.final_loss != one["loss"][0][1]


def test_cells_that_diverge_are_none(tmp_path: Path) -> None:
    made = sweep(tmp_path, "sgd", task="digits", over=("lr", "momentum"), space={"lr": "1e9..1e10"}, cells=2, clip=0)
    (one,) = made.run()["maps"]
    assert one["diverged"] == sum(map(len, one["loss"])) and one["best"]["loss"] is None and one["at_edge"] == []


def test_choices_have_no_edge(tmp_path: Path) -> None:
    made = sweep(tmp_path, over=("beta2", "lr"), space={"beta2": "0.9|0.99"})
    (one,) = made.run()["maps"]
    assert one["x"] == [0.9, 0.99] and "beta2" not in one["at_edge"] and one["decay"] == "lr"


def test_interrupted_keeps_whole_maps_and_goes_on(tmp_path: Path) -> None:
    made, seen = sweep(tmp_path, task="digits"), []

    def stop(done: int, total: int, what: str, step: int, steps: int) -> None:
        seen.append((done, total, what, step, steps))
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.run(stop)
    assert seen[0] == (0, 36, "adamw (decay lr), 9 cells at once", 0, 6) and seen[-1][:2] >= (20, 36)
    assert made.interrupted() == (
        f"interrupted; 2 of 4 maps are kept in {tmp_path}, and the same command goes on from there"
    )
    assert not made.page.exists() and len(files(tmp_path / "maps")) == 2
    again: list[int] = []
    result = sweep(tmp_path, task="digits").run(lambda done, *_: again.append(done))
    assert min(again) == 18
    assert result["maps"][0]["seconds"] > 0 and len(result["maps"]) == 4
    fresh = sweep(tmp_path / "fresh", task="digits").run()
    assert [one["loss"] for one in fresh["maps"]] == [one["loss"] for one in result["maps"]]


def test_interrupted_keeps_single_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "LARGEST_BATCHED", 1)
    made = sweep(tmp_path, decay=["lr"])

    def stop(done: int, total: int, what: str, step: int, steps: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.run(stop)
    assert "0 of 1 maps and 4 single cells are kept" in made.interrupted()
    again: list[int] = []
    (one,) = sweep(tmp_path, decay=["lr"]).run(lambda done, *_: again.append(done))["maps"]
    assert min(again) == 4 and all(loss is not None for row in one["loss"] for loss in row)


def test_another_sweep_in_the_same_folder_takes_nothing_over(tmp_path: Path) -> None:
    first = sweep(tmp_path, decay=["lr"]).run()
    other = sweep(tmp_path, decay=["lr"], steps=7).run()
    assert first["maps"][0]["loss"] != other["maps"][0]["loss"]
    again: list[int] = []
    assert sweep(tmp_path, decay=["lr"]).run(lambda done, *_: again.append(done)) == first and again == []


@pytest.mark.parametrize(
    ("optimizer", "options", "sentence"),
    [
        ("adamww", {}, "did you mean 'adamw'"),
        ("adamw", {"over": ("lr",)}, "over must be two different settings"),
        ("adamw", {"over": ("lr", "lr")}, "over must be two different settings"),
        ("adamw", {"over": ("lr", "weight_decai")}, "adamw has no setting 'weight_decai'; did you mean 'weight_decay'"),
        ("adamw:lr=0.1", {}, "over: lr is given, 0.1; leave it out of 'adamw:lr=0.1'"),
        ("adamw", {"over": ("lr", "eps")}, "no space of its own for eps; give one as eps=LOW..HIGH"),
        ("adamw", {"decay": ("lr2",)}, "decay must be of lr, schedule, lr_squared, l2, got 'lr2'"),
        ("adamw:decay=l2", {"decay": ("lr",)}, "decay is given twice"),
        ("adamw", {"cells": 1}, "cells must be a whole number of at least 2, got 1"),
        ("adamw", {"space": {"beta2": "0.9..0.99"}}, "space: 'beta2' is not swept"),
        ("adamw", {"space": {"lr": "much"}}, "the space of lr is written 1e-4..1e-2"),
        ("adamw", {"space": {"lr": "1e-3..1.001e-3"}, "cells": 3}, "too narrow"),
        ("adamw", {"over": ("lr", "beta2"), "space": {"beta2": "0.5..1.5"}}, "beta2 must be in [0, 1), got 1.5"),
        ("adamw", {"over": ("lr", "warmup"), "space": {"warmup": "0.5..1.5"}}, "warmup must be a number in [0, 1]"),
        ("adamw", {"task": "digit"}, "unknown task 'digit'; did you mean 'digits'"),
        ("adamw", {"size": "huge"}, "size must be one of tiny, small, base"),
        ("adamw", {"steps": 0}, "steps must be at least 1, got 0"),
        ("adamw", {"schedule": "linar"}, "linear"),
        ("adamw", {"trials": 3}, "a sweep has no setting 'trials'"),
        ("adamw", {"device": "gpu"}, "device must be one of auto, cpu, cuda"),
    ],
)
def test_refused_in_one_sentence(tmp_path: Path, optimizer: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        sweep(tmp_path, optimizer, **options)
    assert sentence in str(refused.value) and "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is not a folder"):
        sweep(tmp_path / "file" / "out")
