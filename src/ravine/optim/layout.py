"""From a parameter group to batches: which parameters take the same step, kept while nothing moves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter, is_
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.engine.batch import Batch, work_type
from ravine.engine.graph import goes_by_rows
from ravine.optim.blocks import Blocks, blocks_of, held_shape
from ravine.rule import Rule, Shape, State

Strides = tuple[int, ...]
Inputs = Mapping[str, Mapping[Tensor, Tensor]]


TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_dtype = attrgetter("dtype")


def _forms(tensors: list[Tensor]) -> tuple[list[int], list[Strides]]:
    """What tells tensors of other shapes or orders apart, where they lie at the same address."""
    return list(map(Tensor.numel, tensors)), list(map(Tensor.stride, tensors))


def same_order(x: Tensor, strides: Strides) -> bool:
    """Whether a tensor's elements lie in memory in the order of these strides; dimensions of size 1 do not count."""
    own = x.stride()
    return own == strides or all(s == o for s, o, n in zip(strides, own, x.shape, strict=True) if n > 1)


def packed_strides(p: Tensor) -> Strides:
    """The strides of `p` where its elements fill their memory without gap or overlap, else contiguous ones."""
    return torch.empty_like(p, device="meta").stride()


def in_order(x: Tensor, like: Tensor, strides: Strides) -> Tensor:
    """`x`, or a copy of it in the order of these strides."""
    if same_order(x, strides):
        return x
    return torch.empty_strided(like.shape, strides, dtype=x.dtype, device=x.device).copy_(x)


def initial_state(state: State, p: Tensor, rule: Rule, hyper: Mapping[str, Any], blocks: Blocks | None = None) -> Any:
    """A state before the first step: a tensor (of the parameter's type where it has its shape), or a float.

    Where a parameter is cut into blocks, states that do not have its shape hold those of the blocks one after another.
    """
    init = hyper[state.init] if isinstance(state.init, str) and state.init in hyper else state.init
    if state.kind in ("host", "shared"):
        return float(init)
    if init == "p":
        return p.detach().clone(memory_format=torch.preserve_format)
    if state.kind == "full":
        return torch.full_like(p, float(init), memory_format=torch.preserve_format, requires_grad=False)
    if blocks is not None:
        of_blocks = [_not_full(state, shape, p, init) for shape in blocks.shapes]
        return torch.cat([x.flatten() for x in of_blocks])
    return _not_full(state, rule.seen_shape(tuple(p.shape)), p, init)


def _not_full(state: State, seen: Shape, p: Tensor, init: Any) -> Tensor:
    shape, dtype = state.shape(seen), work_type(p.dtype)
    if state.kind in ("left", "right"):
        scale = 1.0 if init == "identity" else float(init)
        return (scale * torch.eye(shape[-1], dtype=dtype, device=p.device)).expand(shape).clone()
    return torch.full(shape, float(init), dtype=dtype, device=p.device)


@dataclass(eq=False)
class Member:
    """A parameter that takes part in the step."""

    place: int
    parameter: Tensor
    state: dict[str, Any]
    strides: Strides
    dense: bool
    present: tuple[str, ...]
    blocks: Blocks | None

    def key(self, t: float, inputs: Inputs) -> Any:
        """What members of one batch have in common."""
        p = self.parameter
        assert p.grad is not None
        held = tuple(x.dtype if isinstance(x, Tensor) else x for x in (self.state[name] for name in self.present))
        given = tuple(p in column for column in inputs.values())
        dimensions = 2 if self.blocks else min(p.ndim, 2)
        return (p.device, p.dtype, p.grad.dtype, dimensions, t, self.present, held, given, self.blocks is None)


class Bucket:
    """A batch, the members it is made of, their places in the group's counters, and where their memory was.

    What is looked at in every step lies in plain lists: for many small tensors the step waits for these look-ups.
    """

    def __init__(self, batch: Batch, members: list[Member], places: list[int], columns: dict[str, str]) -> None:
        self.batch = batch
        self.places = places
        self.columns = columns
        self.parameters = [m.parameter for m in members]
        self.state_dicts = [m.state for m in members]
        self.strides = [m.strides for m in members]
        self.gaps = [i for i, m in enumerate(members) if not m.dense]
        self.staged: list[tuple[Tensor, Tensor]] = []
        self.batch.steady = not self.gaps
        self.pointers = self.addresses()

    @property
    def owners(self) -> list[Tensor]:
        """For each entry of the batch, the parameter that it is or is a block of."""
        return self.parameters

    def addresses(self) -> list[list[int]]:
        """Where the parameters and states lie in memory now; fills the batch's state columns."""
        states = {symbol: [state[key] for state in self.state_dicts] for symbol, key in self.columns.items()}
        self.batch.states = states
        return [list(map(Tensor.data_ptr, column)) for column in (self.parameters, *states.values())]

    def fits(self, counters: np.ndarray) -> bool:
        """Whether the members still take the same step, with their memory where it was."""
        steps = counters[self.places]
        try:
            return bool((steps == steps[0]).all()) and self.addresses() == self.pointers
        except KeyError:
            return False

    def fill(self, grads: list[Tensor], inputs: Inputs) -> None:
        """Bring this step's gradients and inputs, and parameters with gaps in their memory, into the batch."""
        batch, parameters = self.batch, self.parameters
        if list(map(Tensor.stride, grads)) != self.strides:
            together = zip(grads, parameters, self.strides, strict=True)
            grads = [in_order(g, p, strides) for g, p, strides in together]
        batch.gradients = grads
        batch.parameters = parameters
        if self.gaps:
            batch.parameters = list(parameters)
            for i in self.gaps:
                batch.parameters[i] = in_order(parameters[i], parameters[i], self.strides[i])
            self.staged = [(parameters[i], batch.parameters[i]) for i in self.gaps]
        batch.inputs = {
            name: [in_order(column[p], p, strides) for p, strides in zip(parameters, self.strides, strict=True)]
            for name, column in inputs.items()
            if parameters[0] in column
        }


class CutBucket(Bucket):
    """A bucket of parameters that are cut into blocks: the batch holds the blocks."""

    def __init__(self, batch: Batch, members: list[Member], places: list[int], columns: dict[str, str]) -> None:
        self.cuts = [m.blocks for m in members if m.blocks]
        self.declared = batch.rule.state
        super().__init__(batch, members, places, columns)

    @property
    def owners(self) -> list[Tensor]:
        """For each block in the batch, the parameter that it is part of."""
        together = zip(self.parameters, self.cuts, strict=True)
        return [p for p, blocks in together for _ in blocks.shapes]

    def addresses(self) -> list[list[int]]:
        """Where the parameters and states lie in memory now; fills the batch's state columns."""
        states = {symbol: [state[key] for state in self.state_dicts] for symbol, key in self.columns.items()}
        self.batch.states = {symbol: self._cut(symbol, column) for symbol, column in states.items()}
        return [list(map(Tensor.data_ptr, column)) for column in (self.parameters, *states.values())]

    def _cut(self, symbol: str, column: list[Tensor]) -> list[Tensor]:
        state = self.declared[symbol]
        if state.kind == "full":
            return [block for x, cut in zip(column, self.cuts, strict=True) for block in cut.of(x)]
        blocks = []
        for x, cut in zip(column, self.cuts, strict=True):
            shapes = [state.shape(shape) for shape in cut.shapes]
            parts = torch.split(x, [math.prod(shape) for shape in shapes])
            blocks += [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        return blocks

    def fill(self, grads: list[Tensor], inputs: Inputs) -> None:
        """Bring this step's blocks of gradients and inputs, and of parameters that lie otherwise, into the batch."""

        def cut(tensors: list[Tensor]) -> list[Tensor]:
            together = zip(tensors, self.parameters, self.strides, self.cuts, strict=True)
            return [block for x, p, strides, blocks in together for block in blocks.of(in_order(x, p, strides))]

        work = list(self.parameters)
        for i in self.gaps:
            work[i] = in_order(work[i], work[i], self.strides[i])
        self.staged = [(self.parameters[i], work[i]) for i in self.gaps]
        self.batch.parameters, self.batch.gradients = cut(work), cut(grads)
        self.batch.inputs = {
            name: cut([column[p] for p in self.parameters])
            for name, column in inputs.items()
            if self.parameters[0] in column
        }


def _refuse_unfit(p: Tensor, state: Mapping[str, Any], rule: Rule, blocks: Blocks | None) -> None:
    """Refuse a step on types that no engine computes with, and states of another shape than the parameter's.

    Raises:
        TypeError: for a type that is not float32, float64, bfloat16 or float16.
        ValueError: where a parameter has changed its shape since its states were made.
    """
    for x, name in ((p, "parameter"), (p.grad, "gradient")):
        if x is not None and x.dtype not in TYPES:
            allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in TYPES)
            raise TypeError(f"a {name} of shape {tuple(x.shape)} is of type {x.dtype}; {rule.title} steps {allowed}")
    for declared in rule.state.values():
        value = state.get(declared.name)
        if not isinstance(value, Tensor) or declared.kind in ("host", "shared"):
            continue
        if value.shape != held_shape(declared, p, rule, blocks):
            raise ValueError(
                f"a parameter of shape {tuple(p.shape)} has the state {declared.name!r} of shape {tuple(value.shape)}; "
                "where its shape has changed, delete its state (`del optimizer.state[p]`) to begin anew"
            )


class GroupLayout:
    """The batches of one group. It fits as long as parameters, states and who has a gradient stay the same.

    The step counters of all members lie in one float32 tensor; `state[p]["step"]` is a view of one element.
    """

    def __init__(
        self, group: dict[str, Any], rule: Rule, hyper: dict[str, Any], state: dict[Tensor, Any], inputs: Inputs
    ) -> None:
        self.rule = rule
        self.parameters: list[Tensor] = list(group["params"])
        self.blocks = [blocks_of(group, p, rule) for p in self.parameters]
        self.cut = (group.get("split"), group.get("transposed"))
        self.live = [p.grad is not None for p in self.parameters]
        self.inputs = inputs
        cut = {shape for blocks in self.blocks if blocks for shape in blocks.shapes}
        self.shapes = cut | {rule.seen_shape(tuple(p.shape)) for p in self.parameters}
        self.absent = self._absent(hyper)
        for p, live, blocks in zip(self.parameters, self.live, self.blocks, strict=True):
            if live:
                _refuse_unfit(p, state.get(p, {}), rule, blocks)
        members = [self._member(i, p, state[p], hyper) for i, p in enumerate(self.parameters) if self.live[i]]
        self.forms = _forms(self.parameters)
        self.types = list(map(_dtype, (p.grad for p in self.parameters if p.grad is not None)))
        steps = [float(m.state.get("step", 0.0)) for m in members]
        counters = torch.tensor(steps, dtype=torch.float32, device="cpu")
        self.counters = counters.numpy()
        self.views = list(counters.unbind())
        self.states = [m.state for m in members]
        for member, view in zip(members, self.views, strict=True):
            member.state["step"] = view
        self.buckets = self._buckets(members)

    def _absent(self, hyper: Mapping[str, Any]) -> list[Any]:
        if all(s.when is None for s in self.rule.state.values()):
            return []
        return [tuple(self.rule.absent_states(hyper, shape)) for shape in self.shapes]

    def _member(self, place: int, p: Tensor, state: dict[str, Any], hyper: Mapping[str, Any]) -> Member:
        blocks = self.blocks[place]
        strides = blocks.strides(tuple(p.shape)) if blocks else self._strides(p, hyper)
        seen = blocks.shapes[0] if blocks else self.rule.seen_shape(tuple(p.shape))
        absent = self.rule.absent_states(hyper, seen)
        if blocks and any(list(self.rule.absent_states(hyper, shape)) != list(absent) for shape in blocks.shapes):
            raise ValueError(
                f"split cuts a parameter of shape {tuple(p.shape)} into blocks of which some have states that others "
                f"lack (they are {', '.join(f'{n} × {m}' for n, m in blocks.shapes)}); use blocks of one size"
            )
        present = [s for symbol, s in self.rule.state.items() if symbol not in absent and s.kind != "shared"]
        for declared in present:
            if declared.name not in state:
                state[declared.name] = initial_state(declared, p, self.rule, hyper, blocks)
            if declared.kind == "full":
                state[declared.name] = in_order(state[declared.name], p, strides)
        return Member(place, p, state, strides, same_order(p, strides), tuple(s.name for s in present), blocks)

    def _strides(self, p: Tensor, hyper: Mapping[str, Any]) -> Strides:
        """The order in which the engines see a parameter: its own, or by rows where the rule looks at rows."""
        packed = packed_strides(p)
        by_rows = torch.empty(p.shape, device="meta").stride()
        if packed != by_rows and goes_by_rows(self.rule, {**self.rule.defaults, **hyper}, p.ndim):
            return by_rows
        return packed

    def _buckets(self, members: list[Member]) -> list[Bucket]:
        together: dict[Any, list[int]] = {}
        for k, m in enumerate(members):
            together.setdefault(m.key(float(self.counters[k]), self.inputs), []).append(k)
        return [self._bucket([members[k] for k in ks], ks) for ks in together.values()]

    def _bucket(self, members: list[Member], ks: list[int]) -> Bucket:
        state = members[0].state
        present = {symbol: s for symbol, s in self.rule.state.items() if s.name in members[0].present}
        columns = {symbol: s.name for symbol, s in present.items() if s.kind != "host"}
        batch = Batch(self.rule, {}, 0, [], [], {})
        batch.host = {symbol: float(state[s.name]) for symbol, s in present.items() if s.kind == "host"}
        return (CutBucket if members[0].blocks else Bucket)(batch, members, ks, columns)

    def fits(
        self,
        group: dict[str, Any],
        rule: Rule,
        hyper: dict[str, Any],
        grads: list[Tensor | None],
        live: list[Tensor],
    ) -> bool:
        """Whether this layout still describes the group, tensor by tensor and address by address.

        Args:
            grads: of every parameter of the group.
            live: those that are not None.
        """
        parameters = group["params"]
        return (
            rule is self.rule
            and not self.inputs
            and self.cut == (group.get("split"), group.get("transposed"))
            and len(parameters) == len(self.parameters)
            and all(map(is_, parameters, self.parameters))
            and len(live) == len(self.views)
            and (len(live) == len(grads) or [g is not None for g in grads] == self.live)
            and self._absent(hyper) == self.absent
            and _forms(parameters) == self.forms
            and list(map(_dtype, live)) == self.types
            and all(map(is_, [s.get("step") for s in self.states], self.views))
            and all(bucket.fits(self.counters) for bucket in self.buckets)
        )

    def begin(self, hyper: dict[str, Any], live: list[Tensor]) -> list[Batch]:
        """The batches with this step's number, hyperparameters and gradients."""
        for bucket in self.buckets:
            bucket.batch.hyper = hyper
            bucket.batch.t = int(self.counters[bucket.places[0]]) + 1
            own = live if len(self.buckets) == 1 else [live[k] for k in bucket.places]
            bucket.fill(own, self.inputs)
        return [bucket.batch for bucket in self.buckets]

    def end(self) -> None:
        """Count the step that was taken, copy staged parameters back, and host states into the state dicts."""
        self.counters += 1
        for bucket in self.buckets:
            for p, work in bucket.staged:
                p.copy_(work)
            for symbol, value in bucket.batch.host.items():
                for state in bucket.state_dicts:
                    state[self.rule.state[symbol].name] = value
