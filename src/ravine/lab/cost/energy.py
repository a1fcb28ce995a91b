"""Energy, where the machine counts it: NVIDIA's GPUs by NVML, Intel's and AMD's processors by RAPL (Linux)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

RAPL = Path("/sys/class/powercap")

Counter = Callable[[], float]
"""Joules since some moment."""


def counters(device: str) -> dict[str, Counter]:
    """What counts energy here, by name; empty where nothing does, or nobody may read it.

    Args:
        device: `"cuda"` for the GPU too; the processor's packages are counted either way.
    """
    found = _packages(RAPL)
    if device == "cuda":
        found |= _gpu()
    return found


class Meter:
    """Joules between two moments, all counters together.

    Example:
        >>> Meter({}).joules() is None
        True
    """

    def __init__(self, counted: dict[str, Counter]) -> None:
        self._counters = counted
        self._begun = {name: count() for name, count in counted.items()}

    def joules(self) -> float | None:
        """Since the meter was made; None where nothing counts, or a counter has begun anew meanwhile."""
        used = [count() - self._begun[name] for name, count in self._counters.items()]
        return sum(used) if used and min(used) >= 0 else None


def _packages(root: Path) -> dict[str, Counter]:
    """One counter for each processor package: parts of a package are in it already."""
    found: dict[str, Counter] = {}
    for folder in sorted(root.glob("intel-rapl:[0-9]*")):
        if folder.name.count(":") > 1:
            continue
        file = folder / "energy_uj"
        try:
            int(file.read_text())
        except (OSError, ValueError):
            continue
        found[folder.name] = _microjoules(file)
    return found


def _microjoules(file: Path) -> Counter:
    return lambda: int(file.read_text()) / 1e6


def _gpu() -> dict[str, Counter]:
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # whatever NVML has against it, there is no figure then
        return {}
    return {"gpu": lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3}
