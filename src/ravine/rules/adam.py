"""Adam, AdamW and AMSGrad: one rule, and what each name customarily means."""

from __future__ import annotations

from ravine.math import maximum, sqrt
from ravine.rule import State, rule


@rule(
    paper="Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2",
    state={"m": "exp_avg", "v": "exp_avg_sq", "v_max": State("max_exp_avg_sq", when="amsgrad")},
    ranges={"eps_form": "torch | hat"},
)
def adamw(p, g, m, v, v_max, *, t,
          lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-2, amsgrad=False, eps_form="torch"):  # fmt: skip
    """AdamW: Adam with decoupled weight decay."""
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
    doc="Adam: momentum and RMSProp with their bias corrected; weight decay, where asked for, enters the gradient.",
    paper="Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1",
    decay="l2",
    weight_decay=0.0,
)

amsgrad = adam.preset(
    "amsgrad",
    doc="AMSGrad: Adam whose second moment never shrinks.",
    paper="Reddi, Kale & Kumar 2018, arXiv:1904.09237, Algorithm 2",
    amsgrad=True,
)
