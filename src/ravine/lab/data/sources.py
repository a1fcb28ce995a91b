"""The files of a folder: which there are, of what kind, and what is in them by hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ravine.lab.data.corpus import Skipped

CHUNK = 2**20
"""Bytes that are read at a time."""

ENDINGS = {
    "HTML": ".html .htm .xhtml",
    "PDF": ".pdf",
    "image": ".png .jpg .jpeg .gif .bmp .tif .tiff .webp",
    "Markdown": ".md .markdown",
    "code": ".bash .c .cc .clj .cpp .cs .css .cu .cuh .cxx .ex .f90 .go .h .hpp .hs .java .jl .js .jsx .kt .lua .m .ml "
    ".php .pl .pxd .py .pyi .pyx .r .rb .rs .scala .sh .sql .swift .ts .tsx .vue .zig",
}
KINDS = {ending: kind for kind, endings in ENDINGS.items() for ending in endings.split()}
"""What a file is by the end of its name; every other file is text, if it is UTF-8."""


class Unreadable(Exception):
    """Why a file has no text for us: the end of a sentence that begins with the file's name."""


@dataclass(frozen=True)
class Found:
    """A file that may have text.

    Args:
        path: where it is.
        name: for people: the path below the folder that is read.
        kind: one of `KINDS`, or `"text"`; of a compressed file, the kind of what is in it.
        compressed: whether it is compressed by gzip.
        size: in bytes.
        modified: in nanoseconds, to see that it has not changed since.
        sha256: of its bytes.
    """

    path: Path
    name: str
    kind: str
    compressed: bool
    size: int
    modified: int
    sha256: str

    def require_unchanged(self) -> None:
        """Raise ValueError if the file is not the one that was found."""
        try:
            now = self.path.stat()
            same = (now.st_size, now.st_mtime_ns) == (self.size, self.modified)
        except OSError:
            same = False
        if not same:
            raise ValueError(f"{self.path} has changed while it was read; read it again when it is at rest")


@dataclass
class Search:
    """The files of a folder, or one file.

    Args:
        root: folder or file.
        found: the files that may have text, in one order everywhere.
        skipped: the others, and why.
    """

    root: Path
    found: list[Found] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def search(root: Path, left_out: Container[str] = (), suffix: str = "") -> Search:
    """Find the files below a folder, or the one file, and read each once for its hash.

    Hidden files and folders are left out; links to folders are not followed.

    Args:
        root: folder or file.
        left_out: names of folders that are not entered.
        suffix: of the files that are wanted; all where it is empty.

    Raises:
        ValueError: where there is no such path, or it is neither a file nor a folder.
    """
    result = Search(root)
    if root.is_file():
        _add(result, root, root.name)
    elif root.is_dir():
        for path in walk(result, left_out):
            if path.name.endswith(suffix):
                _add(result, path, path.relative_to(root).as_posix())
    elif root.exists():
        raise ValueError(f"{root} is neither a file nor a folder")
    else:
        raise ValueError(f"no such file or folder: {root}")
    return result


def walk(result: Search, left_out: Container[str] = ()) -> Iterator[Path]:
    """The regular files below the folder in one order everywhere; what cannot be listed is added to the skipped."""

    def refused(error: OSError) -> None:
        folder = Path(error.filename)
        if folder == result.root:
            raise ValueError(f"cannot read {folder}: {error.strerror or error}")
        result.skipped.append(Skipped(shown(folder.relative_to(result.root).as_posix()), f"{error.strerror or error}"))

    for folder, folders, files in os.walk(result.root, onerror=refused):
        folders[:] = sorted(f for f in folders if f not in left_out and not f.startswith("."))
        yield from (p for f in sorted(files) if not f.startswith(".") and (p := Path(folder, f)).is_file())


def shown(name: str) -> str:
    """A file's name that can be written as UTF-8, on one line."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name)


def kind_of(name: str) -> tuple[str, bool]:
    """The kind of a file by its name, and whether it is compressed.

    >>> kind_of("notes.txt"), kind_of("Page.HTML.gz"), kind_of("LICENSE")
    (('text', False), ('HTML', True), ('text', False))
    """
    name = name.lower()
    compressed = name.endswith(".gz")
    return KINDS.get(os.path.splitext(name.removesuffix(".gz"))[1], "text"), compressed


def _add(result: Search, path: Path, name: str) -> None:
    name = shown(name)
    kind, compressed = kind_of(name)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            while chunk := file.read(CHUNK):
                # A large binary is known by its beginning, and not read to its end.
                if kind == "text" and not compressed and b"\0" in chunk:
                    raise Unreadable("not text: it has zero bytes")
                digest.update(chunk)
    except OSError as error:
        result.skipped.append(Skipped(name, f"cannot be read: {error.strerror or error}"))
    except Unreadable as error:
        result.skipped.append(Skipped(name, str(error)))
    else:
        result.found.append(Found(path, name, kind, compressed, before.st_size, before.st_mtime_ns, digest.hexdigest()))
