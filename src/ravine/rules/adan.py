"""Adan: Nesterov's momentum, estimated from differences of gradients, with Adam's denominator."""

from __future__ import annotations

from ravine.math import ZERO, sqrt
from ravine.rule import rule


@rule(
    paper="Xie et al. 2022, arXiv:2208.06677, Algorithm 1",
    parent="adamw",
    reason="Averages the gradient's changes too, so that it looks ahead without a gradient at another point.",
    state={"m": "exp_avg", "v": "exp_avg_diff", "n": "exp_avg_sq", "minus_old": "neg_pre_grad"},
)
def adan(p, g, m, v, n, minus_old, *, t,
         lr=1e-3, beta1=0.98, beta2=0.92, beta3=0.99, eps=1e-8, weight_decay=0.0, no_prox=False):  # fmt: skip
    """Adan: Nesterov momentum that sees ahead by the change of the gradient; proximal weight decay.

    Use it for vision models trained long and with a large lr, where its authors report fewer epochs than AdamW
    needs. It keeps four numbers per weight, twice as many as AdamW, and its three betas do not mean what AdamW's
    do, so settings cannot be carried over.

    As in the authors' code, each beta is one minus the paper's, moments begin at zero with their bias corrected where
    the paper begins at the first gradient, and `no_prox=True` decays weights as AdamW does.
    """
    change = g + minus_old if t > 1 else ZERO
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * change
    n = beta3 * n + (1 - beta3) * (g + beta2 * change) ** 2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    n_hat = n / (1 - beta3**t)
    u = (m_hat + beta2 * v_hat) / (sqrt(n_hat) + eps)
    if not no_prox:
        lr = lr / (1 + lr * weight_decay)
    p = p - lr * (u + weight_decay * p)
    return p, m, v, n, -g
