"""Text as tokens, in three splits that share nothing: training, tuning and judging.

Tuning chooses the settings, judging compares them; neither sees a token that was trained on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ravine.lab.data.tokenizer import BYTES, Tokenizer

Split = Literal["training", "tuning", "judging"]

SHARES: dict[Split, float] = {"training": 0.8, "tuning": 0.1, "judging": 0.1}

LISTED = 100
"""Files that are named in a listing; more are counted."""


@dataclass(frozen=True)
class Source:
    """A file whose text is in the corpus.

    Args:
        path: below the folder that was read.
        kind: `"text"`, `"Markdown"`, `"code"`, `"HTML"`, `"PDF"` or `"image"`.
        bytes: of its text, as UTF-8.
    """

    path: str
    kind: str
    bytes: int


@dataclass(frozen=True)
class Skipped:
    """A file, or a page of one, that is not in the corpus, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Corpus:
    """Tokens in three splits.

    Args:
        name: what was read, for people.
        splits: uint8, uint16 or uint32 arrays (tokens,), one a split; maps of files where `folder` is given.
        tokenizer: what made the tokens.
        sha256: of the tokens of the three splits, so that two studies on the same text can be told.
        text_bytes: UTF-8 bytes of the text in each split; where not given, one a token.
        sources: the files that are in it.
        skipped: what was left out, and why.
        capped: whether text beyond the largest size asked for was left out.
        folder: where the token files are. A corpus with one is pickled without its tokens.

    >>> corpus = Corpus("ten letters", {split: np.frombuffer(b"abcdefghij", np.uint8) for split in SHARES})
    >>> corpus.size, corpus.vocabulary, corpus.windows("tuning", 3, 2).tolist()
    (30, 256, [[97, 98], [100, 101], [103, 104]])
    """

    name: str
    splits: dict[Split, np.ndarray]
    tokenizer: Tokenizer = BYTES
    sha256: str = ""
    text_bytes: dict[Split, int] | None = None
    sources: tuple[Source, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    capped: bool = False
    folder: Path | None = None

    @property
    def vocabulary(self) -> int:
        """How many different tokens there are."""
        return self.tokenizer.vocabulary

    @property
    def size(self) -> int:
        """Tokens in all splits together."""
        return sum(len(tokens) for tokens in self.splits.values())

    @property
    def bytes(self) -> int:
        """Bytes of UTF-8 text in all splits together."""
        return self.size if self.text_bytes is None else sum(self.text_bytes.values())

    @property
    def files(self) -> int:
        """How many files are in it."""
        return len(self.sources)

    def draw(self, count: int, length: int, generator: torch.Generator) -> Tensor:
        """Windows of the training split at random places: int64 (count, length)."""
        tokens = self.splits["training"]
        start = torch.randint(len(tokens) - length + 1, (count,), generator=generator)
        return _windows(tokens, start.numpy(), length)

    def windows(self, split: Split, count: int, length: int) -> Tensor:
        """The same windows for everyone, spread evenly without overlap: int64 (at most count, length)."""
        tokens = self.splits[split]
        count = min(count, len(tokens) // length)
        return _windows(tokens, np.arange(count) * (len(tokens) // max(count, 1)), length)

    def bytes_per_token(self, split: Split) -> float:
        """UTF-8 bytes of text that a token of the split stands for, on average."""
        return 1.0 if self.text_bytes is None else self.text_bytes[split] / len(self.splits[split])

    def require(self, length: int) -> None:
        """Raise ValueError if a split is too short for one window of this length (in tokens)."""
        unit = "bytes" if self.tokenizer.name == "bytes" else "tokens"
        for split, tokens in self.splits.items():
            if len(tokens) < length:
                wanted = round(length * 20 * max(self.bytes_per_token(s) for s in self.splits))
                raise ValueError(
                    f"the text in {self.name} is too short: its {split} split has {len(tokens)} {unit}, "
                    f"one window needs {length}; give some {wanted} bytes or more"
                )

    def about(self) -> dict[str, Any]:
        """What was read, what was skipped and why, as plain values; of many files the first `LISTED` are named."""
        kinds = Counter(source.kind for source in self.sources)
        return {
            "name": self.name,
            "tokenizer": self.tokenizer.name,
            "tokens": self.size,
            "bytes": self.bytes,
            "capped": self.capped,
            "kinds": {
                kind: {"files": files, "bytes": sum(s.bytes for s in self.sources if s.kind == kind)}
                for kind, files in sorted(kinds.items())
            },
            "read": [{"path": s.path, "kind": s.kind, "bytes": s.bytes} for s in self.sources[:LISTED]],
            "read_not_named": max(0, len(self.sources) - LISTED),
            "skipped": [{"path": s.path, "why": s.why} for s in self.skipped[:LISTED]],
            "skipped_not_named": max(0, len(self.skipped) - LISTED),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Without the tokens, where they can be mapped again."""
        state = dict(self.__dict__)
        if self.folder is not None:
            state["splits"] = {split: tokens.dtype.str for split, tokens in self.splits.items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["folder"] is not None:
            state["splits"] = {s: map_tokens(state["folder"], s, dtype) for s, dtype in state["splits"].items()}
        self.__dict__.update(state)


def map_tokens(folder: Path, split: Split, dtype: str) -> np.ndarray:
    """The token file of a split, mapped into memory for reading."""
    return np.memmap(folder / f"{split}.tokens", dtype=np.dtype(dtype), mode="r")


def _windows(tokens: np.ndarray, start: np.ndarray, length: int) -> Tensor:
    return torch.from_numpy(tokens[start[:, None] + np.arange(length)].astype(np.int64))
