"""The native engine: rules as C++ kernels on the CPU, all tensors of one structure in one parallel region."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ravine.engine.batch import Partials
from ravine.engine.compiled import Compiled, Kernel, Launch, Part
from ravine.engine.compiler import build
from ravine.engine.cpp import CHUNK, CppPrinter
from ravine.engine.emit import Program

SMALL = 32768
"""Elements under which a step is not worth waking other threads for."""


class _Table(ctypes.Structure):
    _fields_ = [
        ("pointers", ctypes.c_void_p), ("tensors", ctypes.c_int64), ("sizes", ctypes.c_void_p),
        ("chunk_tensor", ctypes.c_void_p), ("chunk_start", ctypes.c_void_p), ("row", ctypes.c_void_p),
        ("scalars", ctypes.c_void_p), ("partials", ctypes.c_void_p), ("results", ctypes.c_void_p),
        ("totals", ctypes.c_void_p),
    ]  # fmt: skip


@cache
def worker_pool() -> Any:
    """The pool's `ravine_run(pass, table, chunks, chunks at a time, threads, team)`, compiled on first use."""
    run = build((Path(__file__).parent / "runtime.cpp").read_text()).ravine_run
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int, ctypes.c_void_p]
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


def run_chunks(function: ctypes.c_void_p, table: int, chunks: int, threads: int) -> None:
    """Run a compiled pass over all chunks of a table with up to this many threads."""
    at_a_time = max(1, min(16, chunks // (threads * 4)))
    worker_pool()(function, table, chunks, at_a_time, threads, openmp_team())


class NativeKernel(Kernel):
    """A compiled program: the address of each pass."""

    def __init__(self, source: str, program: Program) -> None:
        super().__init__(program)
        with ThreadPoolExecutor(1) as beside:
            pool = beside.submit(worker_pool)
            self.library = build(source)
            pool.result()
        self.functions = [ctypes.cast(getattr(self.library, f"pass_{k}"), ctypes.c_void_p) for k in range(self.passes)]


class NativeLaunch(Launch):
    """A table in NumPy arrays, which the kernel reads in place."""

    kernel: NativeKernel

    def __init__(self, kernel: NativeKernel, parts: list[Part]) -> None:
        super().__init__(kernel, parts, CHUNK)
        count = kernel.reduction_count
        self.partials = np.zeros((self.chunks, count))
        self.results = np.zeros((len(self.sizes), max(count, 1)))
        self.totals = np.zeros(max(len(kernel.totals), 1))
        arrays = (
            self.pointers, len(self.sizes), self.sizes, self.chunk_tensor, self.chunk_start, self.row, self.scalars,
            self.partials, self.results, self.totals,
        )  # fmt: skip
        self.table = _Table(*(x if isinstance(x, int) else x.ctypes.data for x in arrays))
        self.address = ctypes.addressof(self.table)
        self.occupied = np.flatnonzero(self.sizes)

    def run(self, k: int, known: Partials) -> Partials:
        for i, name in enumerate(self.kernel.totals):
            self.totals[i] = float(known.get(name, 0.0))
        threads = 1 if self.elements < SMALL else torch.get_num_threads()
        run_chunks(self.kernel.functions[k], self.address, self.chunks, threads)
        before = sum(map(len, self.kernel.reductions[:k]))
        totals: Partials = {}
        for place, (op, name) in enumerate(self.kernel.reductions[k], before):
            if len(self.occupied):
                starts = self.first_chunk[self.occupied]
                self.results[self.occupied, place] = np.add.reduceat(self.partials[:, place], starts)
            if op == "total":
                totals[name] = float(np.add.accumulate(self.results[:, place])[-1])
        return totals


class Native(Compiled):
    """Kernels in C++, compiled at first use and cached on disk."""

    name = "native"

    def __init__(self) -> None:
        super().__init__()
        self._by_source: dict[str, NativeKernel] = {}

    def compile(self, program: Program) -> Kernel:
        source = CppPrinter(program).source()
        if source not in self._by_source:
            self._by_source[source] = NativeKernel(source, program)
        return self._by_source[source]

    def launch(self, kernel: Kernel, parts: list[Part]) -> Launch:
        assert isinstance(kernel, NativeKernel)
        return NativeLaunch(kernel, parts)
