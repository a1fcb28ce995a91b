"""Text as bytes, cut into three splits that share nothing: training, tuning and judging.

Tuning chooses the settings, judging compares them; neither sees a byte that was trained on.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Split = Literal["training", "tuning", "judging"]

SHARES: dict[Split, float] = {"training": 0.8, "tuning": 0.1, "judging": 0.1}
LARGEST = 32 * 2**20
"""Bytes of text that are read; what a folder holds beyond them is left out, and said so."""

PIECES = 100
"""A file longer than the whole divided by this is cut into blocks, so that one large file reaches every split."""

# Tests, generated tables and what is not part of the library itself.
LEFT_OUT = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "idlelib", "lib2to3", "encodings",
     "pydoc_data", "turtledemo", "ensurepip"}
)  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """Bytes in three splits.

    Args:
        name: what was read, for people.
        splits: uint8 tensors, one a split.
        sha256: of the three splits in order, so that two studies on the same text can be told.
        files: how many files are in it.
        skipped: how many files were left out because they are not UTF-8 text.
        capped: whether text beyond `LARGEST` bytes was left out.
    """

    name: str
    splits: dict[Split, Tensor]
    sha256: str
    files: int
    skipped: int
    capped: bool

    @property
    def size(self) -> int:
        """Bytes in all splits together."""
        return sum(len(s) for s in self.splits.values())

    def batch(self, split: Split, count: int, length: int, generator: torch.Generator) -> Tensor:
        """Windows drawn at random places: int64 (count, length)."""
        text = self.splits[split]
        start = torch.randint(len(text) - length + 1, (count,), generator=generator)
        return text[start[:, None] + torch.arange(length)].long()

    def windows(self, split: Split, count: int, length: int) -> Tensor:
        """The same windows for everyone, spread evenly without overlap: int64 (at most count, length)."""
        text = self.splits[split]
        count = min(count, len(text) // length)
        start = torch.arange(count) * (len(text) // count)
        return text[start[:, None] + torch.arange(length)].long()

    def require(self, length: int) -> None:
        """Raise ValueError if a split is too short for one window of this length."""
        for split, text in self.splits.items():
            if len(text) < length:
                raise ValueError(
                    f"the text in {self.name} is too short: its {split} split has {len(text)} bytes, "
                    f"one window needs {length}; give some {length * 20} bytes or more"
                )


def standard_library() -> Corpus:
    """The source of the Python standard library that runs this, without its tests and generated tables.

    Raises:
        ValueError: where Python was installed without its sources.
    """
    root = Path(sysconfig.get_path("stdlib"))
    texts, skipped, capped = _read(p for p in _walk(root, LEFT_OUT) if p.suffix == ".py")
    if not texts:
        raise ValueError(f"no Python sources in {root}; give a file or folder of text with --data")
    version = sysconfig.get_python_version()
    return _corpus(f"the source of the Python {version} standard library", texts, skipped, capped)


def read(path: str | os.PathLike[str]) -> Corpus:
    """The UTF-8 text in a file, or in all files of a folder; hidden files and folders are left out.

    Files that are not text are skipped in a folder and counted; a path that names one is refused. Of text that
    occurs in several files one copy is kept, so that no split holds what another was trained on.

    Raises:
        ValueError: where there is no such path, no permission, no text in it, or not enough for three splits.
    """
    root = Path(path)
    try:
        if root.is_dir():
            texts, skipped, capped = _read(_walk(root, frozenset()))
            if not texts and skipped:
                raise ValueError(f"no UTF-8 text in the folder {root}: its {skipped} files are binary")
        elif root.exists():
            texts, skipped, capped = _read(iter([root]))
            if skipped:
                raise ValueError(f"{root} is not UTF-8 text; --data takes a text file or a folder of them")
        else:
            raise ValueError(f"no such file or folder: {root}")
    except OSError as error:
        raise ValueError(f"cannot read {error.filename or root}: {error.strerror or error}") from error
    if not texts:
        raise ValueError(f"{root} is empty: there is no text to train on")
    return _corpus(str(root), texts, skipped, capped)


def _walk(root: Path, left_out: frozenset[str]) -> Iterator[Path]:
    """The regular files below a folder in one order everywhere; links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = sorted(f for f in folders if f not in left_out and not f.startswith("."))
        yield from (p for f in sorted(files) if not f.startswith(".") and (p := Path(folder, f)).is_file())


def _read(paths: Iterator[Path]) -> tuple[list[bytes], int, bool]:
    """The distinct texts of these files, how many files are not text, and whether some were left out as too much."""
    texts: dict[bytes, None] = {}
    skipped, left = 0, LARGEST
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path} is neither a file nor a folder")
        with path.open("rb") as file:
            content = file.read(left + 1)
        cut = len(content) > left
        content = content[:left]
        if not _is_text(content, cut):
            skipped += 1
        elif content and content not in texts:
            texts[content] = None
            left -= len(content)
        if cut:
            return list(texts), skipped, True
    return list(texts), skipped, False


def _is_text(content: bytes, cut: bool) -> bool:
    """Whether these bytes are UTF-8 without NUL; where the end was cut off, up to three bytes may be missing."""
    if b"\0" in content:
        return False
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return cut and error.reason == "unexpected end of data" and error.start >= len(content) - 3
    return True


def _corpus(name: str, texts: list[bytes], skipped: int, capped: bool) -> Corpus:
    total = sum(len(t) for t in texts)
    block = max(total // PIECES, min(2048, total // 10), 1)
    pieces = [t[i : i + block] for t in texts for i in range(0, len(t), block)]
    order = np.random.default_rng(0).permutation(len(pieces))
    dealt: dict[Split, list[bytes]] = {split: [] for split in SHARES}
    sizes: dict[Split, int] = dict.fromkeys(SHARES, 0)
    for i in order:
        # To the split that is furthest behind its share: all three fill up together.
        split = min(SHARES, key=lambda s: sizes[s] / SHARES[s])
        dealt[split].append(pieces[i])
        sizes[split] += len(pieces[i])
    if not all(sizes.values()):
        raise ValueError(f"the text in {name} is too short to be cut into three splits: {total} bytes")
    joined = {split: b"".join(parts) for split, parts in dealt.items()}
    digest = hashlib.sha256()
    for text in joined.values():
        digest.update(len(text).to_bytes(8, "big") + text)
    tensors = {split: torch.frombuffer(bytearray(text), dtype=torch.uint8) for split, text in joined.items()}
    return Corpus(name, tensors, digest.hexdigest(), len(texts), skipped, capped)
