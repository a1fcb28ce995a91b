"""What the optimizers are timed on: parameters of known shapes, with gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

Shape = tuple[int, ...]

SHAPE_SETS = {
    "gpt": "the 98 tensors of a GPT, 34 million parameters",
    "hidden": "the 32 hidden matrices of that GPT, 25 million parameters",
    "small": "1000 tensors of 256 elements",
}
"""The sets of shapes, by name, in words."""

SEED = 20190505


def shapes_of(name: str, quick: bool = False) -> list[Shape]:
    """The shapes of a set; the quick form is about a hundredth of its size.

    Example:
        >>> len(shapes_of("gpt")), sum(rows * columns for rows, columns in shapes_of("gpt")[:2])
        (98, 8454144)
    """
    if name == "small":
        return [(256,)] * (100 if quick else 1000)
    if quick:
        shapes = _gpt(vocabulary=2000, context=64, width=64, layers=2)
    else:
        shapes = _gpt(vocabulary=16000, context=512, width=512, layers=8)
    return [shape for shape in shapes[2:] if len(shape) == 2] if name == "hidden" else shapes


def elements_of(name: str, quick: bool = False) -> int:
    """How many elements the parameters of a set have, all together.

    Example:
        >>> elements_of("gpt"), elements_of("hidden"), elements_of("small")
        (33673216, 25165824, 256000)
    """
    return sum(map(math.prod, shapes_of(name, quick)))


def _gpt(vocabulary: int, context: int, width: int, layers: int) -> list[Shape]:
    attention: list[Shape] = [(3 * width, width), (3 * width,), (width, width), (width,)]
    perceptron: list[Shape] = [(4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    norm: list[Shape] = [(width,), (width,)]
    return [(vocabulary, width), (context, width), *[*norm, *attention, *norm, *perceptron] * layers]


@dataclass(frozen=True)
class Problem:
    """Values of parameters and of their gradients; every optimizer is given copies of its own."""

    values: list[Tensor]
    gradients: list[Tensor]

    def parameters(self) -> list[Parameter]:
        """A fresh copy of the parameters, with gradients."""
        copies = [Parameter(x.clone()) for x in self.values]
        for p, g in zip(copies, self.gradients, strict=True):
            p.grad = g.clone()
        return copies


def make_problem(name: str, dtype: torch.dtype, device: torch.device, quick: bool = False) -> Problem:
    """A problem on a set of shapes: values as at a network's start, gradients large enough to square in any type."""
    generator = torch.Generator().manual_seed(SEED)
    shapes = shapes_of(name, quick)
    numbers = torch.randn(elements_of(name, quick), generator=generator)

    def cut(scale: float) -> list[Tensor]:
        pieces = torch.split((numbers * scale).to(dtype).to(device), [math.prod(shape) for shape in shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    values = cut(0.02)
    numbers = numbers.flip(0)
    return Problem(values, cut(1.0))
