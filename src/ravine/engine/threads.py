"""Running compiled functions on several threads, phase by phase."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ravine.engine.compiler import build


class Phase(ctypes.Structure):
    """As in `runtime.cpp`: a function, its units, and how many of them are handed out at a time."""

    _fields_ = [(name, ctypes.c_int64) for name in ("function", "first", "last", "run")]


@cache
def worker_pool() -> Any:
    """The pool's `ravine_run(phases, count, table, threads, team)`, compiled on first use."""
    run = build((Path(__file__).parent / "runtime.cpp").read_text()).ravine_run
    run.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    run.restype = ctypes.c_int
    return run


@cache
def openmp_team() -> int | None:
    """The address of `GOMP_parallel` in the OpenMP runtime that torch computes with; None where it has none."""
    if "OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):
        return None


Units = tuple[int, int, int]


def run_phases(phases: Sequence[Units], table: int, threads: int) -> int:
    """Run compiled functions, one after the other, each over a range of units, with up to this many threads.

    Args:
        phases: for each the address of a function `(table, first, last)`, its first unit and the one after its last.
        table: the address of what they read.
        threads: the most threads to use.

    Returns:
        How many threads there were to take part.
    """
    return run_made(made(phases, threads), len(phases), table, threads)


def made(phases: Sequence[Units], threads: int) -> Any:
    """The array of phases that `run_made` takes; their units are handed out to that many threads."""
    rows = [(f, first, last, max(1, min(16, (last - first) // (threads * 4)))) for f, first, last in phases]
    return (Phase * len(rows))(*(Phase(*row) for row in rows))


def run_made(phases: Any, count: int, table: int, threads: int) -> int:
    """`run_phases` with an array made before, of so many phases."""
    used: int = worker_pool()(ctypes.addressof(phases), count, table, threads, openmp_team())
    return used
