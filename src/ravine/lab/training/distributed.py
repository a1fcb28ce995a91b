"""One run in several processes: each takes its rows of the batch, the first evaluates, writes and speaks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """The processes of this run, and which of them this one is; a run in one process is the case `count` = 1."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that evaluates and writes."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        if self.count > 1:
            value = value / self.count
            dist.all_reduce(value)
        return value

    def from_first(self, value: Any) -> Any:
        """The first process's value; a plain one."""
        held = [value]
        if self.count > 1:
            dist.broadcast_object_list(held)
        return held[0]

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value, in order of rank."""
        held = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(held, value)
        return held


def processes() -> Processes:
    """The processes of this run, see `joined`."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return Processes()


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Within this block, the processes that `torchrun` started work as one run; without torchrun, this one alone.

    Args:
        device: `"cuda"` (by NCCL, each process on the GPU of its local rank) or `"cpu"` (by gloo).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or processes().count > 1:
        yield processes()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield processes()
    finally:
        dist.destroy_process_group()
