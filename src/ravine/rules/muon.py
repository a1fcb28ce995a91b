"""Muon: momentum whose singular values are all brought to one."""

from __future__ import annotations

from ravine.math import columns, maximum, orthogonalize, rows, sqrt
from ravine.rule import Alias, rule


@rule(
    paper="Jordan et al. 2024, Muon; match_rms_adamw: Liu et al. 2025, arXiv:2502.16982",
    parent="momentum",
    reason="Brings all singular values of the momentum near one, so that weak directions are learned like strong ones.",
    view="matrix",
    state={"m": "momentum_buffer"},
    ranges={
        "momentum": "[0, 1)", "steps": "whole [1, 100)", "coefficients": "jordan | polar_express",
        "scale": "original | match_rms_adamw",
    },
    aliases={
        "ns_steps": "steps", "ns_coefficients": Alias("coefficients", (((3.4445, -4.775, 2.0315), "jordan"),)),
        "adjust_lr_fn": Alias("scale", ((None, "original"),)), "eps": Alias(None, ((1e-7, None),)),
    },
)  # fmt: skip
def muon(p, g, m, *, t, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True,
         steps=5, coefficients="jordan", scale="original"):  # fmt: skip
    """Muon: the nearest orthogonal matrix to the momentum, for the hidden matrices of a network.

    Use it for the hidden matrices of transformers, with AdamW for the rest: `ravine.Muon(model)` sorts them. Where
    both were tuned it needed about 1.4 times fewer steps than AdamW at 0.1 billion parameters, 1.1 times at 1.2
    billion (Wen et al. 2025, arXiv:2509.02046). It keeps one number per weight; the matrix products of a step cost
    little beside a large batch, but most of the time beside a small one. The scale `original` wants an lr of its
    own, near 0.02.

    Embeddings, the output head, norms and biases belong to another rule, such as AdamW; a matrix that stacks several
    (query, key and value in one) is best given as several. Kernels of convolutions are seen as (out, rest). Weight
    decay is by lr itself, not by lr times the scale.

    * steps, coefficients: of the Newton–Schulz iteration.
    * scale: `original` multiplies by √max(1, rows/columns); `match_rms_adamw` by 0.2·√max(rows, columns), so that
      updates are as large as AdamW's and its learning rate and weight decay serve.
    """
    m = momentum * m + (1 - momentum) * g
    u = orthogonalize(momentum * m + (1 - momentum) * g if nesterov else m, steps, coefficients)
    if scale == "match_rms_adamw":
        u = 0.2 * sqrt(maximum(rows(p), columns(p))) * u
    else:
        u = sqrt(maximum(1.0, rows(p) / maximum(columns(p), 1.0))) * u
    p = p - lr * (u + weight_decay * p)
    return p, m
