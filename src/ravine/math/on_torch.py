"""The vocabulary on torch tensors, on any device. Imported when the first tensor is seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ravine.math import orthogonal, sweep
from ravine.math.newton_schulz import Triple


def _same_type(*values: Any) -> list[Tensor]:
    """Each value as a tensor of the type and device of the tensors among them; Python scalars follow."""
    tensors = [v for v in values if isinstance(v, Tensor) and v.dtype != torch.bool]
    if not tensors:
        raise TypeError(
            "where() needs a tensor in one of its branches when the condition is a tensor; "
            f"got {values[0]!r} and {values[1]!r}"
        )
    like = max(tensors, key=lambda tensor: tensor.ndim)
    return [v if isinstance(v, Tensor) else like.new_tensor(float(v)) for v in values]


def _double(x: Tensor) -> Tensor:
    return x.float() if x.device.type == "mps" else x.double()  # Apple's GPUs have no double


def sqrt(x: Tensor) -> Tensor:
    # torch's float32 root on the CPU is one ulp off for a fifth of all values; through double it is exact.
    return torch.sqrt(_double(x)).to(x.dtype) if x.dtype == torch.float32 else torch.sqrt(x)


def abs(x: Tensor) -> Tensor:
    return torch.abs(x)


def sign(x: Tensor) -> Tensor:
    one, minus_one, x = _same_type(1.0, -1.0, x)
    return torch.where(x > 0, one, torch.where(x < 0, minus_one, x))


def exp(x: Tensor) -> Tensor:
    return torch.exp(_double(x)).to(x.dtype)


def log(x: Tensor) -> Tensor:
    return torch.log(_double(x)).to(x.dtype)


def maximum(a: Any, b: Any) -> Tensor:
    a, b = _same_type(a, b)
    return torch.where((a > b) | (a != a), a, b)


def minimum(a: Any, b: Any) -> Tensor:
    a, b = _same_type(a, b)
    return torch.where((a < b) | (a != a), a, b)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    a, b = _same_type(a, b)
    if not isinstance(condition, Tensor):
        condition = torch.tensor(bool(condition), device=a.device)
    return torch.where(condition, a, b)


def _rounded(result: Tensor, like: Tensor) -> Tensor:
    return result if like.dtype == torch.bool else result.to(like.dtype)


def sum(x: Tensor) -> Tensor:
    return _rounded(_double(x).sum(), x)


def mean(x: Tensor) -> Tensor:
    return _rounded(_double(x).mean(), x)


def norm(x: Tensor) -> Tensor:
    return _rounded(_double(x).square().sum().sqrt(), x)


def rms(x: Tensor) -> Tensor:
    return _rounded(_double(x).square().mean().sqrt(), x)


def row_mean(x: Tensor) -> Tensor:
    return _double(x).mean(-1, keepdim=True).to(x.dtype)


def column_mean(x: Tensor) -> Tensor:
    return _double(x).mean(-2, keepdim=True).to(x.dtype)


def total(x: Tensor) -> Any:
    return sweep.ask(_double(x).sum().item())


def rows(x: Tensor) -> float:
    return float(x.shape[-2]) if x.ndim > 1 else 1.0


def columns(x: Tensor) -> float:
    return float(x.shape[-1]) if x.ndim else 1.0


def transpose(x: Tensor) -> Tensor:
    return x.mT


def orthogonalize(x: Tensor, steps: int, coefficients: str | Triple) -> Tensor:
    work = x.dtype if x.dtype == torch.float64 else torch.float32
    return orthogonal.orthogonalize(x, steps, coefficients, method="plain", dtype=work)


def _eigh(x: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors; NaN where LAPACK would refuse a matrix that is not finite."""
    finite = torch.isfinite(x).all(-1, keepdim=True).all(-2, keepdim=True)
    values, vectors = torch.linalg.eigh(torch.where(finite, x, 0.0))
    return torch.where(finite[..., 0], values, torch.nan), torch.where(finite, vectors, torch.nan)


def eigenbasis(x: Tensor) -> Tensor:
    return torch.flip(_eigh(x)[1], (-1,))


def refresh_basis(x: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    image = x @ basis
    order = torch.argsort((basis * image).sum(0), descending=True, stable=True)
    return torch.linalg.qr(image[:, order])[0], order


def take(x: Tensor, order: Tensor, axis: int) -> Tensor:
    return torch.index_select(x, axis, order)


def inverse_root(x: Tensor, k: int) -> Tensor:
    values, vectors = _eigh(_double(x))
    # Below the rounding of x, an eigenvalue may have any sign; none is taken to be smaller than that.
    floor = torch.clamp(torch.finfo(x.dtype).eps * values[..., -1:], min=torch.finfo(values.dtype).tiny)
    powers = torch.where(values < floor, floor, values) ** (-1 / k)
    return torch.matmul(vectors * powers[..., None, :], vectors.mT).to(x.dtype)
