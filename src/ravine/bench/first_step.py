"""How long the first step of a rule takes, in a fresh process: with an empty kernel cache, then with a warm one.

Timed is the call of `step()` alone; imports and the making of parameters come before. The parameters are few and
small, so that what shows is tracing, compiling and loading, and not the work of the step itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ravine
from ravine.bench.arms import Arm

PATIENCE = 300.0
"""Seconds after which a process that has not taken its first step is given up."""


@dataclass(frozen=True)
class FirstStep:
    """Seconds that the first step of an optimizer took."""

    optimizer: str
    cold_seconds: float
    warm_seconds: float


def measure_first_step(arm: Arm, engine: str, dtype: str, device: str, threads: int) -> FirstStep:
    """Time the first step in two fresh processes that share a kernel cache, empty at first.

    Raises:
        RuntimeError: if the step fails there, with the last line of what it said.
    """
    request = {**asdict(arm), "engine": engine, "dtype": dtype, "device": device, "threads": threads}
    with tempfile.TemporaryDirectory(prefix="ravine-bench-") as folder:
        cold, warm = (_in_fresh_process(request, Path(folder)) for _ in range(2))
    return FirstStep(arm.label, cold, warm)


def _in_fresh_process(request: dict[str, Any], cache: Path) -> float:
    package = str(Path(ravine.__file__).parent.parent)
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    caches = {"XDG_CACHE_HOME": str(cache), "TRITON_CACHE_DIR": str(cache / "triton")}
    command = [sys.executable, "-m", "ravine.bench.one_step", json.dumps(request)]
    try:
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path, **caches}, capture_output=True, text=True, timeout=PATIENCE,
            check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the first step of {request['label']} took more than {PATIENCE:.0f} s") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip() or f"exit code {error.returncode}").splitlines()[-1]
        raise RuntimeError(f"the first step of {request['label']} failed: {said}") from None
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])
