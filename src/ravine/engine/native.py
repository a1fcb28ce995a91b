"""The native engine: rules as C++ kernels on the CPU, all tensors of one structure in one parallel region."""

from __future__ import annotations

import ctypes
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from ravine.engine import products
from ravine.engine.batch import Partials
from ravine.engine.compiled import Compiled
from ravine.engine.compiler import build
from ravine.engine.cpp import CHUNK, COLUMN_CHUNK, LEAST_ROWS, CppPrinter
from ravine.engine.emit import Program
from ravine.engine.launch import Cut, Kernel, Launch, Part
from ravine.engine.threads import Units, made, run_made, worker_pool

SMALL = 32768
"""Elements under which a step is not worth waking other threads for."""

BLOCK = 1 << 18
"""Elements that go through several passes together: with their states they fit into a usual processor's cache."""


ENTRIES = ("pointers", "tensors", "sizes", "chunk_tensor", "chunk_start", "row", "scalars", "partials", "results",
           "totals", "rows", "columns", "chunk_rows", "first_chunk", "row_at", "column_at", "matrix_at", "sums_at",
           "all_rows", "all_columns", "matrices", "all_sums", "row_values", "column_values", "matrix_values",
           "column_sums")  # fmt: skip


class _Table(ctypes.Structure):
    """The table in `cpp.PRELUDE`: every entry is an address or a count, in 8 bytes."""

    _fields_ = [(name, ctypes.c_int64) for name in ENTRIES]


class NativeKernel(Kernel):
    """A compiled program: the address of each pass and stage."""

    def __init__(self, printer: CppPrinter, source: str) -> None:
        super().__init__(printer)
        with ThreadPoolExecutor(2) as beside:
            pool = beside.submit(worker_pool)
            if any(n.op == "orthogonalize" for stage in self.program.plan.stages for n in stage.matrices):
                beside.submit(products.functions)
            self.library = build(source)
            pool.result()
        self.functions = [self._address(f"pass_{k}", True) for k in range(self.passes)]
        self.finish = [self._address(f"finish_{k}", bool(found)) for k, found in enumerate(self.reductions)]
        self.stage_functions = [self._address(f"stage_{k}", there) for k, there in enumerate(self.stages)]

    def _address(self, name: str, there: bool) -> int:
        return ctypes.cast(getattr(self.library, name), ctypes.c_void_p).value or 0 if there else 0


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
        self.phases: dict[tuple[int, int], tuple[Any, int]] = {}

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

    def sweep(self, first: int, last: int, final: bool) -> Partials:
        threads = 1 if self.elements < SMALL else torch.get_num_threads()
        if (first, threads) not in self.phases:
            phases = self._phases(first, last, final)
            self.phases[first, threads] = (made(phases, threads), len(phases))
        run_made(*self.phases[first, threads], self.address, threads)
        totals: Partials = {}
        if first == last:
            return totals
        before = sum(map(len, self.kernel.reductions[: last - 1]))
        for place, (op, name) in enumerate(self.kernel.reductions[last - 1], before):
            if op == "total":
                totals[name] = float(np.add.accumulate(self.results[:, place])[-1])
        return totals

    def _phases(self, first: int, last: int, final: bool) -> list[Units]:
        """What passes first to last do, over a few tensors after the others where there are several passes."""
        kernel = self.kernel
        phases = []
        for start, end in self._blocks() if last - first > 1 else [(0, len(self.sizes))]:
            chunks = int(self.chunk_bounds[start]), int(self.chunk_bounds[end])
            for k in range(first, last):
                phases.append((kernel.stage_functions[k], start, end))
                phases.append((kernel.functions[k], *chunks))
                phases.append((kernel.finish[k], start, end))
            if final:
                phases.append((kernel.stage_functions[last], start, end))
        return [phase for phase in phases if phase[0]]

    def _blocks(self) -> list[tuple[int, int]]:
        """Tensors that take all passes of a section before the next, so that later passes find them in the cache."""
        bounds, filled = [0], 0
        for i, size in enumerate(self.sizes.tolist()):
            if filled and filled + size > BLOCK:
                bounds.append(i)
                filled = 0
            filled += size
        return list(itertools.pairwise([*bounds, len(self.sizes)]))


class Native(Compiled):
    """Kernels in C++, compiled at first use and cached on disk."""

    name = "native"

    def __init__(self) -> None:
        super().__init__()
        self._by_source: dict[Any, NativeKernel] = {}

    def compile(self, program: Program) -> Kernel:
        printer = CppPrinter(program)
        source = printer.source()
        key = (source, tuple(program.leaves), program.matrix_operations)
        if key not in self._by_source:
            self._by_source[key] = NativeKernel(printer, source)
        return self._by_source[key]

    def launch(self, kernel: Kernel, parts: list[Part]) -> Launch:
        assert isinstance(kernel, NativeKernel)
        return NativeLaunch(kernel, parts)
