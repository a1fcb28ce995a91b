"""The native engine: rules as C++ kernels on the CPU, all tensors of one structure in one parallel region."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.engine.batch import Batch, Partials, Step, work_type
from ravine.engine.compiler import build
from ravine.engine.cpp import CHUNK, CppPrinter
from ravine.engine.emit import Program, make_program
from ravine.engine.graph import Graph, Graphs, structure_key
from ravine.rule import Rule

SMALL = 32768
"""Elements under which a step is not worth waking other threads for."""


class _Table(ctypes.Structure):
    _fields_ = [
        ("pointers", ctypes.c_void_p), ("tensors", ctypes.c_int64), ("sizes", ctypes.c_void_p),
        ("chunk_tensor", ctypes.c_void_p), ("chunk_start", ctypes.c_void_p), ("row", ctypes.c_void_p),
        ("scalars", ctypes.c_void_p), ("partials", ctypes.c_void_p), ("results", ctypes.c_void_p),
        ("totals", ctypes.c_void_p),
    ]  # fmt: skip


@cache
def _runtime() -> Any:
    run = build((Path(__file__).parent / "runtime.cpp").read_text()).ravine_run
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int]
    run.restype = ctypes.c_int
    return run


class Kernel:
    """A compiled program: the address of each pass."""

    def __init__(self, source: str, program: Program) -> None:
        with ThreadPoolExecutor(1) as beside:
            runtime = beside.submit(_runtime)
            library = build(source)
            runtime.result()
        passes = range(len(program.plan.passes))
        self.passes = [ctypes.cast(getattr(library, f"pass_{k}"), ctypes.c_void_p) for k in passes]
        self.leaves = tuple(program.leaves)
        self.reductions = [[(n.op, n.payload) for n in p.reductions] for p in program.plan.passes]
        self.totals = [n.payload for n in program.plan.reductions if n.op == "total"]
        self.slots = len(program.graph.slots)


class Native:
    """One compiled kernel for each structure of rule and types, in memory and on disk."""

    name = "native"

    def __init__(self) -> None:
        self._graphs: dict[Any, Graphs] = {}
        self._kernels: dict[str, Kernel] = {}
        self._programs: dict[tuple[Graph, Any], Kernel] = {}

    def prepare(self, batches: list[Batch]) -> None:
        """Trace and compile what the batches need."""
        for batch in batches:
            for _, _, graph in self._parts(batch):
                self._find_kernel(batch, graph)

    def step(self, batches: list[Batch]) -> Step:
        """One step of every batch; batches of the same kernel run as one."""
        launches = self._launches(batches)
        threads = torch.get_num_threads()
        known: Partials = {}
        waiting = [(launch, 0) for launch in launches]
        while waiting:
            collected: Partials = {}
            unfinished = []
            for launch, k in waiting:
                while k < len(launch.kernel.passes):
                    totals = launch.run(k, known, threads)
                    k += 1
                    for name, value in totals.items():
                        collected[name] = collected.get(name, 0.0) + value
                    if totals:
                        break
                if k < len(launch.kernel.passes):
                    unfinished.append((launch, k))
            if not collected:
                return
            known = yield collected
            waiting = unfinished

    def _launches(self, batches: list[Batch]) -> list[Launch]:
        together: dict[Kernel, list[Part]] = {}
        for batch in batches:
            for part_of, environment, graph in self._parts(batch):
                kernel = self._find_kernel(batch, graph)
                together.setdefault(kernel, []).append(Part(batch, part_of, graph.scalars(environment)))
                if graph.host_outputs:
                    batch.host = dict(zip(graph.host_outputs, graph.host_states(environment), strict=True))
        return [_launch(kernel, parts) for kernel, parts in together.items()]

    def _parts(self, batch: Batch) -> list[tuple[list[int] | None, Mapping[str, Any], Graph]]:
        """The batch whole, or cut by shape where its host scalars depend on the shape."""
        environment = _environment(batch, 0)
        graph = self._find_graph(batch, environment)
        if not graph.uses_shape:
            return [(None, environment, graph)]
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, p in enumerate(batch.parameters):
            shapes.setdefault(batch.rule.seen_shape(tuple(p.shape)), []).append(i)
        parts = []
        for members in shapes.values():
            environment = _environment(batch, members[0])
            parts.append((members, environment, self._find_graph(batch, environment)))
        return parts

    def _find_graph(self, batch: Batch, environment: Mapping[str, Any]) -> Graph:
        structure, flags = batch.cache.get("structure"), structure_key(batch.hyper)
        if structure is None or structure[0] != flags:
            present = frozenset([*batch.states, *batch.host, *batch.shared])
            key = (batch.rule, flags, present, tuple(batch.inputs))
            graphs = self._graphs.setdefault(key, Graphs(batch.rule, present, tuple(batch.inputs)))
            structure = batch.cache["structure"] = (flags, graphs)
        graphs = structure[1]
        found: Graph = graphs.find(environment)
        return found

    def _find_kernel(self, batch: Batch, graph: Graph) -> Kernel:
        types = {"p": batch.parameters[0].dtype, "g": batch.gradients[0].dtype}
        types |= {symbol: column[0].dtype for symbol, column in batch.states.items() if column}
        types |= {name: column[0].dtype for name, column in batch.inputs.items()}
        key = (graph, tuple(types.items()))
        if key not in self._programs:
            program = make_program(graph, types, work_type(types["p"]))
            source = CppPrinter(program).source()
            if source not in self._kernels:
                self._kernels[source] = Kernel(source, program)
            self._programs[key] = self._kernels[source]
        return self._programs[key]


def _environment(batch: Batch, i: int) -> dict[str, Any]:
    """The host scalars of a batch, as its i-th parameter has them."""
    shape = batch.rule.seen_shape(tuple(batch.parameters[i].shape))
    rows, columns = (float(shape[-2]) if len(shape) > 1 else 1.0), (float(shape[-1]) if shape else 1.0)
    own = {"t": batch.t, "ndim": len(shape), "rows": rows, "columns": columns}
    return {**batch.rule.defaults, **batch.hyper, **batch.host, **own}


@dataclass(slots=True)
class Part:
    """Members of a batch (None: all) that run with these scalars."""

    batch: Batch
    members: list[int] | None
    scalars: tuple[float, ...]

    def of(self, column: list[Tensor]) -> list[Tensor]:
        """The members' tensors of a column."""
        return column if self.members is None else [column[i] for i in self.members]


class Launch:
    """The table of one kernel over the tensors of some batches, kept while they stay the same."""

    def __init__(self, kernel: Kernel, parts: list[Part]) -> None:
        self.kernel = kernel
        self.batches = [(part.batch, part.members) for part in parts]
        tensors = [p for part in parts for p in part.of(part.batch.parameters)]
        sizes = [p.numel() for p in tensors]
        counts = [-(-size // CHUNK) for size in sizes]
        self.chunks = sum(counts)
        self.sizes = np.array(sizes, dtype=np.int64)
        self.chunk_tensor = np.repeat(np.arange(len(sizes), dtype=np.int32), counts)
        self.first_chunk = np.concatenate([[0], np.cumsum(counts)])[:-1]
        self.chunk_start = (np.arange(self.chunks) - np.repeat(self.first_chunk, counts)) * CHUNK
        self.occupied = np.flatnonzero(self.sizes)
        lengths = [len(part.of(part.batch.parameters)) for part in parts]
        self.row = np.repeat(np.arange(len(parts), dtype=np.int32), lengths)
        self.scalars = np.zeros((len(parts), max(kernel.slots, 1)))
        count = sum(map(len, kernel.reductions))
        self.partials = np.zeros((self.chunks, count))
        self.results = np.zeros((len(sizes), max(count, 1)))
        self.totals = np.zeros(max(len(kernel.totals), 1))
        self.pointers = np.zeros((len(kernel.leaves), len(sizes)), dtype=np.uint64)
        self.moving = [name for name in kernel.leaves if name not in parts[0].batch.states]
        for place, name in enumerate(kernel.leaves):
            if name not in self.moving:
                self.pointers[place] = [x.data_ptr() for part in parts for x in part.of(part.batch.states[name])]
        arrays = (
            self.pointers, len(sizes), self.sizes, self.chunk_tensor, self.chunk_start, self.row, self.scalars,
            self.partials, self.results, self.totals,
        )  # fmt: skip
        self.table = _Table(*(x if isinstance(x, int) else x.ctypes.data for x in arrays))
        self.address = ctypes.addressof(self.table)
        self.elements = int(self.sizes.sum())

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
        for name in self.moving:
            self.pointers[self.kernel.leaves.index(name)] = [
                x.data_ptr() for part in parts for x in part.of(_column(part.batch, name))
            ]

    def run(self, k: int, known: Partials, threads: int) -> Partials:
        """Run pass k; this kernel's share of the totals it adds up."""
        for i, name in enumerate(self.kernel.totals):
            self.totals[i] = known.get(name, 0.0)
        if self.elements < SMALL:
            threads = 1
        run = max(1, self.chunks // (threads * 16))
        _runtime()(self.kernel.passes[k], self.address, self.chunks, run, threads)
        before = sum(map(len, self.kernel.reductions[:k]))
        totals: Partials = {}
        for place, (op, name) in enumerate(self.kernel.reductions[k], before):
            if len(self.occupied):
                starts = self.first_chunk[self.occupied]
                self.results[self.occupied, place] = np.add.reduceat(self.partials[:, place], starts)
            if op == "total":
                totals[name] = float(np.add.accumulate(self.results[:, place])[-1])
        return totals


def _column(batch: Batch, name: str) -> list[Tensor]:
    return batch.parameters if name == "p" else batch.gradients if name == "g" else batch.inputs[name]


def _launch(kernel: Kernel, parts: list[Part]) -> Launch:
    """The kernel's launch over these parts, made anew only when they differ from the last time."""
    kept: dict[Kernel, Launch] = parts[0].batch.cache.setdefault("launches", {})
    launch = kept.get(kernel)
    if launch is None or not launch.matches(parts):
        launch = kept[kernel] = Launch(kernel, parts)
    launch.refresh(parts)
    return launch
