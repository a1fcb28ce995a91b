"""Who a worker is, so that another on the same machine sees at once that it is gone."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def identity() -> dict[str, Any]:
    """This process: its machine, its number there, and when it started, which tells it from a later one."""
    return {"host": platform.node(), "boot": _boot(), "process": os.getpid(), "started": _started(os.getpid())}


def is_gone(worker: Any) -> bool:
    """Whether the process was one of this machine and has ended; False where that cannot be known.

    >>> is_gone(identity())
    False
    >>> is_gone({**identity(), "host": "elsewhere"})
    False
    """
    import psutil

    try:
        host, boot, process, started = (worker[key] for key in ("host", "boot", "process", "started"))
        if (host, boot) != (platform.node(), _boot()):
            return False
        return _started(int(process)) != started
    except (KeyError, TypeError, ValueError, OverflowError, psutil.AccessDenied):
        return False


def _boot() -> str:
    """What is the same for all processes that see each other's numbers, and for no others."""
    import psutil

    try:
        # Containers share the boot but not the numbers of processes; a machine may hide those of other users.
        return f"{_BOOT.read_text().strip()} {os.readlink(_NAMESPACE)} user:{os.getuid()}"
    except OSError:
        return str(psutil.boot_time())


def _started(process: int) -> float | None:
    """Seconds from boot to the start of the process, which no change of the clock moves; None where there is none."""
    import psutil

    try:
        found = psutil.Process(process)
        return None if found.status() == psutil.STATUS_ZOMBIE else round(found.create_time() - psutil.boot_time(), 2)
    except psutil.NoSuchProcess:
        return None
