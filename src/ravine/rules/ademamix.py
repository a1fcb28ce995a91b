"""AdEMAMix: Adam with a second, much slower momentum."""

from __future__ import annotations

from ravine.math import exp, log, maximum, minimum, sqrt
from ravine.rule import rule


@rule(
    paper="Pagliardini, Ablin & Grangier 2024, arXiv:2409.03137, Algorithm 1",
    parent="adamw",
    reason="Adds a second, far slower momentum, so that gradients thousands of steps old still help.",
    state={"m": "exp_avg_fast", "slow": "exp_avg_slow", "v": "exp_avg_sq"},
    ranges={"alpha": "[0, inf)", "alpha_warmup": "[1, inf)", "beta3_warmup": "[1, inf)"},
)
def ademamix(p, g, m, slow, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, beta3=0.9999, alpha=5.0,
             alpha_warmup=None, beta3_warmup=None, eps=1e-8, weight_decay=0.0):  # fmt: skip
    """AdEMAMix: Adam that adds alpha times an average over thousands of gradients to its momentum.

    Use it for long trainings of language models, in which gradients that are thousands of steps old still help: its
    authors' model of 1.3 billion parameters reaches after 101 billion tokens what AdamW's reaches after 197, and it
    leads where others tuned all rivals (Semenov et al. 2025, arXiv:2509.01440). Set both warm-ups, or the slow
    average unsettles the start; a run of a few thousand steps is too short for beta3 = 0.9999. It keeps a third
    number per weight.

    `alpha_warmup` and `beta3_warmup` are the steps (the paper's T) over which alpha grows linearly from 0, and beta3
    from beta1 so that the average's half-life grows linearly; the paper sets both to the length of the run. Formulas
    and alpha = 5 are the paper's; names are those of the authors' code, whose alpha is 2.
    """
    if alpha_warmup is not None:
        alpha = minimum(t / alpha_warmup, 1.0) * alpha
    if beta3_warmup is not None:
        done = minimum(t / beta3_warmup, 1.0)
        start, end = log(maximum(beta1, 1e-300)), log(maximum(beta3, 1e-300))
        beta3 = minimum(exp(start * end / ((1 - done) * end + done * start)), beta3)
    m = beta1 * m + (1 - beta1) * g
    slow = beta3 * slow + (1 - beta3) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    p = p - lr * ((m_hat + alpha * slow) / (sqrt(v_hat) + eps) + weight_decay * p)
    return p, m, slow, v
