"""Several processes train as one: the same losses, one that evaluates and writes, and none left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from lab.training import distributed_work
from lab.training.small_tasks import Line
from ravine.lab.training import Recipe, checkpoint, train, train_distributed
from ravine.lab.training.distributed import Processes, joined, processes

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch was built without gloo"
)

RECIPE = {"steps": 10, "batch": 8}


def arguments(**recipe: Any) -> dict[str, Any]:
    return {"optimizer": "adamw", "recipe": {**RECIPE, **recipe}, "task": {"padded": True}}


@pytest.fixture(scope="module")
def server() -> Any:
    """Processes that are forked from one that has imported torch, which takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ravine.lab.training", "torch.distributed"])
    return context


def together(server: Any, calls: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The outcomes of runs, made one after the other by two processes that meet at a file."""
    folder.mkdir()
    started = [server.Process(target=distributed_work.rank, args=(rank, str(folder), calls)) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    outcomes = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    for one, other in zip(*outcomes, strict=True):
        assert one["curve"]["loss"] == other["curve"]["loss"]
        assert one["training_curve"]["loss"] == other["training_curve"]["loss"]
    return outcomes[0]


def assert_equal_losses(one: dict[str, Any], two: dict[str, Any]) -> None:
    for curve in ("curve", "training_curve"):
        assert two[curve]["loss"] == pytest.approx(one[curve]["loss"], rel=1e-5)
        assert two[curve]["units"] == one[curve]["units"]
    assert two["units"] == one["units"]
    assert (one["processes"], two["processes"]) == (1, 2)


def test_two_processes_train_as_one_with_the_same_batch(server: Any, tmp_path: Path) -> None:
    calls = [
        arguments(),
        {**arguments(accumulate=2, ema=0.7), "optimizer": "lookahead(momentum)"},
        {**arguments(accumulate=2, precision="bfloat16"), "optimizer": "schedule_free(adamw)"},
    ]
    for call, two in zip(calls[:2], together(server, calls[:2], tmp_path / "full"), strict=True):
        assert_equal_losses(asdict(distributed_work.text(**call)), two)
    (two,) = together(server, calls[2:], tmp_path / "half")
    one = distributed_work.text(**calls[2])
    assert two["final_loss"] == pytest.approx(one.final_loss, rel=1e-2) and two["notes"] == one.notes


def test_two_processes_go_on_from_a_checkpoint_to_the_bit(server: Any, tmp_path: Path) -> None:
    call = {**arguments(), "task": {"dropout": 0.2}}
    kept = {**call, "file": str(tmp_path / "checkpoint.pt")}
    stopped = {**kept, "stop": 8}
    whole, _, again = together(server, [call, stopped, kept], tmp_path / "runs")
    assert again["curve"]["loss"] == whole["curve"]["loss"]
    assert (tmp_path / "runs" / "steps").read_text().split() == [str(s) for s in (*range(1, 9), *range(7, 11))]
    with pytest.raises(ValueError, match="processes was 2, is 1"):
        distributed_work.text(**kept)


def test_torchrun_starts_them_and_the_outcome_comes_back(tmp_path: Path) -> None:
    call, file = arguments(), str(tmp_path / "checkpoint.pt")
    steps, shown = list[int](), list[tuple[int, dict[str, float]]]()
    two = train_distributed(
        distributed_work.text, {**call, "file": file}, processes=2, on_step=steps.append,
        on_evaluation=lambda step, figures: shown.append((step, figures)),
    )  # fmt: skip
    assert_equal_losses(asdict(distributed_work.text(**call)), asdict(two))
    assert steps == list(range(1, 11))
    assert [figures["loss"] for _, figures in shown] == two.curve["loss"]
    assert checkpoint.read(Path(file))["step"] == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "error", "sentence"),
    [
        ("value", ValueError, "^the reason$"),
        ("other", RuntimeError, "^KeyError in one process of a run: 'the reason'$"),
        ("exit", RuntimeError, "^one process of a run ended without a word, with code 7$"),
    ],
)
def test_what_ends_one_process_is_said_and_ends_the_other(how: str, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        train_distributed(distributed_work.failing, {"how": how}, processes=2)


@pytest.mark.slow
def test_one_process_without_memory_fails_the_run() -> None:
    outcome = train_distributed(distributed_work.failing, {"how": "memory"}, processes=2)
    assert outcome.failed == "out of memory on cpu: 400000000000000000 bytes more could not be had"


@pytest.mark.slow
def test_nothing_is_left_running(tmp_path: Path) -> None:
    def stop(step: int) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "process"
    with pytest.raises(KeyboardInterrupt):
        train_distributed(distributed_work.endless, {"file": str(file)}, processes=2, on_step=stop)
    assert_ended(int(file.read_text()))


@pytest.mark.slow
def test_processes_end_when_who_started_them_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "process"
    code = (
        "from ravine.lab.training import train_distributed\n"
        "from lab.training import distributed_work\n"
        f"train_distributed(distributed_work.endless, {{'file': {str(file)!r}}}, processes=1)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    )
    while not file.exists() or not file.read_text():
        time.sleep(0.05)
    starter.kill()
    starter.wait()
    assert_ended(int(file.read_text()))


def assert_ended(process: int) -> None:
    for _ in range(600):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError(f"process {process} goes on")


def test_more_processes_than_can_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        train_distributed(distributed_work.text, {}, processes=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="processes must be at most the GPUs here, 2, got 3"):
        train_distributed(distributed_work.text, {}, processes=3, device="cuda")
    monkeypatch.setattr("ravine.lab.training.loop.processes", lambda: Processes(0, 3))
    with pytest.raises(ValueError, match=r"batch must be a multiple of accumulate \* processes = 1 \* 3, got 8"):
        train(Line(), None, Recipe(**RECIPE), seed=1, split="tuning")  # type: ignore[arg-type]


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as one:
        assert one == processes() == Processes(0, 1)
        assert one.first and one.from_first("x") == "x" and one.gathered(2) == [2]
        assert one.mean(torch.tensor(3.0)) == 3.0
    assert not dist.is_initialized()
