"""Tokenizers: the bytes of UTF-8, or byte pairs that are merged as a text has them.

A tokenizer is written as JSON and read back without running anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

SMALLEST, LARGEST = 257, 2**20
"""Sizes of a vocabulary of byte pairs: at least one merge beyond the 256 bytes."""


class Tokenizer(ABC):
    """Text to token numbers and back."""

    name: str
    """As it is written on the command line: `"bytes"`, `"bpe:4096"`."""

    vocabulary: int
    """How many different tokens there are; a token is a number below this."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The tokens of a text; half a surrogate pair, which UTF-8 does not have, becomes a question mark."""

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of several texts."""
        return [self.encode(text) for text in texts]

    @abstractmethod
    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens. Never fails: what is not UTF-8, or no token, becomes U+FFFD."""

    @abstractmethod
    def to_json(self) -> str:
        """The whole tokenizer as JSON, for `from_json`."""

    @cached_property
    def sha256(self) -> str:
        """Of the JSON: two tokenizers with the same one are the same."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"<tokenizer {self.name}, {self.vocabulary} tokens>"


class Bytes(Tokenizer):
    """Every byte of UTF-8 is a token.

    >>> Bytes().encode("né")
    [110, 195, 169]
    >>> Bytes().decode([110, 195, 169, 255])
    'né\ufffd'
    """

    name = "bytes"
    vocabulary = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8", errors="replace"))

    def decode(self, tokens: Iterable[int]) -> str:
        # 255 occurs nowhere in UTF-8, so that it stands for whatever is no byte.
        return bytes(t if 0 <= t < 256 else 255 for t in tokens).decode("utf-8", errors="replace")

    def to_json(self) -> str:
        return json.dumps({"tokenizer": self.name})


BYTES = Bytes()


class BytePairs(Tokenizer):
    """Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019), by `tokenizers`.

    Args:
        name: as it is written on the command line.
        definition: the JSON of the library `tokenizers`, as in a Hugging Face `tokenizer.json`.
    """

    def __init__(self, name: str, definition: str) -> None:
        self.name = name
        self._definition = definition
        self._tokenizer = _library().Tokenizer.from_str(definition)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocabulary = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str) -> list[int]:
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of several texts, on several threads."""
        clean = [text.encode("utf-8", errors="replace").decode() for text in texts]
        return [e.ids for e in self._tokenizer.encode_batch_fast(clean, add_special_tokens=False)]

    def decode(self, tokens: Iterable[int]) -> str:
        text, known = [], []
        for token in tokens:
            if 0 <= token < self.vocabulary:
                known.append(token)
            else:
                text += [self._tokenizer.decode(known, skip_special_tokens=False), "\ufffd"]
                known = []
        return "".join([*text, self._tokenizer.decode(known, skip_special_tokens=False)])

    def to_json(self) -> str:
        return json.dumps({"tokenizer": self.name, "definition": self._definition})

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "definition": self._definition}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["name"], state["definition"])  # type: ignore[misc]


def train(texts: Iterator[str], vocabulary: int) -> BytePairs:
    """Byte pairs of these texts: the same for the same texts, on any number of threads.

    Args:
        texts: parts of the training split.
        vocabulary: tokens wanted; a short text may give fewer.
    """
    library = _library()
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = library.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, min_frequency=2, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return BytePairs(f"bpe:{vocabulary}", tokenizer.to_str())


def wanted(tokenizer: str | os.PathLike[str] | Tokenizer) -> Tokenizer | int:
    """A tokenizer that is there, or the size of the vocabulary of one to be trained.

    Args:
        tokenizer: a tokenizer, `"bytes"`, `"bpe:4096"`, or a tokenizer's file (ending in `.json`).

    Raises:
        ValueError: for anything else.

    >>> wanted("bytes"), wanted("bpe:4096")
    (<tokenizer bytes, 256 tokens>, 4096)
    """
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    name = os.fspath(tokenizer)
    if name == "bytes":
        return BYTES
    if name.endswith(".json"):
        return load(Path(name))
    found = re.fullmatch(r"bpe:(\d{1,9})", name)
    if found is None or not SMALLEST <= int(found[1]) <= LARGEST:
        raise ValueError(
            f"tokenizer {name!r} is not known; it may be bytes, bpe:N with N from {SMALLEST} to {LARGEST} "
            f"(bpe:4096), or a tokenizer's .json file"
        )
    _library()
    return int(found[1])


def load(path: Path) -> Tokenizer:
    """The tokenizer in a file: one that `to_json` gave, or a Hugging Face `tokenizer.json`.

    Raises:
        ValueError: where it cannot be read, or is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the tokenizer {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        return from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def from_json(text: str) -> Tokenizer:
    """The tokenizer that `to_json` wrote, or the one of a Hugging Face `tokenizer.json`. Executes nothing.

    Raises:
        ValueError: where the text is neither.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if value == {"tokenizer": "bytes"}:
        return BYTES
    if isinstance(value, dict):
        if "model" in value:
            value = {"tokenizer": f"file:{hashlib.sha256(text.encode()).hexdigest()[:12]}", "definition": text}
        name, definition = value.get("tokenizer"), value.get("definition")
        if isinstance(name, str) and isinstance(definition, str):
            try:
                return BytePairs(name, definition)
            # The library raises plain `Exception` for whatever it cannot read.
            except Exception as error:
                if isinstance(error, ModuleNotFoundError):
                    raise
                raise ValueError(f"the tokenizer {name!r} cannot be read: {error}") from None
    raise ValueError("this is not a tokenizer's JSON")


def _library() -> Any:
    """The library `tokenizers`.

    Raises:
        ValueError: where it is not installed.
    """
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise ValueError('byte pairs need the package tokenizers: pip install "ravine[data]"') from None
    return tokenizers
