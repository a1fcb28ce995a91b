"""The program that times its own first step. It imports what a user's program would, so nothing else is warm."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch

import ravine

SHAPES = ((128, 128),) * 8


def time_first_step(request: dict[str, Any]) -> float:
    """Seconds that the first call of `step()` takes in this process.

    Args:
        request: `optimizer`, `settings`, `engine`, `dtype`, `device` and `threads`.
    """
    torch.set_num_threads(request["threads"])
    device = torch.device(request["device"])
    like = {"dtype": getattr(torch, request["dtype"]), "device": device}
    parameters = [torch.nn.Parameter(torch.zeros(shape, **like)) for shape in SHAPES]
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer = ravine.create(request["optimizer"], parameters, engine=request["engine"], **request["settings"])
    on_accelerator = device.type != "cpu"
    if on_accelerator:
        torch.accelerator.synchronize(device)
    start = time.perf_counter()
    optimizer.step()
    if on_accelerator:
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps({"seconds": time_first_step(json.loads(sys.argv[1]))}))
