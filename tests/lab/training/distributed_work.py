"""What the processes of the tests do."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import ravine
from lab.training.small_tasks import Text
from ravine.lab.training import Outcome, Recipe, train
from ravine.lab.training.distributed import processes


class Enough(Exception):
    """Ends a run in the middle."""


def text(
    optimizer: str,
    recipe: dict[str, Any],
    task: dict[str, Any],
    file: str | None = None,
    on_step: Callable[[int], None] | None = None,
    on_evaluation: Any = None,
) -> Outcome:
    """A run on the task `text`, with a checkpoint every third step where there is a file."""

    def make(model: nn.Module) -> torch.optim.Optimizer:
        return ravine.create(optimizer, model if optimizer == "muon" else model.parameters(), lr=0.02)

    return train(
        Text(**task), make, Recipe(**recipe), seed=1, split="tuning", checkpoint=None if file is None else Path(file),
        checkpoint_every=3, on_step=on_step, on_evaluation=on_evaluation,
    )  # fmt: skip


def rank(number: int, folder: str, calls: list[dict[str, Any]]) -> None:
    """What one of two processes does: the runs in order, which may be stopped after a step; outcomes go to a file."""
    torch.set_num_threads(1)
    place = Path(folder)
    dist.init_process_group("gloo", init_method=f"file://{place}/meeting", rank=number, world_size=2)
    outcomes = []
    for call in calls:
        stop = call.pop("stop", None)

        def on_step(step: int, stop: int | None = stop, told: bool = "file" in call and number == 0) -> None:
            if told:
                with (place / "steps").open("a") as steps:
                    steps.write(f"{step} ")
            if step == stop:
                raise Enough

        try:
            outcomes.append(text(**call, on_step=on_step))
        except Enough:
            outcomes.append(Outcome())
    (place / f"{number}.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
    dist.destroy_process_group()


def failing(how: str, **tell: Any) -> Outcome:
    """One process of two fails, the other waits for it."""
    if processes().rank == 1:
        if how == "memory":
            torch.empty(10**17)
        if how == "exit":
            os._exit(7)
        raise {"value": ValueError, "other": KeyError}[how]("the reason")
    processes().gathered(0)
    raise AssertionError("nobody answers")


def endless(file: str, on_step: Any, **tell: Any) -> Outcome:
    """Steps without an end, told to a file."""
    while True:
        Path(file).write_text(str(os.getpid()))
        on_step(1)
        time.sleep(0.05)
