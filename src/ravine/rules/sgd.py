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
    """SGD: gradient descent, with the heavy-ball or Nesterov momentum of torch.

    Use it for convolutional networks on images, with momentum 0.9, and wherever memory is short: without momentum
    it keeps no state. Its steps have the scale of the gradient, so lr has to be found for every model anew, and on
    transformers it falls far behind Adam (Zhang et al. 2020, arXiv:1912.03194).
    """
    if has(m):
        m = momentum * m + (1 - dampening if t > 1 else 1) * g
        g = g + momentum * m if nesterov else m
    p = p - lr * (g + weight_decay * p)
    return p, m


@rule(
    paper="Rumelhart, Hinton & Williams 1986; the textbook's average",
    parent="sgd",
    reason="Averages gradients, so that what alternates cancels and what persists adds up.",
    decay="l2",
    state={"m": "momentum_buffer"},
)
def momentum(p, g, m, *, t, lr=1e-3, beta=0.9, weight_decay=0.0):
    """Momentum: descent along an exponential moving average of the gradients.

    Use it to follow textbooks, whose average it is. It takes the path of `sgd` with the same momentum if its lr is
    1 / (1 − beta) times as large: ten times at the default.
    """
    m = beta * m + (1 - beta) * g
    p = p - lr * (m + weight_decay * p)
    return p, m


nesterov = sgd.preset(
    "nesterov",
    doc="Nesterov: gradient descent with a momentum that looks one step ahead.\n\n"
    "Use it to train convolutional networks by SGD, the most common case of it: it is a little better than the\n"
    "heavy ball and costs the same, one number per weight. As with SGD, lr has to be found for every model;\n"
    "settings of the heavy ball serve.",
    paper="Nesterov 1983; Sutskever et al. 2013, in torch's form",
    reason="Adds a velocity and looks ahead along it, so that overshooting is corrected a step sooner.",
    momentum=0.9,
    nesterov=True,
)
