"""SOAP: Adam in the eigenbasis of Shampoo's sums."""

from __future__ import annotations

from typing import Any

from ravine.math import EYE, T, eigenbasis, has, refresh_basis, sqrt, take
from ravine.rule import State, rule


def is_whole(side: int) -> Any:
    """Whether a dimension has a matrix of its own: not if it is too large, and not in a vector."""
    return lambda hyper, shape: len(shape) > 1 and shape[side] <= hyper["max_precond_dim"]


@rule(
    paper="Vyas et al. 2024, arXiv:2409.11321, Algorithm 3",
    parent="adamw",
    reason="Runs in the eigenbasis of Shampoo's matrices, so that these have to be decomposed only now and then.",
    view="matrix",
    state={
        "m": "exp_avg",
        "v": "exp_avg_sq",
        "L": State("GG_left", kind="left", when=is_whole(-2)),
        "R": State("GG_right", kind="right", when=is_whole(-1)),
        "Q_L": State("Q_left", kind="left", when=is_whole(-2), absent=EYE),
        "Q_R": State("Q_right", kind="right", when=is_whole(-1), absent=EYE),
    },
    ranges={"shampoo_beta": "[0, 1)", "every": "whole [1, inf)", "max_precond_dim": "whole [0, inf)"},
)
def soap(p, g, m, v, L, R, Q_L, Q_R, *, t, lr=3e-3, beta1=0.95, beta2=0.95, shampoo_beta=0.95, eps=1e-8,
         weight_decay=1e-2, every=10, max_precond_dim=8192):  # fmt: skip
    """SOAP: Adam on gradients turned into the eigenbases of the averages of GGᵀ and of GᵀG.

    Use it for the matrices of transformers where the fewest steps count: where all were tuned it was close to Muon,
    ahead of it in long trainings, and both were ahead of AdamW (Wen et al. 2025, arXiv:2509.02046). It pays in
    memory and time: four square matrices beside Adam's two numbers per weight, products with them in every step,
    and a QR decomposition of each every so many.

    The first step finds the bases and moves nothing. Kernels of convolutions are seen as (out, rest). A vector has no
    basis to be turned into, and the rule is Adam on it, one step late.

    * shampoo_beta: decay of the averages GGᵀ and GᵀG.
    * every: steps from one refreshment of the bases to the next, each one step of power iteration and QR.
    * max_precond_dim: a dimension above this keeps the basis in which it is given.
    """
    if t > 1:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * (T(Q_L) @ g @ Q_R) ** 2
        u = Q_L @ (T(Q_L) @ m @ Q_R / (sqrt(v) + eps)) @ T(Q_R)
        u = sqrt(1 - beta2 ** (t - 1)) / (1 - beta1 ** (t - 1)) * u
        p = p - lr * (u + weight_decay * p)
    if has(L):
        L = shampoo_beta * L + (1 - shampoo_beta) * g @ T(g)
        Q_L, v = turned(L, Q_L, v, 0, t, every)
    if has(R):
        R = shampoo_beta * R + (1 - shampoo_beta) * T(g) @ g
        Q_R, v = turned(R, Q_R, v, 1, t, every)
    return p, m, v, L, R, Q_L, Q_R


def turned(L, Q, v, axis, t, every):
    """The eigenbasis at step 1, refreshed every so many; second moments follow its vectors, which are put in order."""
    if t == 1:
        return eigenbasis(L), v
    if (t - 1) % every:
        return Q, v
    Q, order = refresh_basis(L, Q)
    return Q, take(v, order, axis)
