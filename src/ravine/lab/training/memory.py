"""How much memory a run and its optimizer take, and what it looks like when there is not enough."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

RAN_OUT = ("DefaultCPUAllocator", "CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What a RuntimeError of torch says where there was no memory left."""


def state_bytes(optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Bytes of all tensors in the optimizer's state by type, the step counters included: `{"float32": 800}`."""
    count: Counter[str] = Counter()
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                count[str(value.dtype).removeprefix("torch.")] += value.nbytes
    return dict(count)


def reset_peak_memory(device: str) -> None:
    """Start counting peak memory anew, where the system can (CUDA, Linux); elsewhere it is the process's so far."""
    if _is_cuda(device):
        torch.cuda.reset_peak_memory_stats()
    else:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return


def peak_memory(device: str) -> int | None:
    """Bytes: of tensors on the GPU, or resident in the process; None where the system does not tell."""
    if _is_cuda(device):
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        if sys.platform == "win32":
            return None
        import resource  # exists on Unix only

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def peak_memory_reserved(device: str) -> int | None:
    """Bytes that torch held on the GPU, in use or not; None on a CPU."""
    return torch.cuda.max_memory_reserved() if _is_cuda(device) else None


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there was not enough memory.

    Example:
        >>> ran_out_of_memory(MemoryError()), ran_out_of_memory(RuntimeError("shapes differ"))
        (True, False)
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in RAN_OUT)


def out_of_memory(error: BaseException, device: str) -> str:
    """A sentence on an exception for which `ran_out_of_memory` holds.

    Example:
        >>> out_of_memory(RuntimeError("DefaultCPUAllocator: you tried to allocate 4096 bytes. Error code 12"), "cpu")
        'out of memory on cpu: 4096 bytes more could not be had'
    """
    asked = re.search(r"[Tt]ried to allocate ([0-9.]+ \w+)", str(error))
    return f"out of memory on {device}" + (f": {asked[1]} more could not be had" if asked else "")


def _is_cuda(device: str) -> bool:
    return torch.device(device).type == "cuda"
