"""What there is: the optimizers, and the machine that runs them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
import warnings
from typing import Any

from ravine.catalogue import info, state_bytes_per_param
from ravine.registry import available, lookup
from ravine.rule import Rule

COMPILED = ("native", "triton")
A_MATRIX = (1024.0, 1024.0)


def listing() -> list[dict[str, Any]]:
    """Every registered optimizer: `{name, paper, state_bytes_per_param, engines}`, sorted by name."""
    return [
        {
            "name": name,
            "paper": info(name).paper,
            "state_bytes_per_param": state_bytes_per_param(lookup(name)),
            "engines": engines_of(lookup(name)),
        }
        for name in available()
    ]


def engines_of(rule: Rule) -> list[str]:
    """The engines that can run a rule under its defaults, on a machine that has them, found out by tracing it."""
    from ravine.engine.batch import Unsupported
    from ravine.engine.graph import trace

    absent = rule.absent_states(rule.defaults, (int(A_MATRIX[0]), int(A_MATRIX[1])))
    shape = {"ndim": 2, "rows": A_MATRIX[0], "columns": A_MATRIX[1]}
    host = {symbol: 1.0 for symbol, state in rule.state.items() if state.kind in ("host", "shared")}
    try:
        for t in (1, 2):
            trace(rule, {**rule.defaults, **host, **shape, "t": t}, frozenset(rule.state) - frozenset(absent), ())
    except Unsupported:
        return ["reference"]
    return ["reference", *COMPILED]


def doctor() -> dict[str, Any]:
    """What ravine finds on this machine, which engine it will use on each device, and why.

    Returns:
        `versions`, `threads`, `compiler`, `triton`, `gpus`, `cache` and `devices.{device}.{engine, why}`; `cache` has
        the `folder` and the number of `kernels` in it, or the `problem` with it; `orthogonalization.{device}` says how
        fast matrices are multiplied there, and how Muon orthogonalizes some shapes for that.
    """
    import torch

    from ravine import __version__
    from ravine.engine.compiler import find_compiler
    from ravine.engine.orthogonalize import describe

    kinds = ["cpu", *(kind for kind in ("cuda", "xpu", "mps") if _is_there(torch, kind))]
    return {
        "versions": {"ravine": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "threads": torch.get_num_threads(),
        "compiler": _compiler(find_compiler()),
        "triton": _version_of("triton"),
        "gpus": [_gpu_name(torch, kind, i) for kind in kinds[1:] for i in range(_count(torch, kind))],
        "cache": _cache(),
        "devices": {kind: _engine_on(torch.device(kind)) for kind in kinds},
        "orthogonalization": {kind: dict(describe(kind)) for kind in kinds if kind != "mps"},
    }


def _is_there(torch: Any, kind: str) -> bool:
    return bool(torch.backends.mps.is_available() if kind == "mps" else getattr(torch, kind).is_available())


def _count(torch: Any, kind: str) -> int:
    return 1 if kind == "mps" else int(getattr(torch, kind).device_count())


def _gpu_name(torch: Any, kind: str, i: int) -> str:
    return "Apple GPU" if kind == "mps" else str(getattr(torch, kind).get_device_name(i))


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _compiler(path: str | None) -> str | None:
    """The compiler's path and the first line of what it says of its version."""
    if path is None:
        return None
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path}, which does not run: {error}"
    return f"{path} ({said.splitlines()[0]})" if said else path


def _cache() -> dict[str, Any]:
    from ravine.engine.compiler import CompilerError, cache_folder

    try:
        folder = cache_folder()
    except CompilerError as error:
        return {"problem": str(error)}
    return {"folder": str(folder), "kernels": len(list(folder.glob("*.so")))}


def _engine_on(device: Any) -> dict[str, str]:
    """The engine that `engine="auto"` takes, and why: what hinders a faster one, or how its test step went."""
    from ravine.engine import choose, obstacle

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = choose("auto", device).name
    if chosen != "reference":
        return {"engine": chosen, "why": _test_step(chosen, device)}
    hindered = [f"{name}: {reason}" for name in COMPILED if (reason := obstacle(name, device))]
    return {"engine": chosen, "why": "; ".join(hindered) or f"no compiled engine runs on {device.type}"}


def _test_step(engine: str, device: Any) -> str:
    """Take one step on four numbers, and say how that went; any failure is what the doctor is there to tell."""
    import torch

    from ravine.optim import create

    weights = torch.ones(4, device=device, requires_grad=True)
    weights.grad = torch.ones(4, device=device)
    began = time.perf_counter()
    try:
        create("sgd", [weights], lr=0.5, engine=engine).step()
        right = weights.detach().cpu().tolist() == [0.5] * 4
    except Exception as error:
        return f"it is chosen, but its test step failed: {error}"
    if not right:
        return "it is chosen, but its test step gave a wrong result"
    return f"the fastest engine on {device.type}; its test step took {1000 * (time.perf_counter() - began):.0f} ms"
