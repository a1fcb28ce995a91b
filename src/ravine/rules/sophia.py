"""Sophia: momentum divided by an estimate of the Hessian's diagonal, and clipped."""

from __future__ import annotations

from ravine.math import clip, maximum
from ravine.rule import rule


@rule(
    paper="Liu et al. 2023, arXiv:2305.14342, Algorithm 3",
    parent="adamw",
    reason="Divides by an estimate of the Hessian's diagonal and clips, so that flat directions take longer steps.",
    state={"m": "exp_avg", "h": "hessian"},
    inputs=("hessian",),
    ranges={"rho": "[0, inf)", "eps": "(0, inf)"},
)
def sophia(p, g, m, h, *, t, hessian=None, lr=1e-4, beta1=0.965, beta2=0.99, rho=0.04, eps=1e-12, weight_decay=0.1):
    """Sophia: steps of momentum over curvature, each element at most lr; where curvature is unknown or small, signs.

    Use it to try curvature at nearly Adam's cost, an estimate every 10 steps. Its authors report half of AdamW's
    steps for GPT-2; where AdamW was tuned as well, little of that was left (Wen et al. 2025, arXiv:2509.02046), and
    long runs diverged (Semenov et al. 2025, arXiv:2509.01440). Without estimates every step is a sign, as Lion's.
    Watch the share of elements that are not clipped and set rho so that it is between 10 and 50 %.

    Every 10 steps or so, `ravine.hessian.gauss_newton_bartlett` (Sophia-G) or `ravine.hessian.hutchinson` (Sophia-H)
    gives the next step an estimate of the Hessian's diagonal. The denominator is the paper's max(γh, ε), under the
    authors' code's name rho; that code adds 1e-15 to it instead, and keeps the batch size apart from h.
    """
    if hessian is not None:
        h = beta2 * h + (1 - beta2) * hessian
    m = beta1 * m + (1 - beta1) * g
    u = clip(m / maximum(rho * h, eps), -1.0, 1.0)
    p = p - lr * (u + weight_decay * p)
    return p, m, h
