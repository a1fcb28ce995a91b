"""Planning: how many passes over memory a graph takes, and what each loads, computes and stores.

A value that sums over elements (a reduction) is known only after a pass; what depends on it waits for the next.
The planner tries each reduction as early and as late as possible and each store in every pass it may go to, and
takes the plan that moves the fewest bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ravine.engine.graph import nodes_below
from ravine.engine.symbols import REDUCTIONS, Node


@dataclass(frozen=True)
class Leaf:
    """A tensor as a kernel sees it: bytes per element, and whether storing a computed value loses nothing."""

    itemsize: int
    lossless: bool


@dataclass(eq=False)
class Pass:
    """One pass over all elements.

    Attributes:
        loads: the leaves read.
        reloads: nodes whose values an earlier pass stored, with the leaf that holds them.
        uniform: nodes with one value per parameter or optimizer, in order.
        body: nodes with one value per element, in order.
        reductions: reductions whose sums this pass adds up.
        stores: leaves written, with the node of their new value.
    """

    loads: list[str]
    reloads: dict[Node, str]
    uniform: list[Node]
    body: list[Node]
    reductions: list[Node]
    stores: dict[str, Node]


@dataclass(eq=False)
class Plan:
    """The passes of a graph and the bytes per parameter element that they move."""

    passes: list[Pass]
    bytes_per_element: int

    @property
    def reductions(self) -> list[Node]:
        """All reductions, in the order of their places in a kernel's table."""
        return [node for p in self.passes for node in p.reductions]


def make_plan(outputs: Mapping[str, Node], leaves: Mapping[str, Leaf]) -> Plan:
    """The plan that moves the fewest bytes; of equals, the one that computes least.

    Args:
        outputs: for each leaf that changes, the node of its new value.
        leaves: all tensors of the graph.
    """
    nodes = nodes_below(list(outputs.values()))
    best: tuple[int, int, list[Pass]] | None = None
    for when in _schedules(nodes, outputs):
        for stores in _store_choices(outputs, when):
            passes = _passes(nodes, outputs, leaves, when, stores)
            if passes is None:
                continue
            moved = sum(leaves[x].itemsize for p in passes for x in (*p.loads, *p.reloads.values(), *p.stores))
            cost = (moved, sum(len(p.body) for p in passes))
            if best is None or cost < best[:2]:
                best = (*cost, passes)
    assert best is not None, "storing everything in the last pass is always possible"
    return Plan(best[2], best[0])


def _levels(nodes: list[Node], when: Mapping[Node, int]) -> dict[Node, int]:
    """The first pass in which each node can be computed; for a reduction, the pass that adds it up."""
    level: dict[Node, int] = {}
    for n in nodes:
        level[n] = max((level[a] + (a.op in REDUCTIONS) for a in n.args), default=0)
        if n in when:
            level[n] = max(level[n], when[n])
    return level


def _schedules(nodes: list[Node], outputs: Mapping[str, Node]) -> Iterator[dict[Node, int]]:
    """For every reduction the pass that adds it up: all as early as possible, and all as late as possible."""
    early = _levels(nodes, {})
    reductions = [n for n in nodes if n.op in REDUCTIONS]
    yield {n: early[n] for n in reductions}
    last = max((early[n] + (n.op in REDUCTIONS) for n in outputs.values()), default=0)
    latest: dict[Node, int] = {}
    for n in reversed(nodes):
        users = [latest[m] for m in nodes if any(a is n for a in m.args)]
        latest[n] = min(users, default=last)
        if n.op in REDUCTIONS:
            latest[n] = max(latest[n] - 1, early[n])
    late = {n: latest[n] for n in reductions}
    if late != {n: early[n] for n in reductions}:
        yield late


def _store_choices(outputs: Mapping[str, Node], when: Mapping[Node, int]) -> Iterator[dict[str, int]]:
    level = _levels(nodes_below(list(outputs.values())), when)
    first = {name: level[n] + (n.op in REDUCTIONS) for name, n in outputs.items()}
    last = max(first.values(), default=0)
    for chosen in itertools.product(*(sorted({first[name], last}) for name in outputs)):
        yield dict(zip(outputs, chosen, strict=True))


def _passes(
    nodes: list[Node],
    outputs: Mapping[str, Node],
    leaves: Mapping[str, Leaf],
    when: Mapping[Node, int],
    stores: Mapping[str, int],
) -> list[Pass] | None:
    """The passes of one choice, or None if a pass would read what an earlier one has overwritten."""
    held: dict[Node, tuple[str, int]] = {}
    for name, n in outputs.items():
        if leaves[name].lossless and n.op != "leaf" and (n not in held or stores[name] < held[n][1]):
            held[n] = (name, stores[name])
    passes = []
    for k in range(max([*stores.values(), *when.values()], default=0) + 1):
        written = {name: outputs[name] for name, at in stores.items() if at == k}
        reductions = [n for n in nodes if when.get(n) == k]
        loads: dict[str, None] = {}
        reloads: dict[Node, str] = {}
        needed: dict[Node, None] = {}
        waiting = [*written.values(), *(n.args[0] for n in reductions)]
        while waiting:
            n = waiting.pop()
            if n in needed or n in reloads:
                continue
            if n.op == "leaf":
                if stores.get(n.payload, k) < k:
                    return None
                loads[n.payload] = None
            elif n.kind == "full" and n in held and held[n][1] < k:
                reloads[n] = held[n][0]
                continue
            elif n.op not in REDUCTIONS:
                waiting.extend(n.args)
            needed[n] = None
        ordered = sorted(needed, key=lambda n: n.index)
        uniform = [n for n in ordered if n.kind != "full"]
        body = [n for n in ordered if n.kind == "full"]
        passes.append(Pass(sorted(loads), reloads, uniform, body, reductions, written))
    return passes
