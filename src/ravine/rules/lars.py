"""LARS: descent whose step is scaled, layer by layer, to the size of the weights."""

from __future__ import annotations

from ravine.math import has, norm, where
from ravine.rule import State, rule


@rule(
    paper="You, Gitman & Ginsburg 2017, arXiv:1708.03888, Algorithm 1",
    parent="momentum",
    reason="Scales each tensor's gradient to a share of its weights' norm, so that all layers bear very large batches.",
    state={"m": State("momentum_buffer", when="momentum")},
    ranges={"dampening": "(-inf, inf)", "trust_coefficient": "[0, inf)"},
    check=lambda h: (
        "nesterov=True needs momentum above 0 and dampening 0"
        if h["nesterov"] and (h["momentum"] == 0 or h["dampening"] != 0)
        else None
    ),
)
def lars(p, g, m, *, t, lr=1.0, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False,
         trust_coefficient=1e-3, eps=1e-8):  # fmt: skip
    """LARS: momentum whose gradients are scaled to a fixed share of the weights' norm, for every parameter tensor.

    Use it for convolutional networks at batches of many thousands of images, the case it was made for; Nesterov's
    momentum, tuned as carefully, does as well there (Nado et al. 2021, arXiv:2102.06356). lr is multiplied by
    trust_coefficient and so is far larger than SGD's, and it wants a warm-up. Biases and normalisation layers are
    best put into a group with `rule="sgd"`, or without weight decay.

    The paper's box keeps lr inside the momentum; as in timm's and Apex' code, which also add eps, it is outside here,
    which differs only where lr changes. Unlike timm's, the ratio is always applied, not only with weight decay.
    """
    w, n = norm(p), norm(g)
    trust_ratio = where((w > 0) & (n > 0), trust_coefficient * w / (n + weight_decay * w + eps), 1.0)
    g = trust_ratio * (g + weight_decay * p)
    if has(m):
        m = momentum * m + (1 - dampening if t > 1 else 1) * g
        g = g + momentum * m if nesterov else m
    p = p - lr * g
    return p, m
