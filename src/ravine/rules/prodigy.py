"""Prodigy: Adam that finds its own step size."""

from __future__ import annotations

from ravine.math import abs, maximum, minimum, sqrt, total, where
from ravine.rule import State, rule

TINY = 1e-300


@rule(
    paper="Mishchenko & Defazio 2024, arXiv:2306.06101, Algorithm 4",
    parent="adamw",
    reason="Estimates how far the solution is from the start and steps by that, so that lr needs no tuning.",
    state={
        "m": State("exp_avg", when="beta1"),
        "v": "exp_avg_sq",
        "s": "s",
        "p0": State("p0", init="p"),
        "d": State("d", init="d0", kind="shared"),
        "d_max": State("d_max", init="d0", kind="shared"),
        "r": State("d_numerator", kind="shared"),
    },
    ranges={"d0": "(0, inf)", "d_coef": "(0, inf)", "growth_rate": "[1, inf)"},
)
def prodigy(p, g, m, v, s, p0, d, d_max, r, *, t,
            lr=1.0, beta1=0.9, beta2=0.999, beta3=None, eps=1e-8, weight_decay=0.0, use_bias_correction=False,
            safeguard_warmup=False, d0=1e-6, d_coef=1.0, growth_rate=None):  # fmt: skip
    """Prodigy: Adam whose step size is an estimate d of how far the solution is from the start.

    Use it where lr cannot be tuned, as in fine-tuning for many users: leave lr at 1, with a cosine schedule, and
    the step size grows until it fits. It keeps four numbers per weight, where AdamW keeps two, and a well tuned
    AdamW does as well. Watch d in the groups: one that stays at d0 for hundreds of steps wants a larger d0, one
    that overshoots a smaller d_coef or safeguard_warmup.

    d is one number for the whole optimizer, kept in its groups; lr multiplies it and is best left at 1, or at a
    schedule from 1 down; d_coef is what to tune.

    * beta3: decay of the two sums that d is the ratio of; None is √beta2.
    * use_bias_correction: Adam's, as one factor of the step.
    * safeguard_warmup: sums gradients without lr, so that a warm-up of lr does not make d too large.
    * growth_rate: d grows by at most this factor a step, after its first growth; None is without limit.
    """
    beta3 = sqrt(beta2) if beta3 is None else beta3
    step = d * lr
    if use_bias_correction:
        step = step * sqrt(1 - beta2**t) / (1 - beta1**t)
    r = beta3 * r + total(d / d0 * step * (g * (p0 - p)))
    s = beta3 * s + d / d0 * (d if safeguard_warmup else step) * g
    m = beta1 * m + (1 - beta1) * (d * g)
    v = beta2 * v + (1 - beta2) * (d * g) ** 2
    p = p - step * (m / (sqrt(v) + d * eps) + weight_decay * p)
    d_hat = d_coef * r / maximum(total(abs(s)), TINY)
    d_max = maximum(d_max, d_hat)
    d = d_max if growth_rate is None else minimum(d_max, growth_rate * where(d == d0, maximum(d, d_hat), d))
    return p, m, v, s, p0, d, d_max, r
