"""What is kept of a tensor: a few numbers, and how its magnitudes are spread over the powers of ten.

Example:
    >>> import torch
    >>> spread = Spread.of(torch.tensor([0.0, 0.01, -1.0, 1.0]))
    >>> spread.zeros, sum(spread.counts.values())
    (1, 3)
    >>> round(spread.quantile(0.9))
    1
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

PER_DECADE = 8
"""Bins in a factor of ten, so that a bin is 33 % wide."""
FIRST, LAST = -20 * PER_DECADE, 10 * PER_DECADE
"""The first and the last bin; what lies outside is counted in them."""
BELOW, ABOVE = FIRST - 1, LAST + 1
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass
class Spread:
    """How many elements are of which magnitude.

    Attributes:
        counts: by bin; bin k holds magnitudes from 10^(k / 8) up to, and without, 10^((k + 1) / 8).
        zeros: how many are 0.
        unusual: how many are infinite or NaN.
    """

    counts: Counter[int] = field(default_factory=Counter)
    zeros: int = 0
    unusual: int = 0

    @classmethod
    def of(cls, x: Tensor) -> Spread:
        """The spread of a tensor of any shape."""
        magnitudes = x.detach().flatten().abs().double()
        places = torch.floor(torch.log10(magnitudes) * PER_DECADE)  # -inf for 0
        known = places.nan_to_num(nan=ABOVE, neginf=BELOW).clamp(FIRST, LAST)
        known = torch.where(magnitudes == 0, BELOW, torch.where(magnitudes < math.inf, known, ABOVE))
        zeros, *counts, unusual = torch.bincount((known - BELOW).long(), minlength=ABOVE - BELOW + 1).tolist()
        return cls(Counter({FIRST + i: count for i, count in enumerate(counts) if count}), zeros, unusual)

    def quantile(self, part: float) -> float:
        """The magnitude below which this part of the finite elements lies, to a bin; NaN where there are none."""
        wanted = part * (self.zeros + sum(self.counts.values()))
        below = self.zeros
        if not below and not self.counts:
            return math.nan
        for place in sorted(self.counts):
            if below >= wanted and below:
                break
            below += self.counts[place]
            if below >= wanted:
                return float(10 ** ((place + 0.5) / PER_DECADE))
        return 0.0

    def as_dict(self) -> dict[str, object]:
        """For JSON: bins from the first to the last that holds any."""
        first = min(self.counts, default=0)
        last = max(self.counts, default=-1)
        counts = [self.counts.get(place, 0) for place in range(first, last + 1)]
        return {"first": first, "counts": counts, "zeros": self.zeros, "unusual": self.unusual}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Spread:
        """What `as_dict` has written."""
        counts: Sequence[int] = values["counts"]  # type: ignore[assignment]
        first: int = values["first"]  # type: ignore[assignment]
        kept = Counter({first + i: int(count) for i, count in enumerate(counts) if count})
        return cls(kept, int(values["zeros"]), int(values["unusual"]))  # type: ignore[call-overload]


def rms(x: Tensor) -> float:
    """The root of the mean square, 0 for an empty tensor."""
    return norm(x) / math.sqrt(x.numel()) if x.numel() else 0.0


def norm(x: Tensor) -> float:
    """The Euclidean norm of all elements, summed in double."""
    return float(torch.linalg.vector_norm(x.detach(), dtype=torch.float64 if x.device.type != "mps" else None))


def singular_values(x: Tensor) -> list[float] | None:
    """The singular values of a matrix, largest first, to 1e-7 of the largest; None where it is not finite.

    They are the roots of the eigenvalues of the smaller of XXᵀ and XᵀX, which takes a fifth of the time of a
    singular value decomposition.
    """
    wide = x.detach().double() if x.shape[0] <= x.shape[1] else x.detach().double().mT
    gram = wide @ wide.mT
    if not bool(torch.isfinite(gram).all()):
        return None
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)
    return [float(f"{v:.5g}") for v in values.tolist()]
