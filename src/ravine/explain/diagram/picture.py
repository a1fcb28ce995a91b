"""A flow diagram as SVG: one file that needs no font, in light and dark, for screens, print and screen readers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ravine.explain.diagram.flow import Edge, Flow, FlowNode
from ravine.explain.diagram.formulas import Formula, Outlines
from ravine.explain.diagram.layout import Arc, Layout, Point, arranged

LETTERS, SMALL = 16.0, 11.5  # sizes of formulas and settings, in pixels
MARGIN, PADDING, BAND = 22.0, 11.0, 30.0
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
NARROWEST = 360.0
LETTER = 6.5  # the width of a letter of what stands small below a symbol, about

# Okabe and Ito's colours, paler inside; states are double-lined and inputs round, so that no one needs the colours.
STYLE = (
    """
.flow{--paper:#fff;--ink:#1b1f24;--soft:#57606a;--arrow:#6b7480;--loop:#a86800;--input:#e4f1fa;--input-edge:#0072b2;
--state:#fdf1d8;--state-edge:#c98300;--line:#f6f7f8;--line-edge:#8b949e;--update:#def3eb;--update-edge:#00845f}
@media (prefers-color-scheme:dark){.flow{--paper:#14181d;--ink:#e8ecf0;--soft:#a3adb8;--arrow:#8d98a5;--loop:#f0b13c;
--input:#10304a;--input-edge:#56b4e9;--state:#3d2e0c;--state-edge:#e69f00;--line:#21272e;--line-edge:#6e7a86;
--update:#0c3a2d;--update-edge:#1fc795}}
.flow .paper{fill:var(--paper)}.flow .formula{fill:var(--ink)}.flow .setting{fill:var(--soft)}
.flow text{font-family:FONT;fill:var(--soft);font-size:11px}.flow .title{fill:var(--ink);font-size:15px;font-weight:600}
.flow .box{stroke-width:1.3}.flow .input{fill:var(--input);stroke:var(--input-edge)}
.flow .state,.flow .memory{fill:var(--state);stroke:var(--state-edge)}
.flow .line{fill:var(--line);stroke:var(--line-edge)}
.flow .update,.flow .output{fill:var(--update);stroke:var(--update-edge)}.flow .inner{fill:none}
.flow .rare{stroke-dasharray:5 3}.flow .uses{fill:none;stroke:var(--arrow);stroke-width:1.3}
.flow .keeps{fill:none;stroke:var(--loop);stroke-width:1.5;stroke-dasharray:5 3.5}
.flow .gives{fill:none;stroke:var(--update-edge);stroke-width:1.8}
.flow .head-uses{fill:var(--arrow)}.flow .head-keeps{fill:var(--loop)}.flow .head-gives{fill:var(--update-edge)}
""".strip()
    .replace("\n", "")
    .replace("FONT", FONT)
)

MEANINGS = {
    "input": "what the step is given",
    "state": "a state, from the step before",
    "line": "a line",
    "memory": "a line: new value of a state",
    "update": "a line: new value of θ",
    "uses": "is used in",
    "keeps": "is kept for the next step",
    "rare": "not in every step",
}


@dataclass
class Box:
    """A node as it is drawn: its formula, what stands small below it, and its section where there are several."""

    node: FlowNode
    role: str
    formula: Formula
    settings: list[list[Formula]]
    section: str

    @property
    def note(self) -> str:
        return self.node.note

    @property
    def needed(self) -> float:
        """The height of what stands in it, and the room around."""
        small = 17.0 * len(self.settings) + (13.0 if self.note else 0.0) + (14.0 if self.section else 0.0)
        return self.formula.height + small + 1.6 * PADDING

    @property
    def size(self) -> Point:
        """Width and height."""
        rows = [sum(f.width for f in row) + 14.0 * (len(row) - 1) for row in self.settings]
        width = max(self.formula.width, *rows, LETTER * len(self.note), LETTER * len(self.section))
        wide = 2 * PADDING + (10.0 if self.role in ("input", "output") else 0.0)
        return max(width + wide, 44.0), max(self.needed, 34.0)


def svg(flow: Flow) -> str:
    """A flow diagram as the text of an SVG file."""
    name = "".join(c if c.isalnum() else "-" for c in flow.rule.spec)
    outlines = Outlines(f"{name}-g")
    boxes = {node.id: _box(flow, node, outlines) for node in flow.of("input", "state", "line", "output")}
    arcs = {edge: _arc(edge) for edge in flow.edges if edge.start in boxes}
    layout = arranged({id_: box.size for id_, box in boxes.items()}, list(arcs.values()))
    right = max(x + boxes[id_].size[0] / 2 for id_, (x, _) in layout.centres.items())
    bottom = max(y + boxes[id_].size[1] / 2 for id_, (_, y) in layout.centres.items())
    right = max([right, *(x for curves in layout.curves.values() for curve in curves for x, _ in curve)])
    width = max(right + 2 * MARGIN, NARROWEST)
    legend, height_of_legend = _legend(flow, boxes, width)
    height = MARGIN + BAND + bottom + 24 + height_of_legend + MARGIN / 2
    body = [
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
        f'<text class="title" x="{MARGIN}" y="{MARGIN + 8}">{escape(flow.rule.title)}: {_which(flow)}</text>',
        f'<g transform="translate({(width - right) / 2:.1f} {MARGIN + BAND})">',
        *(part for edge, arc in arcs.items() for part in _arrow(edge, layout, arc)),
        *(part for id_, box in boxes.items() for part in _drawn(box, layout.centres[id_])),
        "</g>",
        f'<g transform="translate({MARGIN} {MARGIN + BAND + bottom + 24:.1f})">{legend}</g>',
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flow" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-labelledby="{name}-title {name}-words">\n'
        f'<title id="{name}-title">{escape(flow.rule.title)}: the flow of one step</title>\n'
        f'<desc id="{name}-words">{escape(in_words(flow))}</desc>\n<style>{STYLE}</style>\n'
        + outlines.definitions()
        + "\n"
        + "\n".join(body)
        + "\n</svg>\n"
    )


def in_words(flow: Flow) -> str:
    """The diagram for who does not see it: each line, what it uses, and what keeps it."""
    sentences = [f"Step {flow.t} of {flow.rule.title}."]
    for node in flow.of("line"):
        used = ", ".join(other.label.split(" ← ")[0] for other in flow.into(node, "uses"))
        kept = [other.label for other in flow.nodes if Edge(node.id, other.id, "keeps") in flow.edges]
        sentences.append(f"{node.label}, from {used}" + (f"; kept as {', '.join(kept)}." if kept else "."))
    return " ".join(sentences)


def _which(flow: Flow) -> str:
    return "one step" if all(node.always for node in flow.nodes) else f"step {flow.t}"


def _arc(edge: Edge) -> Arc:
    return Arc(edge.end, edge.start, up=True) if edge.bond == "keeps" else Arc(edge.start, edge.end)


def _box(flow: Flow, node: FlowNode, outlines: Outlines) -> Box:
    settings = [other for other in flow.into(node, "uses") if other.kind == "setting"]
    formula = outlines.formula(node.latex, node.label, LETTERS)
    rows: list[list[Formula]] = []
    for other in settings:
        chip = outlines.formula(other.latex, other.label, SMALL)
        if not rows or sum(f.width + 14.0 for f in rows[-1]) + chip.width > max(formula.width, 150.0):
            rows.append([])
        rows[-1].append(chip)
    several = len({line.section for line in flow.of("line")}) > 1
    return Box(node, flow.role(node), formula, rows, node.section[-1] if several and node.section else "")


def _drawn(box: Box, centre: Point) -> Iterator[str]:
    (x, y), (width, height) = centre, box.size
    left, top = x - width / 2, y - height / 2
    radius = height / 2 if box.role in ("input", "output") else 5.0
    rare = "" if box.node.always else " rare"
    spoken = box.node.label + (f", {box.note}" if box.note else "")
    yield f'<g class="node" id="{box.node.id}"><title>{escape(spoken)}</title>'
    yield _rectangle(f"box {box.role}{rare}", left, top, width, height, radius)
    if box.role == "state":
        yield _rectangle("inner state", left + 3, top + 3, width - 6, height - 6, 3.0)
    at = top + 0.8 * PADDING
    if box.section:
        yield f'<text x="{left + PADDING:.1f}" y="{at + 8:.1f}" font-style="italic">{escape(box.section)}</text>'
        at += 14.0
    at += (height - box.needed) / 2
    yield _set(box.formula, x - box.formula.width / 2, at + box.formula.above, "formula")
    at += box.formula.height
    if box.note:
        yield f'<text x="{x:.1f}" y="{at + 12:.1f}" text-anchor="middle">{escape(box.note)}</text>'
    for row in box.settings:
        across = x - (sum(f.width for f in row) + 14.0 * (len(row) - 1)) / 2
        for chip in row:
            yield _set(chip, across, at + 14.0, "setting")
            across += chip.width + 14.0
        at += 17.0
    yield "</g>"


def _set(formula: Formula, x: float, y: float, kind: str) -> str:
    return f'<g class="{kind}" transform="translate({x:.1f} {y:.1f})">{formula.body}</g>'


def _rectangle(kind: str, left: float, top: float, width: float, height: float, radius: float) -> str:
    place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:.1f}"'
    return f'<rect class="{kind}" {place}/>'


def _arrow(edge: Edge, layout: Layout, arc: Arc) -> Iterator[str]:
    curves = layout.curves[arc]
    for curve in curves:
        (a, b, c, d, e, f) = curve
        points = f"M{_at(a)}L{_at(b)}C{_at(c)} {_at(d)} {_at(e)}L{_at(f)}"
        yield f'<path class="{edge.bond}" d="{points}"/>'
    if curves:
        (x, y), up = curves[-1][-1], edge.bond == "keeps"
        back = 7.5 if up else -7.5
        tip = f"M{_at((x, y))}L{_at((x - 3.6, y + back))}L{_at((x + 3.6, y + back))}Z"
        yield f'<path class="head-{edge.bond}" d="{tip}"/>'


def _at(point: Point) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"


def _legend(flow: Flow, boxes: dict[str, Box], width: float) -> tuple[str, float]:
    """What shapes and colours mean, only those that are there, in as many rows as it takes; and its height."""
    there = {box.role for box in boxes.values()} | {edge.bond for edge in flow.edges}
    there |= {"rare"} if any(not box.node.always for box in boxes.values()) else set()
    kinds = [kind for kind in MEANINGS if kind in there]
    column = max(30.0 + 5.6 * len(MEANINGS[kind]) + 12.0 for kind in kinds)
    columns = max(1, int((width - 2 * MARGIN) / column))
    parts: list[str] = []
    for i, kind in enumerate(kinds):
        x, y = i % columns * column, i // columns * 20.0
        parts += [*_sample(kind, x, y), f'<text x="{x + 30:.1f}" y="{y + 10:.1f}">{escape(MEANINGS[kind])}</text>']
    return "".join(parts), 20.0 * -(-len(kinds) // columns)


def _sample(kind: str, x: float, y: float) -> Sequence[str]:
    if kind in ("uses", "keeps"):
        tip = f'<path class="head-{kind}" d="M{_at((x + 23, y + 6))}l-7 -3.4v6.8z"/>'
        return [f'<path class="{kind}" d="M{_at((x, y + 6))}h17"/>', tip]
    shape = "line rare" if kind == "rare" else kind
    outer = _rectangle(f"box {shape}", x, y, 23, 13, 6.5 if kind == "input" else 3)
    return [outer, _rectangle("inner state", x + 2.5, y + 2.5, 18, 8, 1.5)] if kind == "state" else [outer]
