"""What a step of a rule is made of, and what needs what: nodes and edges, read from its traced graph."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ravine.explain.diagram.lines import Key, Line, Lines, own
from ravine.explain.diagram.steps import representative
from ravine.explain.symbolic import SymbolicStep
from ravine.explain.typeset import latex, latex_symbol, number, symbol
from ravine.registry import lookup
from ravine.rule import Rule

Kind = Literal["input", "state", "setting", "line", "output"]
Bond = Literal["uses", "gives", "keeps"]


@dataclass(frozen=True)
class FlowNode:
    """One node of a flow diagram.

    Attributes:
        id: a name that is safe in any language: `n0`, `n1`, ...
        kind: `input` (the parameter, its gradient, what is given from outside), `state` (as the step before left it),
            `setting` (a hyperparameter, the step, a side of the matrix), `line`, or `output` (the new parameter).
        label: what stands on it, as Unicode text.
        latex: the same as LaTeX, for math mode.
        name: what the rule calls it, `lookahead.k`; `l2` is weight decay that enters the gradient; empty for lines.
        note: what it is, in a word or two: what an input is, a state's key in a state dict where that is another name.
        section: for a line, the rule or wrapper whose line it is, the wrappers around it first.
        always: for a line, whether it runs in every step from the second on.
        values: what it stands for in the graph.
    """

    id: str
    kind: Kind
    label: str
    latex: str
    name: str = ""
    note: str = ""
    section: tuple[str, ...] = ()
    always: bool = True
    values: tuple[Any, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Edge:
    """An arrow: a line `uses` what stands before it, `gives` the output, or `keeps` its value in a state."""

    start: str
    end: str
    bond: Bond


@dataclass(frozen=True)
class Flow:
    """The flow diagram of one step of a rule.

    Attributes:
        rule: the rule.
        t: the step whose branches are drawn.
        nodes: in the order of the step: inputs, states and settings before lines, lines as they run, the output last.
        edges: who needs whom.
        step: the traced step that this was read from.
    """

    rule: Rule
    t: int
    nodes: tuple[FlowNode, ...]
    edges: tuple[Edge, ...]
    step: SymbolicStep = field(repr=False, compare=False)

    def of(self, *kinds: Kind) -> list[FlowNode]:
        """The nodes of some kinds."""
        return [node for node in self.nodes if node.kind in kinds]

    def into(self, node: FlowNode, *bonds: Bond) -> list[FlowNode]:
        """The nodes from which edges lead to this one."""
        starts = {edge.start for edge in self.edges if edge.end == node.id and edge.bond in bonds}
        return [other for other in self.nodes if other.id in starts]

    def role(self, node: FlowNode) -> str:
        """What a node is to the reader: a line kept in a state is `memory`, one giving θ `update`, else its kind."""
        if node.kind != "line":
            return node.kind
        bonds = {edge.bond for edge in self.edges if edge.start == node.id}
        return "update" if "gives" in bonds else "memory" if "keeps" in bonds else "line"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("id", "kind", "name", "label", "latex", "note", "always")
        return {
            "rule": self.rule.spec,
            "step": self.t,
            "nodes": [{n: getattr(node, n) for n in names} | {"section": list(node.section)} for node in self.nodes],
            "edges": [vars(edge) for edge in self.edges],
        }


def flow(rule: Rule | str, hyper: Mapping[str, Any] | None = None, t: int | None = None) -> Flow:
    """The flow diagram of a rule.

    Weight decay stands in its customary form. What does not reach the new parameter or a new state is left out.

    Args:
        rule: the rule, or its name.
        hyper: settings under the rule's names; the defaults stand for those not given.
        t: the step whose branches are taken; by default that with the most lines, the first one of these.

    Raises:
        KeyError: for an unknown rule, with the nearest name.
        TypeError: for a setting that the rule does not have, with the nearest name.
        ValueError: if no graph can be traced, or the rule's source cannot be found.
    """
    rule = lookup(rule) if isinstance(rule, str) else rule
    step, rare = representative(rule, hyper or {}, t)
    lines = Lines(step)
    return _drawn(step, lines, rare)


def _drawn(step: SymbolicStep, lines: Lines, rare: frozenset[tuple[str, ...]]) -> Flow:
    """Nodes and edges of all that the outputs need."""
    kept = lines.kept()
    needed = lines.reaching([source for source, _ in kept])
    leaves = {leaf for line in needed for leaf in line.uses if not isinstance(leaf, Line)}
    leaves |= {source for source, _ in kept if not isinstance(source, Line)}
    leaves |= {("leaf", target) for source, target in kept if target != "p"}
    ids: dict[Any, str] = {}
    nodes: list[FlowNode] = []

    def add(key: Any, kind: Kind, label: str, latex: str, **more: Any) -> None:
        ids[key] = f"n{len(nodes)}"
        nodes.append(FlowNode(ids[key], kind, label, latex, **more))

    for leaf in sorted(leaves, key=lambda leaf: _order(leaf, step.rule)):
        add(leaf, *_leaf(leaf, step), name=leaf[1], note=_note(leaf[1], step.rule), values=lines.values.get(leaf, ()))
    for line in lines.lines:
        if line in needed:
            always = line.identity not in rare
            add(line, "line", line.label, line.latex, section=line.section, always=always, values=line.values)
    add("output", "output", symbol("p"), latex_symbol("p"), name="p", note="new parameter")
    edges = [Edge(ids[used], ids[line], "uses") for line in lines.lines if line in needed for used in line.uses]
    for source, target in kept:
        end = ids["output"] if target == "p" else ids["leaf", target]
        edges.append(Edge(ids[source], end, "gives" if target == "p" else "keeps"))
    return Flow(step.rule, int(step.tape.environment["t"]), tuple(nodes), tuple(edges), step)


def _order(leaf: Key, rule: Rule) -> tuple[int, int]:
    places = ("p", "g", *rule.inputs, *rule.state, *rule.defaults, "l2", "t", "rows", "columns")
    return (places.index(leaf[1]), 0)


def _note(name: str, rule: Rule) -> str:
    """What an input or a state is called outside the rule's lines."""
    known = {"p": "parameter", "g": "gradient", **dict.fromkeys(rule.inputs, "from outside")}
    key = rule.state[name].name if name in rule.state else ""
    return known.get(name) or (key if key != own(name) else "")


def _leaf(leaf: Key, step: SymbolicStep) -> tuple[Kind, str, str]:
    """Kind, label and LaTeX of what a step begins with."""
    name = leaf[1]
    shown = own(name)
    if name in step.rule.state or name in ("p", "g", *step.rule.inputs):
        return "state" if name in step.rule.state else "input", symbol(shown), latex_symbol(shown)
    if name in ("t", "rows", "columns"):
        return "setting", symbol(shown), latex_symbol(shown)
    value = step.tape.environment[name]
    written = number(value) if isinstance(value, (bool, int, float)) else str(value)
    return "setting", f"{symbol(shown)} = {written}", f"{latex_symbol(shown)} = {_latex_value(value)}"


def _latex_value(value: Any) -> str:
    if isinstance(value, (bool, int, float)):
        return latex(ast.Constant(value))
    return r"\mathrm{" + re.sub(r"([_#$%&{}])", r"\\\1", str(value)) + "}"
