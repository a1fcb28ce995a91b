"""Adamax: Adam with the largest gradient in place of the mean square."""

from __future__ import annotations

from ravine.math import abs, maximum
from ravine.rule import rule


@rule(
    paper="Kingma & Ba 2015, arXiv:1412.6980, Algorithm 2",
    parent="adam",
    reason="Divides by a fading maximum instead of a mean square, so that no step is much longer than lr.",
    decay="l2",
    state={"m": "exp_avg", "v": "exp_inf"},
)
def adamax(p, g, m, v, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    """Adamax: Adam with an exponentially weighted infinity norm.

    Use it where single large gradients upset Adam: the largest one, slowly fading, divides the step, which so stays
    within about lr. Elsewhere it is seldom better than Adam, and keeps the same two numbers per weight.
    """
    m = beta1 * m + (1 - beta1) * g
    v = maximum(beta2 * v, abs(g) + eps)
    m_hat = m / (1 - beta1**t)
    p = p - lr * (m_hat / v + weight_decay * p)
    return p, m, v
