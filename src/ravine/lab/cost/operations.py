"""Floating point operations of a step, and how many of those that the machine could do are done."""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from ravine.lab.tasks.task import Task
from ravine.lab.training import Precision

SIZE = 1024
"""Of the matrices whose product tells the machine's speed."""


def flops_per_unit(task: Task, batch: int, device: str) -> float:
    """Floating point operations of forward and backward pass for one unit of data, matrix products counted.

    A multiplication and an addition are two. The optimizer's are not among them.
    """
    with torch.random.fork_rng(devices=[]):
        model = task.new_model().to(device)
    examples = task.draw(batch, torch.Generator().manual_seed(0), 1)
    examples = {name: value.to(device) for name, value in examples.items()}
    with FlopCounterMode(display=False) as counter:
        task.loss(model, examples).backward()
    return counter.get_total_flops() / task.units(examples)


def fastest(device: str, precision: Precision, rounds: int = 5) -> float:
    """Floating point operations a second in a product of square matrices: the best of some rounds.

    What a data sheet promises is not what a machine does; this is the ceiling that a step is held against.
    """
    a = torch.randn(SIZE, SIZE, device=device, dtype=getattr(torch, precision))
    best = float("inf")
    with torch.inference_mode():
        for _ in range(rounds):
            _wait(device)
            start = time.perf_counter()
            a @ a
            _wait(device)
            best = min(best, time.perf_counter() - start)
    return 2 * SIZE**3 / best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
