"""The command line: results, JSON, exit codes, and one sentence for whatever is wrong."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import ravine
from ravine.cli import app, write_json
from ravine.registry import available

EXERCISE = [
    "trace",
    "adamw",
    "--x0",
    "2",
    "--loss",
    "(x-1)**2",
    "--lr",
    "0.1",
    "--weight-decay",
    "0.01",
    "--steps",
    "1",
]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def rows_of(output: str) -> list[list[str]]:
    """The cells of each line of a plain table."""
    return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in output.splitlines()]


def test_the_worked_exercise_is_printed() -> None:
    result = call(*EXERCISE)
    assert result.exit_code == 0
    rows = rows_of(result.stdout)
    assert ["m", "β₁·m + (1 − β₁)·g", "0.9·0 + (1 − 0.9)·2", "0.2"] in rows
    assert ["v̂", "v / (1 − β₂ᵗ)", "0.004 / (1 − 0.999¹)", "4"] in rows
    assert ["θ", "θ − η·(m̂ / (√v̂ + ε) + λ·θ)", "2 − 0.1·(2 / (√4 + 1e-8) + 0.01·2)", "1.898"] in rows
    assert "θ: 2 → 1.898     loss L(θ): 1 → 0.806404" in result.stdout
    assert result.stderr == ""


def test_the_worked_exercise_as_json(tmp_path: Path) -> None:
    alone = call(*EXERCISE, "--json", "-")
    (step,) = json.loads(alone.stdout)["steps"]
    assert step["theta_after"] == pytest.approx(1.898, abs=1e-8)
    assert {k: step[k] for k in ("t", "theta_before", "loss_before")} == {
        "t": 1,
        "theta_before": 2.0,
        "loss_before": 1.0,
    }
    assert step["loss_after"] == pytest.approx(0.8064, abs=1e-5)
    values = {line["symbol"]: line["value"] for line in step["lines"]}
    assert values == pytest.approx({"g": 2, "m": 0.2, "v": 0.004, "m_hat": 2, "v_hat": 4, "p": 1.898})

    beside = call(*EXERCISE, "--json", str(tmp_path / "trace.json"))
    assert beside.stdout == call(*EXERCISE).stdout
    assert (tmp_path / "trace.json").read_text(encoding="utf-8") == alone.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_every_option_of_trace_reaches_the_rule() -> None:
    common = {"--lr": 0.5, "--beta1": 0.25, "--beta2": 0.75, "--eps": 0.125, "--weight-decay": 0.375}
    result = call(
        "trace", "lookahead(adamw)", *(word for key, value in common.items() for word in (key, str(value))),
        "--set", "lookahead.k=1", "--set", "amsgrad=true", "--decay", "lr_squared", "--x0", "-3", "--loss", "x*x",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    shown = ["η (lr) = 0.5", "β₁ (beta1) = 0.25", "β₂ (beta2) = 0.75", "ε (eps) = 0.125", "λ (weight_decay) = 0.375"]
    assert all(
        setting in result.stdout for setting in [*shown, "lookahead.k = 1", "amsgrad = true", "decay = lr_squared"]
    )
    assert "θ = −3" in result.stdout
    assert "μ (momentum) = 0.5" in call("trace", "sgd", "--momentum", "0.5").stdout


def test_the_list() -> None:
    result = call("list")
    assert result.exit_code == 0
    assert [row[0] for row in rows_of(result.stdout) if row and row[0] in available()] == available()
    rows = json.loads(call("list", "--json", "-").stdout)
    assert [row["name"] for row in rows] == available()
    assert all(set(row) == {"name", "paper", "state_bytes_per_param", "engines"} for row in rows)


@pytest.mark.parametrize("name", [*available(), "lookahead(cautious(adamw))"])
def test_show(name: str) -> None:
    result = call("show", name)
    assert result.exit_code == 0
    facts = ravine.info(name)
    for said in (facts.title, facts.paper, "θ ← ", "Weight decay", *facts.states.values()):
        assert said in result.stdout
    made = json.loads(call("show", name, "--json", "-").stdout)
    assert made["name"] == name
    assert made["equations"][-1]["lines"][-1]["latex"].isascii()


def test_the_doctor() -> None:
    result = call("doctor")
    assert result.exit_code == 0
    assert all(
        said in result.stdout for said in ("torch", "threads", "C++ compiler", "Triton", "GPU", "kernel cache", "cpu")
    )
    assert "cpu" in json.loads(call("doctor", "--json", "-").stdout)["devices"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trace", "adamww"], "did you mean 'adamw'?"),
        (["show", "lionn"], "did you mean 'lion'?"),
        (["trace", "cautious(lookahead(adamw))"], "write lookahead(cautious(...))"),
        (["trace", "lookahed(adamw)"], "did you mean 'lookahead'?"),
        (["trace", "adamw", "--loss", "__import__('os')"], "unknown function '__import__' in the loss"),
        (["trace", "adamw", "--loss", "9**9**9"], "the exponent 9 in the loss is too large"),
        (["trace", "adamw", "--loss", "x.real"], "'x.real' is not allowed in the loss"),
        (["trace", "adamw", "--loss", "y"], "unknown name 'y' in the loss"),
        (["trace", "adamw", "--loss", "x +"], "is not an expression"),
        (["trace", "adamw", "--loss", "log(x)", "--x0", "-1"], "the loss is NaN at x0 = −1"),
        (["trace", "adamw", "--x0", "nan"], "x0 must be a finite number"),
        (["trace", "adamw", "--x0", "two"], "'--x0': a number is wanted, got 'two'"),
        (["trace", "adamw", "--steps", "0"], "steps must be from 1"),
        (["trace", "adamw", "--steps", "1.5"], "'--steps': a whole number is wanted, got '1.5'"),
        (["trace", "adamw", "--lr", "-1"], "lr must be in [0, inf), got -1.0"),
        (["trace", "adamw", "--beta1", "1"], "beta1 must be in [0, 1), got 1.0"),
        (["trace", "lion", "--eps", "1"], "lion has no hyperparameter 'eps'"),
        (["trace", "adamw", "--set", "amsgrad"], "key=value, got 'amsgrad'"),
        (["trace", "adamw", "--set", "weigth_decay=1"], "did you mean 'weight_decay'?"),
        (["trace", "adamw", "--decay", "l3"], "'l3' is not one of"),
        (["trace"], "Missing argument 'NAME'"),
        (["trace", "adamw", "--stepz", "2"], "No such option: --stepz"),
        (["tracee", "adamw"], "Did you mean 'trace'"),
    ],
)
def test_a_wrong_call_gets_one_sentence_and_exit_code_2(arguments: list[str], says: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert says in result.stderr
    assert result.stderr.startswith("ravine: ")
    assert result.stderr.count("\n") == 1


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    result = call("list", "--json", str(tmp_path / "missing" / "list.json"))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "cannot be written: No such file or directory" in result.stderr
    (tmp_path / "folder").mkdir()
    assert call("list", "--json", str(tmp_path / "folder")).exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_json_is_never_half_written(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"value": math.nan}, str(target))
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_work_that_fails_ends_with_1_and_an_interrupt_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: BaseException) -> Any:
        def doctor() -> None:
            raise error

        return doctor

    monkeypatch.setattr("ravine.explain.overview.doctor", raising(RuntimeError("broken")))
    assert call("doctor").exit_code == 1
    monkeypatch.setattr("ravine.explain.overview.doctor", raising(KeyboardInterrupt()))
    assert call("doctor").exit_code == 130
    monkeypatch.setattr("ravine.explain.overview.doctor", raising(typer.Abort()))
    assert call("doctor").exit_code == 130


def test_plain_where_there_is_no_terminal_and_coloured_where_there_is() -> None:
    assert "\x1b[" not in call(*EXERCISE).stdout
    coloured = CliRunner().invoke(app, EXERCISE, env={"FORCE_COLOR": "1", "COLUMNS": "100", "TERM": "xterm-256color"})
    assert "\x1b[" in coloured.stdout
    assert all(len(line) < 300 for line in call("list").stdout.splitlines())


def test_as_a_module_in_a_plain_locale_without_loading_the_laboratory() -> None:
    """`python -m ravine` writes UTF-8 whatever the locale, and starts without what single commands need."""
    heavy = {"ravine.lab", "ravine.explain.trace", "plotly", "scipy"}
    program = (
        f"import runpy, sys, ravine.cli; print(sorted({heavy} & set(sys.modules)), file=sys.stderr); "
        "runpy.run_module('ravine', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *EXERCISE],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        check=True,
    )
    assert "θ: 2 → 1.898" in done.stdout.decode("utf-8")
    assert done.stderr.decode().strip() == "[]"
