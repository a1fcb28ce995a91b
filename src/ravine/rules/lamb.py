"""LAMB: AdamW whose step is scaled, layer by layer, to the size of the weights."""

from __future__ import annotations

from ravine.math import norm, sqrt, where
from ravine.rule import rule


@rule(
    paper="You et al. 2020, arXiv:1904.00962, Algorithm 2",
    parent="adamw",
    reason="Scales each tensor's step to the norm of its weights, so that all layers bear very large batches.",
    state={"m": "exp_avg", "v": "exp_avg_sq"},
)
def lamb(p, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=1e-2):
    """LAMB: AdamW with a trust ratio ‖p‖/‖u‖ for every parameter tensor.

    Use it for very large batches, of tens of thousands of examples, where layers of different scales need steps of
    different size; with it BERT was first trained in 76 minutes. At ordinary batch sizes it has no advantage, and
    with careful tuning Adam does as well at large ones (Nado et al. 2021, arXiv:2102.06356). The norm of the whole
    update must be known before the step, which costs a second pass.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    u = m_hat / (sqrt(v_hat) + eps) + weight_decay * p
    w, n = norm(p), norm(u)
    p = p - lr * where((w > 0) & (n > 0), w / n, 1.0) * u
    return p, m, v
