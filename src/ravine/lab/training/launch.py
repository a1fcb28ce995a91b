"""A run in several processes, started from a program that is none of them: a trial that asks for several GPUs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import torch

from ravine.lab.files import read_json, to_json, write_atomically
from ravine.lab.training.outcome import Outcome
from ravine.lab.training.run import OnEvaluation, OnStep

POLL_SECONDS = 0.1
GRACE_SECONDS = 10


def train_distributed(
    work: Callable[..., Outcome],
    arguments: Mapping[str, Any],
    *,
    processes: int,
    device: str = "cpu",
    on_step: OnStep | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> Outcome:
    """The outcome of a run in several processes on this machine, which `torchrun` starts and this program waits for.

    Args:
        work: a function at the top of a module that the processes can import too. It is called in each of them with
            the arguments and `on_step` and `on_evaluation`, to be passed to `ravine.lab.training.train`.
        arguments: by keyword, values that JSON has: `task.spec()`, settings of the optimizer and of the recipe.
        processes: how many; on a GPU each takes one of its own.
        device: `"cpu"` or `"cuda"`.
        on_step, on_evaluation: called here, as they would be by `train`. If one raises, the processes are ended.

    Returns:
        The outcome; `Outcome.failed` says so where one of the processes ran out of memory.

    Raises:
        ValueError: for a number of processes that there are no GPUs for; what `work` raises.
        RuntimeError: what else ended one of the processes.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    if device == "cuda" and processes > torch.cuda.device_count():
        raise ValueError(f"processes must be at most the GPUs here, {torch.cuda.device_count()}, got {processes}")
    with tempfile.TemporaryDirectory(prefix="ravine-run-") as name:
        folder = Path(name)
        called = {"work": [work.__module__, work.__qualname__], "arguments": dict(arguments), "device": device}
        write_atomically(folder / "run.json", to_json(called))
        (folder / "events").touch()
        with (folder / "events").open(encoding="utf-8") as events, (folder / "said").open("wb") as said:
            started = _start(folder, processes, said)
            try:
                while started.poll() is None:
                    _pass_on(events, on_step, on_evaluation)
                    time.sleep(POLL_SECONDS)
                _pass_on(events, on_step, on_evaluation)
            finally:
                _end(started)
        return _outcome(folder, started.returncode)


def _start(folder: Path, processes: int, said: Any) -> subprocess.Popen[bytes]:
    threads = max(1, torch.get_num_threads() // processes)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*command, "-m", "ravine.lab.training.process", str(folder)],
        # They can import what can be imported here, and end when nobody holds the other end of their standard input.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": str(threads)},
        stdin=subprocess.PIPE,
        stdout=said,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _pass_on(events: TextIO, on_step: OnStep | None, on_evaluation: OnEvaluation | None) -> None:
    """Tell what the first process has written since the last time."""
    while True:
        place = events.tell()
        line = events.readline()
        if not line.endswith("\n"):
            events.seek(place)
            return
        step, figures = json.loads(line)
        if figures is None and on_step is not None:
            on_step(step)
        elif figures is not None and on_evaluation is not None:
            on_evaluation(step, figures)


def _end(started: subprocess.Popen[bytes]) -> None:
    assert started.stdin is not None
    started.stdin.close()
    if started.poll() is None:
        started.terminate()
        try:
            started.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def _outcome(folder: Path, code: int) -> Outcome:
    if (folder / "outcome.json").exists():
        return Outcome(**read_json(folder / "outcome.json"))
    if not (folder / "error.json").exists():
        # torchrun names the first that failed last; a negative code is the number of a signal.
        codes = re.findall(r"exitcode\s*:\s*(-?\d+)", (folder / "said").read_text(errors="replace"))
        raise RuntimeError(f"one process of a run ended without a word, with code {codes[-1] if codes else code}")
    error = read_json(folder / "error.json")
    if error["out_of_memory"]:
        return Outcome(failed=error["message"])
    if error["type"] == "ValueError":
        raise ValueError(error["message"])
    raise RuntimeError(f"{error['type']} in one process of a run: {error['message']}")
