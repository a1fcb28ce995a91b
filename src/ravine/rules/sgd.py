"""Stochastic gradient descent with and without momentum."""

from __future__ import annotations

from ravine.math import has
from ravine.rule import State, rule


@rule(
    paper="Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013",
    decay="l2",
    state={"m": State("momentum_buffer", when="momentum")},
    ranges={"dampening": "(-inf, inf)"},
    check=lambda h: (
        "nesterov=True needs momentum above 0 and dampening 0"
        if h["nesterov"] and (h["momentum"] == 0 or h["dampening"] != 0)
        else None
    ),
)
def sgd(p, g, m, *, t, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    """SGD: gradient descent, with the heavy-ball or Nesterov momentum of torch."""
    if has(m):
        m = momentum * m + (1 - dampening if t > 1 else 1) * g
        g = g + momentum * m if nesterov else m
    p = p - lr * (g + weight_decay * p)
    return p, m


@rule(paper="Rumelhart, Hinton & Williams 1986; the textbook's average", decay="l2", state={"m": "momentum_buffer"})
def momentum(p, g, m, *, t, lr=1e-3, beta=0.9, weight_decay=0.0):
    """Momentum: descent along an exponential moving average of the gradients."""
    m = beta * m + (1 - beta) * g
    p = p - lr * (m + weight_decay * p)
    return p, m
