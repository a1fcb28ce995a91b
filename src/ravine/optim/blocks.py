"""Parameters that are several matrices in one, or a matrix the other way round, as a matrix rule is to see them.

A group's `split` says where one parameter holds several matrices: fused query, key and value, the gates of an LSTM, a
stack of experts. Its `transposed` says that the parameter is (in, out). The rule then steps each block as if it were a
parameter of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ravine.rule import Rule, Shape, State

Split = None | int | tuple[int, ...] | str

KEYS: dict[str, Any] = {"split": None, "transposed": False}
"""What a group of a matrix rule holds besides the rule's settings, with the defaults."""


@dataclass(frozen=True)
class Blocks:
    """How a parameter is seen.

    Attributes:
        shape: of the whole, as seen before it is cut: (out, rest), or with `stacked` (matrices, out, rest).
        sizes: rows of each block.
        transposed: whether the last two dimensions change places.
        stacked: whether each `x[i]` is a matrix.
    """

    shape: Shape
    sizes: tuple[int, ...]
    transposed: bool
    stacked: bool

    @property
    def shapes(self) -> list[Shape]:
        """The shape of each block."""
        return [(rows, self.shape[-1]) for rows in self.sizes]

    def of(self, whole: Tensor) -> list[Tensor]:
        """The blocks of a tensor that lies in the order of `strides`, as views."""
        seen = (whole.mT if self.transposed else whole).reshape(sum(self.sizes), self.shape[-1])
        return list(torch.split(seen, list(self.sizes)))

    def strides(self, shape: Shape) -> tuple[int, ...]:
        """The strides under which the blocks of a tensor of the parameter's shape lie one after the other."""
        if not self.transposed:
            return torch.empty(shape, device="meta").stride()
        return torch.empty((*shape[:-2], shape[-1], shape[-2]), device="meta").mT.stride()


def check_split(settings: Mapping[str, Any]) -> None:
    """Check a group's `split` and `transposed`.

    Raises:
        TypeError, ValueError: one sentence about what is wrong.
    """
    split, transposed = settings["split"], settings["transposed"]
    if not isinstance(transposed, bool):
        raise TypeError(f"transposed must be True or False, got {transposed!r}")
    sizes = split if isinstance(split, (tuple, list)) else (split,)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in sizes)
    if split is not None and split != "stack" and not (whole and len(sizes)):
        raise ValueError(
            "split must be None, a number of equal blocks, their sizes along the first dimension, or 'stack', "
            f"got {split!r}"
        )


def blocks_of(group: Mapping[str, Any], p: Tensor, rule: Rule) -> Blocks | None:
    """How a parameter of this group is cut; None where it is seen whole.

    Raises:
        ValueError: for a parameter that cannot be cut so.
    """
    split, transposed = group.get("split"), bool(group.get("transposed"))
    if not rule.steps_matrices:
        return None
    shape = tuple(p.shape)
    if len(shape) < 2:
        raise ValueError(
            f"{rule.title} steps matrices, and a parameter here has the shape {shape}; give it to another rule in a "
            f"group of its own ({{'params': ..., 'rule': 'adamw'}}), or let ravine.route(model) do so"
        )
    if split is None and not transposed:
        return None
    if split == "stack":
        if len(shape) < 3:
            raise ValueError(f"split='stack' needs a parameter of 3 dimensions or more, got the shape {shape}")
        count, rows, columns = math.prod(shape[:-2]), shape[-2], shape[-1]
        seen = (count, columns, rows) if transposed else (count, rows, columns)
        return Blocks(seen, (seen[1],) * count, transposed, True)
    if transposed and len(shape) > 2:
        raise ValueError(f"transposed=True needs a matrix, or split='stack', got the shape {shape}")
    rows, columns = (shape[1], shape[0]) if transposed else (shape[0], math.prod(shape[1:]))
    sizes = (rows // split,) * split if isinstance(split, int) else tuple(split) if split else (rows,)
    if sum(sizes) != rows:
        raise ValueError(f"split={split!r} does not divide the {rows} rows of a parameter of shape {shape}")
    return Blocks((rows, columns), sizes, transposed, False)


def held_shape(state: State, p: Tensor, rule: Rule, blocks: Blocks | None) -> Shape:
    """The shape in which a parameter's state is kept: its own, or what its rows and columns ask for.

    Where a parameter is cut into blocks, states of another shape than its own lie one block's after the other.
    """
    if state.kind == "full":
        return tuple(p.shape)
    if blocks is not None:
        return (sum(math.prod(state.shape(shape)) for shape in blocks.shapes),)
    seen = rule.seen_shape(tuple(p.shape))
    return state.shape(seen) if len(seen) > 1 or state.kind in ("host", "shared") else ()
