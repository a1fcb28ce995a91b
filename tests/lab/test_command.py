"""`ravine compare`, `worker` and `report`: results, exit codes, and nothing written where the call was wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import ravine.lab.study.study
from ravine.cli import app

BUDGET = [
    "--task", "digits", "--size", "tiny", "--steps", "10", "--trials", "2", "--seeds", "4", "--workers", "1",
    "--precision", "float32",
]  # fmt: skip


def call(*arguments: str | Path, command: str = "compare", **environment: str) -> Result:
    return CliRunner().invoke(app, [command, *map(str, arguments)], env=environment)


def test_the_whole_way(tmp_path: Path) -> None:
    out, file = tmp_path / "new" / "out", tmp_path / "result.json"
    done = call("adamw", "sgd:lr=0.3", *BUDGET, "--out", out, "--json", file)
    assert done.exit_code == 0, done.stderr
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result == json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert result["verdict"]["text"] in done.stdout
    assert str(out / "report.html") in done.stdout.replace("\n", "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["adamw", "sgd:lr=0.3"] in map(sorted, rows)

    assert result["task"] == "digits" and result["baseline"] == "adamw"
    assert result["budget"].items() >= {"steps": 10, "trials": 2, "seeds": 4}.items()
    assert set(result["arms"]) == {"adamw", "sgd:lr=0.3"}
    for arm in result["arms"].values():
        assert set(arm) >= {
            "optimizer", "final_loss", "best", "steps_to_target", "tokens_to_target", "seconds_to_target",
            "tokens_per_second", "optimizer_share", "state_bytes_per_param", "peak_memory_bytes", "diverged_trials",
        }  # fmt: skip
        assert set(arm["final_loss"]) >= {"mean", "std", "n", "values", "interval"}
    (pair,) = result["pairs"]
    assert set(pair) >= {"a", "b", "difference", "p", "p_corrected"}
    assert (pair["a"], pair["b"]) == ("adamw", "sgd:lr=0.3")
    assert set(result["verdict"]) >= {"winner", "significant", "text"}

    again = call(out, "--export", "csv", command="report")
    assert again.exit_code == 0 and str(out / "report.html") in again.stdout.replace("\n", "")
    assert list(out.glob("**/*.csv"))
    joined = call(out, command="worker")
    assert joined.exit_code == 0 and joined.stdout == ""


def test_json_alone_on_standard_output_and_quiet_on_the_other(tmp_path: Path) -> None:
    done = call("adamw", "sgd:lr=0.1", *BUDGET, "--out", tmp_path, "--json", "-", "--quiet")
    assert done.exit_code == 0 and done.stderr == ""
    assert set(json.loads(done.stdout)["arms"]) == {"adamw", "sgd:lr=0.1"}


def test_an_interruption_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, calls = ravine.lab.study.study.train, iter(range(100))

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    out = tmp_path / "out"
    arguments = ("adamw", "sgd:lr=0.1", *BUDGET, "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr(ravine.lab.study.study, "train", interrupted)
        stopped = call(*arguments)
    assert stopped.exit_code == 130
    assert f"3 of 14 runs are kept in {out}" in stopped.stderr.replace("\n", "")
    assert "the same command goes on" in stopped.stderr
    assert not (out / "report.html").exists()
    assert call(*arguments).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["adamw", "lyon"], "unknown optimizer 'lyon'; did you mean 'lion'?"),
        (["adamw"], "two optimizers or more"),
        (["adamw", "sgd:momentun=0.9"], "did you mean 'momentum'?"),
        (["adamw", "sgd", "--steps", "-5"], "steps must be at least 1, got -5"),
        (["adamw", "sgd", "--trials", "0"], "trials must be at least 1, got 0"),
        (["adamw", "sgd", "--seeds", "many"], "a whole number is wanted, got 'many'"),
        (["adamw", "sgd", "--target", "-1"], "target must be at least 0"),
        (["adamw", "sgd", "--task", "vision"], "unknown task 'vision'"),
        (["adamw", "sgd", "--size", "vast"], "size must be one of"),
        (["adamw", "sgd", "--data", "missing"], "missing"),
        (["adamw", "sgd", "--data", "empty"], "empty"),
        (["adamw", "sgd", "--out", "binary"], "binary is not a folder"),
        (["adamw", "sgd", "--out", "/proc/none"], "/proc/none cannot be written to"),
        (["adamw", "sgd", "--json", "none/result.json"], "there is no folder none"),
        (["adamw", "sgd", "--over", "lr,betta2"], "did you mean 'beta2'?"),
        (["adamw", "sgd", "--space", "lr"], "--space is written"),
        (["adamw", "sgd", "--space", "lr=1..0"], "a range goes from a number to a greater one"),
        (["adamw", "sgd", "--horizons", "a"], "horizons is a list of numbers"),
        (["adamw", "sgd", "--model", "missing.py:build"], "missing.py"),
        (["adamw", "sgd", "--log", "paper"], "log must be one of"),
        (["adamw", "sgd", "--storage", "mysql://x"], "storage must be sqlite:///FILE or postgresql://"),
        (["adamw", "sgd", "--task", "quadratic", "--option", "conditon=3"], "did you mean 'condition'?"),
        (["missing.toml"], "cannot read missing.toml"),
        (["broken.toml"], "broken.toml has an unknown key 'step' in [budget]; did you mean 'steps'?"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_leaves_nothing(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("binary").write_bytes(b"\0\1" * 1000)
    Path("empty").touch()
    Path("broken.toml").write_text('[study]\narms = ["adamw", "sgd"]\n[budget]\nstep = 3\n')
    before = sorted(tmp_path.rglob("*"))
    sizes = [] if "--size" in arguments or "--task" in arguments else ["--size", "tiny"]
    refused = call(*arguments, *sizes)
    assert refused.exit_code == 2, refused.output
    assert complaint in refused.stderr and refused.stdout == ""
    assert len(refused.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("command", "arguments", "complaint"),
    [
        ("worker", ["nowhere"], "there is no study in nowhere"),
        ("worker", ["name", "--storage", "sqlite:///none/trials.db"], "does not answer"),
        ("report", ["nowhere"], "nowhere"),
    ],
)
def test_other_wrong_calls(
    command: str, arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = call(*arguments, command=command)
    assert refused.exit_code == 2, refused.output
    assert complaint in refused.stderr and len(refused.stderr.strip().splitlines()) == 1


def test_a_password_is_in_nothing_that_is_shown_or_written(tmp_path: Path) -> None:
    url = "postgresql://ada:s3cr3t@127.0.0.1:1/x"
    for arguments, environment in ((["--storage", url], {}), ([], {"RAVINE_STORAGE": url})):
        refused = call("adamw", "sgd", *BUDGET, "--out", tmp_path, *arguments, **environment)
        assert refused.exit_code == 2
        assert "s3cr3t" not in refused.output and "ada:***@127.0.0.1" in refused.stderr


def test_a_study_with_other_settings_is_refused(tmp_path: Path) -> None:
    arguments = ("adamw:lr=0.1", "sgd:lr=0.1", *BUDGET, "--no-baseline", "--out", tmp_path)
    assert call(*arguments).exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if ".db" not in path.name}
    refused = call(*arguments, "--seeds", "5")
    assert refused.exit_code == 2 and "seeds was 4, is 5" in refused.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if ".db" not in path.name} == before
