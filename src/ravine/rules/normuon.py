"""NorMuon: Muon with a second moment for every neuron."""

from __future__ import annotations

from ravine.math import columns, maximum, norm, orthogonalize, row_mean, rows, sqrt
from ravine.rule import State, rule


@rule(
    paper="Li et al. 2025, arXiv:2510.05491, Algorithm 1",
    parent="muon",
    reason="Divides each row of the update by its own root mean square over time, so that all neurons take like steps.",
    view="matrix",
    state={"m": "momentum_buffer", "v": State("second_momentum_buffer", kind="row")},
    ranges={
        "momentum": "[0, 1)", "steps": "whole [1, 100)", "coefficients": "jordan | polar_express",
        "scale": "original | match_rms_adamw",
    },
)  # fmt: skip
def normuon(p, g, m, v, *, t, lr=2e-2, weight_decay=0.0, momentum=0.95, beta2=0.95, eps=1e-10, nesterov=True,
            steps=5, coefficients="jordan", scale="original"):  # fmt: skip
    """NorMuon: Muon whose update has, for each row, the root of a second moment divided out.

    Use it where Muon is used: neurons whose rows would take much larger steps than others are evened out, for one
    number a row. Its authors report about a tenth fewer steps than Muon's at a billion parameters; it is young, and
    independent comparisons are few. lr and cost are Muon's, but for one more pass over the update.

    The second moment is one number a row. The division leaves the norm of the whole update as it was, as in the
    authors' code; with `match_rms_adamw` that is the paper's 0.2·√(rows·columns)/‖u‖, but for the iteration's own
    error. For which parameters, and the other hyperparameters, see Muon.
    """
    m = momentum * m + (1 - momentum) * g
    u = orthogonalize(momentum * m + (1 - momentum) * g if nesterov else m, steps, coefficients)
    v = beta2 * v + (1 - beta2) * row_mean(u**2)
    w = u / (sqrt(v) + eps)
    u = norm(u) / (norm(w) + eps) * w
    if scale == "match_rms_adamw":
        u = 0.2 * sqrt(maximum(rows(p), columns(p))) * u
    else:
        u = sqrt(maximum(1.0, rows(p) / maximum(columns(p), 1.0))) * u
    p = p - lr * (u + weight_decay * p)
    return p, m, v
