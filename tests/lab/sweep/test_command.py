"""`ravine sweep`: its table, JSON, exit codes, and nothing written where the call was wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ravine.cli import app
from ravine.lab.sweep import BatchedRuns

BUDGET = ["--task", "ridge", "--size", "tiny", "--steps", "5", "--cells", "3"]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


def test_the_whole_way(tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "result.json"
    done = call("adamw", *BUDGET, "--decay", "lr, schedule", "--space", "lr=1e-4..1e-1", "--out", out, "--json", file)
    assert done.exit_code == 0, done.stderr
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result == json.loads((out / "sweep.json").read_text(encoding="utf-8"))
    assert [one["label"] for one in result["maps"]] == ["adamw (decay lr)", "adamw (decay schedule)"]
    assert all(one["x"] == [1e-4, 0.00316, 0.1] for one in result["maps"])
    assert f"heat maps: {out / 'sweep.html'}" in done.stdout
    for one in result["maps"]:
        (row,) = [line for line in done.stdout.splitlines() if line.startswith(f"{one['label']}  ")]
        loss, lr, decay, diverged, _ = row.removeprefix(one["label"]).split()
        assert (float(loss), float(lr)) == (float(f"{one['best']['loss']:.4g}"), one["best"]["lr"])
        assert float(decay) == one["best"]["weight_decay"] and diverged == f"{one['diverged']}/9"
        edge = f"{one['label']}: the best cell lies on the edge of the grid"
        assert (edge in done.stdout) == bool(one["at_edge"])
    assert "started adamw (decay lr), 9 cells at once" in done.stderr and "18/18" in done.stderr


def test_quiet_json_alone_on_standard_output(tmp_path: Path) -> None:
    done = call("sgd", *BUDGET, "--over", "lr,momentum", "--out", tmp_path, "--json", "-", "--quiet")
    assert done.exit_code == 0 and done.stderr == ""
    assert json.loads(done.stdout)["over"] == ["lr", "momentum"]


def test_says_why_cells_were_trained_one_by_one(tmp_path: Path) -> None:
    done = call("clip_norm(adamw)", *BUDGET, "--decay", "lr", "--cells", "2", "--out", tmp_path, "--quiet")
    assert done.exit_code == 0
    assert "Cells were trained one by one: clip_norm(adamw) looks at all parameters" in done.stdout


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = BatchedRuns.step

    def step(self: BatchedRuns) -> object:
        if "l2" in str(self.optimizer.param_groups[0]["decay"]):
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(BatchedRuns, "step", step)
    stopped = call("adamw", *BUDGET, "--decay", "lr,l2", "--out", tmp_path)
    assert stopped.exit_code == 130
    assert stopped.stderr.splitlines()[-1] == (
        f"ravine: interrupted; 1 of 2 maps are kept in {tmp_path}, and the same command goes on from there"
    )
    monkeypatch.undo()
    assert call("adamw", *BUDGET, "--decay", "lr,l2", "--out", tmp_path).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["adamw", "--space", "lr"], "--space is written lr=1e-4..1e-1 or beta2=0.9|0.95, got 'lr'"),
        (["adamw", "--over", "lr"], "over must be two different settings, such as lr,weight_decay, got 'lr'"),
        (["adamw", "--decay", "l3"], "decay must be of lr, schedule, lr_squared, l2, got 'l3'"),
        (["adamw", "--cells", "1"], "cells must be a whole number of at least 2, got 1"),
        (["adamw", "--cells", "many"], "a whole number is wanted, got 'many'"),
        (["adamw", "--json", "/nowhere/at/all.json"], "--json: there is no folder /nowhere/at"),
    ],
)
def test_a_wrong_call(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    budget = [part for part in BUDGET if part not in ("--cells", "3")]
    done = CliRunner().invoke(app, ["sweep", *arguments, *budget, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and sentence in done.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()
