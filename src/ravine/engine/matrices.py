"""Matrix operations of a launch: torch runs them on whole matrices, between two passes over the elements."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.engine.emit import Program
from ravine.engine.orthogonalize import group, orthogonalize
from ravine.engine.symbols import Node
from ravine.math import apply

Shape = tuple[int, ...]

ALIGNED = 16
"""Stacks begin at multiples of so many elements, since the bits of a product may depend on where its factors lie."""

_memory = threading.local()


def workspace(elements: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for temporaries, kept from step to step and shared by all launches of a thread, which run in turn."""
    kept: dict[Any, Tensor] = _memory.__dict__
    key = f"{dtype} {device}"
    if key not in kept or kept[key].numel() < elements:
        kept.pop(key, None)
        with torch.inference_mode(False):  # what is made in inference mode cannot be written to outside of it
            kept[key] = torch.empty(elements, dtype=dtype, device=device)
    return kept[key]


class Matrices:
    """The matrix operations of one kernel over some tensors; those of one shape are orthogonalised in one call.

    Args:
        program: the kernel's program.
        shapes: the shape of each tensor, as its rule sees it.
        row: the row of host scalars of each tensor.
    """

    def __init__(self, program: Program, shapes: Sequence[Shape], row: np.ndarray) -> None:
        self.program = program
        self.shapes = shapes
        self.row = row
        self.alike: dict[Shape, list[int]] = {}
        for i, shape in enumerate(shapes):
            self.alike.setdefault(shape, []).append(i)
        self.slots = {expression: place for place, expression in enumerate(program.graph.slots)}
        plan = program.plan
        self.computed = {n: name for n, name in plan.temporaries.items() if n.is_computed}
        self.results = {n: name for n, name in plan.temporaries.items() if n.is_matrix_operation}
        self.leaf_of = {n: name for name, n in program.graph.outputs.items()}
        self.groups: dict[Any, list[tuple[Shape, tuple[int, ...]]]] = {}
        self.elements = sum(int(np.prod(shape)) for shape in shapes)

    def begin(self, parts: Sequence[Any], scalars: np.ndarray) -> None:
        """Find this step's tensors, and memory for what passes hand to torch."""
        self.scalars = scalars
        self.columns = {
            name: [x for part in parts for x in part.column(name)]
            for name in {n.payload for n in self._leaves()} | set(self.leaf_of.values()) | {"p"}
        }
        self.values: dict[Node, list[Any]] = {}
        device = self.columns["p"][0].device
        needed = len(self.computed) * (self.elements + ALIGNED * len(self.alike))
        take = torch.empty if self._waits() else workspace
        memory = take(needed, dtype=self.program.work, device=device)
        self.stacks: dict[Node, dict[Shape, Tensor]] = {}
        at = 0
        for node in self.computed:
            self.stacks[node] = {}
            for shape, members in self.alike.items():
                count = len(members) * int(np.prod(shape))
                self.stacks[node][shape] = memory[at : at + count].view(len(members), *shape)
                at += -(-count // ALIGNED) * ALIGNED

    def _waits(self) -> bool:
        """Whether other launches run, for a total, while temporaries hold something."""
        passes = self.program.plan.passes
        first = next((k for k, p in enumerate(passes) if any(x in self.computed.values() for x in p.stores)), 0)
        return any(n.op == "total" for p in passes[first:] for n in p.reductions)

    def _leaves(self) -> list[Node]:
        operations = [n for stage in self.program.plan.stages for n in stage.matrices]
        return [a for n in operations for a in n.args if a.op == "leaf"]

    def handed(self) -> dict[str, list[Tensor]]:
        """The memory of what passes hand to torch, tensor by tensor."""
        return {self.computed[node]: self._unstacked(stacks) for node, stacks in self.stacks.items()}

    def _unstacked(self, stacks: dict[Shape, Tensor]) -> list[Tensor]:
        tensors: list[Any] = [None] * len(self.shapes)
        for shape, members in self.alike.items():
            for i, x in zip(members, stacks[shape].unbind(0), strict=True):
                tensors[i] = x
        return tensors

    def run(self, k: int) -> dict[str, list[Tensor]]:
        """Run stage k; the temporaries that lie elsewhere now, tensor by tensor."""
        found = self.handed() if k == 0 else {}
        for node in self.program.plan.stages[k].matrices:
            if node.op == "orthogonalize":
                self.values[node] = self._orthogonalized(node)
            else:
                self.values[node] = [self._evaluated(node, i) for i in range(len(self.shapes))]
            if node in self.results:
                self.values[node] = [x.to(self.program.work).contiguous() for x in self.values[node]]
                found[self.results[node]] = self.values[node]
        return found

    def end(self, parts: Sequence[Any]) -> None:
        """Store what is square, and let go of everything."""
        for name, node in self.program.plan.matrix_stores.items():
            for target, value in zip(self.columns[name], self._value(node), strict=True):
                target.copy_(value)
        self.values, self.stacks, self.columns = {}, {}, {}

    def _value(self, node: Node) -> list[Any]:
        """A node's value for each tensor."""
        if node in self.values:
            return self.values[node]
        if node in self.stacks:
            self.values[node] = self._unstacked(self.stacks[node])
        elif node.op == "slot":
            self.values[node] = self.scalars[self.row, self.slots[node.payload]].tolist()
        elif node.op == "constant":
            self.values[node] = [node.payload] * len(self.shapes)
        else:
            name = node.payload if node.op == "leaf" else self.leaf_of[node]
            column = self.columns[name]
            if node.kind == "full":
                column = [x.view(shape) for x, shape in zip(column, self.shapes, strict=True)]
            self.values[node] = [x.to(self.program.work) for x in column]
        return self.values[node]

    def _evaluated(self, node: Node, i: int) -> Any:
        args = [self._value(a)[i] for a in node.args]
        if node.op == "part":
            return args[0][node.payload]
        if node.op == "take":
            return apply("take", *args, node.payload)
        return apply(node.op, *args, *(node.payload or ()))

    def _orthogonalized(self, node: Node) -> list[Tensor]:
        steps, coefficients = node.payload
        (x,) = node.args
        stacks = self.stacks.get(x, {})
        values = self._value(x)
        tensors = list(values)
        for shape, members in self._groups(steps, coefficients):
            if all(self.shapes[i] == shape for i in members):
                stack = stacks[shape] if shape in stacks else torch.stack([values[i] for i in members])
            else:
                stack = values[0].new_zeros(len(members), *shape)
                for target, i in zip(stack, members, strict=True):
                    target[: values[i].shape[0], : values[i].shape[1]] = values[i]
            found = orthogonalize(stack, steps, coefficients, out=stack) if stack.numel() else stack
            for i, result in zip(members, found.unbind(0), strict=True):
                tensors[i] = result[: values[i].shape[0], : values[i].shape[1]]
        return tensors

    def _groups(self, steps: int, coefficients: Any) -> list[tuple[Shape, tuple[int, ...]]]:
        """Which matrices are orthogonalized in one call, found out once."""
        key = (steps, coefficients)
        if key not in self.groups:
            shapes = [(shape[0], shape[1]) for shape in self.shapes]
            found = group(shapes, self.columns["p"][0].device, self.program.work, steps, coefficients)
            self.groups[key] = [(g.shape, g.members) for g in found]
        return self.groups[key]
