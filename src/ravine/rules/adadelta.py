"""Adadelta: RMSProp whose step has the unit of the parameter, without a learning rate to speak of."""

from __future__ import annotations

from ravine.math import sqrt
from ravine.rule import rule


@rule(
    paper="Zeiler 2012, arXiv:1212.5701, Algorithm 1",
    parent="adagrad",
    reason="Forgets old squares and multiplies by the size of past updates, so that steps find their own length.",
    decay="l2",
    state={"v": "square_avg", "a": "acc_delta"},
    ranges={"rho": "[0, 1)"},
)
def adadelta(p, g, v, a, *, t, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    """Adadelta: steps scaled by the ratio of past updates to past gradients.

    Use it where a published recipe does; Adam has taken its place. It was made to need no learning rate: a step takes
    its unit from the steps before it, and these begin at √eps, so eps sets the pace at first. lr multiplies all of
    them and is best left near 1.
    """
    v = rho * v + (1 - rho) * g**2
    u = sqrt(a + eps) / sqrt(v + eps) * g
    a = rho * a + (1 - rho) * u**2
    p = p - lr * (u + weight_decay * p)
    return p, v, a
