"""Planning: how many passes over memory a graph takes, and what each loads, computes and stores.

A value that sums over elements (a reduction) is known only after a pass; what depends on it waits for the next. So does
a matrix operation, which torch runs on whole matrices between two passes. The planner tries each reduction as early and
as late as possible and each store in every pass it may go to, and takes the plan that moves the fewest bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ravine.engine.graph import nodes_below
from ravine.engine.symbols import REDUCTIONS, SQUARES, VECTORS, Node


@dataclass(frozen=True)
class Leaf:
    """A tensor as a kernel sees it: bytes per element, whether storing a computed value loses nothing, its kind."""

    itemsize: int
    lossless: bool
    kind: str = "full"


@dataclass(eq=False)
class Pass:
    """One pass over all elements.

    Attributes:
        loads: the leaves read.
        reloads: nodes whose values lie in memory (stored by an earlier pass, or from torch), with the leaf or temporary
            that holds them.
        vectors: nodes with one value per row, column or matrix, which are read.
        uniform: nodes with one value per parameter or optimizer, in order.
        body: nodes with one value per element, in order.
        reductions: reductions whose sums this pass adds up.
        stores: leaves and temporaries written, with the node of their new value.
    """

    loads: list[str]
    reloads: dict[Node, str]
    vectors: list[Node]
    uniform: list[Node]
    body: list[Node]
    reductions: list[Node]
    stores: dict[str, Node]


@dataclass(eq=False)
class Stage:
    """What is computed before a pass, or after the last, without going over all elements.

    Attributes:
        vectors: values per row, column or matrix, and reductions of such, in order; each is kept.
        matrices: matrix operations, in order.
    """

    vectors: list[Node]
    matrices: list[Node]


@dataclass(eq=False)
class Plan:
    """The passes of a graph, what is computed between them, and the bytes per parameter element that they move.

    Attributes:
        stages: one before each pass, and one after the last.
        temporaries: nodes with one value per element that are handed to or from torch, with the names of their memory.
        vector_stores: leaves of kind row or column that change, after the last stage.
        matrix_stores: leaves of kind left or right that change, likewise.
    """

    passes: list[Pass]
    stages: list[Stage]
    temporaries: dict[Node, str]
    vector_stores: dict[str, Node]
    matrix_stores: dict[str, Node]
    bytes_per_element: int

    @property
    def has_matrices(self) -> bool:
        """Whether torch computes something between passes."""
        return any(s.matrices for s in self.stages)

    @property
    def reductions(self) -> list[Node]:
        """The reductions that passes add up, in the order of their places in a kernel's table."""
        return [node for p in self.passes for node in p.reductions]

    @property
    def vectors(self) -> list[Node]:
        """All values that stages and row means keep, in order."""
        rows = [n for n in self.reductions if n.kind in VECTORS]
        return list(dict.fromkeys([*rows, *(n for s in self.stages for n in s.vectors if n.kind in VECTORS)]))


def make_plan(outputs: Mapping[str, Node], leaves: Mapping[str, Leaf], totals: Sequence[Node] = ()) -> Plan:
    """The plan that moves the fewest bytes; of equals, the one that computes least.

    Args:
        outputs: for each leaf that changes, the node of its new value.
        leaves: all tensors of the graph.
        totals: totals that are wanted even where no output depends on them.
    """
    for handed_over in (True, False):
        planner = _Planner(outputs, leaves, totals, handed_over)
        plan = planner.best()
        if plan is not None:
            return plan
    raise AssertionError("storing everything in the last pass is always possible")


class _Planner:
    """One search. `handed_over`: an output that torch needs too is stored early, instead of in a temporary as well."""

    def __init__(
        self, outputs: Mapping[str, Node], leaves: Mapping[str, Leaf], totals: Sequence[Node], handed_over: bool
    ) -> None:
        self.leaves = leaves
        self.full = {name: n for name, n in outputs.items() if leaves[name].kind == "full"}
        self.vector_stores = {name: n for name, n in outputs.items() if leaves[name].kind in VECTORS}
        self.matrix_stores = {name: n for name, n in outputs.items() if leaves[name].kind in SQUARES}
        self.nodes = nodes_below([*outputs.values(), *totals])
        self.swept = [n for n in self.nodes if n.is_swept]
        operations = [n for n in self.nodes if n.is_matrix_operation]
        self.handed = [a for n in operations for a in n.args if a.is_computed]
        holders = {n: name for name, n in self.full.items() if leaves[name].lossless} if handed_over else {}
        self.early = {holders[n] for n in self.handed if n in holders}
        results = [n for n in operations if n.kind == "full"]
        self.temporaries = {
            n: f"~{n.index}" for n in (*self.handed, *results) if n not in holders or n.is_matrix_operation
        }

    def best(self) -> Plan | None:
        """The best plan; None if no choice of passes for the stores works."""
        found: tuple[int, int, list[Pass], dict[Node, int]] | None = None
        for when in self._schedules():
            level = self._levels(when)
            for stores in self._store_choices(level):
                passes = self._passes(level, when, stores)
                if passes is None:
                    continue
                cost = (sum(map(self._bytes, passes)), sum(len(p.body) for p in passes))
                if found is None or cost < found[:2]:
                    found = (*cost, passes, level)
        if found is None:
            return None
        moved, _, passes, level = found
        stages = self._stages(passes, level)
        return Plan(passes, stages, self.temporaries, self.vector_stores, self.matrix_stores, moved)

    def _bytes(self, step: Pass) -> int:
        work = max((leaf.itemsize for leaf in self.leaves.values() if leaf.lossless), default=4)
        names = (*step.loads, *step.reloads.values(), *step.stores)
        return sum(self.leaves[x].itemsize if x in self.leaves else work for x in names)

    def _levels(self, when: Mapping[Node, int]) -> dict[Node, int]:
        """The first pass in which each node can be used; for a reduction over elements, the pass that adds it up."""
        level: dict[Node, int] = {}
        for n in self.nodes:
            level[n] = max((level[a] + _delay(a, n) for a in n.args), default=0)
            if n in when:
                level[n] = max(level[n], when[n])
        return level

    def _schedules(self) -> Iterator[dict[Node, int]]:
        """For every reduction the pass that adds it up: all as early as possible, and all as late as possible."""
        early = self._levels({})
        yield {n: early[n] for n in self.swept}
        last = max((early[n] + n.is_swept for n in self.full.values()), default=0)
        latest: dict[Node, int] = {}
        for n in reversed(self.nodes):
            users = [latest[m] - _delay(n, m) for m in self.nodes if any(a is n for a in m.args)]
            latest[n] = min(users, default=last)
            if n.is_swept:
                latest[n] = max(latest[n], early[n])
        late = {n: min(latest[n], last) for n in self.swept}
        if late != {n: early[n] for n in self.swept}:
            yield late

    def _store_choices(self, level: Mapping[Node, int]) -> Iterator[dict[str, int]]:
        first = {name: level[n] + n.is_swept for name, n in self.full.items()}
        last = max([*first.values(), *(level[n] for n in self.handed)], default=0)
        may = [{first[name]} if name in self.early else {first[name], last} for name in self.full]
        fixed = {name: level[n] for n, name in self.temporaries.items() if n.is_computed}
        for chosen in itertools.product(*map(sorted, may)):
            yield dict(zip(self.full, chosen, strict=True)) | fixed

    def _passes(
        self, level: Mapping[Node, int], when: Mapping[Node, int], stores: Mapping[str, int]
    ) -> list[Pass] | None:
        """The passes of one choice, or None if something would read what an earlier pass has overwritten."""
        for n in self.nodes:
            overwritten = (a for a in n.args if n.is_matrix_operation and a.op == "leaf")
            if any(stores.get(a.payload, level[n]) < level[n] for a in overwritten):
                return None
        written = self.full | {name: n for n, name in self.temporaries.items() if n.is_computed}
        held: dict[Node, tuple[str, int]] = {}
        for name, n in written.items():
            lossless = name not in self.leaves or self.leaves[name].lossless
            if lossless and n.is_computed and (n not in held or stores[name] < held[n][1]):
                held[n] = (name, stores[name])
        passes = []
        for k in range(max([*stores.values(), *when.values()], default=0) + 1):
            at_k = {name: n for name, n in written.items() if stores[name] == k}
            step = self._pass(k, at_k, [n for n in self.swept if when[n] == k], held, stores)
            if step is None:
                return None
            passes.append(step)
        return passes

    def _pass(
        self,
        k: int,
        written: dict[str, Node],
        reductions: list[Node],
        held: Mapping[Node, tuple[str, int]],
        stores: Mapping[str, int],
    ) -> Pass | None:
        loads: dict[str, None] = {}
        reloads: dict[Node, str] = {}
        needed: dict[Node, None] = {}
        vectors: dict[Node, None] = {}
        waiting = [*written.values(), *(n.args[0] for n in reductions)]
        while waiting:
            n = waiting.pop()
            if n in needed or n in reloads or n in vectors:
                continue
            if n.kind in VECTORS:
                vectors[n] = None
                continue
            if n.is_computed and n in held and held[n][1] < k:
                reloads[n] = held[n][0]
                continue
            if n.is_matrix_operation:
                reloads[n] = self.temporaries[n]
                continue
            if n.op == "leaf":
                if stores.get(n.payload, k) < k:
                    return None
                loads[n.payload] = None
            elif n.op not in REDUCTIONS:
                waiting.extend(n.args)
            needed[n] = None
        ordered = sorted(needed, key=lambda n: n.index)
        uniform = [n for n in ordered if n.kind != "full"]
        body = [n for n in ordered if n.kind == "full"]
        return Pass(
            sorted(loads), reloads, sorted(vectors, key=lambda n: n.index), uniform, body, reductions, written
        )  # fmt: skip

    def _stages(self, passes: list[Pass], level: Mapping[Node, int]) -> list[Stage]:
        """What is kept of vectors: what passes read, reductions of them, and what is stored in the end."""
        read = {n for p in passes for n in p.vectors} | set(self.vector_stores.values())
        reduced = {n for n in self.nodes if n.op in REDUCTIONS and (n.kind in VECTORS or not n.is_swept)}
        kept = [n for n in self.nodes if n in read | reduced and n.op != "leaf"]
        vectors = [n for n in kept if n.kind in VECTORS or n.op in REDUCTIONS]
        operations = [n for n in self.nodes if n.is_matrix_operation]

        def at(n: Node) -> int:
            return level[n] + n.is_swept

        return [
            Stage([n for n in vectors if at(n) == k], [n for n in operations if at(n) == k])
            for k in range(len(passes) + 1)
        ]


def _delay(value: Node, user: Node) -> int:
    """How many passes after `value` its user comes."""
    return int(value.is_swept or (user.is_matrix_operation and value.is_computed))
