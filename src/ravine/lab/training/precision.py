"""Autocast, and which precision is faster on this machine."""

from __future__ import annotations

import math
import time

import torch

from ravine.lab.tasks.task import Task
from ravine.lab.training.recipe import Precision

ROUNDS = 4


def autocast(device: str, precision: Precision) -> torch.autocast:
    """bfloat16 or float16 for the matrix products, or nothing for float32."""
    low = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(torch.device(device).type, low, enabled=precision != "float32")


def chosen_device(wanted: str) -> str:
    """`"cpu"` or `"cuda"`: as wanted, `"auto"` being the GPU where there is one.

    Raises:
        ValueError: for another device, or a GPU where there is none.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    require_available(wanted, "float32")
    return wanted


def require_available(device: str, precision: Precision) -> None:
    """Raise ValueError where there is no such device, or where it does not train in this precision."""
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda was asked for, and torch finds no GPU here; use cpu")
    if precision == "float16" and kind != "cuda":
        raise ValueError("precision float16 needs a GPU; on a CPU use bfloat16 or float32")


def faster_precision(task: Task, batch: int, device: str) -> Precision:
    """The precision in which a task's model trains faster here, by a fifth at least, else float32.

    Measured on forward and backward passes: what a processor claims to support may be emulated.

    Args:
        task: whose model and data are taken.
        batch: examples of a step.
        device: `"cpu"` or `"cuda"`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = task.new_model().to(device)
    drawn = task.draw(batch, torch.Generator().manual_seed(0), 1)
    drawn = {name: value.to(device) for name, value in drawn.items()}
    best: dict[Precision, float] = {"float32": math.inf, "bfloat16": math.inf}
    for _ in range(ROUNDS):
        for precision in best:
            start = time.perf_counter()
            with autocast(device, precision):
                loss = task.loss(model, drawn)
            loss.backward()
            loss.item()
            best[precision] = min(best[precision], time.perf_counter() - start)
    return "bfloat16" if best["bfloat16"] < best["float32"] / 1.2 else "float32"
