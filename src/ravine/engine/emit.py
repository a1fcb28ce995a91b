"""From a plan to the text of a kernel: what C++ and Triton have in common.

A kernel is one function per pass. Its source depends on the structure of the rule and the types of its tensors
only: hyperparameters, shapes and the number of tensors are data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch

from ravine.engine.graph import Graph, nodes_below
from ravine.engine.plan import Leaf, Pass, Plan, Stage, make_plan
from ravine.engine.symbols import REDUCTIONS, SQUARES, VECTORS, Node


@dataclass(frozen=True, eq=False)
class Program:
    """A planned graph with the types of its tensors.

    Attributes:
        leaves: the tensors of the kernel with their types, temporaries included, in the order of its pointer table.
        work: float32 or float64.
    """

    graph: Graph
    plan: Plan
    leaves: Mapping[str, torch.dtype]
    work: torch.dtype

    @cached_property
    def by_rows(self) -> bool:
        """Whether passes go row by row, since something in them is one value per row, column or matrix."""
        plan = self.plan
        return bool(plan.vectors or plan.vector_stores or any(p.vectors for p in plan.passes))

    @cached_property
    def matrix_operations(self) -> str:
        """The matrix operations in words: what of a program its source does not show."""
        operations = [n for s in self.plan.stages for n in s.matrices]
        slots = {a: self.graph.slots.index(a.payload) for n in operations for a in n.args if a.op == "slot"}
        return f"{operations} {self.plan.matrix_stores} {slots}"


def make_program(graph: Graph, leaves: Mapping[str, torch.dtype], work: torch.dtype) -> Program:
    """Plan a graph for tensors of these types."""
    described = {
        name: Leaf(dtype.itemsize, dtype == work, graph.kinds.get(name, "full")) for name, dtype in leaves.items()
    }
    plan = make_plan(graph.outputs, described, graph.totals)
    passed = {name: dtype for name, dtype in leaves.items() if described[name].kind not in SQUARES}
    return Program(graph, plan, passed | dict.fromkeys(plan.temporaries.values(), work), work)


class Printer:
    """Writes nodes as expressions of a language; a subclass says how the language spells each operation."""

    templates: ClassVar[Mapping[str, str]]

    def __init__(self, program: Program) -> None:
        plan = program.plan
        self.program = program
        self.places = {name: i for i, name in enumerate(program.leaves)}
        self.partials = {n: i for i, n in enumerate(n for n in plan.reductions if n.kind not in VECTORS)}
        later = [n for s in plan.stages for n in s.vectors if n.kind not in VECTORS]
        self.results = {n: i for i, n in enumerate([*self.partials, *later])}
        self.column_sums = {n: i for i, n in enumerate(n for n in plan.reductions if n.kind == "column")}
        self.vectors = {
            n: i for kind in VECTORS for i, n in enumerate(n for n in plan.vectors if n.kind == kind)
        }  # fmt: skip
        self.totals = [n.payload for n in plan.reductions if n.op == "total"]
        self.slots = {expression: i for i, expression in enumerate(program.graph.slots)}

    def name(self, node: Node) -> str:
        """The variable that holds a node's value."""
        return f"n{node.index}"

    def rounded(self, text: str) -> str:
        """A double as a value of the work type."""
        raise NotImplementedError

    def constant(self, value: float) -> str:
        """A number of the rule's own source, as a double."""
        raise NotImplementedError

    def operand(self, node: Node, user: Node) -> str:
        """A node as an argument of another: doubles are rounded where they meet values of the work type."""
        text = self.name(node)
        if user.op == "where" and node is user.args[0] and node.type_ != "bool":
            return f"({text} != 0)"
        doubles = node.type_ == "double"
        wide = user.type_ == "double" or (user.type_ == "bool" and all(a.kind in ("global", "host") for a in user.args))
        return self.rounded(text) if doubles and not wide else text

    def expression(self, node: Node) -> str:
        """A node's operation, applied to the variables of its arguments."""
        return self.templates[node.op].format(*(self.operand(a, node) for a in node.args))

    def element_order(self, step: Pass) -> Sequence[Node]:
        """The nodes computed per element, without those that are only loaded."""
        return [n for n in step.body if n.op != "leaf" and n.op not in REDUCTIONS]

    def below(self, target: Node, stage: Stage) -> list[Node]:
        """What a stage computes for one of its vectors: all nodes down to those that are kept, those included."""
        kept = {*self.vectors, *self.results} - {target}
        found: dict[Node, None] = {}
        waiting = list(target.args) if target.op in REDUCTIONS else [target]
        while waiting:
            n = waiting.pop()
            if n not in found:
                found[n] = None
                waiting.extend(() if n in kept or n.op in REDUCTIONS else n.args)
        return [n for n in nodes_below(list(found)) if n in found]
