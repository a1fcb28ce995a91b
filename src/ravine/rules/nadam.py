"""NAdam and NAdamW: Adam that looks one step ahead, as Nesterov's momentum does."""

from __future__ import annotations

from ravine.math import sqrt
from ravine.rule import State, rule


@rule(
    paper="Dozat 2016, Incorporating Nesterov Momentum into Adam",
    parent="adam",
    reason="Looks ahead by the next step's momentum, which grows from half of β₁, so that new gradients count at once.",
    decay="l2",
    state={"m": "exp_avg", "v": "exp_avg_sq", "product": State("mu_product", init=1.0, kind="host")},
    ranges={"momentum_decay": "[0, inf)"},
)
def nadam(p, g, m, v, product, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, momentum_decay=4e-3):
    """NAdam: Adam with Nesterov momentum, which warms up from half of beta1.

    Use it as you would use Adam; it often takes a little fewer steps at the same cost. The momentum's schedule,
    which momentum_decay stretches, comes on top of the learning rate's, and one can do the other's work.
    """
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    product = product * mu
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = mu_next / (1 - product * mu_next) * m + (1 - mu) / (1 - product) * g
    v_hat = v / (1 - beta2**t)
    p = p - lr * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)
    return p, m, v, product


@rule(
    paper="Dozat 2016, without the momentum schedule, as in AlgoPerf (Dahl et al. 2023, arXiv:2306.07179)",
    parent="adamw",
    reason="Averages the latest gradient into the momentum once more, as Nesterov does, so that steps turn sooner.",
    state={"m": "exp_avg", "v": "exp_avg_sq"},
)
def nadamw(p, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-2):
    """NAdamW: AdamW with Nesterov momentum.

    Use it as you would use AdamW, with its settings and at its cost: it was among the baselines of the AlgoPerf
    benchmark. There is no schedule of the momentum, as there is in NAdam.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = (beta1 * m + (1 - beta1) * g) / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    p = p - lr * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)
    return p, m, v
