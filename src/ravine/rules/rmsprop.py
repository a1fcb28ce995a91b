"""RMSProp: AdaGrad that forgets."""

from __future__ import annotations

from ravine.math import has, maximum, sqrt
from ravine.rule import State, rule


@rule(
    paper="Tieleman & Hinton 2012, lecture 6.5; centered: Graves 2013, arXiv:1308.0850",
    parent="adagrad",
    reason="Averages squared gradients instead of summing them, so that steps do not die out.",
    decay="l2",
    state={
        "v": "square_avg",
        "m": State("momentum_buffer", when="momentum"),
        "a": State("grad_avg", when="centered"),
    },
)
def rmsprop(p, g, v, m, a, *, t, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    """RMSprop: steps divided by the root of a moving average of squared gradients.

    Use it where a published recipe does, as in reinforcement learning and for some networks of mobile devices;
    elsewhere Adam, which adds momentum and corrects the average for its start at zero, is the safer choice. Here it
    is not corrected: the first step is 1/√(1 − alpha) times too long, ten times at the default, which a warm-up or
    a larger eps tames.
    """
    v = alpha * v + (1 - alpha) * g**2
    variance = v
    if centered:
        a = alpha * a + (1 - alpha) * g
        variance = maximum(v - a**2, 0.0)
    u = g / (sqrt(variance) + eps)
    if has(m):
        u = m = momentum * m + u
    p = p - lr * (u + weight_decay * p)
    return p, v, m, a
