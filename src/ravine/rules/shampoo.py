"""Shampoo: AdaGrad with a matrix for the rows and a matrix for the columns."""

from __future__ import annotations

from typing import Any

from ravine.math import T, column_mean, columns, has, inverse_root, row_mean, rows, sqrt
from ravine.rule import State, rule


def is_whole(side: int) -> Any:
    """Whether a dimension has a matrix of its own; a vector has none, and is refused for it."""
    return lambda hyper, shape: len(shape) < 2 or shape[side] <= hyper["max_precond_dim"]


def is_diagonal(side: int) -> Any:
    """Whether a dimension is too large for a matrix of its own."""
    return lambda hyper, shape: not is_whole(side)(hyper, shape)


@rule(
    paper="Gupta, Koren & Singer 2018, arXiv:1802.09568, Algorithm 1",
    parent="adagrad",
    reason="Sums GGᵀ and GᵀG instead of squares, so that it sees which elements go together, and takes matrix roots.",
    view="matrix",
    decay="l2",
    state={
        "L": State("L", init="eps", kind="left", when=is_whole(-2)),
        "R": State("R", init="eps", kind="right", when=is_whole(-1)),
        "L_root": State("L_root", kind="left", when=is_whole(-2)),
        "R_root": State("R_root", kind="right", when=is_whole(-1)),
        "D_L": State("L_diagonal", init="eps", kind="row", when=is_diagonal(-2)),
        "D_R": State("R_diagonal", init="eps", kind="column", when=is_diagonal(-1)),
    },
    ranges={"eps": "(0, inf)", "every": "whole [1, inf)", "max_precond_dim": "whole [0, inf)"},
)
def shampoo(p, g, L, R, L_root, R_root, D_L, D_R, *, t,
            lr=0.1, eps=1e-6, weight_decay=0.0, every=1, max_precond_dim=8192):  # fmt: skip
    """Shampoo: gradients multiplied by the inverse fourth roots of the sums of GGᵀ and of GᵀG.

    Use it to study the method, or on small matrices where few steps matter more than their cost. This is the
    paper's plain form: what won the AlgoPerf benchmark has in addition averages instead of sums, step sizes grafted
    from Adam, and blocks (Shi et al. 2023, arXiv:2309.06497). Since sums only grow, steps shrink as Adagrad's do.
    Roots cost the cube of a dimension: set every to 10 or more. For deep networks SOAP is the better choice.

    For matrices; kernels of convolutions are seen as (out, rest), and vectors belong to another rule.

    * eps: the ridge with which the sums begin.
    * every: roots are taken at the first step and then every so many.
    * max_precond_dim: of a dimension above this the diagonal of the sum stands for the sum, one number a row or column.
    """
    u = g
    if has(L):
        L = L + g @ T(g)
        L_root = inverse_root(L, 4) if (t - 1) % every == 0 else L_root
        u = L_root @ u
    if has(R):
        R = R + T(g) @ g
        R_root = inverse_root(R, 4) if (t - 1) % every == 0 else R_root
        u = u @ R_root
    if has(D_L):
        D_L = D_L + columns(g) * row_mean(g**2)
        u = u / sqrt(sqrt(D_L))
    if has(D_R):
        D_R = D_R + rows(g) * column_mean(g**2)
        u = u / sqrt(sqrt(D_R))
    p = p - lr * (u + weight_decay * p)
    return p, L, R, L_root, R_root, D_L, D_R
