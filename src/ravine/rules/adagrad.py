"""AdaGrad: every parameter its own, ever smaller, step size."""

from __future__ import annotations

from ravine.math import sqrt
from ravine.rule import State, rule


@rule(
    paper="Duchi, Hazan & Singer 2011",
    parent="sgd",
    reason="Divides by the root of the sum of squared gradients, so that rarely active weights take longer steps.",
    decay="l2",
    state={"v": State("sum", init="initial_accumulator_value")},
    ranges={"lr_decay": "[0, inf)", "initial_accumulator_value": "[0, inf)"},
)
def adagrad(p, g, v, *, t, lr=1e-2, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    """Adagrad: steps divided by the root of the sum of all squared gradients.

    Use it where features are sparse and rare ones matter, as in tables of embeddings, and for convex problems, for
    which its bounds are proved. The sum under the root only grows, so steps shrink for ever and a long training of
    a deep network comes to a halt; RMSprop and Adam forget instead.
    """
    v = v + g**2
    p = p - lr / (1 + (t - 1) * lr_decay) * (g / (sqrt(v) + eps) + weight_decay * p)
    return p, v
