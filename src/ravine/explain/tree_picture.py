"""The family tree as SVG: a row for each rule, its reason beside it, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ravine.explain.figure import COLOURS
from ravine.explain.tree import Family, Kin, summary

ROW, INDENT, LEFT, TOP = 25.0, 26.0, 30.0, 52.0
LARGE = 5  # a rule that so many others change begins a colour of its own
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
NAME, REASON = 8.6, 6.15  # the width of a letter of either, about, in pixels
IN_THE_DARK = ("#56B4E9", "#F28E3C", "#1FC795", "#E3A3C6", "#F0B13C")

STYLE = (
    """
.tree{--paper:#fff;--ink:#1b1f24;--soft:#4b5560;--rule:#d5dae0}
@media (prefers-color-scheme:dark){.tree{--paper:#14181d;--ink:#e8ecf0;--soft:#b0b9c3;--rule:#39424c}}
.tree .paper{fill:var(--paper)}.tree text{font-family:FONT;font-size:11.5px;fill:var(--soft)}
.tree .name{fill:var(--ink);font-size:13px;font-weight:600}.tree .title{fill:var(--ink);font-size:16px;font-weight:600}
.tree .leader{stroke:var(--rule);stroke-dasharray:1 4;stroke-linecap:round}.tree .branch{fill:none;stroke-width:1.8}
.tree .dot{stroke:var(--paper);stroke-width:1.5}
""".strip()
    .replace("\n", "")
    .replace("FONT", FONT)
)


def svg(family: Family) -> str:
    """The tree as the text of an SVG file."""
    members = list(family.root.walk())
    rows = {kin.rule.name: i for i, (_, kin) in enumerate(members)}
    shades = _shades(family.root)
    reasons = 24.0 + max(_x(depth) + 12 + NAME * len(kin.rule.title) for depth, kin in members)
    lines = [kin.rule.reason or kin.rule.summary for _, kin in members] + [summary(w) for w in family.wrappers]
    width = reasons + REASON * max(map(len, lines)) + LEFT
    below = TOP + ROW * len(members) + 34
    height = below + ROW * len(family.wrappers) + 8
    body = [
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
        f'<text class="title" x="{LEFT - 6}" y="32">Which rule changes which, and why</text>',
        *_branches(family.root, 0, rows, shades),
        *(part for depth, kin in members for part in _row(kin, depth, rows, shades, reasons)),
        f'<text class="title" x="{LEFT - 6}" y="{below - 12:.1f}">Around any rule</text>',
    ]
    for i, wrapper in enumerate(family.wrappers):
        y = below + ROW * (i + 0.5)
        body.append(f'<rect class="dot c-wrap" x="{LEFT - 5}" y="{y - 5:.1f}" width="10" height="10" rx="2"/>')
        body += _words(wrapper.title, summary(wrapper), 0, y, reasons)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tree" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-labelledby="tree-title tree-words">\n'
        '<title id="tree-title">The family tree of the optimizers</title>\n'
        f'<desc id="tree-words">{escape(_in_words(family))}</desc>\n<style>{STYLE}{_colours()}</style>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _in_words(family: Family) -> str:
    return " ".join(
        f"{kin.rule.title}, a change of {kin.rule.parent}: {kin.rule.reason}" if depth else f"{kin.rule.title}."
        for depth, kin in family.root.walk()
    )


def _colours() -> str:
    """Classes `c0`, `c1`, ... for the branches, `c-wrap` for wrappers, brighter in the dark."""
    plain = "".join(f".tree .c{i}{{--c:{colour}}}" for i, colour in enumerate(COLOURS[: len(IN_THE_DARK)]))
    dark = "".join(f".tree .c{i}{{--c:{colour}}}" for i, colour in enumerate(IN_THE_DARK))
    paint = ".tree .dot{fill:var(--c)}.tree .branch{stroke:var(--c)}"
    return f".tree .c-wrap{{--c:#7d8791}}{plain}{paint}@media (prefers-color-scheme:dark){{{dark}}}"


def _x(depth: int) -> float:
    return LEFT + INDENT * depth


def _y(rows: dict[str, int], kin: Kin) -> float:
    return TOP + ROW * (rows[kin.rule.name] + 0.5)


def _shades(root: Kin) -> dict[str, str]:
    """The colour class of each rule: those that the root's children begin, and those of rules that many change."""
    shades = {root.rule.name: "c-wrap"}
    begun = 0
    for depth, kin in root.walk():
        for child in kin.children:
            begins = depth == 0 or len(child.children) >= LARGE
            shades[child.rule.name] = f"c{begun % len(IN_THE_DARK)}" if begins else shades[kin.rule.name]
            begun += begins
    return shades


def _branches(kin: Kin, depth: int, rows: dict[str, int], shades: dict[str, str]) -> Iterator[str]:
    """The lines from a rule to those that change it, the longest first, so that short ones lie on top."""
    for child in reversed(kin.children):
        x, y, end = _x(depth), _y(rows, kin), _y(rows, child)
        way = f"M{x:.1f} {y:.1f}V{end - 9:.1f}Q{x:.1f} {end:.1f} {x + 9:.1f} {end:.1f}H{_x(depth + 1):.1f}"
        yield f'<path class="branch {shades[child.rule.name]}" d="{way}"/>'
        yield from _branches(child, depth + 1, rows, shades)


def _row(kin: Kin, depth: int, rows: dict[str, int], shades: dict[str, str], reasons: float) -> Iterator[str]:
    y = _y(rows, kin)
    yield f'<circle class="dot {shades[kin.rule.name]}" cx="{_x(depth):.1f}" cy="{y:.1f}" r="5.5"/>'
    yield from _words(kin.rule.title, kin.rule.reason or kin.rule.summary, depth, y, reasons)


def _words(title: str, words: str, depth: int, y: float, reasons: float) -> Iterator[str]:
    """A name, a dotted line, and what is said of it."""
    x = _x(depth) + 12
    start = x + NAME * len(title) + 10
    yield f'<text class="name" x="{x:.1f}" y="{y + 4.5:.1f}">{escape(title)}</text>'
    if start < reasons - 8:
        yield f'<line class="leader" x1="{start:.1f}" y1="{y + 1:.1f}" x2="{reasons - 8:.1f}" y2="{y + 1:.1f}"/>'
    yield f'<text x="{reasons:.1f}" y="{y + 4.2:.1f}">{escape(words)}</text>'
