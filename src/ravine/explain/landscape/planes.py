"""Planes through the weights of a network, and what of a path can be seen in one.

A plane is an origin θ₀ and two directions: its points are θ₀ + a·d₁ + b·d₂. A path is projected on it orthogonally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PLANES = ("checkpoints", "pca", "random")

FLAT = 1e-6
"""Three points are on one line if the third is nearer to it than this part of the largest distance between them."""


@dataclass(frozen=True)
class Plane:
    """A plane.

    Args:
        kind: one of `PLANES`.
        origin: θ₀, (parameters,).
        directions: d₁ and d₂, (2, parameters), not parallel.
        names: of the coordinates a and b, for axes.
    """

    kind: str
    origin: Tensor
    directions: Tensor
    names: tuple[str, str]

    def at(self, a: float, b: float) -> Tensor:
        """The weights at a point, (parameters,)."""
        return self.origin + a * self.directions[0] + b * self.directions[1]

    def project(self, weights: Tensor) -> Tensor:
        """The coordinates of the nearest points of the plane, (…, 2), of weights (…, parameters), in float64."""
        directions = self.directions.double()
        inner = (weights.double() - self.origin.double()) @ directions.T
        return torch.linalg.solve(directions @ directions.T, inner.unsqueeze(-1)).squeeze(-1)

    def share(self, path: Tensor) -> float:
        """The part of a path's variance around its mean that lies in the plane, from 0 to 1.

        Args:
            path: weights, (points, parameters).

        Returns:
            The part; 1 for a path that does not move.
        """
        centred = path.double() - path.double().mean(0)
        whole = float(centred.square().sum())
        basis = torch.linalg.qr(self.directions.double().T).Q
        return float((centred @ basis).square().sum()) / whole if whole else 1.0


def through(points: Sequence[Tensor], names: Sequence[str]) -> Plane:
    """The plane through three points, with the first at the origin and the second on the first axis.

    Coordinates are distances between weights.

    Args:
        points: three vectors of weights.
        names: what they are called, for the message.

    Raises:
        ValueError: where they lie on one line.
    """
    first, second, third = (point.double() for point in points)
    u, v = second - first, third - first
    size = max(float(u.norm()), float(v.norm()))
    if float(u.norm()) > FLAT * size:
        u = u / u.norm()
        v = v - (v @ u) * u
    if size == 0 or float(u.norm()) <= FLAT * size or float(v.norm()) <= FLAT * size:
        raise ValueError(f"plane: {', '.join(names)} lie on one line, and through a line there is no single plane")
    directions = torch.stack([u, v / v.norm()])
    return Plane("checkpoints", first, directions, (f"towards {names[1]}", f"towards {names[2]}"))


def principal(paths: Sequence[Tensor]) -> Plane:
    """The plane in which the paths' points vary most: through their mean, along the first two principal directions.

    Coordinates are distances between weights. Source: Li et al. 2018, arXiv:1712.09913, Section 7.2, who centre on the
    end of one path.

    Args:
        paths: of each optimizer, (points, parameters).

    Raises:
        ValueError: where the points lie on one line.
    """
    points = torch.cat(list(paths)).double()
    centre = points.mean(0)
    _, sizes, directions = torch.linalg.svd(points - centre, full_matrices=False)
    if len(sizes) < 2 or not sizes[1] > FLAT * sizes[0]:
        raise ValueError("plane: the points of the paths lie on one line, and through a line there is no single plane")
    parts = (sizes**2 / (sizes**2).sum()).tolist()
    names = tuple(f"principal direction {i + 1} ({parts[i]:.0%} of the variance)" for i in range(2))
    return Plane("pca", centre, directions[:2], (names[0], names[1]))


def random(model: nn.Module, origin: Tensor, seed: int) -> Plane:
    """A plane along two random directions in which each filter is as long as the network's.

    Each row of a weight (a filter, an output's weights) of a normal direction is scaled to the norm of that row in
    the network; biases and norms, which have no rows, stay as they are. So landscapes of networks whose weights have
    different sizes can be compared. Source: Li et al. 2018, arXiv:1712.09913, Section 4 and Appendix A.

    Args:
        model: whose trained parameters have the shapes of the weights.
        origin: the weights at the centre, (parameters,).
        seed: of the directions.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = []
    for _ in range(2):
        parts, place = [], 0
        for p in trained(model):
            own = origin[place : place + p.numel()].reshape(p.shape).double()
            place += p.numel()
            drawn = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            if p.ndim < 2:
                parts.append(torch.zeros(p.numel(), dtype=torch.float64))
                continue
            rows = drawn.flatten(1)
            scale = own.flatten(1).norm(dim=1, keepdim=True) / rows.norm(dim=1, keepdim=True)
            parts.append((rows * scale).flatten())
        directions.append(torch.cat(parts))
    names = ("first random direction", "second random direction")
    return Plane("random", origin.double(), torch.stack(directions), names)


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained, in the order of the vectors of weights."""
    return [p for p in model.parameters() if p.requires_grad]


def weights_of(model: nn.Module) -> Tensor:
    """The trained parameters as one vector, a copy in their type."""
    return torch.cat([p.detach().flatten() for p in trained(model)])


def put(model: nn.Module, weights: Tensor) -> None:
    """Write a vector of weights into a model."""
    place = 0
    with torch.no_grad():
        for p in trained(model):
            p.copy_(weights[place : place + p.numel()].reshape(p.shape))
            place += p.numel()
