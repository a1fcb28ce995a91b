"""The compiler turns every loop over elements into vector instructions: a loop that it leaves alone is slow."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from tests.engines.test_planner import program_of

from ravine.engine.compiler import FLAGS, find_compiler
from ravine.engine.cpp import CppPrinter
from ravine.registry import available, lookup

WRAPPED = ["cautious(adamw)", "clip_norm(lamb)", "schedule_free(adamw)", "rectified(adamw)", "centralized(adamw)"]
SPECS = [*(name for name in available() if lookup(name).preset_of is None), *WRAPPED]


def loops(source: str) -> list[range]:
    """Where g++ may speak of each loop that is marked: its line, or the first of its body."""
    lines = source.splitlines()
    return [range(i + 2, i + 4) for i, line in enumerate(lines) if line.startswith("#pragma omp simd")]


@pytest.mark.skipif(not shutil.which("g++"), reason="only g++ says what it vectorized")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spec", SPECS)
def test_every_loop_over_elements_is_vectorized(spec: str, dtype: torch.dtype, tmp_path: Path) -> None:
    if Path(find_compiler() or "").name.startswith("clang"):
        pytest.skip("only g++ says what it vectorized")
    source = CppPrinter(program_of(spec, dtype=dtype)).source()
    file = tmp_path / "kernel.cpp"
    file.write_text(source)
    flags = [flag for flag in FLAGS if flag != "-w"]
    command = ["g++", *flags, "-fopt-info-vec-optimized", str(file), "-o", str(tmp_path / "kernel.so")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    vectorized = {int(line.split(":")[1]) for line in said.splitlines() if "loop vectorized" in line}
    expected = loops(source)
    assert expected
    assert [lines for lines in expected if vectorized.isdisjoint(lines)] == [], source
