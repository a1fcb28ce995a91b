"""The machine's own ceiling: how fast it streams memory when it does nothing else.

The pattern is that of an optimizer with two moments: of four arrays each element is read, of three it is written
back, 28 bytes for one element of float32. What a rule can at best hope for is this speed.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ravine.engine.compiler import build
from ravine.engine.threads import run_phases

READS, WRITES = 4, 3
ELEMENTS = 2**25
"""Elements of each array: 512 MiB for the four of them, more than most caches hold."""
QUICK_ELEMENTS = 2**22

CHUNK = 16384
SOURCE = f"""\
#include <stdint.h>
struct Table {{ float* x[{READS}]; int64_t size; }};
extern "C" void stream(const Table* table, int64_t first, int64_t last) {{
  const int64_t from = first * {CHUNK}, end = last * {CHUNK}, to = end < table->size ? end : table->size;
  float* __restrict a = table->x[0];
  float* __restrict b = table->x[1];
  float* __restrict c = table->x[2];
  const float* __restrict d = table->x[3];
  for (int64_t i = from; i < to; ++i) {{
    const float g = d[i];
    a[i] = a[i] + g;
    b[i] = b[i] + g;
    c[i] = c[i] + g;
  }}
}}
"""

TRITON_SOURCE = """\
import triton
import triton.language as tl


@triton.jit
def stream(a, b, c, d, size, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    g = tl.load(d + place, mask=inside)
    tl.store(a + place, tl.load(a + place, mask=inside) + g, mask=inside)
    tl.store(b + place, tl.load(b + place, mask=inside) + g, mask=inside)
    tl.store(c + place, tl.load(c + place, mask=inside) + g, mask=inside)
"""


class _Table(ctypes.Structure):
    _fields_ = [("x", ctypes.c_void_p * READS), ("size", ctypes.c_int64)]


class Ceiling:
    """Sweeps over four arrays, timed now and then in the course of a run; the fastest sweep is the ceiling.

    Args:
        device: where to stream. On the CPU the sweep is a C++ loop on the native engine's threads, as many
            as torch uses; elsewhere it is a Triton kernel.
        elements: of each array.

    Raises:
        CompilerError: without a C++ compiler, on the CPU.
        ImportError: without Triton, elsewhere.
    """

    def __init__(self, device: torch.device, elements: int = ELEMENTS) -> None:
        self.arrays = [torch.zeros(elements, device=device) for _ in range(READS)]
        self.arrays[-1].fill_(1.0)
        self.best = 0.0
        self._device = device
        self._sweep = (native_sweep if device.type == "cpu" else triton_sweep)(self.arrays)
        self.sweep()

    @property
    def bytes(self) -> int:
        """What one sweep reads and writes."""
        return (READS + WRITES) * self.arrays[0].numel() * self.arrays[0].element_size()

    def sweep(self) -> None:
        """Read four arrays, add the fourth to each of the others."""
        self._sweep()
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)

    def sample(self, sweeps: int = 5) -> float:
        """Bytes per second of the fastest of a few sweeps now."""
        fastest = 0.0
        for _ in range(sweeps):
            start = time.perf_counter()
            self.sweep()
            fastest = max(fastest, self.bytes / (time.perf_counter() - start))
        self.best = max(self.best, fastest)
        return fastest


def native_sweep(arrays: list[Tensor]) -> Callable[[], object]:
    """A sweep over four float32 arrays on the CPU."""
    library = build(SOURCE)
    function = ctypes.cast(library.stream, ctypes.c_void_p).value or 0
    elements = arrays[0].numel()
    table = _Table((ctypes.c_void_p * READS)(*(x.data_ptr() for x in arrays)), elements)
    chunks = -(-elements // CHUNK)

    def sweep() -> None:
        assert library
        run_phases([(function, 0, chunks)], ctypes.addressof(table), torch.get_num_threads())

    return sweep


def triton_sweep(arrays: list[Tensor]) -> Callable[[], object]:
    """A sweep over four float32 arrays in Triton."""
    from ravine.engine.triton import BLOCK, INTERPRETED_BLOCK, load_module

    stream = load_module(TRITON_SOURCE).stream
    elements = arrays[0].numel()
    block = INTERPRETED_BLOCK if os.environ.get("TRITON_INTERPRET") == "1" else BLOCK
    return lambda: stream[(-(-elements // block),)](*arrays, elements, BLOCK=block)
