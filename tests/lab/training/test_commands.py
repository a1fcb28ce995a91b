"""`ravine train` and `ravine generate`: results as JSON, exit codes, one sentence for what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import ravine.lab.single
from ravine.cli import app, train
from ravine.lab.training import checkpoint, load_model

assert train


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    path.write_text("".join(f"{i} is {'even' if i % 2 == 0 else 'odd'}\n" for i in range(3000)))
    return path


@pytest.fixture(scope="module")
def tiny(lines: Path) -> list[str]:
    return ["--size", "tiny", "--steps", "20", "--batch", "4", "--data", str(lines), "--precision", "float32"]


@pytest.fixture(scope="module")
def trained(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "out"
    done = call("train", "adamw:lr=0.01", *tiny, "--out", out)
    assert done.exit_code == 0, done.stderr
    return out / "checkpoint.pt"


def test_a_model_is_trained_and_goes_on_with_a_text(tiny: list[str], tmp_path: Path) -> None:
    out, file = tmp_path / "new" / "out", tmp_path / "run.json"
    done = call("train", "muon", *tiny, "--out", out, "--json", file, "--ema", "0.5", "--accumulate", "2")
    assert done.exit_code == 0, done.stderr
    record = json.loads(file.read_text())
    assert record == json.loads((out / "run.json").read_text())
    assert record["optimizer"] == "muon:lr=0.006" and record["recipe"]["accumulate"] == 2
    loss = record["outcome"]["final_loss"]
    assert f"muon:lr=0.006: loss {loss:.4f} (nats per byte), accuracy" in done.stdout
    assert str(out / "checkpoint.pt") in done.stdout
    steps = [line.split()[1] for line in done.stderr.splitlines()]
    assert steps == [f"{step}/20" for step in (2, 4, 6, 8, 10, 12, 14, 16, 17, 18, 19, 20)]

    again = call("train", "muon", *tiny, "--out", out, "--json", "-", "--ema", "0.5", "--accumulate", "2")
    repeated = json.loads(again.stdout)
    for result in (record, repeated):
        del result["outcome"]["peak_memory_bytes"]
    assert repeated == record and again.stderr == ""

    one, same, other = (
        call("generate", out / "checkpoint.pt", "--prompt", "1", "--seed", s, "--tokens", 20) for s in (1, 1, 2)
    )
    assert one.exit_code == 0, one.stderr
    assert one.stdout == same.stdout != other.stdout
    assert one.stdout.startswith("1") and one.stdout.endswith("\n")


def test_each_call_has_its_folder(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for extra in ([], ["--seed", "2"], ["--lr", "0.02"], []):
        assert call("train", "sgd", *tiny, *extra).exit_code == 0
    folders = sorted(folder.name for folder in Path("ravine-train").iterdir())
    assert len(folders) == 3 and all(name.startswith("lm-sgd-lr=0.") for name in folders)


def test_text_is_the_same_with_and_without_a_cache(trained: Path) -> None:
    common = ["generate", trained, "--tokens", "60", "--temperature", "0", "--prompt", "12 is"]
    cached, plain = call(*common), call(*common, "--no-cache")
    assert cached.exit_code == plain.exit_code == 0
    assert cached.stdout == plain.stdout and len(cached.stdout) > 60


def test_text_as_json(trained: Path) -> None:
    done = call("generate", trained, "--tokens", "10", "--prompt", "12 is", "--top-k", "1", "--json", "-")
    result = json.loads(done.stdout)
    assert result["text"].startswith("12 is") and len(result["text"]) > 5
    assert result["tokens"] == 10 and result["tokens_per_second"] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["adamww"], "arm 'adamww': unknown optimizer 'adamww'; did you mean 'adamw'?"),
        (["adamw:lr=0.1", "--lr", "0.2"], "arm 'adamw:lr=0.1,lr=0.2': the setting 'lr' is given twice"),
        (["--task", "ln"], "unknown task 'ln'"),
        (["--task", "ridge", "--base", "x"], "the task ridge takes no base"),
        (["--steps", "0"], "steps must be a whole number of at least 1, got 0"),
        (["--steps", "many"], "a whole number is wanted, got 'many'"),
        (["--batch", "4", "--accumulate", "3"], "accumulate must divide batch = 4, got 3"),
        (["--schedule", "cosin"], "unknown schedule 'cosin'; did you mean 'cosine'?"),
        (["--precision", "half"], "precision must be one of 'float32', 'bfloat16', 'float16', got 'half'"),
        (["--precision", "float16", "--device", "cpu"], "precision float16 needs a GPU"),
        (["--device", "tpu"], "device must be cpu or cuda, got 'tpu'"),
        (["--data", "nowhere"], "nowhere"),
        (["--json", "nowhere/run.json"], "nowhere"),
        (["--log", "tensorbord"], "did you mean 'tensorboard'?"),
        (["--every", "0"], "checkpoint_every must be at least 1, got 0"),
    ],
)
def test_a_wrong_call_is_said_in_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    data = [] if "--data" in arguments or "--task" in arguments else ["--data", lines]
    done = call("train", *arguments, "--size", "tiny", *data)
    assert done.exit_code == 2
    assert sentence in done.stderr and done.stderr.startswith("ravine: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("ravine-train/*/checkpoint.pt"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tokens", "-1"], "count must be"),
        (["--prompt", ""], "prompt must hold at least one token"),
        (["--temperature", "-1"], "temperature must be"),
        (["--model", "own.py:build"], "holds a model of ravine's, which needs none"),
    ],
)
def test_a_wrong_call_of_generate_is_said_in_a_sentence(arguments: list[str], sentence: str, trained: Path) -> None:
    done = call("generate", trained, *arguments)
    assert done.exit_code == 2 and done.stdout == ""
    assert sentence in done.stderr and done.stderr.count("\n") == 1


def test_what_is_no_language_model_is_refused(tmp_path: Path) -> None:
    assert call("train", "--task", "ridge", "--size", "tiny", "--steps", "2", "--out", tmp_path).exit_code == 0
    for file in (tmp_path / "checkpoint.pt", tmp_path / "run.json", tmp_path / "absent", tmp_path):
        done = call("generate", file)
        assert done.exit_code == 2 and done.stderr.count("\n") == 1


def test_work_that_fails_ends_with_1(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diverged = call(
        "train", "sgd:lr=1e30", *tiny, "--clip", "0", "--out", tmp_path / "a", "--json", tmp_path / "a.json"
    )
    assert diverged.exit_code == 1 and "training diverged by step 2; try a smaller lr" in diverged.stderr
    assert json.loads((tmp_path / "a.json").read_text())["outcome"]["diverged_at"] == 2

    def no_memory(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(torch.Tensor, "backward", no_memory)
    failed = call("train", *tiny, "--out", tmp_path / "b")
    assert failed.exit_code == 1 and failed.stderr == "ravine: training failed: out of memory on cpu\n"


def test_an_interrupted_call_says_how_to_go_on(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ravine.lab.single, "fit", interrupted)
    done = call("train", *tiny, "--out", tmp_path)
    assert done.exit_code == 130
    assert done.stderr == f"ravine: interrupted; the same command goes on from {tmp_path / 'checkpoint.pt'}\n"


def test_precision_is_measured_once(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Path
) -> None:
    for measured in ("bfloat16", "float32"):
        monkeypatch.setattr(ravine.lab.single, "faster_precision", lambda *_, found=measured: found)
        done = call("train", *tiny[:-2], "--out", tmp_path, "--json", "-")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["recipe"]["precision"] == "bfloat16"


def test_curves_go_to_tensorboard(tiny: list[str], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = call("train", *tiny, "--out", tmp_path, "--log", "tensorboard", "--json", "-")
    assert done.exit_code == 0, done.stderr
    (folder,) = (tmp_path / "log").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    outcome = json.loads(done.stdout)["outcome"]
    assert set(events.Tags()["scalars"]) >= {"loss/tuning", "loss/training", "perplexity/tuning", "run/seconds"}
    assert [e.step for e in events.Scalars("loss/tuning")] == outcome["curve"]["step"]
    assert [e.value for e in events.Scalars("loss/tuning")] == pytest.approx(outcome["curve"]["loss"])


@pytest.mark.slow
def test_it_runs_under_torchrun(tiny: list[str], trained: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ravine"]
    done = subprocess.run(
        [*command, "train", "adamw:lr=0.01", *tiny, "--out", str(tmp_path)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("loss") == 1
    one, two = checkpoint.read(trained), checkpoint.read(tmp_path / "checkpoint.pt")
    assert two["progress"]["curve"]["loss"] == pytest.approx(one["progress"]["curve"]["loss"], rel=1e-5)
    load_model(tmp_path / "checkpoint.pt")
