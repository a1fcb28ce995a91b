"""Flow diagrams of rules, drawn from their traced graphs.

Example:
    >>> from ravine.registry import lookup
    >>> drawn = flow(lookup("lion"))
    >>> [node.label for node in drawn.nodes if node.kind == "line"]
    ['u ← sign(β₁·m + (1 − β₁)·g)', 'θ ← θ − η·(u + λ·θ)', 'm ← β₂·m + (1 − β₂)·g']
"""

from ravine.explain.diagram.flow import Edge, Flow, FlowNode, flow
from ravine.explain.diagram.mermaid import mermaid
from ravine.explain.diagram.picture import svg

__all__ = ["Edge", "Flow", "FlowNode", "flow", "mermaid", "svg"]
