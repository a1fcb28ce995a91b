"""ADOPT: Adam that converges with any β₂, since each gradient is divided by what came before it."""

from __future__ import annotations

from ravine.math import clip, maximum, sqrt
from ravine.rule import rule


@rule(
    paper="Taniguchi et al. 2024, arXiv:2411.02853, Algorithm 2; clipped as in the authors' code",
    parent="adam",
    reason="Divides each gradient by earlier ones' second moment and averages after that, so that any β₂ converges.",
    state={"m": "exp_avg", "v": "exp_avg_sq"},
)
def adopt(p, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.9999, eps=1e-6, weight_decay=0.0, clipped=True):
    """ADOPT: momentum over gradients divided by the root of earlier ones' second moment; the first step only looks.

    Use it where Adam is unstable or hangs on a well chosen β₂: here the present gradient is not among those that it
    is divided by, so any β₂ converges. Settings and cost are those of AdamW. Without clipping, a small first
    gradient makes long steps.
    """
    if t == 1:
        return p, m, g**2
    u = g / maximum(sqrt(v), eps)
    if clipped:
        limit = (t - 1) ** 0.25
        u = clip(u, -limit, limit)
    m = beta1 * m + (1 - beta1) * u
    p = p - lr * (m + weight_decay * p)
    v = beta2 * v + (1 - beta2) * g**2
    return p, m, v
