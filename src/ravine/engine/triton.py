"""The Triton engine: rules as GPU kernels, all tensors of one structure in one launch per pass."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.engine.batch import Partials
from ravine.engine.compiled import Compiled
from ravine.engine.compiler import cache_folder, write_atomically
from ravine.engine.emit import Program
from ravine.engine.launch import Cut, Kernel, Launch, Part
from ravine.engine.triton_source import COMBINE, FINISH_COLUMNS, TritonPrinter

BLOCK = 1024
TILE = (16, 128)
INTERPRETED_BLOCK = 1 << 17
INTERPRETED_TILE = (64, 1024)
"""Elements of a chunk, rows and columns of a tile: the interpreter runs each in Python, so it gets large ones."""


def load_module(source: str) -> ModuleType:
    """Import generated Triton code from a file in the cache folder: Triton reads a kernel's source from its file."""
    name = f"kernel_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    path = cache_folder() / f"{name}.py"
    if not path.exists() or path.read_text() != source:
        write_atomically(path, source)
    spec = importlib.util.spec_from_file_location(f"ravine_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _combine() -> Any:
    return load_module(COMBINE).combine


@cache
def _finish_columns() -> Any:
    return load_module(FINISH_COLUMNS).finish_columns


class TritonKernel(Kernel):
    """A program's passes and stages as Triton functions."""

    def __init__(self, printer: TritonPrinter, source: str) -> None:
        super().__init__(printer)
        module = load_module(source)
        self.functions = [getattr(module, f"pass_{k}") for k in range(self.passes)]
        self.stage_functions = [getattr(module, f"stage_{k}", None) for k in range(self.passes + 1)]
        self.finished = [
            [(printer.column_sums[n], printer.vectors[n]) for n in p.reductions if n.kind == "column"]
            for p in self.program.plan.passes
        ]


class TritonLaunch(Launch):
    """A table in tensors on the parameters' device."""

    kernel: TritonKernel

    def __init__(self, kernel: TritonKernel, parts: list[Part]) -> None:
        self.device = parts[0].batch.parameters[0].device
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        self.block = INTERPRETED_BLOCK if interpreted else BLOCK
        self.tile = INTERPRETED_TILE if interpreted else TILE
        super().__init__(kernel, parts, Cut(0, self.tile[0]) if kernel.program.by_rows else Cut(self.block))
        fixed = (self.sizes, self.chunk_tensor, self.chunk_start, self.row, self.first_chunk)
        self.on_device = [self._there(x) for x in fixed]
        self.partials = self._zeros(self.chunks, kernel.partials)
        self.results = self._zeros(len(self.sizes), kernel.results)
        self.totals = self._zeros(len(kernel.totals))
        self.counts = self._there(np.diff(self.chunk_bounds))
        self.vectors: list[Any] = self._vectors() if kernel.program.by_rows else []
        self.sent: tuple[Tensor, Tensor]

    def _there(self, array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _zeros(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.zeros([max(n, 1) for n in shape], dtype=dtype, device=self.device)

    def _vectors(self) -> list[Any]:
        """The further arguments of kernels that go row by row, in the order of `ROW_TABLE`."""
        at, every, work = self.vector_at, self.vector_total, self.kernel.program.work
        offsets = (self.rows, self.columns, self.chunk_rows, at["row"], at["column"], at["matrix"], self.sums_at)
        counts = (every["row"], every["column"], every["matrix"], self.sums_total)
        values = [self._zeros(self.kernel.vectors[kind] * every[kind], dtype=work) for kind in every]
        self.column_values = values[1]
        self.column_sums = self._zeros(self.kernel.column_sums * self.sums_total)
        if self.kernel.column_sums:
            self.column_blocks = self._column_blocks()
        return [*map(self._there, offsets), *counts, *values, self.column_sums]

    def _column_blocks(self) -> list[Tensor]:
        """For each block of columns of each matrix: where its sums begin and how they are laid out."""
        stacked = self.sizes // (self.rows * self.columns)
        tensor = np.repeat(np.arange(len(self.sizes)), stacked)
        place = np.arange(len(tensor)) - np.repeat(np.cumsum(stacked) - stacked, stacked)
        chunks = (np.diff(self.chunk_bounds) // np.maximum(stacked, 1))[tensor]
        first_chunk = self.first_chunk[tensor] + place * chunks
        blocks = -(-self.columns[tensor] // BLOCK)
        matrix = np.repeat(np.arange(len(tensor)), blocks)
        offset = (np.arange(len(matrix)) - np.repeat(np.cumsum(blocks) - blocks, blocks)) * BLOCK
        first_value = self.vector_at["column"][tensor] + place * self.columns[tensor]
        of_matrix = (self.sums_at[first_chunk], self.columns[tensor], chunks, self.rows[tensor])
        return [self._there(x) for x in (*(x[matrix] for x in of_matrix), offset, first_value[matrix])]

    def refresh(self, parts: list[Part]) -> None:
        super().refresh(parts)
        self.sent = (self._send(self.pointers), self._send(self.scalars))

    def moved(self) -> None:
        self.sent = (self._send(self.pointers), self.sent[1])

    def _send(self, array: Any) -> Tensor:
        """A copy of a table on the device, without waiting for it."""
        tensor = torch.from_numpy(array.copy())
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def tell(self, known: Partials) -> None:
        for i, name in enumerate(self.kernel.totals):
            if name in known:
                self.totals[i].copy_(torch.as_tensor(known[name]))

    def _device_guard(self) -> AbstractContextManager[Any]:
        """Triton launches on the current device, which need not be the parameters'."""
        if self.device.type == "cpu":
            return nullcontext()
        guard: AbstractContextManager[Any] = torch.get_device_module(self.device).device(self.device)
        return guard

    def _table(self) -> list[Any]:
        pointers, scalars = self.sent
        sizes, chunk_tensor, chunk_start, row, _ = self.on_device
        return [
            pointers, len(self.sizes), sizes, chunk_tensor, chunk_start, row, scalars, self.partials, self.results,
            self.totals, *self.vectors,
        ]  # fmt: skip

    def sweep(self, first: int, last: int, final: bool) -> Partials:
        totals: Partials = {}
        for k in range(first, last):
            if self.chunks == 0:
                totals = {name: 0.0 for op, name in self.kernel.reductions[k] if op == "total"}
                continue
            with self._device_guard():
                self._stage(k)
                totals = self._sweep(k)
        if final and self.chunks:
            with self._device_guard():
                self._stage(last)
        return totals

    def _stage(self, k: int) -> None:
        function = self.kernel.stage_functions[k] if self.kernel.stages[k] else None
        if function is not None:
            function[(len(self.sizes),)](*self._table(), BLOCK=BLOCK, enable_fp_fusion=False)

    def _sweep(self, k: int) -> Partials:
        rows, columns = self.tile
        tile = {"ROWS": rows, "BLOCK": columns} if self.kernel.program.by_rows else {"BLOCK": self.block}
        self.kernel.functions[k][(self.chunks,)](*self._table(), **tile, enable_fp_fusion=False)
        for place, vector in self.kernel.finished[k]:
            first_sum, widths, counts, rows_of, offsets, first_value = self.column_blocks
            _finish_columns()[(len(widths),)](
                self.column_sums, self.column_values, first_sum, widths, counts, rows_of, offsets, first_value,
                self.sums_total, self.vector_total["column"], place, vector, BLOCK=BLOCK,
            )  # fmt: skip
        before = sum(map(len, self.kernel.reductions[:k]))
        totals: Partials = {}
        for place, (op, name) in enumerate(self.kernel.reductions[k], before):
            first_chunk, strides = self.on_device[4], (self.partials.shape[1], self.results.shape[1])
            _combine()[(len(self.sizes),)](
                self.partials, self.results, first_chunk, self.counts, place, *strides, BLOCK=1024
            )
            if op == "total":
                totals[name] = self.results[:, place].sum()
        return totals


class Triton(Compiled):
    """Kernels in Triton, compiled by it at first use; on the CPU they run in its interpreter."""

    name = "triton"

    def __init__(self) -> None:
        super().__init__()
        self._by_source: dict[Any, TritonKernel] = {}

    def compile(self, program: Program) -> Kernel:
        printer = TritonPrinter(program)
        source = printer.source()
        key = (source, tuple(program.leaves), program.matrix_operations)
        if key not in self._by_source:
            self._by_source[key] = TritonKernel(printer, source)
        return self._by_source[key]

    def launch(self, kernel: Kernel, parts: list[Part]) -> Launch:
        assert isinstance(kernel, TritonKernel)
        return TritonLaunch(kernel, parts)
