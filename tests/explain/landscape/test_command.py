"""`ravine landscape` as it is typed: files, JSON, and one sentence with exit code 2 for a wrong call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ravine.cli import app


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["landscape", *arguments])


def test_a_picture_a_page_and_json(tmp_path: Path) -> None:
    picture, page, told = tmp_path / "a.svg", tmp_path / "a.html", tmp_path / "a.json"
    done = call(
        "--on", "ravine", "sgd:lr=0.036", "adam:lr=0.5", "--steps", "100", "--start", "-10,1", "--x", "-11,3",
        "--out", str(picture), "--html", str(page), "--json", str(told),
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert picture.read_text(encoding="utf-8").startswith("<?xml") and "</html>" in page.read_text(encoding="utf-8")
    arms = json.loads(told.read_text(encoding="utf-8"))["arms"]
    assert arms["sgd:lr=0.036"]["steps_to"] == 89 and arms["sgd:lr=0.036"]["oscillation"] == pytest.approx(
        0.34, abs=0.01
    )
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("sgd:lr=0.036")]
    assert row == ["sgd:lr=0.036", "0.036", "89", "0.35", "0.03269"]
    assert "condition number 50" in done.stdout


def test_json_alone_goes_to_standard_output() -> None:
    done = call("adam:lr=0.5", "--steps", "5", "--json", "-")
    assert json.loads(done.stdout)["on"] == "ravine"


def test_a_function_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def bowl(x, y):\n    return x ** 2 + 4 * y ** 2\n", encoding="utf-8")
    done = call("--on", f"{tmp_path}/mine.py:bowl", "sgd:lr=0.1", "--steps", "40", "--start", "1,1", "--json", "-")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["arms"]["sgd:lr=0.1"]["final_point"] == pytest.approx([0.8**40, 0.0], abs=1e-9)


def test_a_network(tmp_path: Path) -> None:
    done = call(
        "--network", "--task", "digits", "--plane", "random", "adamw:lr=0.03", "--steps", "4", "--cells", "5",
        "--out", str(tmp_path / "a.png"), "--json", str(tmp_path / "a.json"),
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert told["plane"] == "random" and len(told["ground"]["loss"]) == 5
    assert "path in the plane" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on", "rosenbrok"], "did you mean 'rosenbrock'?"),
        (["sdg"], "did you mean 'sgd'?"),
        (["--start", "1"], "--start is two numbers with a comma between them"),
        (["--x", "a,b"], "--x is two numbers with a comma between them"),
        (["--y", "2,1"], "y must be a finite number and a greater one"),
        (["--network", "--noise", "1"], "--noise is for functions, without --network"),
        (["--task", "lm"], "--task is for the loss of a network, with --network"),
        (["--network", "--plane", "rnd"], "did you mean 'random'?"),
        (["--network", "--checkpoints", "a", "b", "c"], "cannot read a"),
        (["--network", "--option", "pixels"], "--option is written NAME=VALUE"),
        (["--out", "a.gif"], "--out: a picture is written as .svg or .png"),
        (["--out", "nowhere/a.svg"], "--out: there is no folder"),
        (["--html", "nowhere/a.html"], "--html: there is no folder"),
        (["--json", "nowhere/a.json"], "--json: there is no folder"),
    ],
)
def test_a_wrong_call_ends_with_one_sentence(arguments: list[str], message: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr and done.stdout == ""
    assert done.stderr.startswith("ravine: ") and done.stderr.count("\n") == 1
