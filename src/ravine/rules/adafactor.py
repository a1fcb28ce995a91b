"""Adafactor: a second moment kept as row and column means, and steps relative to the size of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravine.math import ZERO, column_mean, has, maximum, minimum, rms, row_mean, sqrt
from ravine.rule import State, rule

EPS1 = {"torch": 2.0**-23, "paper": 1e-30}  # torch's is the precision of the parameter's type, here float32's
WARMUP_RATE = 1e-6
CAP = 1e-2


def _is_factored(hyper: Mapping[str, Any], shape: tuple[int, ...]) -> bool:
    return bool(hyper["factored"]) and len(shape) > 1


@rule(
    paper="Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 1-6",
    parent="adam",
    reason="Keeps the second moment as row and column means, so that a matrix of n × m needs n + m numbers.",
    state={
        "r": State("row_var", kind="row", when=_is_factored),
        "c": State("col_var", kind="column", when=_is_factored),
        "v": State("variance", when=lambda hyper, shape: not _is_factored(hyper, shape)),
        "m": State("exp_avg", when="beta1"),
    },
    ranges={
        "beta2_decay": "(-inf, 0]", "eps1": "[0, inf)", "eps2": "[0, inf)", "d": "(0, inf)",
        "eps_form": "torch | paper", "decay_by": "lr | alpha",
    },
    packed={"eps": ("eps1", "eps2")},
    check=lambda h: (
        "warmup_init=True needs relative_step=True" if h["warmup_init"] and not h["relative_step"] else None
    ),
)  # fmt: skip
def adafactor(p, g, r, c, v, m, *, t,
              lr=1e-2, beta2_decay=-0.8, eps1=None, eps2=1e-3, d=1.0, weight_decay=0.0, beta1=0.0, beta2=None,
              factored=True, clipped=True, relative_step=True, warmup_init=False, scale_parameter=True,
              eps_form="torch", decay_by="lr"):  # fmt: skip
    """Adafactor: a second moment of rank one and steps relative to the weights, for n + m states instead of n·m.

    Use it where the optimizer's memory decides what fits: for a matrix it keeps next to nothing, where Adam keeps
    two numbers per weight; T5 was trained with it (Raffel et al. 2020, arXiv:1910.10683). Without momentum it is
    less steady than AdamW and wants a warm-up. By default lr only caps the rule's own steps: for a schedule of
    yours set relative_step=False.

    Tensors of more than two dimensions are stacks of matrices in their last two. Every part has its switch:

    * factored: row and column means instead of the whole second moment; vectors never have them.
    * beta1: momentum, an average of whole steps (α included), as in the authors' code; 0 keeps no state for it.
    * beta2: a fixed decay of the second moment, bias corrected; None is the increasing one, 1 − t^beta2_decay.
    * clipped: updates with a root mean square above d are scaled down to it.
    * relative_step: lr is only the cap of ρ_t = min(lr, 1/√t); with warmup_init it also is at most 1e-6·t.
    * scale_parameter: α_t = max(eps2, RMS(p))·ρ_t instead of ρ_t.
    * eps_form: the paper adds eps1 to g² (None: 1e-30); in torch it is the least value that mean(r) and √v̂ are taken
      for (None: 2⁻²³, the precision of float32).
    * decay_by: what weight decay is multiplied by, torch's lr or α_t as in Hugging Face's transformers.
    """
    eps1 = EPS1[eps_form] if eps1 is None else eps1
    floor, added = (eps1, ZERO) if eps_form == "torch" else (0.0, eps1)
    rho = minimum(lr, t**-0.5) if relative_step else lr
    if warmup_init:
        rho = minimum(rho, WARMUP_RATE * t)
    alpha = maximum(eps2, rms(p)) * rho if scale_parameter else rho
    beta2 = 1 - t**beta2_decay if beta2 is None else beta2 * (1 - beta2 ** (t - 1)) / (1 - beta2**t)
    squared = g**2 + added
    if has(r):
        r = beta2 * r + (1 - beta2) * row_mean(squared)
        c = beta2 * c + (1 - beta2) * column_mean(squared)
        v_hat = r / maximum(column_mean(r), floor) * c  # r·c first would underflow in float32
    else:
        v_hat = v = beta2 * v + (1 - beta2) * squared
    u = g / maximum(sqrt(v_hat), floor)
    if clipped:
        u = u / maximum(1.0, rms(u) / d)
    u = alpha * u
    if has(m):
        u = m = beta1 * m + (1 - beta1) * u
    p = p - (u + (lr if decay_by == "lr" else alpha) * weight_decay * p)
    return p, r, c, v, m


adafactor_paper = adafactor.preset(
    "adafactor_paper",
    doc="AdafactorPaper: Adafactor in its paper's own form, which Hugging Face's transformers follow.\n\n"
    "Use it to go on from a training with transformers' Adafactor, or to compare with one. For a new training there\n"
    "is no reason to prefer it to Adafactor, whose cost it has.\n\n"
    "1e-30 is added to squared gradients, and weight decay is multiplied by α_t. Under relative_step=True lr is the\n"
    "cap of ρ_t.",
    paper="Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 4-6",
    reason="Adds ε₁ to squared gradients and decays weights by α_t, as the paper and transformers do.",
    eps1=1e-30,
    eps_form="paper",
    decay_by="alpha",
)


adafactor_transformers = adafactor_paper.preset(
    "adafactor_transformers",
    doc="AdafactorTransformers: Adafactor as in Hugging Face's transformers, which take an lr or find one.\n\n"
    "Use it to go on with settings made for transformers. For new work take Adafactor, and give it an lr.\n\n"
    "With relative_step=True (the default) the step size follows from the count of steps, with 1e-2 as its cap, and\n"
    "another lr is refused; with relative_step=False lr is the step size.",
    paper="Shazeer & Stern 2018, arXiv:1804.04235; transformers.optimization.Adafactor",
    reason="Takes lr or relative steps, never both, as transformers do, so that settings made for it carry over.",
    check=lambda h: (
        f"lr={h['lr']} and relative_step=True cannot both be; leave lr out, or give relative_step=False"
        if h["relative_step"] and h["lr"] != CAP
        else "warmup_init=True needs relative_step=True"
        if h["warmup_init"] and not h["relative_step"]
        else None
    ),
)
