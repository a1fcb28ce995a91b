"""All text of a corpus in one file, each text once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ravine.lab.data.corpus import Skipped, Source
from ravine.lab.data.deal import Piece
from ravine.lab.data.extract import Extraction, text_of
from ravine.lab.data.sources import CHUNK, Found, Unreadable


@dataclass
class Spool:
    """Texts of several files, one after the other in one file.

    Args:
        file: open for writing and reading.
        largest: bytes that are kept; None for all.
    """

    file: BinaryIO
    largest: int | None = None
    sources: list[Source] = field(default_factory=list)
    texts: list[Piece] = field(default_factory=list)
    capped: bool = False
    _first: dict[bytes, str] = field(default_factory=dict)

    def gather(self, files: list[Found], extraction: Extraction) -> None:
        """Add the texts of files; what cannot be read, is empty, or is there already is skipped."""
        for found in files:
            start, skipped = self._end(), len(extraction.skipped)
            try:
                self._add(found, start, extraction)
            except Unreadable as error:
                self.file.truncate(start)
                # Its pages are not named when it is skipped as a whole.
                extraction.skipped[skipped:] = [Skipped(found.name, str(error))]
            found.require_unchanged()
            if self.capped:
                return

    def read(self, piece: Piece) -> Iterator[bytes]:
        """The bytes of a piece, a little at a time."""
        start, length = piece
        for position in range(start, start + length, CHUNK):
            yield self._at(position, min(CHUNK, start + length - position))

    def start_of_character(self, position: int) -> int:
        """The first position at or after this one at which a character of UTF-8 starts."""
        beyond = self._at(position, 4)
        return position + next((i for i, byte in enumerate(beyond) if not _continues(byte)), len(beyond))

    def _at(self, position: int, length: int) -> bytes:
        self.file.seek(position)
        return self.file.read(length)

    def _end(self) -> int:
        return sum(self.texts[-1]) if self.texts else 0

    def _add(self, found: Found, start: int, extraction: Extraction) -> None:
        self.file.seek(start)
        digest, length, left = hashlib.sha256(), 0, None if self.largest is None else self.largest - start
        for chunk in text_of(found, extraction):
            digest.update(chunk)
            length += len(chunk)
            # One byte more than is kept, which tells whether a character ends there.
            self.file.write(chunk if left is None else chunk[: max(0, left + 1 - (length - len(chunk)))])
        if not length:
            raise Unreadable("empty")
        if digest.digest() in self._first:
            raise Unreadable(f"the same text as {self._first[digest.digest()]}")
        self._first[digest.digest()] = found.name
        if left is not None and length > left:
            self.capped = True
            length = self._whole_characters(start, left)
        if length:
            self.texts.append((start, length))
            self.sources.append(Source(found.name, found.kind, length))

    def _whole_characters(self, start: int, length: int) -> int:
        """The longest length up to this one that does not end within a character."""
        while length and _continues(self._at(start + length, 1)[0]):
            length -= 1
        return length


def _continues(byte: int) -> bool:
    """Whether this byte is not the first one of its character."""
    return byte & 0xC0 == 0x80


def open_spool(folder: Path, largest: int | None) -> Spool:
    """An empty spool in a folder."""
    return Spool((folder / "text").open("w+b"), largest)
