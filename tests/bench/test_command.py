"""`ravine bench` on the command line: output, JSON, exit codes, and one sentence for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ravine.bench import measure
from ravine.bench.first_step import FirstStep
from ravine.bench.measure import Measured, Measurement
from ravine.bench.timing import Round
from ravine.cli import app

QUICK = ["bench", "sgd", "--quick", "--shapes", "small", "--rounds", "1", "--steps", "1", "--engine", "reference"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def no_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "measure_first_step", lambda arm, *rest: FirstStep(arm.label, 1.25, 0.0625))


@pytest.mark.usefixtures("no_first_steps")
def test_the_table(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    result = call(*QUICK, "--json", str(file))
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert any(line.startswith("Streaming ceiling of this machine: ") for line in lines)
    assert "small: 100 tensors, 0.0256 M parameters, float32; torch's fused AdamW = 1.00" in lines
    header = "optimizer library engine × torch min–max ms torch's ms bytes/param of ceiling"
    (own,) = (line.split() for line in lines if line.startswith("sgd ravine reference"))
    (torchs,) = (line.split() for line in lines if line.startswith("sgd torch fused"))
    assert header in lines
    assert own[-2] == torchs[-2] == "12"
    assert "sgd 1.25 0.062" in lines
    assert any("torch 2" in line and "schedulefree" in line for line in lines)
    written = json.loads(file.read_text(encoding="utf-8"))
    assert [f"{row['ratio']['median']:.2f}" for row in written["rows"][:2]] == [own[3], torchs[3]]


@pytest.mark.usefixtures("no_first_steps")
def test_json_alone_on_standard_output() -> None:
    result = call(*QUICK, "--no-peers", "--json", "-")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    assert result.stderr == "1/2 first step of sgd\n2/2 sgd on small\n"
    assert (row["optimizer"], row["library"], row["engine"]) == ("sgd", "ravine", "reference")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["addamw"], "did you mean 'adamw'"),
        (["sgd:mu=0.9"], "did you mean 'momentum'"),
        (["--shapes", "gtp"], "shapes must be one of gpt, hidden, small, got 'gtp'; did you mean 'gpt'?"),
        (["--engine", "nativ"], "did you mean 'native'"),
        (["--dtype", "bfloat"], "dtype must be one of float32, float64, bfloat16, float16, got 'bfloat'"),
        (["--device", "gpu"], "device must be one of cpu, cuda, xpu, mps, got 'gpu'"),
        (["--device", "meta"], "device must be one of cpu, cuda, xpu, mps, got 'meta'"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used with float32 here"),
        (["--rounds", "0"], "rounds must be at least 1, got 0"),
        (["--steps", "-3"], "steps must be at least 1, got -3"),
        (["--steps", "ten"], "a whole number is wanted, got 'ten'"),
        (["--threads", "0"], "threads must be from 1 to 256, got 0"),
        (["--threads", "100000"], "threads must be from 1 to 256, got 100000"),
        (["--json", "/no/such/folder/x.json"], "there is no folder /no/such/folder"),
        (["--json", "/"], "/ is a folder"),
        (["--check", "--quick"], "the bounds are for full sizes"),
        (["--check", "--dtype", "float64"], "the bounds are for full sizes in float32"),
        (["amsgrad", "--check"], "none of these optimizers has a bound; there are bounds for adamw on gpt"),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Measurement, "run", lambda self, progress: pytest.fail("it began to measure"))
    result = call("bench", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.startswith("ravine: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def finished(ratio: float, warm: float) -> Any:
    """A stand-in for `Measurement.run` that has measured this for AdamW."""

    def run(self: Measurement, progress: Any) -> None:
        self._bytes = {"adamw": 28.0}
        self._measured = [Measured(0, "ravine", "native", [Round(0.04, 0.04 * ratio)])]
        self.first_steps = [FirstStep("adamw", 0.5, warm)]

    return run


@pytest.mark.parametrize(
    ("ratio", "warm", "code"), [(0.9, 0.05, 0), (1.2, 0.05, 1), (0.9, 0.2, 1)], ids=["met", "ratio", "warm"]
)
def test_check_ends_with_one_when_a_bound_is_missed(
    ratio: float, warm: float, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Measurement, "run", finished(ratio, warm))
    file = tmp_path / "bench.json"
    result = call("bench", "adamw", "--check", "--json", str(file))
    assert result.exit_code == code, result.output
    verdicts = [line.split()[-1] for line in result.stdout.splitlines() if line.endswith((" met", " missed"))]
    assert (len(verdicts), verdicts.count("missed")) == (3, code)
    checked = json.loads(file.read_text(encoding="utf-8"))["checks"]
    assert [check["met"] for check in checked] == [ratio <= 1.0, True, warm <= 0.1]
    assert call("bench", "adamw", "--json", str(file)).exit_code == 0


def test_an_interrupted_run_shows_what_is_finished_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(self: Measurement, progress: Any) -> None:
        finished(0.5, 0.05)(self, progress)
        raise KeyboardInterrupt

    monkeypatch.setattr(Measurement, "run", run)
    file = tmp_path / "bench.json"
    result = call("bench", "adamw", "--json", str(file))
    assert result.exit_code == 130
    assert "0.50–0.50" in result.stdout
    assert not file.exists()


def test_a_failure_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Measurement, progress: Any) -> None:
        raise RuntimeError("the first step of adamw failed: no space left on device")

    monkeypatch.setattr(Measurement, "run", run)
    result = call("bench", "adamw")
    assert result.exit_code == 1
    assert result.stderr == "ravine: the first step of adamw failed: no space left on device\n"
