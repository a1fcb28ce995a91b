"""What compiled engines share: from batches to graphs, kernels and launches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from ravine.engine.batch import Batch, Partials, Step, add_up, work_type
from ravine.engine.emit import Program, make_program
from ravine.engine.graph import Graph, Graphs, structure_key
from ravine.engine.launch import Kernel, Launch, Launches, Part


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
        sharing = [(batch, *self._parts(batch)[0][1:]) for batch in batches if batch.shared]
        waiting = [(launch, 0) for launch in self._launches(batches)]
        while True:
            collected: Partials = {}
            unfinished = []
            for launch, k in waiting:
                totals: Partials = {}
                while k < len(launch.kernel.sections) and not totals:
                    totals = launch.run(k, known)
                    k += 1
                add_up(collected, totals)
                if k < len(launch.kernel.sections):
                    unfinished.append((launch, k))
            if not collected:
                break
            known = yield collected
            waiting = unfinished
        for batch, environment, graph in sharing:
            totals = {name: float(value) for name, value in known.items()}
            values = graph.shared_states({**environment, **totals})
            batch.shared = dict(zip(graph.shared_outputs, values, strict=True))

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
            kept: dict[Kernel, Launches] = parts[0].batch.cache.setdefault("launches", {})
            if kernel not in kept or not kept[kernel].matches(parts):
                kept[kernel] = Launches(kernel, parts, self.launch)
            launches += kept[kernel].refreshed(parts)
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
    return {**batch.rule.defaults, **batch.hyper, **batch.host, **batch.shared, **own}
