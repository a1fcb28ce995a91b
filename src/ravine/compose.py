"""Wrappers: functions from rule to rule, which fuse with what they wrap.

Example:
    >>> from ravine.rules.adam import adamw
    >>> lookahead(cautious(adamw), k=10)
    <rule lookahead(cautious(adamw))>
"""

from __future__ import annotations

from typing import Any

from ravine.math import ZERO, Origin, has, maximum, mean, minimum, sqrt, total, where
from ravine.rule import State, register
from ravine.wrapper import Wrapper, wrapper


def update_of(base: Any, p: Any, g: Any, *states: Any, **hyper: Any) -> tuple[Any, list[Any]]:
    """The exact x of the base rule's last `p - x`, and its new states.

    Raises:
        TypeError: if the base rule does not end in `p - x`.
    """
    q, *new = base(Origin(p), g, *states, **hyper)
    if not isinstance(q, Origin):
        raise TypeError("this wrapper needs the rule's update, so the rule must return `p - update` as its parameter")
    return (q.moved if has(q.moved) else 0.0 * p), new


@wrapper(
    paper="Liang et al. 2024, arXiv:2411.16085",
    side="update",
)
def cautious(base, p, g, *states, lr, weight_decay, rescale=True, **hyper):
    """Cautious: only those parts of the update that agree in sign with the gradient; decay stays outside the mask."""
    u, states = update_of(base, p, g, *states, lr=lr, weight_decay=ZERO, **hyper)
    agree = (u > 0) & (g > 0) | (u < 0) & (g < 0)
    u = where(agree, u, 0.0)
    if rescale:
        u = u / maximum(mean(agree), 1e-3)
    return p - (u + lr * weight_decay * p), *states


@wrapper(
    paper="Zhang et al. 2019, arXiv:1907.08610",
    side="weights",
    state={"slow": State("slow", init="p")},
    ranges={"k": "whole [1, inf)", "alpha": "[0, 1]"},
    at_eval="slow",
)
def lookahead(base, p, g, slow, *states, t, k=5, alpha=0.5, **hyper):
    """Lookahead: every k steps, slow weights move a part of the way to the fast ones, which start again from there."""
    p, *states = base(p, g, *states, t=t, **hyper)
    if t % k == 0:
        p = slow = slow + alpha * (p - slow)
    return p, slow, *states


@wrapper(
    paper="Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063",
    side="gradient",
    ranges={"max_norm": "(0, inf)"},
)
def clip_norm(base, p, g, *states, max_norm=1.0, **hyper):
    """ClipNorm: gradients scaled down so that their norm over the whole optimizer is at most max_norm."""
    g = g * minimum(1.0, max_norm / (sqrt(total(g**2)) + 1e-6))
    return base(p, g, *states, **hyper)


@wrapper(paper="ascent instead of descent", side="gradient")
def maximize(base, p, g, *states, **hyper):
    """Maximize: the rule on the negated gradient."""
    return base(p, -g, *states, **hyper)


for _value in list(vars().values()):
    if isinstance(_value, Wrapper):
        register(_value)
