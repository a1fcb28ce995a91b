"""A kernel over the tensors of some batches: the table it reads, and its passes and stages in order."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ravine.engine.batch import Batch, Partials
from ravine.engine.emit import Printer
from ravine.engine.matrices import Matrices
from ravine.engine.plan import Plan
from ravine.engine.symbols import VECTORS

TOGETHER = 1 << 21
"""Elements of the matrices that are handed to torch at a time, at least one matrix."""


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
    """What every compiled program has: its leaves, slots and sums, in the order of its tables."""

    def __init__(self, printer: Printer) -> None:
        program = printer.program
        self.program = program
        self.leaves = tuple(program.leaves)
        self.slots = len(program.graph.slots)
        self.reductions = [
            [(n.op, n.payload) for n in p.reductions if n in printer.partials] for p in program.plan.passes
        ]
        self.partials, self.results = len(printer.partials), len(printer.results)
        self.column_sums = len(printer.column_sums)
        self.vectors = {kind: sum(n.kind == kind for n in printer.vectors) for kind in VECTORS}
        self.stages = [bool(program.by_rows and s.vectors) for s in program.plan.stages]
        self.stages[-1] |= bool(program.plan.vector_stores)
        self.totals = printer.totals
        self.sections = _sections(program.plan)
        self.bytes_per_element = program.plan.bytes_per_element

    @property
    def passes(self) -> int:
        """How many passes over memory the kernel takes."""
        return len(self.reductions)


@dataclass(frozen=True)
class Cut:
    """How tensors are cut into chunks: elements of a chunk, and where columns are added up, the fewest rows of one."""

    elements: int
    least_rows: int = 1


class Launch(ABC):
    """The table of one kernel over the tensors of some batches, kept while they stay the same.

    Each tensor is cut into chunks of a fixed size; each chunk leaves one partial sum per reduction, so that a
    reduction is the same to the bit however the chunks are spread over threads. Where the kernel goes row by row, a
    chunk is whole rows of one matrix.
    """

    def __init__(self, kernel: Kernel, parts: list[Part], cut: Cut) -> None:
        self.kernel = kernel
        lengths = [len(part.column("p")) for part in parts]
        shapes = [part.batch.rule.seen_shape(tuple(p.shape)) for part in parts for p in part.column("p")]
        self.sizes = np.array([p.numel() for part in parts for p in part.column("p")], dtype=np.int64)
        self.elements = int(self.sizes.sum())
        self.row = np.repeat(np.arange(len(parts), dtype=np.int32), lengths)
        self.scalars = np.zeros((len(parts), max(kernel.slots, 1)))
        if kernel.program.by_rows:
            self._cut_rows(shapes, cut)
        else:
            self._cut_flat(cut)
        self.chunks = int(self.chunk_bounds[-1])
        self.first_chunk = self.chunk_bounds[:-1]
        self.pointers = np.zeros((len(kernel.leaves), len(self.sizes)), dtype=np.int64)
        still = {*parts[0].batch.states, *(["p"] if all(part.batch.steady for part in parts) else [])}
        named = [(place, name) for place, name in enumerate(kernel.leaves) if not name.startswith("~")]
        self.moving = [place for place, name in named if name not in still]
        self._find([place for place, name in named if name in still], parts)
        self.matrices = Matrices(kernel.program, shapes, self.row) if kernel.program.plan.has_matrices else None

    def _cut_flat(self, cut: Cut) -> None:
        counts = -(-self.sizes // cut.elements)
        self.chunk_bounds = np.concatenate([[0], np.cumsum(counts)])
        self.chunk_tensor = np.repeat(np.arange(len(self.sizes), dtype=np.int32), counts)
        place = np.arange(self.chunk_bounds[-1]) - np.repeat(self.chunk_bounds[:-1], counts)
        self.chunk_start = place * cut.elements

    def _cut_rows(self, shapes: list[tuple[int, ...]], cut: Cut) -> None:
        """Chunks of whole rows; where the values per row, column and matrix, and the sums of columns of each begin."""
        self.rows = np.array([max(shape[-2], 1) for shape in shapes], dtype=np.int64)
        self.columns = np.array([max(shape[-1], 1) for shape in shapes], dtype=np.int64)
        stacked = self.sizes // (self.rows * self.columns)
        together = np.minimum(np.maximum(-(-cut.elements // self.columns), cut.least_rows), self.rows)
        per_matrix = -(-self.rows // together)
        counts = stacked * per_matrix
        self.chunk_bounds = np.concatenate([[0], np.cumsum(counts)])
        self.chunk_tensor = tensor = np.repeat(np.arange(len(self.sizes), dtype=np.int32), counts)
        place = np.arange(self.chunk_bounds[-1]) - np.repeat(self.chunk_bounds[:-1], counts)
        matrix, first = place // per_matrix[tensor], place % per_matrix[tensor] * together[tensor]
        self.chunk_rows = np.minimum(together[tensor], self.rows[tensor] - first).astype(np.int32)
        self.chunk_start = (matrix * self.rows[tensor] + first) * self.columns[tensor]
        ends = {"row": stacked * self.rows, "column": stacked * self.columns, "matrix": stacked}
        self.vector_at = {kind: np.cumsum(count) - count for kind, count in ends.items()}
        self.vector_total = {kind: int(count.sum()) for kind, count in ends.items()}
        widths = self.columns[tensor] if self.kernel.column_sums else np.zeros_like(self.chunk_start)
        self.sums_at, self.sums_total = np.cumsum(widths) - widths, int(widths.sum())

    def refresh(self, parts: list[Part]) -> None:
        """Bring in this step's scalars, and the addresses of what moves from step to step."""
        for row, part in enumerate(parts):
            self.scalars[row, : len(part.scalars)] = part.scalars
        self._find(self.moving, parts)
        self.parts = parts

    def _find(self, places: list[int], parts: list[Part]) -> None:
        for place in places:
            name = self.kernel.leaves[place]
            self.pointers[place] = list(map(Tensor.data_ptr, itertools.chain(*(part.column(name) for part in parts))))

    def run(self, section: int, known: Partials) -> Partials:
        """Run a section of the kernel's passes with the totals known; this launch's share of its totals."""
        self.tell(known)
        first, last = self.kernel.sections[section]
        final = section == len(self.kernel.sections) - 1
        if self.matrices:
            if first == 0:
                self.matrices.begin(self.parts, self.scalars)
            self._multiply(self.matrices, first)
        totals = self.sweep(first, last, final)
        if self.matrices and final:
            self._multiply(self.matrices, last)
            self.matrices.end(self.parts)
        return totals

    def _multiply(self, matrices: Matrices, k: int) -> None:
        """Run stage k's matrix operations."""
        found = matrices.run(k)
        for name, tensors in found.items():
            self.pointers[self.kernel.leaves.index(name)] = list(map(Tensor.data_ptr, tensors))
        if found:
            self.moved()

    @abstractmethod
    def moved(self) -> None:
        """Note that addresses have changed since `refresh`."""

    @abstractmethod
    def tell(self, known: Partials) -> None:
        """Take note of the totals that are known."""

    @abstractmethod
    def sweep(self, first: int, last: int, final: bool) -> Partials:
        """Run these passes, each after its stage's vectors, and in the end the last stage's.

        Returns:
            This launch's share of the totals that the last of them adds up.
        """


def _sections(plan: Plan) -> list[tuple[int, int]]:
    """The passes that run without a word from outside: up to one that adds up a total, or comes before matrices."""
    ends = [k + 1 for k, step in enumerate(plan.passes) if any(n.op == "total" for n in step.reductions)]
    ends += [k for k, stage in enumerate(plan.stages) if stage.matrices and 0 < k < len(plan.passes)]
    count = len(plan.passes)
    sections = list(itertools.pairwise(sorted({0, *ends, count})))
    after = bool(plan.stages[count].vectors or plan.stages[count].matrices or plan.vector_stores or plan.matrix_stores)
    return [*sections, (count, count)] if count in ends and after else sections


class Launches:
    """The launches of one kernel in a step: one, or where torch multiplies matrices, one for every few of them.

    What passes hand to torch and get back then needs little memory, and is found in the cache.

    Args:
        kernel: the kernel.
        parts: all that it runs over.
        launch: makes a launch.
    """

    def __init__(self, kernel: Kernel, parts: list[Part], launch: Callable[[Any, list[Part]], Launch]) -> None:
        self.batches = [(part.batch, part.members) for part in parts]
        self.picks: list[list[tuple[int, list[int] | None]]] = [[(i, None) for i in range(len(parts))]]
        if kernel.program.plan.has_matrices and not kernel.totals:
            self.picks = _cut(parts, TOGETHER)
        self.launches = [launch(kernel, self._picked(parts, picks)) for picks in self.picks]

    def _picked(self, parts: list[Part], picks: list[tuple[int, list[int] | None]]) -> list[Part]:
        return [
            parts[i] if members is None else Part(parts[i].batch, members, parts[i].scalars) for i, members in picks
        ]

    def matches(self, parts: list[Part]) -> bool:
        """Whether the tables were made for these members of these batches."""
        return len(parts) == len(self.batches) and all(
            part.batch is batch and part.members == members
            for part, (batch, members) in zip(parts, self.batches, strict=True)
        )

    def refreshed(self, parts: list[Part]) -> list[Launch]:
        """The launches with this step's scalars and addresses."""
        for launch, picks in zip(self.launches, self.picks, strict=True):
            launch.refresh(self._picked(parts, picks))
        return self.launches


def _cut(parts: list[Part], together: int) -> list[list[tuple[int, list[int] | None]]]:
    """Members of the parts in groups of up to so many elements, those of one shape side by side."""
    every = [
        (tuple(p.shape), i, member)
        for i, part in enumerate(parts)
        for member, p in zip(part.members or range(len(part.batch.parameters)), part.column("p"), strict=True)
    ]
    groups: list[dict[int, list[int]]] = []
    filled = together
    for shape, i, member in sorted(every):
        size = math.prod(shape)
        if not groups or filled + size > together:
            groups.append({})
            filled = 0
        groups[-1].setdefault(i, []).append(member)
        filled += size
    return [[(i, sorted(members)) for i, members in group.items()] for group in groups]
