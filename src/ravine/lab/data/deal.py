"""Cutting text into pieces, and dealing them to the splits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ravine.lab.data.corpus import SHARES, Split

PIECES = 100
"""A text longer than the whole divided by this is cut into blocks, so that one large file reaches every split."""

Piece = tuple[int, int]
"""Where a piece of text begins, and how long it is, in bytes."""


def deal(texts: list[Piece], start_of_character: Callable[[int], int]) -> dict[Split, list[Piece]]:
    """The pieces of each split, in an order that depends on the lengths of the texts alone.

    Args:
        texts: one after the other; all together are cut into `PIECES` blocks or more, none with text of two.
        start_of_character: the first position at or after the one given at which a character starts.

    >>> dealt = deal([(0, 50), (50, 50)], lambda position: position)
    >>> {split: sum(length for _, length in pieces) for split, pieces in dealt.items()}
    {'training': 80, 'tuning': 10, 'judging': 10}
    """
    total = sum(length for _, length in texts)
    block = max(total // PIECES, min(2048, total // 10), 1)
    pieces = [piece for start, length in texts for piece in _cut(start, start + length, block, start_of_character)]
    dealt: dict[Split, list[Piece]] = {split: [] for split in SHARES}
    sizes: dict[Split, int] = dict.fromkeys(SHARES, 0)
    for i in np.random.default_rng(0).permutation(len(pieces)):
        # To the split that is furthest behind its share: all three fill up together.
        split = min(SHARES, key=lambda s: sizes[s] / SHARES[s])
        dealt[split].append(pieces[i])
        sizes[split] += pieces[i][1]
    return dealt


def _cut(start: int, end: int, block: int, start_of_character: Callable[[int], int]) -> list[Piece]:
    pieces = []
    while start < end:
        stop = end if start + block >= end else min(start_of_character(start + block), end)
        pieces.append((start, stop - start))
        start = stop
    return pieces
