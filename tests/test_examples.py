"""The examples run, in a process of their own and for a few steps, and what they train gets better."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
NEEDS = {"hugging_face_trainer": ("transformers", "accelerate"), "lightning_module": ("lightning",)}
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
STEPS = 20


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_trains(path: Path, tmp_path: Path) -> None:
    for module in NEEDS.get(path.stem, ()):
        pytest.importorskip(module)
    done = subprocess.run(
        [sys.executable, str(path), str(STEPS)],
        cwd=tmp_path,
        env={**os.environ, **OFFLINE},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    losses = [float(number) for number in re.findall(r"\bloss\W+(\d+\.\d+)", done.stdout)]
    assert len(losses) >= 4
    assert losses[-1] < 0.9 * losses[0]
    assert list(tmp_path.iterdir()) == [], "an example leaves nothing behind"


def test_the_examples_are_found() -> None:
    stems = {path.stem for path in EXAMPLES}
    assert stems >= NEEDS.keys() and len(stems) >= 7
