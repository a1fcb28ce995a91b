"""The arithmetic reference: a rule on NumPy arrays, whose bits every engine must give."""

from __future__ import annotations

import numpy as np
import torch

from ravine.math import Totals, sweeping
from ravine.optim.base import _ascent
from ravine.optim.settings import defaults_of, given_to_rule, normalized
from ravine.rule import lookup

BITS = {torch.float32: torch.int32, torch.float64: torch.int64, torch.bfloat16: torch.int16, torch.float16: torch.int16}


class Arithmetic:
    """An optimizer in NumPy: states live in the parameters' storage type, arithmetic is in the work type."""

    def __init__(self, spec: str, parameters: list[torch.Tensor], **settings: object) -> None:
        rule = lookup(spec)
        self.group = {**defaults_of(rule), **normalized(rule, settings)}
        self.group["max_lr"] = self.group["lr"]
        self.rule = _ascent(rule) if self.group["maximize"] else rule
        self.parameters = [p.detach().clone() for p in parameters]
        hyper = given_to_rule(self.rule, self.group)
        self.states = []
        for p in self.parameters:
            absent = self.rule.absent_states(hyper, tuple(p.shape))
            held = {s: d for s, d in self.rule.state.items() if s not in absent}
            self.states.append(
                {
                    s: p.clone() if d.init == "p" else torch.full_like(p, float(hyper.get(d.init, d.init)))
                    for s, d in held.items()
                }
            )
        self.t = 0

    def step(self, gradients: list[torch.Tensor]) -> None:
        """One step of every parameter, swept over until all totals are known."""
        self.t += 1
        hyper = given_to_rule(self.rule, self.group)
        known: dict[str, float] = {}
        while True:
            with sweeping(Totals(known)) as sweep:
                results = [self._call(i, g, hyper, sweep) for i, g in enumerate(gradients)]
            if not sweep.collected:
                break
            known = known | sweep.collected
        for i, (p, *states) in enumerate(results):
            self.parameters[i] = stored(p, self.parameters[i])
            for symbol, value in zip(self.states[i], states, strict=True):
                self.states[i][symbol] = stored(value, self.parameters[i])

    def _call(self, i, gradient, hyper, sweep):
        sweep.next_parameter()
        p = loaded(self.parameters[i])
        return self.rule(p, loaded(gradient), *(loaded(x) for x in self.states[i].values()), t=self.t, **hyper)


def loaded(x: torch.Tensor) -> np.ndarray:
    """A tensor in its work type."""
    return x.detach().to(torch.float64 if x.dtype == torch.float64 else torch.float32).numpy().copy()


def stored(x: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """An array in the storage type of a tensor, rounded to nearest even."""
    expected = np.float64 if like.dtype == torch.float64 else np.float32
    assert np.asarray(x).dtype == expected, f"the rule computed in {np.asarray(x).dtype}"
    return torch.from_numpy(np.array(np.broadcast_to(x, tuple(like.shape)))).to(like.dtype)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are equal bit by bit, NaN counting as equal to NaN."""
    a, b = a.detach().contiguous(), b.detach().contiguous()
    both_nan = a.isnan() & b.isnan()
    return bool(((a.view(BITS[a.dtype]) == b.view(BITS[b.dtype])) | both_nan).all())
