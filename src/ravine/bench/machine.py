"""The machine that a measurement was made on."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from ravine import __version__

BUSY_PERCENT = 10.0
"""Use of the processor by others above which times mean little: torch's threads wait by spinning."""


@dataclass(frozen=True)
class Machine:
    """What has a part in the times; `busy_percent` is how much of the processor others used just before."""

    cpu: str
    cores: int
    memory_gb: float
    device: str
    threads: int
    system: str
    python: str
    torch: str
    ravine: str
    busy_percent: float

    @property
    def busy(self) -> bool:
        """Whether others use so much of the processor that the times mean little."""
        return self.busy_percent > BUSY_PERCENT


def describe(device: torch.device, threads: int, watch_seconds: float = 0.5) -> Machine:
    """This machine, after watching for a moment how busy it is."""
    return Machine(
        cpu=cpu_name(),
        cores=psutil.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        device=device_name(device),
        threads=threads,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        ravine=__version__,
        busy_percent=psutil.cpu_percent(interval=watch_seconds),
    )


def cpu_name() -> str:
    """The processor's name, as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The device, with the accelerator's name where it has one: `cpu`, `cuda (NVIDIA H200)`."""
    module = getattr(torch, device.type, None)
    if device.type in ("cuda", "xpu") and module is not None:
        return f"{device} ({module.get_device_name(device)})"
    return str(device)
