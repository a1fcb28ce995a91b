"""The Triton engine: rules as GPU kernels, all tensors of one structure in one launch per pass."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ravine.engine.batch import Partials
from ravine.engine.compiled import Compiled, Kernel, Launch, Part
from ravine.engine.compiler import cache_folder, write_atomically
from ravine.engine.emit import Program
from ravine.engine.triton_source import COMBINE, TritonPrinter

BLOCK = 1024
INTERPRETED_BLOCK = 1 << 17
"""Elements of a chunk: the interpreter runs chunk by chunk in Python, so it gets large ones."""


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


class TritonKernel(Kernel):
    """A program's passes as Triton functions."""

    def __init__(self, source: str, program: Program) -> None:
        super().__init__(program)
        module = load_module(source)
        self.functions = [getattr(module, f"pass_{k}") for k in range(self.passes)]


class TritonLaunch(Launch):
    """A table in tensors on the parameters' device."""

    kernel: TritonKernel

    def __init__(self, kernel: TritonKernel, parts: list[Part]) -> None:
        self.device = parts[0].batch.parameters[0].device
        self.block = INTERPRETED_BLOCK if os.environ.get("TRITON_INTERPRET") == "1" else BLOCK
        super().__init__(kernel, parts, self.block)
        count = max(kernel.reduction_count, 1)
        fixed = (self.sizes, self.chunk_tensor, self.chunk_start, self.row, self.first_chunk)
        self.on_device = [torch.from_numpy(x).to(self.device) for x in fixed]
        self.partials = torch.zeros((max(self.chunks, 1), count), dtype=torch.float64, device=self.device)
        self.results = torch.zeros((max(len(self.sizes), 1), count), dtype=torch.float64, device=self.device)
        self.totals = torch.zeros(max(len(kernel.totals), 1), dtype=torch.float64, device=self.device)
        self.counts = -(-self.on_device[0] // self.block)
        self.sent: tuple[Tensor, Tensor]

    def refresh(self, parts: list[Part]) -> None:
        super().refresh(parts)
        self.sent = (self._send(self.pointers), self._send(self.scalars))

    def _send(self, array: Any) -> Tensor:
        """A copy of a table on the device, without waiting for it."""
        tensor = torch.from_numpy(array.copy())
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def run(self, k: int, known: Partials) -> Partials:
        for i, name in enumerate(self.kernel.totals):
            if name in known:
                self.totals[i].copy_(torch.as_tensor(known[name]))
        with self._device_guard():
            return self._run(k)

    def _device_guard(self) -> AbstractContextManager[Any]:
        """Triton launches on the current device, which need not be the parameters'."""
        if self.device.type == "cpu":
            return nullcontext()
        guard: AbstractContextManager[Any] = torch.get_device_module(self.device).device(self.device)
        return guard

    def _run(self, k: int) -> Partials:
        if self.chunks == 0:
            return {name: 0.0 for op, name in self.kernel.reductions[k] if op == "total"}
        pointers, scalars = self.sent
        sizes, chunk_tensor, chunk_start, row, first_chunk = self.on_device
        self.kernel.functions[k][(self.chunks,)](
            pointers, len(self.sizes), sizes, chunk_tensor, chunk_start, row, scalars, self.partials, self.results,
            self.totals, BLOCK=self.block, enable_fp_fusion=False,
        )  # fmt: skip
        before = sum(map(len, self.kernel.reductions[:k]))
        totals: Partials = {}
        for place, (op, name) in enumerate(self.kernel.reductions[k], before):
            _combine()[(len(self.sizes),)](
                self.partials, self.results, first_chunk, self.counts, place, self.partials.shape[1], BLOCK=1024
            )
            if op == "total":
                totals[name] = self.results[:, place].sum()
        return totals


class Triton(Compiled):
    """Kernels in Triton, compiled by it at first use; on the CPU they run in its interpreter."""

    name = "triton"

    def __init__(self) -> None:
        super().__init__()
        self._by_source: dict[str, TritonKernel] = {}

    def compile(self, program: Program) -> Kernel:
        source = TritonPrinter(program).source()
        if source not in self._by_source:
            self._by_source[source] = TritonKernel(source, program)
        return self._by_source[source]

    def launch(self, kernel: Kernel, parts: list[Part]) -> Launch:
        assert isinstance(kernel, TritonKernel)
        return TritonLaunch(kernel, parts)
