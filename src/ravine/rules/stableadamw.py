"""StableAdamW: AdamW whose step shrinks where gradients outgrow their second moment."""

from __future__ import annotations

from ravine.math import maximum, rms, sqrt
from ravine.rule import rule


@rule(
    paper="Wortsman et al. 2023, arXiv:2304.13013, Algorithm 2",
    parent="adamw",
    reason="Shortens a tensor's step where gradients outgrow their second moment, so that the loss spikes less.",
    state={"m": "exp_avg", "v": "exp_avg_sq"},
)
def stableadamw(p, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.99, eps=1e-6, weight_decay=1e-2):
    """StableAdamW: AdamW with Adafactor's update clipping, for every parameter tensor.

    Use it where the loss has spikes, as in large models, low precision, or with a β₂ near 1: a parameter whose
    gradients outgrow their second moment takes a shorter step, so that gradients need no clipping. It keeps what
    AdamW keeps and takes AdamW's settings; the norm costs a second pass.

    As in the paper, and in optimi's and kozistr's code, betas are corrected instead of moments, and lr is divided by
    the RMS of g/√v where that is above 1, for weight decay too.
    """
    beta1_hat = beta1 * (1 - beta1 ** (t - 1)) / (1 - beta1**t)
    beta2_hat = beta2 * (1 - beta2 ** (t - 1)) / (1 - beta2**t)
    m = beta1_hat * m + (1 - beta1_hat) * g
    v = beta2_hat * v + (1 - beta2_hat) * g**2
    lr = lr / maximum(rms(g / maximum(sqrt(v), eps)), 1.0)
    p = p - lr * (m / (sqrt(v) + eps) + weight_decay * p)
    return p, m, v
