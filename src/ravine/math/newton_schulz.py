"""The polynomials of the Newton–Schulz iteration, which orthogonalizes a matrix by products alone.

One step maps X to aX + bXXᵀX + c(XXᵀ)²X, and so every singular value σ to aσ + bσ³ + cσ⁵, leaving singular vectors
as they are. A schedule has a triple (a, b, c) for each step.
"""

from __future__ import annotations

Triple = tuple[float, float, float]

JORDAN: Triple = (3.4445, -4.7750, 2.0315)

# Amsel et al. 2025, arXiv:2505.16932, for singular values from 1e-3; the last triple goes on for ever.
POLAR_EXPRESS: tuple[Triple, ...] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
SAFETY = 1.01

TINY = 1e-7
"""Added to the norm that a matrix is divided by, so that a zero matrix stays zero."""


def schedule(coefficients: str | Triple, steps: int) -> tuple[float, list[Triple]]:
    """The factor of the norm that the matrix is divided by, and the triple of each step.

    Args:
        coefficients: `"jordan"`, `"polar_express"`, or one triple for all steps.
        steps: how many.

    Raises:
        ValueError: for coefficients of neither kind.

    Polar Express divides its triples by 1.01, 1.01³ and 1.01⁵, all but the last of the list, so that rounding cannot
    take a singular value out of the interval in which the iteration converges.

    >>> schedule("jordan", 1)
    (1.0, [(3.4445, -4.775, 2.0315)])
    """
    if coefficients == "jordan":
        return 1.0, [JORDAN] * steps
    if coefficients == "polar_express":
        safe = [(a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in POLAR_EXPRESS[:-1]]
        return SAFETY, [safe[i] if i < len(safe) else POLAR_EXPRESS[-1] for i in range(steps)]
    if isinstance(coefficients, (tuple, list)) and len(coefficients) == 3:
        a, b, c = map(float, coefficients)
        return 1.0, [(a, b, c)] * steps
    raise ValueError(f"coefficients must be 'jordan', 'polar_express' or three numbers, got {coefficients!r}")
