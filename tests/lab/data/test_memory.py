"""Text of any size streams in constant memory: measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MEASURE = """
import json, sys
from pathlib import Path
import torch
from ravine.lab import data

def peak():
    # The high-water mark of this process alone; getrusage also counts what it was forked from.
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

path, cache, tokenizer = sys.argv[1:]
small = Path(cache) / "small.txt"
small.parent.mkdir()
small.write_text("the first corpus loads what all need\\n" * 999)
data.read(small, tokenizer, cache=cache)
before = peak()
corpus = data.read(path, tokenizer, cache=cache)
made = peak()
corpus.draw(64, 129, torch.Generator().manual_seed(0))
corpus.windows("judging", 128, 129)
print(json.dumps({"making": made - before, "all": peak() - before, "bytes": corpus.bytes, "tokens": corpus.size}))
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc/self/status to read")


def measured(path: Path, megabytes: int, tokenizer: str, words: int = 10**9) -> dict[str, Any]:
    """How far the memory of a process grew while it read a file of this size, in bytes; of so many different words."""
    with path.open("w", encoding="utf-8") as file:
        for part in range(megabytes):
            first = part * 25_000
            text = "".join(
                f"line {n % words:09d} of a text that is different everywhere\n" for n in range(first, first + 19_000)
            )
            file.write(text[: 10**6])
    command = [sys.executable, "-c", MEASURE, str(path), str(path.parent / "cache"), tokenizer]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["bytes"] == megabytes * 10**6
    return found


@needs_proc
def test_40_megabytes(tmp_path: Path) -> None:
    found = measured(tmp_path / "text.txt", 40, "bytes")
    assert found["making"] < 8 * 10**6


@pytest.mark.slow
@needs_proc
def test_a_gigabyte(tmp_path: Path) -> None:
    found = measured(tmp_path / "text.txt", 1000, "bytes")
    assert found["all"] < 200 * 10**6


@pytest.mark.slow
@needs_proc
def test_60_megabytes_as_byte_pairs(tmp_path: Path) -> None:
    # Training keeps every different word, of which a language has tens of thousands.
    found = measured(tmp_path / "text.txt", 60, "bpe:1024", words=30_000)
    assert found["tokens"] < 30 * 10**6
    assert found["all"] < 200 * 10**6
