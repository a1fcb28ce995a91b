"""Instruction pairs cut from Python's own sources: a function without its docstring, and what the docstring says.

Files are dealt to the splits whole, so that no split has a function from another's file.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ravine.lab.data import SHARES, Skipped, Split
from ravine.lab.data.reading import LEFT_OUT
from ravine.lab.data.sources import Search, search

SHORTEST = 10
"""Characters of a summary; what is shorter says next to nothing."""

LEAST_FILES = 20
"""Where pairs are limited, no file gives more of them than the whole divided by this."""


@dataclass(frozen=True)
class Pair:
    """A function and its summary.

    Args:
        prompt: the function's source from `def` on, not indented, without its docstring.
        answer: the docstring's first paragraph, on one line.
    """

    prompt: str
    answer: str


@dataclass(frozen=True)
class Pairs:
    """Pairs in three splits.

    Args:
        name: what was read, for people.
        splits: pairs, by split.
        text: the whole files of the training split, for pre-training; no other split's pairs are in it.
        sha256: of the pairs of all splits.
        files: how many files the pairs are from.
        skipped: files that could not be read as Python, and why.
    """

    name: str
    splits: dict[Split, tuple[Pair, ...]]
    text: bytes
    sha256: str
    files: int
    skipped: tuple[Skipped, ...]


MOST = {"tiny": 300, "small": 4000, "base": None}
"""Pairs that are read at each size; None for all."""


def for_size(size: str, data: str | None) -> Pairs:
    """The pairs of a size: from a file or folder, or from the standard library.

    Raises:
        ValueError: see `read`.
    """
    return standard_library(MOST[size]) if data is None else read(data, MOST[size])


@lru_cache(maxsize=4)
def standard_library(most: int | None = None) -> Pairs:
    """The pairs in Python's standard library; see `read`."""
    return read(None, most)


def read(path: str | None, most: int | None = None) -> Pairs:
    """The pairs in the `.py` files of a folder.

    Args:
        path: a folder; None for Python's standard library, without its tests.
        most: pairs after which no further file is read; None for all.

    Raises:
        ValueError: where there is no such folder, or its files do not have enough documented functions to give each
            split one.
    """
    root = Path(sysconfig.get_path("stdlib")) if path is None else Path(path)
    name = f"the Python {sysconfig.get_python_version()} standard library" if path is None else str(root)
    found = search(root, LEFT_OUT if path is None else frozenset(), ".py")
    splits: dict[Split, list[Pair]] = {split: [] for split in SHARES}
    skipped, text, files = list(found.skipped), [], 0
    seen: set[str] = set()
    for content, pairs in _files(found, skipped):
        new = [pair for pair in pairs if pair.prompt not in seen]
        if most is not None:
            new = new[: max(1, most // LEAST_FILES)]
        seen |= {pair.prompt for pair in new}
        if not new:
            continue
        # To the split that is furthest behind its share: all three fill up together.
        split = min(SHARES, key=lambda s: len(splits[s]) / SHARES[s])
        splits[split] += new
        files += 1
        if split == "training":
            text.append(content)
        if most is not None and len(seen) >= most and all(splits.values()):
            break
    if not all(splits.values()):
        raise ValueError(
            f"{name} has {files} Python {'file' if files == 1 else 'files'} with documented functions; at least "
            f"{len(SHARES)} are needed, one for each split"
        )
    digest = hashlib.sha256(json.dumps([[(p.prompt, p.answer) for p in splits[s]] for s in SHARES]).encode())
    dealt = {split: tuple(pairs) for split, pairs in splits.items()}
    return Pairs(name, dealt, "\n".join(text).encode(), digest.hexdigest(), files, tuple(skipped))


def of_source(text: str) -> Iterator[Pair]:
    """The pairs of one file, in order.

    Raises:
        SyntaxError, ValueError, RecursionError: where it is not Python of this version.

    Example:
        >>> next(of_source('def double(x):\\n    "Twice a number."\\n    return 2 * x'))
        Pair(prompt='def double(x):\\n    return 2 * x', answer='Twice a number.')
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of backslashes in other people's strings
        tree = ast.parse(text)
    lines = text.split("\n")
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        documented = ast.get_docstring(node)
        if documented is None:
            continue
        answer = " ".join(documented.split("\n\n")[0].split())
        doc, last = node.body[0], node.end_lineno or node.lineno
        first, end = doc.lineno, doc.end_lineno or doc.lineno
        if len(answer) < SHORTEST or first == node.lineno:
            continue
        kept = lines[node.lineno - 1 : first - 1] + lines[end:last]
        yield Pair(textwrap.dedent("\n".join(kept)).rstrip(), answer)


def _files(found: Search, skipped: list[Skipped]) -> Iterator[tuple[str, list[Pair]]]:
    """Text and pairs of the distinct files in a shuffled order, the same everywhere."""
    seen: set[str] = set()
    for i in np.random.default_rng(0).permutation(len(found.found)):
        file = found.found[i]
        if file.sha256 in seen:
            continue
        seen.add(file.sha256)
        try:
            text = file.path.read_text(encoding="utf-8")
            pairs = list(of_source(text))
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            skipped.append(Skipped(file.name, f"not Python: {error}"))
        else:
            yield text, pairs
