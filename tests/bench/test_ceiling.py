"""The streaming kernel does what its bytes are counted for, to every element, on either engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ravine.bench.ceiling import CHUNK, READS, WRITES, Ceiling, native_sweep, triton_sweep

SWEEPS = [native_sweep, *([triton_sweep] if importlib.util.find_spec("triton") else [])]


@pytest.mark.parametrize("elements", [1, 1023, CHUNK, 5 * CHUNK + 3])
@pytest.mark.parametrize("sweep_of", SWEEPS)
def test_a_sweep_reads_four_arrays_and_writes_three(
    sweep_of: Callable[[list[Tensor]], Callable[[], object]], elements: int
) -> None:
    arrays = [torch.randn(elements) for _ in range(READS)]
    before = [x.clone() for x in arrays]
    sweep = sweep_of(arrays)
    sweep()
    changed = [not torch.equal(x, old) for x, old in zip(arrays, before, strict=True)]
    assert sum(changed) == WRITES
    for x, old in zip(arrays[:WRITES], before[:WRITES], strict=True):
        assert torch.equal(x, old + before[-1])


def test_the_ceiling_is_the_fastest_sweep() -> None:
    ceiling = Ceiling(torch.device("cpu"), elements=2**16)
    assert ceiling.bytes == 28 * 2**16
    assert ceiling.best == 0.0
    samples = [ceiling.sample(sweeps=2), ceiling.sample(sweeps=5)]
    assert min(samples) > 0
    assert max(samples) == ceiling.best


def test_a_faster_sweep_raises_the_ceiling_and_a_slower_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ceiling = Ceiling(torch.device("cpu"), elements=1000)
    readings = iter([0.0, 2.0, 2.0, 3.0, 3.0, 7.0])
    monkeypatch.setattr("ravine.bench.ceiling.time.perf_counter", lambda: next(readings))
    assert [ceiling.sample(sweeps=1) for _ in range(3)] == [14000.0, 28000.0, 7000.0]
    assert ceiling.best == 28000.0
