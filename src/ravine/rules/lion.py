"""Lion: the sign of an interpolated momentum."""

from __future__ import annotations

from ravine.math import sign
from ravine.rule import rule


@rule(
    paper="Chen et al. 2023, arXiv:2302.06675, Algorithm 2",
    parent="momentum",
    reason="Takes the sign of momentum mixed with the gradient: all elements move by lr, and one state is enough.",
    state={"m": "exp_avg"},
)
def lion(p, g, m, *, t, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """Lion: steps of equal size, in the direction of the sign of an interpolated momentum.

    Use it where memory is short: it keeps one number per weight, half of what AdamW keeps. Every element moves by
    lr, so take an lr three to ten times smaller than AdamW's and a weight decay as many times larger. It gains with
    the batch, and loses with small ones, where the sign is mostly that of noise.
    """
    u = sign(beta1 * m + (1 - beta1) * g)
    p = p - lr * (u + weight_decay * p)
    m = beta2 * m + (1 - beta2) * g
    return p, m
