"""RAdam: Adam that trusts its second moment only once it has seen enough."""

from __future__ import annotations

from ravine.math import sqrt
from ravine.rule import rule


@rule(
    paper="Liu et al. 2020, arXiv:1908.03265, Algorithm 2, with the threshold 5 of the authors' code",
    parent="adam",
    reason="Holds steps back while the second moment rests on few gradients, so that lr needs no warm-up.",
    decay="l2",
    state={"m": "exp_avg", "v": "exp_avg_sq"},
)
def radam(p, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    """RAdam: Adam with a rectified, at first plain, step size.

    Use it where no warm-up of the learning rate is wanted: while √v̂ rests on too few gradients its steps are
    momentum's, and then they grow to Adam's within some 1 / (1 − β₂) steps. Adam with a warm-up of that length does
    as well (Ma & Yarats 2021, arXiv:1910.04209).
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    u = m / (1 - beta1**t)
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    if rho > 5:
        r = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        u = r * sqrt(1 - beta2**t) * u / (sqrt(v) + eps)
    p = p - lr * (u + weight_decay * p)
    return p, m, v
