"""What the laboratory's tests share: a small text, and studies that take seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ravine.lab import data


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """A model of 40 000 parameters trains fastest on one, and does not wait for others at work on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 200 kB with something to learn in it: the beginning of the standard library's training split."""
    path = tmp_path_factory.mktemp("text") / "text.py"
    content = bytes(data.standard_library().splits["training"][:200_000].tolist())
    path.write_text(content.decode("utf-8", errors="ignore"), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def corpus(text: Path) -> data.Corpus:
    return data.read(text)
