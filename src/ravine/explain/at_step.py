"""One number of a parameter through real steps of an optimizer, in the arithmetic of the step.

Example:
    >>> import ravine, torch
    >>> weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    >>> optimizer = ravine.AdamW([weight], lr=0.1, engine="reference")
    >>> with followed_steps(optimizer, weight, (1, 0)) as steps:
    ...     (weight - 1).square().sum().backward()
    ...     optimizer.step()
    >>> print(steps[0].lines[0].formula, "=", steps[0].lines[0].substituted)
    β₁·m + (1 − β₁)·g = 0.9·0 + (1 − 0.9)·4
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.engine import reference
from ravine.engine.batch import Batch
from ravine.explain.element import Element, ElementRecorder
from ravine.explain.trace import Line, follow_step
from ravine.explain.vectors import Summary
from ravine.math import Totals, has, sweeping
from ravine.optim import Optimizer
from ravine.optim.layout import Bucket, CutBucket
from ravine.optim.settings import unpacked
from ravine.rule import Decay, Rule


@dataclass(frozen=True, eq=False)
class ElementStep:
    """What one step of an optimizer does with one number.

    Attributes:
        rule: the rule of its group.
        settings: under the rule's names, as the group holds them.
        decay: the form of weight decay of the group.
        t: the parameter's step.
        before, after: the number, as the optimizer has left it.
        computed: the number after the step, as the lines give it.
        start: the states before, by symbol.
        gradient: the number's.
        element: its place in the parameter.
        over_all_parameters: whether the rule has asked for sums over all parameters.
        lines: of the rule.
    """

    rule: Rule
    settings: Mapping[str, Any]
    decay: Decay
    t: int
    before: float
    after: float
    computed: float
    start: Mapping[str, float | Summary]
    gradient: float
    element: tuple[int, ...]
    over_all_parameters: bool
    lines: tuple[Line, ...]


@contextmanager
def followed_steps(
    optimizer: Optimizer, parameter: Tensor, element: Sequence[int] | None = None
) -> Iterator[list[ElementStep]]:
    """Within this block, each step of the optimizer adds what it does with one number of a parameter to the list.

    The number is the one at `element`; by default that whose gradient is largest in the first step.

    Lines are computed on the whole parameter in NumPy, in the type in which engines compute. They give the number that
    the native engine stores to the bit, but for sums and products of matrices, which are rounded otherwise; engines
    orthogonalize in bfloat16 where that is fast.
    """
    steps: list[ElementStep] = []
    place = None if element is None else tuple(element)

    def observer(buckets: list[Bucket]) -> None:
        nonlocal place
        for bucket in buckets:
            if any(owner is parameter for owner in bucket.owners):
                group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
                place = _largest(parameter.grad) if place is None else place
                steps.append(_step(bucket, buckets, parameter, place, group))

    def after_step(*_: Any) -> None:
        if steps and place is not None:
            steps[-1] = replace(steps[-1], after=parameter[place].item())

    hook = optimizer.register_step_post_hook(after_step)
    try:
        with optimizer.observed(observer):
            yield steps
    finally:
        hook.remove()


def _largest(gradient: Tensor | None) -> tuple[int, ...]:
    """Where the gradient is largest."""
    assert gradient is not None  # the parameter takes part in the step
    sizes = gradient.detach().abs().nan_to_num(nan=torch.inf)
    return tuple(int(i) for i in np.unravel_index(int(sizes.argmax()), gradient.shape))


def _step(
    bucket: Bucket, buckets: list[Bucket], parameter: Tensor, element: tuple[int, ...], group: Mapping[str, Any]
) -> ElementStep:
    batch = bucket.batch
    rule = batch.rule
    entry, place = _entry(bucket, parameter, element)
    p, g, states, given = _arguments(batch, entry)
    known = _totals([b.batch for b in buckets], rule, (p, g, *states), given)
    recorder = ElementRecorder(place, known)
    held = unpacked(rule, group)
    settings = {name: x.item() if isinstance(x := held[name], Tensor) else x for name in rule.defaults}
    decay: Decay = group.get("decay", "lr")
    if settings.get("weight_decay") and has(given["weight_decay"]):
        recorder.add_decay(decay, {**settings, "max_lr": group.get("max_lr")}, given["weight_decay"])
    watched, *_ = follow_step(rule, p, g, states, recorder, **given)
    stored = torch.from_numpy(np.ascontiguousarray(watched)).to(parameter.dtype).double().numpy()
    absent = rule.absent_states({**rule.defaults, **given}, p.shape)
    start = {name: place.of(x) for name, x in zip(rule.state, states, strict=True) if name not in absent}
    return ElementStep(
        rule, settings, decay, batch.t, float(place.of(p)), math.nan, float(place.of(stored)), start,
        float(place.of(g)), element, bool(known), tuple(recorder.lines),
    )  # fmt: skip


def _entry(bucket: Bucket, parameter: Tensor, element: tuple[int, ...]) -> tuple[int, Element]:
    """Which entry of the batch holds an element, and where in it, as the rule sees it."""
    entry = next(i for i, owner in enumerate(bucket.owners) if owner is parameter)
    number = int(np.ravel_multi_index(element, parameter.shape)) if element else 0
    if isinstance(bucket, CutBucket):
        which = next(i for i, p in enumerate(bucket.parameters) if p is parameter)
        for block in bucket.cuts[which].of(torch.arange(parameter.numel()).view(parameter.shape)):
            found = (block == number).nonzero().tolist()
            if found:
                return entry, Element(tuple(block.shape), tuple(found[0]))
            entry += 1
    seen = bucket.batch.rule.seen_shape(tuple(parameter.shape))
    return entry, Element(seen, tuple(map(int, np.unravel_index(number, seen))) if seen else ())


def _arguments(batch: Batch, i: int) -> tuple[Any, Any, list[Any], dict[str, Any]]:
    """What the rule is called with, in NumPy; copies, since the step changes what lies in memory."""
    p, g, states, given = reference.arguments(batch, i)
    return _numpy(p), _numpy(g), [_numpy(x) for x in states], {name: _numpy(x) for name, x in given.items()}


def _numpy(x: Any) -> Any:
    return x.detach().cpu().numpy().copy() if isinstance(x, Tensor) else x


def _totals(batches: list[Batch], rule: Rule, arguments: tuple[Any, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """The totals over all parameters that a rule asks for; none are computed where it asks for none."""
    with sweeping(Totals({})) as first:
        rule(*arguments, **given)
    if not first.unanswered:
        return {}
    known: dict[str, Any] = {}
    while True:
        with sweeping(Totals(known)) as sweep:
            for batch in batches:
                for i in range(len(batch.parameters)):
                    p, g, states, keywords = _arguments(batch, i)
                    sweep.next_parameter()
                    batch.rule(p, g, *states, **keywords)
        if not sweep.collected:
            return known
        known |= sweep.collected
