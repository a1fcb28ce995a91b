"""`ravine compare`: its result as JSON, its exit codes, and nothing written where the call was wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import ravine.lab.study
from ravine.cli import app

BUDGET = ["--size", "tiny", "--steps", "20", "--batch", "4", "--trials", "2", "--seeds", "4"]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_the_whole_way(text: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "new" / "out", tmp_path / "result.json"
    done = call("adamw", "sgd:lr=0.3", "--data", text, *BUDGET, "--out", out, "--json", file)
    assert done.exit_code == 0, done.stderr
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result == json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert result["verdict"]["text"] in done.stdout
    assert str(out / "report.html") in done.stdout.replace("\n", "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["adamw", "sgd:lr=0.3"] in map(sorted, rows)
    assert any(row[:2] == ["state", "bytes"] and sorted(row[2:]) == ["0.0", "8.0"] for row in rows)

    assert {"task", "baseline", "budget", "arms", "pairs", "verdict"} <= set(result)
    assert result["task"] == "lm" and result["baseline"] == "adamw"
    assert result["budget"].items() >= {"steps": 20, "tokens": 20 * 4 * 32, "trials": 2, "seeds": 4}.items()
    assert set(result["arms"]) == {"adamw", "sgd:lr=0.3"}
    for arm in result["arms"].values():
        assert set(arm) >= {
            "optimizer", "final_loss", "best", "steps_to_target", "tokens_to_target", "seconds_to_target",
            "tokens_per_second", "optimizer_share", "state_bytes_per_param", "peak_memory_bytes", "diverged_trials",
        }  # fmt: skip
        assert set(arm["final_loss"]) >= {"mean", "std", "n", "values", "interval"}
    (pair,) = result["pairs"]
    assert set(pair) >= {"a", "b", "difference", "p", "p_corrected"} and (pair["a"], pair["b"]) == (
        "adamw",
        "sgd:lr=0.3",
    )
    assert set(result["verdict"]) == {"winner", "significant", "text"}


def test_json_alone_on_standard_output(text: Path, tmp_path: Path) -> None:
    done = call("adamw", "sgd", "--data", text, *BUDGET, "--out", tmp_path, "--json", "-")
    assert done.exit_code == 0
    assert set(json.loads(done.stdout)["arms"]) == {"adamw", "sgd"}
    lines = done.stderr.splitlines()
    assert lines[0].split() == ["0%", "tuning", "adamw,", "lr", "0.003"]
    assert sum("tuning sgd" in line for line in lines) == 2 and sum("judging" in line for line in lines) == 8


def test_an_interruption_says_how_to_go_on(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, calls = ravine.lab.study.train, iter(range(100))

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    out = tmp_path / "out"
    arguments = ("adamw", "sgd", "--data", text, *BUDGET, "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr(ravine.lab.study, "train", interrupted)
        stopped = call(*arguments)
    assert stopped.exit_code == 130
    assert f"3 of 12 runs are kept in {out}" in stopped.stderr
    assert "the same command goes on" in stopped.stderr
    assert len(list((out / "runs").iterdir())) == 3
    assert not (out / "report.html").exists()
    again = call(*arguments)
    assert again.exit_code == 0 and len(list((out / "runs").iterdir())) == 12


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["adamw", "lyon"], "unknown optimizer 'lyon'; did you mean 'lion'?"),
        (["adamw"], "at least two optimizers"),
        (["adamw", "sgd:momentun=0.9"], "did you mean 'momentum'?"),
        (["adamw", "sgd", "--steps", "-5"], "steps must be a whole number of at least 1, got -5"),
        (["adamw", "sgd", "--trials", "0"], "trials must be a whole number of at least 1, got 0"),
        (["adamw", "sgd", "--seeds", "many"], "a whole number is wanted, got 'many'"),
        (["adamw", "sgd", "--target", "-1"], "target must be a loss above 0"),
        (["adamw", "sgd", "--task", "vision"], "task must be 'lm', got 'vision'"),
        (["adamw", "sgd", "--size", "vast"], "size must be one of tiny, small, got 'vast'"),
        (["adamw", "sgd", "--data", "missing"], "no such file or folder: missing"),
        (["adamw", "sgd", "--data", "binary"], "binary is not UTF-8 text"),
        (["adamw", "sgd", "--data", "empty"], "empty is empty"),
        (["adamw", "sgd", "--out", "binary"], "binary is not a folder"),
        (["adamw", "sgd", "--out", "binary/inside"], "binary is not a folder"),
        (["adamw", "sgd", "--out", "/proc/none"], "/proc/none cannot be written to"),
        (["adamw", "sgd", "--json", "none/result.json"], "there is no folder none"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_leaves_nothing(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("binary").write_bytes(b"\0\1" * 1000)
    Path("empty").touch()
    before = sorted(tmp_path.rglob("*"))
    refused = call(*arguments)
    assert refused.exit_code == 2
    assert complaint in refused.stderr and refused.stdout == ""
    assert len(refused.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_study_with_other_settings_is_refused(text: Path, tmp_path: Path) -> None:
    arguments = ("adamw", "sgd", "--data", text, *BUDGET, "--out", tmp_path)
    assert call(*arguments).exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refused = call(*arguments, "--seeds", "5")
    assert refused.exit_code == 2 and "seeds was 4, is 5" in refused.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
