"""What compiled engines share: from batches to graphs, kernels and tables of tensors cut into chunks."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.engine.batch import Batch, Partials, Step, add_up, work_type
from ravine.engine.emit import Program, make_program
from ravine.engine.graph import Graph, Graphs, structure_key


@dataclass(slots=True)
class Part:
    """Members of a batch (None: all) that run with these scalars."""

    batch: Batch
    members: list[int] | None
    scalars: tuple[float, ...]

    def of(self, column: list[Tensor]) -> list[Tensor]:
        """The members' tensors of a column."""
        return column if self.members is None else [column[i] for i in self.members]

    def column(self, name: str) -> list[Tensor]:
        """The members' tensors of a leaf."""
        batch = self.batch
        if name in batch.states:
            return self.of(batch.states[name])
        return self.of(batch.parameters if name == "p" else batch.gradients if name == "g" else batch.inputs[name])


class Kernel:
    """What every compiled program has: its leaves, slots and reductions, in the order of its tables."""

    def __init__(self, program: Program) -> None:
        self.leaves = tuple(program.leaves)
        self.slots = len(program.graph.slots)
        self.reductions = [[(n.op, n.payload) for n in p.reductions] for p in program.plan.passes]
        self.totals = [n.payload for n in program.plan.reductions if n.op == "total"]
        self.bytes_per_element = program.plan.bytes_per_element

    @property
    def passes(self) -> int:
        """How many passes over memory the kernel takes."""
        return len(self.reductions)

    @property
    def reduction_count(self) -> int:
        """How many sums the kernel adds up, over all passes."""
        return sum(map(len, self.reductions))


class Launch(ABC):
    """The table of one kernel over the tensors of some batches, kept while they stay the same.

    Each tensor is cut into chunks of a fixed size; each chunk leaves one partial sum per reduction, so that a
    reduction is the same to the bit however the chunks are spread over threads.
    """

    def __init__(self, kernel: Kernel, parts: list[Part], chunk: int) -> None:
        self.kernel = kernel
        self.batches = [(part.batch, part.members) for part in parts]
        self.lengths = [len(part.column("p")) for part in parts]
        self.sizes = np.array([p.numel() for part in parts for p in part.column("p")], dtype=np.int64)
        self.elements = int(self.sizes.sum())
        counts = -(-self.sizes // chunk)
        self.chunks = int(counts.sum())
        self.first_chunk = np.cumsum(counts) - counts
        self.chunk_tensor = np.repeat(np.arange(len(self.sizes), dtype=np.int32), counts)
        self.chunk_start = (np.arange(self.chunks) - np.repeat(self.first_chunk, counts)) * chunk
        self.row = np.repeat(np.arange(len(parts), dtype=np.int32), self.lengths)
        self.scalars = np.zeros((len(parts), max(kernel.slots, 1)))
        self.pointers = np.zeros((len(kernel.leaves), len(self.sizes)), dtype=np.int64)
        still = {*parts[0].batch.states, *(["p"] if all(part.batch.steady for part in parts) else [])}
        self.moving = [place for place, name in enumerate(kernel.leaves) if name not in still]
        self._find([place for place, name in enumerate(kernel.leaves) if name in still], parts)

    def matches(self, parts: list[Part]) -> bool:
        """Whether the table was made for these members of these batches."""
        return len(parts) == len(self.batches) and all(
            part.batch is batch and part.members == members
            for part, (batch, members) in zip(parts, self.batches, strict=True)
        )

    def refresh(self, parts: list[Part]) -> None:
        """Bring in this step's scalars, and the addresses of what moves from step to step."""
        for row, part in enumerate(parts):
            self.scalars[row, : len(part.scalars)] = part.scalars
        self._find(self.moving, parts)

    def _find(self, places: list[int], parts: list[Part]) -> None:
        for place in places:
            name = self.kernel.leaves[place]
            self.pointers[place] = list(map(Tensor.data_ptr, itertools.chain(*(part.column(name) for part in parts))))

    @abstractmethod
    def run(self, k: int, known: Partials) -> Partials:
        """Run pass k with the totals known; this launch's share of the totals that the pass adds up."""


class Compiled(ABC):
    """An engine that compiles: one kernel for each structure of rule and types."""

    name: str

    def __init__(self) -> None:
        self._graphs: dict[Any, Graphs] = {}
        self._kernels: dict[Any, Kernel] = {}

    @abstractmethod
    def compile(self, program: Program) -> Kernel:
        """The kernel of a program."""

    @abstractmethod
    def launch(self, kernel: Kernel, parts: list[Part]) -> Launch:
        """A table of tensors for a kernel."""

    def prepare(self, batches: list[Batch]) -> None:
        """Trace and compile what the batches need."""
        for batch in batches:
            for _, _, graph in self._parts(batch):
                self._kernel(batch, graph)

    def step(self, batches: list[Batch]) -> Step:
        """One step of every batch; batches of the same kernel run as one launch per pass."""
        known: Partials = {}
        waiting = [(launch, 0) for launch in self._launches(batches)]
        while True:
            collected: Partials = {}
            unfinished = []
            for launch, k in waiting:
                totals: Partials = {}
                while k < launch.kernel.passes and not totals:
                    totals = launch.run(k, known)
                    k += 1
                add_up(collected, totals)
                if k < launch.kernel.passes:
                    unfinished.append((launch, k))
            if not collected:
                return
            known = yield collected
            waiting = unfinished

    def _launches(self, batches: list[Batch]) -> list[Launch]:
        together: dict[tuple[Kernel, torch.device], list[Part]] = {}
        for batch in batches:
            for members, environment, graph in self._parts(batch):
                kernel = self._kernel(batch, graph)
                place = (kernel, batch.parameters[0].device)
                together.setdefault(place, []).append(Part(batch, members, graph.scalars(environment)))
                if graph.host_outputs:
                    batch.host = dict(zip(graph.host_outputs, graph.host_states(environment), strict=True))
        launches = []
        for (kernel, _), parts in together.items():
            kept: dict[Kernel, Launch] = parts[0].batch.cache.setdefault("launches", {})
            launch = kept.get(kernel)
            if launch is None or not launch.matches(parts):
                launch = kept[kernel] = self.launch(kernel, parts)
            launch.refresh(parts)
            launches.append(launch)
        return launches

    def _parts(self, batch: Batch) -> list[tuple[list[int] | None, Mapping[str, Any], Graph]]:
        """The batch whole, or cut by shape where its host scalars depend on the shape."""
        environment = _environment(batch, 0)
        graph = self._graph(batch, environment)
        if not graph.uses_shape:
            return [(None, environment, graph)]
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, p in enumerate(batch.parameters):
            shapes.setdefault(batch.rule.seen_shape(tuple(p.shape)), []).append(i)
        parts: list[tuple[list[int] | None, Mapping[str, Any], Graph]] = []
        for members in shapes.values():
            environment = _environment(batch, members[0])
            parts.append((members, environment, self._graph(batch, environment)))
        return parts

    def _graph(self, batch: Batch, environment: Mapping[str, Any]) -> Graph:
        flags = (*structure_key(batch.hyper), environment["ndim"])
        known = batch.cache.get("graphs")
        if known is None or known[0] != flags:
            present = frozenset([*batch.states, *batch.host, *batch.shared])
            key = (batch.rule, flags, present, tuple(batch.inputs))
            if key not in self._graphs:
                self._graphs[key] = Graphs(batch.rule, present, tuple(batch.inputs))
            known = batch.cache["graphs"] = (flags, self._graphs[key])
        graphs: Graphs = known[1]
        return graphs.find(environment)

    def _kernel(self, batch: Batch, graph: Graph) -> Kernel:
        kept: dict[Graph, Kernel] = batch.cache.setdefault("kernels", {})
        if graph not in kept:
            types = {"p": batch.parameters[0].dtype, "g": batch.gradients[0].dtype}
            types |= {symbol: column[0].dtype for symbol, column in batch.states.items()}
            types |= {name: column[0].dtype for name, column in batch.inputs.items()}
            key = (graph, tuple(types.items()))
            if key not in self._kernels:
                self._kernels[key] = self.compile(make_program(graph, types, work_type(types["p"])))
            kept[graph] = self._kernels[key]
        return kept[graph]


def _environment(batch: Batch, i: int) -> dict[str, Any]:
    """The host scalars of a batch, as its i-th parameter has them."""
    shape = batch.rule.seen_shape(tuple(batch.parameters[i].shape))
    rows, columns = (float(shape[-2]) if len(shape) > 1 else 1.0), (float(shape[-1]) if shape else 1.0)
    own = {"t": batch.t, "ndim": min(len(shape), 2), "rows": rows, "columns": columns}
    return {**batch.rule.defaults, **batch.hyper, **batch.host, **own}
