"""A flow diagram in the language of Mermaid, as GitHub and documentation sites draw it."""

from __future__ import annotations

from ravine.explain.diagram.flow import Edge, Flow, FlowNode

# Okabe and Ito's colours, paler inside; text stays dark on them in dark pages too.
CLASSES = {
    "input": "fill:#e4f1fa,stroke:#0072b2,color:#1b1f24",
    "state": "fill:#fdf1d8,stroke:#c98300,color:#1b1f24,stroke-width:3px",
    "line": "fill:#f6f7f8,stroke:#8b949e,color:#1b1f24",
    "memory": "fill:#fdf1d8,stroke:#c98300,color:#1b1f24",
    "update": "fill:#def3eb,stroke:#00845f,color:#1b1f24",
    "output": "fill:#def3eb,stroke:#00845f,color:#1b1f24",
    "rare": "stroke-dasharray:5 3",
}
SHAPES = {"input": ("([", "])"), "output": ("([", "])"), "state": ("[[", "]]")}
ARROWS = {"uses": "-->", "gives": "==>", "keeps": "-. kept .->"}


def mermaid(flow: Flow) -> str:
    """A flow diagram as Mermaid; settings stand below the formulas that use them."""
    drawn = flow.of("input", "state", "line", "output")
    ids = {node.id for node in drawn}
    lines = [
        "flowchart TB",
        f"  accTitle: {_plain(flow.rule.title)}, one step",
        f"  accDescr: What step {flow.t} of {_plain(flow.rule.title)} computes from what, and what it keeps.",
        *(f"  {_node(flow, node)}" for node in drawn),
        *(f"  {_edge(edge)}" for edge in flow.edges if edge.start in ids),
    ]
    classes = {role: [node.id for node in drawn if flow.role(node) == role] for role in CLASSES}
    classes["rare"] = [node.id for node in drawn if not node.always]
    for role, members in classes.items():
        if members:
            lines += [f"  classDef {role} {CLASSES[role]}", f"  class {','.join(members)} {role}"]
    return "\n".join(lines) + "\n"


def _node(flow: Flow, node: FlowNode) -> str:
    settings = [other.label for other in flow.into(node, "uses") if other.kind == "setting"]
    several = len({line.section for line in flow.of("line")}) > 1
    above = [f"<i>{_escaped(node.section[-1])}</i>"] if several and node.section else []
    below = [f"<small>{_escaped(', '.join(settings))}</small>"] if settings else []
    below += [f"<small>{_escaped(node.note)}</small>"] if node.note else []
    opening, closing = SHAPES.get(node.kind, ("[", "]"))
    return f'{node.id}{opening}"{"<br/>".join([*above, _escaped(node.label), *below])}"{closing}'


def _edge(edge: Edge) -> str:
    return f"{edge.start} {ARROWS[edge.bond]} {edge.end}"


def _escaped(text: str) -> str:
    """Text in which nothing means anything to Mermaid or HTML."""
    signs = {"&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "`": "#96;", "_": "#95;", "*": "#42;"}
    return "".join(signs.get(sign, sign) for sign in text.replace("#", "#35;"))


def _plain(text: str) -> str:
    return "".join(sign for sign in text if sign not in "{}\n#;")
