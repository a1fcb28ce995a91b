"""MARS: AdamW on gradients whose variance is reduced by the gradients before them."""

from __future__ import annotations

from ravine.math import maximum, norm, sqrt
from ravine.rule import rule


@rule(
    paper="Yuan et al. 2024, arXiv:2411.10438, Algorithm 2 (MARS-AdamW)",
    parent="adamw",
    reason="Adds to each gradient a multiple of its last change, so that the noise of single batches weighs less.",
    state={"m": "exp_avg", "v": "exp_avg_sq", "old": "last_grad"},
    ranges={"gamma": "[0, inf)"},
)
def mars(p, g, m, v, old, *, t, lr=3e-3, beta1=0.95, beta2=0.99, gamma=0.025, eps=1e-8, weight_decay=0.0):
    """MARS: AdamW on gradients corrected by their change, and clipped to norm 1 for every parameter tensor.

    Use it for language models in place of AdamW: where both were tuned it came out somewhat ahead (Wen et al. 2025,
    arXiv:2509.02046; Semenov et al. 2025, arXiv:2509.01440). It keeps the last gradient as a third number per
    weight, and a second pass, for the norm, makes a step cost about one and a half of AdamW's.

    As in the authors' code by default (the paper's MARS-approx), the old gradient is that of the previous batch; the
    first step is plain, as in the paper and in timm, where the authors' code takes the old gradient to be zero. Every
    parameter is corrected; to step vectors by AdamW, as the authors do, give them a group with `rule="adamw"`.
    """
    c = g + gamma * beta1 / (1 - beta1) * (g - old) if t > 1 else g
    c = c / maximum(norm(c), 1.0)
    m = beta1 * m + (1 - beta1) * c
    v = beta2 * v + (1 - beta2) * c**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    p = p - lr * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)
    return p, m, v, g
