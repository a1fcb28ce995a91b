"""The text of one file, as chunks of UTF-8."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from ravine.lab.data.corpus import Skipped
from ravine.lab.data.sources import CHUNK, Found, Unreadable, kind_of

RATIO = 100
"""Bytes that a compressed byte may become: text compressed by gzip becomes three to ten times as long."""

SPARE = 64 * 2**20
"""Bytes beyond `RATIO`, for all compressed files of a corpus together."""

EXPANDED = 2**30
"""Bytes that one compressed file may become."""


@dataclass
class Extraction:
    """What is needed to read the files of one corpus, and what was left out on the way.

    Args:
        work: folder for what is expanded on the way.
        ocr: whether images are read.
        skipped: files and pages without text, and why.
        spare: what is left of `SPARE`.
    """

    work: Path
    ocr: bool = True
    skipped: list[Skipped] = field(default_factory=list)
    spare: int = field(default_factory=lambda: SPARE)

    def limit(self, size: int) -> int:
        """Bytes that a compressed file of this size may become."""
        return min(EXPANDED, RATIO * size + self.spare)

    def spend(self, size: int, expanded: int) -> None:
        """Count what a compressed file of this size has become."""
        self.spare -= max(0, expanded - RATIO * size)

    def skip(self, name: str, why: str) -> None:
        self.skipped.append(Skipped(name, why))


def text_of(found: Found, extraction: Extraction) -> Iterator[bytes]:
    """The text of a file as chunks of UTF-8; a chunk may end within a character.

    Raises:
        Unreadable: where it has none, at any point; what came before is then not to be used.
    """
    if found.compressed:
        with expanded(found, extraction) as inner:
            yield from text_of(inner, extraction)
    elif found.kind == "PDF":
        from ravine.lab.data.pdf import pages

        yield from pages(found, extraction)
    elif found.kind == "image":
        from ravine.lab.data.ocr import text_of_image

        yield text_of_image(found.path, extraction)
    elif found.kind == "HTML":
        from ravine.lab.data.html import text_of_html

        yield from text_of_html(chunks(found.path))
    else:
        yield from _checked(chunks(found.path))


@contextmanager
def expanded(found: Found, extraction: Extraction) -> Iterator[Found]:
    """A file that gzip has compressed, expanded for a while.

    Raises:
        Unreadable: where it is damaged, compressed twice, or becomes more than it may.
    """
    inner, again = kind_of(found.name.lower().removesuffix(".gz"))
    if again:
        raise Unreadable("compressed more than once")
    limit, length = extraction.limit(found.size), 0
    path = extraction.work / "expanded"
    try:
        with path.open("wb") as file:
            for chunk in _inflated(chunks(found.path)):
                length += len(chunk)
                if length > limit:
                    raise Unreadable(f"expands to more than {limit} bytes, from {found.size}")
                file.write(chunk)
        extraction.spend(found.size, length)
        changed = path.stat()
        yield replace(
            found, path=path, kind=inner, compressed=False, size=changed.st_size, modified=changed.st_mtime_ns
        )
    finally:
        path.unlink(missing_ok=True)


def _inflated(compressed: Iterator[bytes]) -> Iterator[bytes]:
    """What gzip has compressed, in one or several members; never more than a chunk at once."""
    inflate, begun = None, False
    for chunk in compressed:
        while chunk:
            if inflate is None:
                # Zeros may follow the last member, as on a tape.
                chunk = chunk.lstrip(b"\0") if begun else chunk
                if not chunk:
                    break
                inflate, begun = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), True
            try:
                part = inflate.decompress(chunk, CHUNK)
            except zlib.error as error:
                raise Unreadable(f"damaged gzip: {error}") from None
            chunk = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            if inflate.eof:
                inflate = None
            yield part
    if inflate is not None:
        raise Unreadable("damaged gzip: its end is missing")


@contextmanager
def opened_file(path: Path) -> Iterator[BinaryIO]:
    """A file for reading.

    Raises:
        Unreadable: where the system refuses it, now or while it is read.
    """
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        # Libraries raise the same type, without a number, for files that are damaged.
        if error.errno is None:
            raise
        raise Unreadable(f"cannot be read: {error.strerror or error}") from None


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a little at a time.

    Raises:
        Unreadable: where the system refuses it.
    """
    with opened_file(path) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _checked(text: Iterator[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in text:
            if b"\0" in chunk:
                raise Unreadable("not text: it has zero bytes")
            decoder.decode(chunk)
            yield chunk
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8 text") from None
