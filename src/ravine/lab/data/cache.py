"""Token files: made once, keyed by what they are made of, mapped into memory from then on.

A folder of token files appears whole or not at all. Its name is the hash of the files' names, kinds and contents, of
the tokenizer, of what reads PDF and images, and of the version of this format.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ravine.engine.compiler import CompilerError, cache_folder
from ravine.lab.data.corpus import SHARES, Corpus, Skipped, Source, map_tokens
from ravine.lab.data.deal import deal
from ravine.lab.data.extract import Extraction
from ravine.lab.data.ocr import why_not
from ravine.lab.data.sources import Search
from ravine.lab.data.spool import open_spool
from ravine.lab.data.tokenizer import Tokenizer, from_json
from ravine.lab.data.write import train_on, write_split
from ravine.lab.files import read_json, to_json

FORMAT = 1
"""Raised whenever the same files would give other tokens."""


def token_folder(
    found: Search, name: str, tokenizer: Tokenizer | int, *, cache: Path | None, ocr: bool, largest: int | None
) -> Corpus:
    """The corpus of these files, from the cache or made.

    Args:
        found: the files.
        name: of the corpus, for people.
        tokenizer: a tokenizer, or the size of the vocabulary of one to be trained.
        cache: folder of all token files; the user's own where None.
        ocr: whether images are read.
        largest: bytes of text that are kept; None for all.

    Raises:
        ValueError: where there is no text, not enough for three splits, or no place for the files.
    """
    if not found.found:
        raise _too_little(found, name, found.skipped, 0)
    key = _key(found, tokenizer, ocr, largest)
    place = _place(cache)
    corpus = _opened(place / key, name)
    if corpus is not None:
        return corpus
    try:
        with _locked(place / f"{key}.lock"):
            corpus = _opened(place / key, name)
            if corpus is None:
                _make(place, key, found, name, tokenizer, ocr, largest)
                corpus = _opened(place / key, name)
    except OSError as error:
        raise ValueError(f"cannot write the token files of {name} to {place}: {error.strerror or error}") from error
    if corpus is None:
        raise ValueError(f"the token files in {place / key} vanished while they were read")
    return corpus


def _key(found: Search, tokenizer: Tokenizer | int, ocr: bool, largest: int | None) -> str:
    kinds = {f.kind for f in found.found}
    readers = {}
    if "PDF" in kinds:
        readers["pypdf"] = version("pypdf")
    if kinds & {"PDF", "image"}:
        readers["ocr"] = why_not(ocr) or "tesseract"
    made_of = {
        "format": FORMAT,
        "tokenizer": f"bpe:{tokenizer}" if isinstance(tokenizer, int) else tokenizer.sha256,
        "largest": largest,
        "readers": readers,
        "files": [[f.name, f.kind, f.compressed, f.sha256] for f in found.found],
        "skipped": [[s.path, s.why] for s in found.skipped],
    }
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:40]


def _place(cache: Path | None) -> Path:
    try:
        place = cache_folder() / "tokens" if cache is None else cache
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (CompilerError, OSError) as error:
        raise ValueError(f"no place for token files: {error}") from None
    return place


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: another would do the same work for nothing."""
    from filelock import FileLock

    with FileLock(path):
        yield


def _make(
    place: Path, key: str, found: Search, name: str, tokenizer: Tokenizer | int, ocr: bool, largest: int | None
) -> None:
    # What a killed process has left: nobody else works on this key, since it is locked.
    for stale in [place / key, *place.glob(f".{key}.*")]:
        shutil.rmtree(stale, ignore_errors=True)
    work = Path(tempfile.mkdtemp(dir=place, prefix=f".{key}."))
    try:
        made = work / "made"
        made.mkdir()
        (made / "corpus.json").write_text(to_json(_made(work, made, found, name, tokenizer, ocr, largest)), "utf-8")
        os.rename(made, place / key)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _made(
    work: Path, made: Path, found: Search, name: str, tokenizer: Tokenizer | int, ocr: bool, largest: int | None
) -> dict[str, Any]:
    extraction = Extraction(work, ocr, list(found.skipped))
    spool = open_spool(work, largest)
    with spool.file:
        spool.gather(found.found, extraction)
        pieces = deal(spool.texts, spool.start_of_character)
        if not all(pieces.values()):
            raise _too_little(found, name, extraction.skipped, sum(length for _, length in spool.texts))
        if isinstance(tokenizer, int):
            tokenizer = train_on(spool, pieces["training"], tokenizer)
        splits, digest = {}, hashlib.sha256()
        for split in SHARES:
            written = write_split(made / f"{split}.tokens", spool, pieces[split], tokenizer)
            digest.update(written.tokens.to_bytes(8, "big") + written.sha256)
            splits[split] = {
                "tokens": written.tokens,
                "bytes": sum(n for _, n in pieces[split]),
                "dtype": written.dtype,
            }
    return {
        "format": FORMAT,
        "sha256": digest.hexdigest(),
        "splits": splits,
        "capped": spool.capped,
        "sources": [[s.path, s.kind, s.bytes] for s in spool.sources],
        "skipped": [[s.path, s.why] for s in extraction.skipped],
        "tokenizer": tokenizer.to_json(),
    }


def _too_little(found: Search, name: str, skipped: list[Skipped], total: int) -> ValueError:
    """What is to be said of files with `total` bytes of text."""
    if total:
        return ValueError(f"the text in {name} is too short to be cut into three splits: {total} bytes")
    if not skipped:
        return ValueError(f"the folder {name} is empty: there is no text to train on")
    first = skipped[0]
    if found.root.is_file():
        return ValueError(f"{name} has no text to train on: {first.why}")
    return ValueError(
        f"no text in the folder {name}: everything in it was skipped, {len(skipped)} in all, the first one, "
        f"{first.path}, because: {first.why}"
    )


def _opened(folder: Path, name: str) -> Corpus | None:
    """The corpus in a folder of token files; None where there is none, or not all of it."""
    try:
        made = read_json(folder / "corpus.json")
        if made["format"] != FORMAT:
            return None
        splits = {split: map_tokens(folder, split, made["splits"][split]["dtype"]) for split in SHARES}
        if any(len(splits[split]) != made["splits"][split]["tokens"] for split in SHARES):
            return None
        return Corpus(
            name=name,
            splits=splits,
            tokenizer=from_json(made["tokenizer"]),
            sha256=made["sha256"],
            text_bytes={split: made["splits"][split]["bytes"] for split in SHARES},
            sources=tuple(Source(*s) for s in made["sources"]),
            skipped=tuple(Skipped(*s) for s in made["skipped"]),
            capped=made["capped"],
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
