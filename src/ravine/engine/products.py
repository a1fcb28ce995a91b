"""Orthogonalization in bfloat16 by products of our own, on processors with AVX-512 that multiply pairs of bfloat16.

torch's products compute the whole of a symmetric matrix, call by call, and pack their factors each time. Here a stack
of matrices is taken through all products in one list of phases (`products.cpp`): of symmetric products only one half is
computed, the sums around a product are added in float32 before it is rounded, and nothing is packed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ravine.engine.compiler import CompilerError, build
from ravine.engine.threads import Phase, run_made
from ravine.math.newton_schulz import TINY, Triple, schedule
from ravine.math.orthogonal import Product, buffer, products

SIDE, PART = 32, 16384
"""As in `products.cpp`: elements along a block, and of what one sum of squares is taken."""

SMALL = 32768
"""Elements under which a stack is not worth waking other threads for."""

UNITS = 64
"""Blocks of a product that each thread should have: so many matrices are taken together."""

Restarts = Sequence[tuple[int, float]]
FUNCTIONS = ("square_sums", "take_in", "symmetric_product", "large_product")


class _Step(ctypes.Structure):
    """As in `products.cpp`."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("left", "right", "out", "added", "more")),
        *((name, ctypes.c_double) for name in ("alpha", "beta", "gamma", "delta")),
    ]


class _Table(ctypes.Structure):
    """As in `products.cpp`; addresses are numbers."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("in_", "out", "rows_0", "rows_1", "pairs")),
        *((f"small_{i}", ctypes.c_int64) for i in range(4)),
        *((name, ctypes.c_int64) for name in ("sums", "steps", "height", "width", "wide", "m", "n", "parts")),
        *((name, ctypes.c_double) for name in ("safety", "tiny")),
    ]


@cache
def functions() -> dict[str, int] | None:
    """The addresses of the compiled functions; None without a compiler, or where the processor has no such products."""
    try:
        library = build((Path(__file__).parent / "products.cpp").read_text())
        return {name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in FUNCTIONS}
    except (CompilerError, OSError, AttributeError):
        return None


class Recipe:
    """What is done to a stack of matrices of one shape: steps and phases, made once.

    Args:
        count, height, width: of the stack.
        listed: the products of the iteration.
        threads: the most threads to use.
    """

    def __init__(self, count: int, height: int, width: int, listed: Sequence[Product], threads: int) -> None:
        found = functions()
        assert found is not None
        self.threads = threads
        self.m, self.n = _padded(max(height, width)), _padded(min(height, width))
        self.parts = -(-height * width // PART)
        tall, across = self.m // SIDE, self.n // SIDE
        triangle, every = across * (across + 1) // 2, tall * across
        steps, rows = [], 0
        phases = [self._phase(found["square_sums"], 0, count * self.parts, 1)]
        phases.append(self._phase(found["take_in"], 0, count * tall, 1))
        last = max(place for place, product in enumerate(listed) if product.out == "x")
        names: dict[str, int] = {}
        for place, product in enumerate(listed):
            if product.out == "x":
                ((beta, _),) = product.added
                steps.append(_Step(rows, names[product.left], -1 if place == last else 1 - rows, 0, 0, 1.0, beta))
                phases.append(self._phase(found["large_product"], place, count * every, 4))
                rows = 1 - rows
                continue
            (beta, added), (gamma, more) = [*product.added, (0.0, product.out), (0.0, product.out)][:2]
            left, right, out, added_at, more_at = (
                -1 if name == "x" else names.setdefault(name, len(names))
                for name in (product.left, product.right, product.out, added, more)
            )
            values = (product.alpha, beta, gamma, product.diagonal)
            steps.append(_Step(left, right, out, added_at, more_at, *values))
            phases.append(self._phase(found["symmetric_product"], place, count * triangle, 2))
        self.steps = (_Step * len(steps))(*steps)
        self.phases, self.length = (Phase * len(phases))(*phases), len(phases)

    def _phase(self, function: int, step: int, units: int, run: int) -> Phase:
        run = max(1, min(run, units // (4 * self.threads)))
        return Phase(function, step << 32, (step << 32) + units, run)

    def run(self, x: Tensor, out: Tensor, safety: float) -> None:
        """Orthogonalize a contiguous float32 stack of this shape into another, which may be the same.

        `safety` is what the norm is multiplied by before a matrix is divided by it.
        """
        count, height, width = x.shape
        m, n = self.m, self.n
        rows = buffer("rows", (2, count, m, n), torch.bfloat16, x.device)
        pairs = buffer("pairs", (count, m, n), torch.bfloat16, x.device)
        small = buffer("small", (4, count, n, n), torch.bfloat16, x.device)
        sums = buffer("sums", (count, self.parts), torch.float64, x.device)
        tensors = (x, out, *rows.unbind(0), pairs, *small.unbind(0), sums)
        table = _Table(
            *map(Tensor.data_ptr, tensors), ctypes.addressof(self.steps),
            height, width, width > height, m, n, self.parts, safety, TINY,
        )  # fmt: skip
        run_made(self.phases, self.length, ctypes.addressof(table), self.threads)


@lru_cache(maxsize=256)
def _recipe(shape: tuple[int, int, int], triples: tuple[Triple, ...], restarts: Restarts, threads: int) -> Recipe:
    return Recipe(*shape, list(products(triples, restarts)), threads)


def operations(n: int, m: int, restarts: Restarts) -> int:
    """How many operations a matrix of n × m takes, n ≤ m, padded and with one half of symmetric products.

    >>> operations(32, 64, [(1, 0.0)]) == 2 * (32 * 32 * 64 + 32**3 + 32 * 32 * 64)
    True
    """
    n, m = _padded(n), _padded(m)
    half = n * (n + SIDE) // 2
    small = sum(4 * length - 3 for length, _ in restarts)
    return 2 * (len(restarts) * (half * m + n * n * m) + small * half * n)


def orthogonalize(
    x: Tensor,
    restarts: Restarts,
    coefficients: str | Triple = "jordan",
    out: Tensor | None = None,
) -> Tensor:
    """As `ravine.math.orthogonal.orthogonalize`, in bfloat16 by these products.

    Args:
        x: of shape (..., n, m), of at least one element, on a CPU.
        restarts: how many steps are taken between restarts and what is subtracted, as
            `ravine.math.orthogonal.segments` has them; with one each, the plain arrangement. At least one step.
        coefficients: of the iteration.
        out: a tensor of x's shape that receives the result; it may be `x`.
    """
    safety, triples = schedule(coefficients, sum(length for length, _ in restarts))
    height, width = x.shape[-2:]
    stack = x.detach().float().contiguous().view(-1, height, width)
    direct = out is not None and out.dtype == torch.float32 and out.is_contiguous()
    result = out.view(stack.shape) if direct and out is not None else torch.empty_like(stack)
    threads = 1 if stack.numel() < SMALL else torch.get_num_threads()
    blocks = _padded(min(height, width)) // SIDE
    together = max(1, UNITS * threads // (blocks * (blocks + 1) // 2))
    for first in range(0, len(stack), together):
        source, target = (x[first : first + together] for x in (stack, result))
        recipe = _recipe((len(source), height, width), tuple(triples), tuple(restarts), threads)
        recipe.run(source, target, safety)
    if direct and out is not None:
        return out
    result = result.view(x.shape)
    return result.to(x.dtype) if out is None else out.copy_(result)


def _padded(side: int) -> int:
    return -(-side // SIDE) * SIDE
