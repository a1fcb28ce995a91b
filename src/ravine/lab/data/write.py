"""From pieces of text to token files."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ravine.lab.data.deal import Piece
from ravine.lab.data.spool import Spool
from ravine.lab.data.tokenizer import BytePairs, Bytes, Tokenizer, train

TRAINED_ON = 16 * 2**20
"""Bytes of text that byte pairs are trained on at most, spread over the whole training split."""

PASSAGE = 2**14
"""Characters that are encoded at a time, up to the end of a line. Part of the format: it decides over tokens."""

TOGETHER = 64
"""Passages that are encoded at once, on several threads."""


@dataclass(frozen=True)
class Written:
    """What is in a token file.

    Args:
        tokens: how many.
        dtype: NumPy's name of their type.
        sha256: of the file.
    """

    tokens: int
    dtype: str
    sha256: bytes


def write_split(path: Path, spool: Spool, pieces: list[Piece], tokenizer: Tokenizer) -> Written:
    """Write the tokens of these pieces, in order, to a file."""
    dtype = np.dtype("<u1" if tokenizer.vocabulary <= 2**8 else "<u2" if tokenizer.vocabulary <= 2**16 else "<u4")
    digest, length = hashlib.sha256(), 0
    with path.open("wb") as file:
        for part in _encoded(spool, pieces, tokenizer, dtype):
            digest.update(part)
            length += len(part)
            file.write(part)
    return Written(length // dtype.itemsize, dtype.str, digest.digest())


def train_on(spool: Spool, pieces: list[Piece], vocabulary: int) -> BytePairs:
    """Byte pairs trained on these pieces; of more than `TRAINED_ON` bytes, on the beginning of each."""
    part = min(1.0, TRAINED_ON / sum(length for _, length in pieces))
    shortened = [(start, max(1, int(length * part))) for start, length in pieces]
    return train((passage for piece in shortened for passage in passages(spool.read(piece))), vocabulary)


def passages(text: Iterable[bytes]) -> Iterator[str]:
    """Text cut into passages of whole lines, or of `PASSAGE` characters where a line is longer.

    >>> list(passages([b"one\\ntw", b"o\\n"]))
    ['one\\ntwo\\n']
    """
    decoder, waiting = codecs.getincrementaldecoder("utf-8")(errors="ignore"), ""
    for chunk in text:
        waiting += decoder.decode(chunk)
        start = 0
        while len(waiting) - start >= PASSAGE:
            stop = waiting.rfind("\n", start, start + PASSAGE) + 1 or start + PASSAGE
            yield waiting[start:stop]
            start = stop
        waiting = waiting[start:]
    if waiting:
        yield waiting


def _encoded(spool: Spool, pieces: list[Piece], tokenizer: Tokenizer, dtype: np.dtype) -> Iterator[bytes]:
    if isinstance(tokenizer, Bytes):
        for piece in pieces:
            yield from spool.read(piece)
        return
    together: list[str] = []
    for piece in pieces:
        for passage in passages(spool.read(piece)):
            together.append(passage)
            if len(together) == TOGETHER:
                yield _packed(tokenizer, together, dtype)
                together = []
    if together:
        yield _packed(tokenizer, together, dtype)


def _packed(tokenizer: Tokenizer, texts: list[str], dtype: np.dtype) -> bytes:
    return b"".join(np.asarray(tokens, dtype).tobytes() for tokens in tokenizer.encode_many(texts))
