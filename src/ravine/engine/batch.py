"""What an optimizer hands to an engine, and the engine's side of a step."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ravine.math.sweep import different_depths
from ravine.rule import Rule

Partials = dict[str, Any]
Step = Generator[Partials, Partials, None]


class Unsupported(TypeError):
    """A rule uses something that an engine cannot compile."""


@dataclass(slots=True, eq=False)
class Batch:
    """Parameters that take the same step: one rule, one set of hyperparameters, one `t`, one set of types.

    The lists are columns: `parameters[i]`, `gradients[i]` and `states[symbol][i]` belong together. All tensors of
    one parameter share its order of elements in memory, without gaps, except states that are not of its shape.
    An engine updates parameters and states in place, and writes `host` and `shared` states back. States stay where they
    are in memory as long as the batch lives, and with `steady` parameters do too; gradients move.
    """

    rule: Rule
    hyper: Mapping[str, Any]
    t: int
    parameters: list[Tensor]
    gradients: list[Tensor]
    states: dict[str, list[Tensor]]
    host: dict[str, float] = field(default_factory=dict)
    shared: dict[str, float] = field(default_factory=dict)
    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    steady: bool = False
    cache: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """Runs steps. `step` is a generator: it yields its share of totals over all parameters, and is sent the sums."""

    name: str

    def prepare(self, batches: list[Batch]) -> None:
        """Compile what the batches need; raises Unsupported for a rule that the engine cannot run."""

    def step(self, batches: list[Batch]) -> Step:
        """One step of every batch."""


def work_type(dtype: torch.dtype) -> torch.dtype:
    """The type in which a parameter of this type is computed: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def add_up(sums: Partials, partials: Partials) -> None:
    """Add partial totals to sums, in place; those of different devices meet on the host."""
    for name, partial in partials.items():
        if name not in sums:
            sums[name] = partial
            continue
        both = (sums[name], partial)
        if len({x.device for x in both if isinstance(x, Tensor)}) > 1:
            both = (float(both[0]), float(both[1]))
        sums[name] = both[0] + both[1]


def drive(steps: Iterable[Step]) -> None:
    """Run steps side by side to their end, adding up the totals that they ask for.

    Raises:
        RuntimeError: if one step contributes to a total after another has already been told its value.
    """
    known: Partials = {}
    waiting: list[tuple[Step, Partials | None]] = [(step, None) for step in steps]
    while waiting:
        collected: Partials = {}
        still_running = []
        for step, answer in waiting:
            try:
                partials = next(step) if answer is None else step.send(answer)
            except StopIteration:
                continue
            still_running.append(step)
            late = next((name for name in partials if name in known), None)
            if late is not None:
                raise RuntimeError(different_depths(late))
            add_up(collected, partials)
        known |= collected
        waiting = [(step, known) for step in still_running]
