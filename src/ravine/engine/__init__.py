"""Engines: they run a rule over many tensors. None of them knows any optimizer."""

from __future__ import annotations

import importlib.util
import os
import warnings
from functools import cache

import torch

from ravine.engine.batch import Batch, Engine, Unsupported, drive
from ravine.engine.compiler import CompilerError, find_compiler
from ravine.engine.reference import Reference
from ravine.rule import nearest

NAMES = ("auto", "reference", "native", "triton")


def check_name(name: str) -> None:
    """Raise ValueError unless `name` is an engine's."""
    if name not in NAMES:
        allowed = ", ".join(map(repr, NAMES))
        raise ValueError(f"engine must be one of {allowed}, got {name!r}{nearest(str(name), NAMES)}")


_made: dict[str, Engine] = {}


def get(name: str) -> Engine:
    """The engine of this name, made once.

    Raises:
        RuntimeError: if it cannot work here, with the reason.
    """
    if name not in _made:
        if name == "native":
            from ravine.engine.native import Native

            _made[name] = Native()
        elif name == "triton":
            from ravine.engine.triton import Triton

            _made[name] = Triton()
        else:
            _made[name] = Reference()
    return _made[name]


def obstacle(name: str, device: torch.device) -> str | None:
    """Why an engine cannot run tensors on this device, in a few words; None if it can."""
    if name == "native":
        if device.type != "cpu":
            return f"native runs on the CPU, not on {device.type}"
        return None if find_compiler() else "no C++ compiler was found; install g++ or clang++"
    if name == "triton":
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed"
        if device.type not in ("cuda", "xpu") and not (interpreted and device.type == "cpu"):
            return f"triton runs on GPUs, not on {device.type}, unless TRITON_INTERPRET=1"
    return None


def choose(name: str, device: torch.device) -> Engine:
    """The engine of this name for tensors on this device; `"auto"` takes the fastest there is.

    Raises:
        RuntimeError: if the engine asked for by name cannot run there.
    """
    if name != "auto":
        reason = obstacle(name, device)
        if reason:
            raise RuntimeError(f"engine={name!r} cannot be used: {reason}")
        return get(name)
    fastest = {"cpu": "native", "cuda": "triton", "xpu": "triton"}.get(device.type)
    if fastest is None:
        return get("reference")
    reason = obstacle(fastest, device)
    if reason:
        _warn_once(f"ravine uses its slow reference engine on {device.type}: {reason}")
        return get("reference")
    return get(fastest)


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def run(name: str, batches: list[Batch]) -> None:
    """One step of all batches, each on the engine of this name for its device.

    Raises:
        Unsupported: if an engine that was asked for by name cannot run a rule; `"auto"` takes `reference` then.
    """
    jobs: dict[Engine, list[Batch]] = {}
    for batch in batches:
        if batch.cache.get("engine name") != name:
            batch.cache["engine"] = _able(name, batch)
            batch.cache["engine name"] = name
        jobs.setdefault(batch.cache["engine"], []).append(batch)
    drive([engine.step(work) for engine, work in jobs.items()])


def _able(name: str, batch: Batch) -> Engine:
    """The engine of this name for a batch; for `"auto"`, `reference` where the fastest cannot run the batch's rule."""
    engine = choose(name, batch.parameters[0].device)
    if name == "auto":
        try:
            engine.prepare([batch])
        except Unsupported:
            return get("reference")
        except CompilerError as error:
            _warn_once(f"ravine uses its slow reference engine: {error}")
            return get("reference")
    return engine
