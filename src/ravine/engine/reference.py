"""The reference engine: the rule's own function on each parameter's tensors, one after the other."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ravine.engine.batch import Batch, Partials, Step, work_type
from ravine.math import Totals, sweeping


class Reference:
    """Slow and obviously right, on any device that torch has."""

    name = "reference"

    def prepare(self, batches: list[Batch]) -> None:
        """Nothing to prepare: any rule will do."""

    def step(self, batches: list[Batch]) -> Step:
        """One step of every batch; rules with totals are swept over until all totals are known."""
        known: Partials = {}
        while batches:
            unfinished = []
            sweep = Totals(known)
            with sweeping(sweep):
                for batch in batches:
                    before = sweep.unanswered
                    for i in range(len(batch.parameters)):
                        sweep.next_parameter()
                        outcome = call(batch, i)
                        if sweep.unanswered == before:
                            _commit(batch, i, outcome)
                    if sweep.unanswered > before:
                        unfinished.append(batch)
            if not sweep.collected:
                return
            known = yield sweep.collected
            batches = unfinished


def call(batch: Batch, i: int) -> tuple[Any, ...]:
    """What the rule gives for the i-th parameter of a batch: the new parameter and states."""
    p, g, states, keywords = arguments(batch, i)
    return batch.rule(p, g, *states, **keywords)


def arguments(batch: Batch, i: int) -> tuple[Tensor, Tensor, list[Any], dict[str, Any]]:
    """What the rule is called with for the i-th parameter: parameter, gradient, states, and all else by name."""
    rule, p = batch.rule, batch.parameters[i]
    shape, dtype = rule.seen_shape(tuple(p.shape)), work_type(p.dtype)

    def seen(x: Tensor) -> Tensor:
        return (x.reshape(shape) if x.shape == p.shape else x).to(dtype)

    absent = rule.absent_states({**rule.defaults, **batch.hyper}, shape)
    states = [
        absent[symbol] if symbol in absent
        else batch.host[symbol] if state.kind == "host"
        else batch.shared[symbol] if state.kind == "shared"
        else seen(batch.states[symbol][i])
        for symbol, state in rule.state.items()
    ]  # fmt: skip
    inputs = {name: seen(column[i]) for name, column in batch.inputs.items()}
    return seen(p), seen(batch.gradients[i]), states, {"t": batch.t, **batch.hyper, **inputs}


def _commit(batch: Batch, i: int, outcome: tuple[Any, ...]) -> None:
    p, *states = outcome
    last = i == len(batch.parameters) - 1
    stores = [(batch.parameters[i], p)]
    for (symbol, state), value in zip(batch.rule.state.items(), states, strict=True):
        if state.kind == "host" and last:
            batch.host[symbol] = float(value)
        elif state.kind == "shared" and last:
            batch.shared[symbol] = float(value)
        elif symbol in batch.states:
            stores.append((batch.states[symbol][i], value))
    if batch.parameters[i].numel() == 0:
        return  # the means of nothing are NaN, and a parameter without elements rests
    # A rule may return what it was given in another place (`return p, g, older`): keep it from being overwritten first.
    given = {target.data_ptr() for target, _ in stores}
    kept = [x.clone() if isinstance(x, Tensor) and x.data_ptr() in given else x for _, x in stores]
    for (target, _), value in zip(stores, kept, strict=True):
        if isinstance(value, Tensor):
            target.copy_(value.reshape(target.shape) if value.numel() == target.numel() else value)
        else:
            target.fill_(float(value))
