"""Reading files and folders into a corpus."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from ravine.lab.data import tokenizer as tokenizers
from ravine.lab.data.cache import token_folder
from ravine.lab.data.corpus import Corpus
from ravine.lab.data.sources import search
from ravine.lab.data.tokenizer import Tokenizer

LARGEST = 32 * 2**20
"""Bytes that are read of the standard library."""

# Tests, generated tables and what is not part of the library itself.
LEFT_OUT = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "idlelib", "lib2to3", "encodings",
     "pydoc_data", "turtledemo", "ensurepip"}
)  # fmt: skip


def standard_library(tokenizer: str | os.PathLike[str] | Tokenizer = "bytes") -> Corpus:
    """The source of the Python standard library that runs this, without its tests and generated tables.

    Args:
        tokenizer: as for `read`.

    Raises:
        ValueError: where Python was installed without its sources.
    """
    wanted = tokenizers.wanted(tokenizer)
    root = Path(sysconfig.get_path("stdlib"))
    found = search(root, LEFT_OUT, ".py")
    if not found.found:
        raise ValueError(f"no Python sources in {root}; give a file or folder of text with --data")
    name = f"the source of the Python {sysconfig.get_python_version()} standard library"
    return token_folder(found, name, wanted, cache=None, ocr=False, largest=LARGEST)


def read(
    path: str | os.PathLike[str],
    tokenizer: str | os.PathLike[str] | Tokenizer = "bytes",
    cache: str | os.PathLike[str] | None = None,
    ocr: bool = True,
    largest: int | None = None,
) -> Corpus:
    """The text in a file, or in all files of a folder, as tokens.

    Text, Markdown and code are read as UTF-8; from HTML and PDF the text is extracted; images and scanned pages of a
    PDF are read by tesseract; `.gz` files are expanded. Hidden files and folders are left out, links to folders not
    followed. What has no text is skipped, and listed with the reason. Of text that occurs in several files one copy
    is kept, so that no split holds what another was trained on.

    The tokens are written to files once, and mapped into memory from then on; memory does not grow with the text.

    Args:
        path: file or folder.
        tokenizer: `"bytes"`; `"bpe:4096"` for byte pairs trained on the training split; a tokenizer, or its
            `.json` file.
        cache: folder of the token files; `$XDG_CACHE_HOME/ravine/tokens` where none is given.
        ocr: whether images are read.
        largest: bytes of text that are read at most; what is beyond them is left out (`Corpus.capped`).

    Raises:
        ValueError: where there is no such path, no permission, no text in it, or not enough for three splits.
    """
    if largest is not None and largest < 1:
        raise ValueError(f"largest={largest!r} must be at least one byte")
    wanted = tokenizers.wanted(tokenizer)
    root = Path(path)
    try:
        found = search(root)
    except OSError as error:
        raise ValueError(f"cannot read {error.filename or root}: {error.strerror or error}") from error
    return token_folder(
        found, str(root), wanted, cache=None if cache is None else Path(cache), ocr=ocr, largest=largest
    )
