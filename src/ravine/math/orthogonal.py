"""Orthogonalization of stacks of torch matrices by the Newton–Schulz iteration, in two arrangements.

Both compute the same polynomial of each matrix. With n rows and m ≥ n columns, five steps take

* `plain`, X ← aX + (bA + cA²)X with A = XXᵀ: 20n²m + 10n³ operations, and corrects its own roundings;
* `gram`, on the small matrix A alone: Q ← PQ, A ← PAP with P = aI + bA + cA², and X ← QX only now and then.

The Gram form loses what A cannot hold: σ² of a small singular value drowns in the rounding of σ² of the largest, and
each step multiplies what it lost. So it restarts: X is formed and XXᵀ computed again. When it must, was measured on
spectra from flat to k⁻³, of rank 16 and of momenta in training (`tests/engines/test_orthogonalize.py` holds them):

* float32: once, after step 2 (8n²m + 28n³): within 5e-5 of float64;
* bfloat16, Jordan's coefficients, n from 128 to 512: after steps 2 and 3 (12n²m + 22n³), and for larger n after 2, 3
  and 4 (16n²m + 16n³): at most 1.2 times the error of the plain iteration. It needs one thing more: late in the
  iteration A is held as A − kI with k near a half, whose rounding is smaller. Restarted only once, bfloat16 is four to
  nine times as wrong as the plain iteration;
* bfloat16, Polar Express: no arrangement that is worth it. Its first steps multiply by 8 and 4, and roundings with it.

Example:
    >>> q = orthogonalize(torch.diag(torch.tensor([3.0, 1.0, 0.2])), coefficients="polar_express")
    >>> bool((torch.linalg.svdvals(q) - 1).abs().max() < 0.13)
    True
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ravine.math.newton_schulz import TINY, Triple, schedule

Method = Literal["plain", "gram"]

HALF = 0.5
ONCE = ((2, 0.0), (3, 0.0))
TWICE = ((2, 0.0), (1, HALF), (2, 0.4))
THRICE = ((2, 0.0), (1, HALF), (1, HALF), (1, HALF))
SMALLEST_GRAM, LARGEST_TWICE = 128, 512
SMALLEST_SYMMETRIC = 512
MOST_KEPT = 1 << 25
FLOAT_BLOCKS, BFLOAT_BLOCKS = 4, 2
LONG = 3


_kept = threading.local()


def buffer(name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory to compute in. On a CPU, up to `MOST_KEPT` bytes of each name stay for the next call of this thread: fresh
    memory comes page by page from the system, which takes as long as a tenth of the products."""
    elements = math.prod(shape)
    if device.type != "cpu" or elements * dtype.itemsize > MOST_KEPT:
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    kept: dict[Any, Tensor] = _kept.__dict__
    key = f"{name} {dtype}"
    if key not in kept or kept[key].numel() < elements:
        with torch.inference_mode(False):  # what is made in inference mode cannot be written to outside of it
            kept[key] = torch.empty(elements, dtype=dtype, device=device)
    return kept[key][:elements].view(tuple(shape))


def default_dtype(x: Tensor) -> torch.dtype:
    """The type to compute in, without measuring: bfloat16 where the hardware multiplies it, else float32.

    A float64 matrix stays float64. float16 is never chosen: processors multiply it one element at a time.
    """
    if x.dtype == torch.float64:
        return torch.float64
    if x.device.type == "cuda":
        fast = torch.cuda.get_device_capability(x.device) >= (8, 0)
    elif x.device.type == "cpu":
        supported = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
        fast = any(ask is not None and ask() for ask in supported)
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def segments(n: int, steps: int, coefficients: str | Triple, dtype: torch.dtype) -> Sequence[tuple[int, float]] | None:
    """The Gram form's steps between restarts, each with the multiple of I that is subtracted from A.

    Args:
        n: the smaller dimension.
        steps, coefficients: of the iteration.
        dtype: the type it is computed in.

    Returns:
        Pairs (steps, multiple), or None where the Gram form is not accurate, or not known to be.
    """
    if steps != 5 or coefficients not in ("jordan", "polar_express"):
        return None
    if dtype == torch.float32:
        return ONCE
    if dtype == torch.bfloat16 and coefficients == "jordan" and n >= SMALLEST_GRAM:
        return TWICE if n <= LARGEST_TWICE else THRICE
    return None


def default_method(n: int, m: int, steps: int, coefficients: str | Triple, dtype: torch.dtype) -> Method:
    """The arrangement for n × m matrices, without measuring: `gram` where it is accurate and m ≥ 2n."""
    n, m = min(n, m), max(n, m)
    return "gram" if n >= SMALLEST_GRAM and m >= 2 * n and segments(n, steps, coefficients, dtype) else "plain"


def orthogonalize(
    x: Tensor,
    steps: int = 5,
    coefficients: str | Triple = "jordan",
    *,
    method: Method | None = None,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The nearest semi-orthogonal matrix of each matrix of a stack, approximately.

    Args:
        x: of shape (..., n, m), floating point, any strides. It is not changed.
        steps: how many steps of the iteration.
        coefficients: `"jordan"`, `"polar_express"`, or a triple (a, b, c) for every step.
        method: `"plain"`, `"gram"`, or None for `default_method`'s choice. Where the Gram form is not accurate
            (`segments`), `"gram"` is refused.
        dtype: the type to compute in; None for `default_dtype`'s choice.
        out: a tensor of x's shape that receives the result, of any floating type; it may be `x`.

    Returns:
        A tensor of x's shape and type, or `out`. A matrix of zeros gives zeros. A NaN or an infinity makes its own
        matrix NaN and no other. Rows or columns of zeros stay zeros and change nothing else, so matrices of other
        shapes may be padded with them.

    Raises:
        ValueError: if x is not a matrix or a stack of them, for unknown coefficients or methods, or where the Gram
            form is asked for and is not accurate.

    Source: Jordan et al. 2024, "Muon"; Amsel et al. 2025, arXiv:2505.16932.
    """
    if x.ndim < 2:
        raise ValueError(f"orthogonalize needs a matrix or a stack of matrices, got a tensor of shape {tuple(x.shape)}")
    if method not in (None, "plain", "gram"):
        raise ValueError(f"method must be 'plain', 'gram' or None, got {method!r}")
    steps = int(steps)
    safety, triples = schedule(coefficients, steps)
    rows, columns = x.shape[-2:]
    dtype = dtype or default_dtype(x)
    method = method or default_method(rows, columns, steps, coefficients, dtype)
    restarts = segments(min(rows, columns), steps, coefficients, dtype) if method == "gram" else None
    if method == "gram" and restarts is None:
        raise ValueError(
            f"method='gram' is not accurate for {steps} steps of {coefficients!r} in {dtype} on matrices of "
            f"{rows} × {columns}; use 'plain'"
        )
    if x.numel() == 0:
        return x.clone() if out is None else out
    stack = _normalized(x, safety, dtype).reshape(-1, rows, columns)
    tall = rows > columns
    stack = _multiplied(stack, products(triples, restarts or [(1, 0.0)] * steps), tall)
    return (torch.empty_like(x) if out is None else out).copy_(stack.reshape(x.shape))


def _normalized(x: Tensor, safety: float, dtype: torch.dtype) -> Tensor:
    """Each matrix over its Frobenius norm, so that no singular value is above 1."""
    work = x if x.dtype in (torch.float32, torch.float64) else x.float()
    scale = (safety * _norm(work) + TINY).to(work.dtype)
    return torch.div(work, scale, out=buffer("x", x.shape, dtype, x.device))


def _norm(x: Tensor) -> Tensor:
    """The Frobenius norm of each matrix, of shape (..., 1, 1).

    On a CPU torch adds float32 up in double sixty times slower than in float32. So rows are added up in float32 and
    then the rows in double, and all in double only where float32 overflows.
    """
    double = torch.float32 if x.device.type == "mps" else torch.float64
    norm: Tensor
    if x.device.type == "cpu" and x.dtype == torch.float32:
        by_row = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        norm = torch.linalg.vector_norm(by_row, dim=-2, keepdim=True, dtype=double)
        if bool(norm.isfinite().all()):
            return norm
        exact = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True, dtype=double)
        return torch.where(norm.isfinite(), norm, exact)
    norm = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True, dtype=double)
    return norm


def _times(q: Tensor, x: Tensor, tall: bool) -> tuple[Tensor, Tensor]:
    """The factors of QX, or of XQᵀ where X is tall: its transpose, since roundings leave Q not quite symmetric."""
    return (x, q.mT) if tall else (q, x)


def _gram_factors(x: Tensor, tall: bool) -> tuple[Tensor, Tensor]:
    """The factors of XXᵀ, or of XᵀX for a tall matrix, which is the smaller."""
    return (x.mT, x) if tall else (x, x.mT)


@dataclass(frozen=True)
class Product:
    """out ← alpha · left · right + Σ coefficient · matrix + diagonal · I.

    The matrices are named. `x` is X, and `x` times `x` is XXᵀ; all others are n × n and symmetric.
    """

    out: str
    left: str
    right: str
    alpha: float = 1.0
    added: tuple[tuple[float, str], ...] = ()
    diagonal: float = 0.0


def products(triples: Sequence[Triple], restarts: Sequence[tuple[int, float]]) -> Iterator[Product]:
    """The products of the iteration, in order: of the Gram form, or with a restart after every step of the plain one.

    Of A, P and Q only what differs from a multiple of I is held: E = A − kI, F = P − sI, Q − rI.

    >>> [f"{p.out} = {p.left} {p.right}" for p in products([(3.0, -3.0, 1.0)], [(1, 0.0)])]
    ['e = x x', 'f = e e', 'x = f x']
    """
    remaining = iter(triples)
    for length, k in restarts:
        f, q, work, r = "f", "q", "work", 0.0
        yield Product("e", "x", "x", diagonal=-k)
        for j in range(length):
            a, b, c = next(remaining)
            s = a + b * k + c * k * k
            yield Product(f, "e", "e", c, ((b + 2 * c * k, "e"),))
            if j + 1 < length:
                # E + kI ← P(E + kI)P, in two products, from D = P(E + kI) − skI.
                yield Product(work, f, "e", 1.0, ((s, "e"), (k, f)) if k else ((s, "e"),))
                added = ((s, work), (s * k, f)) if k else ((s, work),)
                yield Product("e", work, f, 1.0, added, k * (s * s - 1))
            if j == 0:
                f, q, r = q, f, s
            else:
                yield Product(work, f, q, 1.0, ((s, q), (r, f)))
                q, work, r = work, q, r * s
        yield Product("x", q, "x", 1.0, ((r, "x"),))


def _multiplied(x: Tensor, listed: Iterable[Product], tall: bool) -> Tensor:
    """X after these products. Overwrites x."""
    n = min(x.shape[-2:])
    spare = buffer("spare", x.shape, x.dtype, x.device)
    small: dict[str, Tensor] = {}
    for product in listed:
        if product.out == "x":
            ((r, _),) = product.added
            torch.baddbmm(x, *_times(small[product.left], x, tall), beta=r, out=spare)
            x, spare = spare, x
            continue
        if product.out not in small:
            small[product.out] = buffer(product.out, (x.shape[0], n, n), x.dtype, x.device)
        factors = _gram_factors(x, tall) if product.left == "x" else (small[product.left], small[product.right])
        _symmetric_product(product, *factors, [(c, small[name]) for c, name in product.added], small[product.out])
    return x


def _symmetric_product(
    product: Product, left: Tensor, right: Tensor, added: Sequence[tuple[float, Tensor]], out: Tensor
) -> None:
    """A product of stacks that is symmetric.

    On a CPU only blocks up to the diagonal of large products are computed and then mirrored: of float32 from
    `SMALLEST_SYMMETRIC` on, a quarter of the time less, of bfloat16 where long rows are multiplied, a sixth less.
    """
    n, m, alpha = out.shape[-1], left.shape[-1], product.alpha
    start, beta = out, 1.0
    if len(added) == 1 and not product.diagonal:
        ((beta, start),) = added
    elif added:
        torch.mul(added[0][1], added[0][0], out=out)
        for coefficient, matrix in added[1:]:
            out.add_(matrix, alpha=coefficient)
    else:
        out.zero_()
    if product.diagonal:
        out.diagonal(dim1=-2, dim2=-1).add_(product.diagonal)
    large = n >= SMALLEST_SYMMETRIC and (out.dtype != torch.bfloat16 or m >= LONG * n)
    if out.device.type != "cpu" or not large:
        if added or product.diagonal or alpha != 1:
            torch.baddbmm(start, left, right, beta=beta, alpha=alpha, out=out)
        else:
            torch.bmm(left, right, out=out)
        return
    height = -(-n // (FLOAT_BLOCKS if out.dtype != torch.bfloat16 else BFLOAT_BLOCKS))
    for i in range(out.shape[0]):
        for low in range(0, n, height):
            high = min(low + height, n)
            block, rows, columns = out[i, low:high, :high], left[i, low:high], right[i, :, :high]
            torch.addmm(start[i, low:high, :high], rows, columns, out=block, alpha=alpha, beta=beta)
            out[i, :low, low:high] = block[:, :low].mT
