"""Text as it is made, token by token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ravine.lab.data import Tokenizer

LONGEST = 8
"""Tokens that are waited for to complete a letter; no letter of UTF-8 has more bytes than half of this."""


def pieces(tokens: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Pieces of text, each as soon as its letters are whole: a letter may have several tokens.

    Example:
        >>> from ravine.lab.data.tokenizer import Bytes
        >>> list(pieces("né!".encode(), Bytes()))
        ['n', 'é', '!']
    """
    held: list[int] = []
    for token in tokens:
        held.append(token)
        text = tokenizer.decode(held)
        if text and (not text.endswith("\ufffd") or len(held) == LONGEST):
            yield text
            held = []
    if held:
        yield tokenizer.decode(held)
