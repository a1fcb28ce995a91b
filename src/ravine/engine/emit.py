"""From a plan to the text of a kernel: what C++ and Triton have in common.

A kernel is one function per pass. Its source depends on the structure of the rule and the types of its tensors
only: hyperparameters, shapes and the number of tensors are data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ravine.engine.graph import Graph
from ravine.engine.plan import Leaf, Pass, Plan, make_plan
from ravine.engine.symbols import REDUCTIONS, Node


@dataclass(frozen=True, eq=False)
class Program:
    """A planned graph with the types of its tensors.

    Attributes:
        leaves: the tensors of the kernel with their types, in the order of its pointer table.
        work: float32 or float64.
    """

    graph: Graph
    plan: Plan
    leaves: Mapping[str, torch.dtype]
    work: torch.dtype


def make_program(graph: Graph, leaves: Mapping[str, torch.dtype], work: torch.dtype) -> Program:
    """Plan a graph for tensors of these types."""
    described = {name: Leaf(dtype.itemsize, dtype == work) for name, dtype in leaves.items()}
    return Program(graph, make_plan(graph.outputs, described), leaves, work)


class Printer:
    """Writes nodes as expressions of a language; a subclass says how the language spells each operation."""

    templates: ClassVar[Mapping[str, str]]

    def __init__(self, program: Program) -> None:
        self.program = program
        self.places = {name: i for i, name in enumerate(program.leaves)}
        self.reductions = {n: i for i, n in enumerate(program.plan.reductions)}
        self.totals = [n.payload for n in program.plan.reductions if n.op == "total"]
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
        doubles = node.type_ == "double"
        wide = user.type_ == "double" or (user.type_ == "bool" and all(a.kind in ("global", "host") for a in user.args))
        return self.rounded(text) if doubles and not wide else text

    def expression(self, node: Node) -> str:
        """A node's operation, applied to the variables of its arguments."""
        return self.templates[node.op].format(*(self.operand(a, node) for a in node.args))

    def element_order(self, step: Pass) -> Sequence[Node]:
        """The nodes computed per element, without those that are only loaded."""
        return [n for n in step.body if n.op != "leaf" and n.op not in REDUCTIONS]
