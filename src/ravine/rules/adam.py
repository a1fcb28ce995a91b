"""Adam, AdamW and AMSGrad: one rule, and what each name customarily means."""

from __future__ import annotations

from ravine.math import maximum, sqrt
from ravine.rule import State, rule


@rule(
    paper="Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2",
    parent="adam",
    reason="Takes weight decay out of the gradient, so that √v̂ does not divide it and all weights shrink at one rate.",
    state={"m": "exp_avg", "v": "exp_avg_sq", "v_max": State("max_exp_avg_sq", when="amsgrad")},
    ranges={"eps_form": "torch | hat"},
)
def adamw(p, g, m, v, v_max, *, t,
          lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-2, amsgrad=False, eps_form="torch"):  # fmt: skip
    """AdamW: Adam with decoupled weight decay.

    Use it first, above all for transformers: it is the baseline that every other rule has to beat, and one that was
    tuned as well as its rivals is beaten by little. For language models customary settings are β₂ = 0.95, weight
    decay 0.1, a warm-up, and gradients clipped to norm 1. It keeps two numbers per weight; where these are too
    many, see Lion, Muon and Adafactor.
    """
    if eps_form == "hat":
        eps = eps / sqrt(1 - beta2**t)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    if amsgrad:
        v_max = maximum(v_max, v)
        v_hat = v_max / (1 - beta2**t)
    p = p - lr * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)
    return p, m, v, v_max


adam = adamw.preset(
    "adam",
    doc="Adam: momentum and RMSProp with their bias corrected; weight decay, where asked for, enters the gradient.\n\n"
    "Use it first where no weight decay is wanted, as for small networks, reinforcement learning and generative\n"
    "adversarial networks; its learning rate often does untuned. It keeps two numbers per weight. With weight decay\n"
    "take AdamW: here its gradient is divided by √v̂ like any other, so weights with large gradients decay less. On\n"
    "some simple problems it converges to a wrong point, see AMSGrad and ADOPT.",
    paper="Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1",
    reason="Adds momentum and corrects both averages for their start at zero, so that early steps are not too long.",
    decay="l2",
    parent="rmsprop",
    weight_decay=0.0,
)

amsgrad = adam.preset(
    "amsgrad",
    doc="AMSGrad: Adam whose second moment never shrinks.\n\n"
    "Use it where Adam does not settle because rare gradients are large and matter: Adam forgets them and may end\n"
    "at a wrong point, which cannot happen here. Elsewhere it is seldom better than Adam, keeps a third number per\n"
    "weight, and one outlier shortens its steps for good.",
    paper="Reddi, Kale & Kumar 2018, arXiv:1904.09237, Algorithm 2",
    reason="Divides by the largest second moment so far, so that a rare large gradient is not forgotten.",
    amsgrad=True,
)
