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
from ravine.engine.compiled import Compiled
from ravine.engine.compiler import build
from ravine.engine.cpp import CHUNK, COLUMN_CHUNK, LEAST_ROWS, CppPrinter
from ravine.engine.emit import Program
from ravine.engine.launch import Cut, Kernel, Launch, Part

SMALL = 32768
"""Elements under which a step is not worth waking other threads for."""


ENTRIES = ("pointers", "tensors", "sizes", "chunk_tensor", "chunk_start", "row", "scalars", "partials", "results",
           "totals", "rows", "columns", "chunk_rows", "first_chunk", "row_at", "column_at", "matrix_at", "sums_at",
           "all_rows", "all_columns", "matrices", "all_sums", "row_values", "column_values", "matrix_values",
           "column_sums")  # fmt: skip


class _Table(ctypes.Structure):
    """The table in `cpp.PRELUDE`: every entry is an address or a count, in 8 bytes."""

    _fields_ = [(name, ctypes.c_int64) for name in ENTRIES]


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
    """A compiled program: the address of each pass and stage."""

    def __init__(self, printer: CppPrinter, source: str) -> None:
        super().__init__(printer)
        with ThreadPoolExecutor(1) as beside:
            pool = beside.submit(worker_pool)
            self.library = build(source)
            pool.result()
        self.functions = [self._address(f"pass_{k}") for k in range(self.passes)]
        self.stage_functions = [self._address(f"stage_{k}") if there else None for k, there in enumerate(self.stages)]

    def _address(self, name: str) -> ctypes.c_void_p:
        return ctypes.cast(getattr(self.library, name), ctypes.c_void_p)


class NativeLaunch(Launch):
    """A table in NumPy arrays, which the kernel reads in place."""

    kernel: NativeKernel

    def __init__(self, kernel: NativeKernel, parts: list[Part]) -> None:
        sums_columns = kernel.column_sums > 0
        super().__init__(kernel, parts, Cut(COLUMN_CHUNK, LEAST_ROWS) if sums_columns else Cut(CHUNK))
        self.partials = np.zeros((self.chunks, kernel.partials))
        self.results = np.zeros((len(self.sizes), max(kernel.results, 1)))
        self.totals = np.zeros(max(len(kernel.totals), 1))
        entries: dict[str, Any] = {
            "pointers": self.pointers, "tensors": len(self.sizes), "sizes": self.sizes,
            "chunk_tensor": self.chunk_tensor, "chunk_start": self.chunk_start, "row": self.row,
            "scalars": self.scalars, "partials": self.partials, "results": self.results, "totals": self.totals,
            "first_chunk": self.chunk_bounds,
        }  # fmt: skip
        if kernel.program.by_rows:
            entries |= self._vectors(np.float64 if kernel.program.work == torch.float64 else np.float32)
        self.entries = entries
        self.table = _Table(**{k: x if isinstance(x, int) else x.ctypes.data for k, x in entries.items()})
        self.address = ctypes.addressof(self.table)
        self.occupied = np.flatnonzero(self.sizes)

    def _vectors(self, work: Any) -> dict[str, Any]:
        count, every, at = self.kernel.vectors, self.vector_total, self.vector_at
        return {
            "rows": self.rows, "columns": self.columns, "chunk_rows": self.chunk_rows, "sums_at": self.sums_at,
            "row_at": at["row"], "column_at": at["column"], "matrix_at": at["matrix"],
            "all_rows": every["row"], "all_columns": every["column"], "matrices": every["matrix"],
            "all_sums": self.sums_total, "column_sums": np.empty(self.kernel.column_sums * self.sums_total),
            **{f"{kind}_values": np.empty(count[kind] * every[kind], dtype=work) for kind in count},
        }  # fmt: skip

    def tell(self, known: Partials) -> None:
        for i, name in enumerate(self.kernel.totals):
            self.totals[i] = float(known.get(name, 0.0))

    def moved(self) -> None:
        """Nothing to do: the kernel reads the pointers where they are."""

    def stage(self, k: int) -> None:
        function = self.kernel.stage_functions[k]
        assert function is not None
        run_chunks(function, self.address, len(self.sizes), self._threads())

    def _threads(self) -> int:
        return 1 if self.elements < SMALL else torch.get_num_threads()

    def sweep(self, k: int) -> Partials:
        run_chunks(self.kernel.functions[k], self.address, self.chunks, self._threads())
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
        self._by_source: dict[Any, NativeKernel] = {}

    def compile(self, program: Program) -> Kernel:
        printer = CppPrinter(program)
        source = printer.source()
        key = (source, program.matrix_operations)
        if key not in self._by_source:
            self._by_source[key] = NativeKernel(printer, source)
        return self._by_source[key]

    def launch(self, kernel: Kernel, parts: list[Part]) -> Launch:
        assert isinstance(kernel, NativeKernel)
        return NativeLaunch(kernel, parts)
