"""Pictures of flow diagrams: nothing lies on anything else, all is told, and they say what the flow says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.explain.flows import NAMES, flow_of

from ravine.explain.diagram import Edge, flow, mermaid, svg
from ravine.explain.diagram.formulas import Outlines, mathtext
from ravine.explain.diagram.layout import Arc, arranged

SVG = "{http://www.w3.org/2000/svg}"


@cache
def picture_of(name: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg(flow_of(name)))


def boxes(root: ElementTree.Element) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right and bottom of each node's box."""
    found = {}
    for group in root.iter(f"{SVG}g"):
        if group.get("class") == "node":
            rectangle = group.find(f"{SVG}rect")
            assert rectangle is not None
            x, y, width, height = (float(rectangle.get(key, "")) for key in ("x", "y", "width", "height"))
            found[str(group.get("id"))] = (x, y, x + width, y + height)
    return found


def points(path: str) -> list[tuple[float, float]]:
    """Points along `M a L b C c d e L f`."""
    numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", path)]
    return along(list(zip(numbers[::2], numbers[1::2], strict=True)))


def along(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points along a line, a cubic and a line, given by their six corners."""
    a, b, c, d, e, f = np.array(corners)
    s = np.linspace(0, 1, 41)[:, None]
    curve = (1 - s) ** 3 * b + 3 * (1 - s) ** 2 * s * c + 3 * (1 - s) * s**2 * d + s**3 * e
    return [(float(x), float(y)) for x, y in (*(a + (b - a) * s), *curve, *(e + (f - e) * s))]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_lies_on_anything_else(name: str) -> None:
    """Boxes keep apart, arrows pass no box but at its edge, and all is inside the picture."""
    it, root = flow_of(name), picture_of(name)
    placed = boxes(root)
    assert set(placed) == {node.id for node in it.of("input", "state", "line", "output")}
    ids = sorted(placed)
    for i, one in enumerate(ids):
        for other in ids[:i]:
            (a, b, c, d), (e, f, g, h) = placed[one], placed[other]
            assert c + 8 <= e or g + 8 <= a or d + 8 <= f or h + 8 <= b, (one, other)
    inside = next(g for g in root.iter(f"{SVG}g") if "translate" in str(g.get("transform")))
    shift = [float(n) for n in re.findall(r"[\d.]+", str(inside.get("transform")))]
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    for a, b, c, d in placed.values():
        assert a + shift[0] > 0 and c + shift[0] < width and b + shift[1] > 0 and d + shift[1] < height
    arrows = [path for path in inside.findall(f"{SVG}path") if path.get("class") in ("uses", "keeps", "gives")]
    assert arrows
    for arrow in arrows:
        for x, y in points(str(arrow.get("d"))):
            assert -shift[0] < x < width - shift[0]
            assert not any(a + 1 < x < c - 1 and b + 1 < y < d - 1 for a, b, c, d in placed.values()), arrow.get("d")


@pytest.mark.parametrize("name", NAMES)
def test_every_arrow_ends_at_its_box(name: str) -> None:
    it, root = flow_of(name), picture_of(name)
    placed = boxes(root)
    heads = [
        tuple(float(n) for n in re.findall(r"-?[\d.]+", str(path.get("d")))[:2])
        for path in root.iter(f"{SVG}path")
        if str(path.get("class")).startswith("head-") and "L" in str(path.get("d"))
    ]
    drawn = [edge for edge in it.edges if edge.start in placed]
    assert len(heads) == len(drawn)
    for edge, (x, y) in zip(drawn, heads, strict=True):
        a, b, c, d = placed[edge.end]
        assert a <= x <= c and abs(y - (d if edge.bond == "keeps" else b)) < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_told_to_who_does_not_see_it(name: str) -> None:
    it, root = flow_of(name), picture_of(name)
    assert root.get("role") == "img"
    title, words = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None and words is not None and words.text is not None
    assert str(root.get("aria-labelledby")).split() == [title.get("id"), words.get("id")]
    assert all(node.label in words.text for node in it.of("line"))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids)
    uses = {str(use.get("href"))[1:] for use in root.iter(f"{SVG}use")}
    assert uses <= set(ids)
    style = root.find(f"{SVG}style")
    assert style is not None and "prefers-color-scheme:dark" in str(style.text)


def test_the_same_flow_gives_the_same_picture() -> None:
    assert svg(flow("prodigy")) == svg(flow("prodigy"))


@pytest.mark.parametrize("name", NAMES)
def test_mermaid_says_the_same(name: str) -> None:
    it = flow_of(name)
    lines = mermaid(it).splitlines()
    assert lines[0] == "flowchart TB"
    arrows = {"-->": "uses", "==>": "gives", "-. kept .->": "keeps"}
    found = [re.fullmatch(r"  (n\d+) (-->|==>|-\. kept \.->) (n\d+)", line) for line in lines]
    drawn = {node.id for node in it.of("input", "state", "line", "output")}
    assert {Edge(m[1], m[3], arrows[m[2]]) for m in found if m} == {e for e in it.edges if e.start in drawn}
    nodes = {re.match(r" *(n\d+)", line)[1] for line in lines if '"' in line}
    assert nodes == drawn
    assert all(line.count('"') == 2 for line in lines if '"' in line)


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"a \le b \left(\frac{1}{2}\right)", r"a \leq b \left(\dfrac{1}{2}\right)"),
        (
            r"\frac{m}{\max\left(\left\| c \right\|, \frac{1}{2}\right)}",
            r"\dfrac{m}{\max\left(\| c \|, \frac{1}{2}\right)}",
        ),
        (r"\sqrt{\frac{a}{b}}", r"\sqrt{\dfrac{a}{b}}"),
        (r"\left\lfloor \frac{a}{b} \right\rfloor", r"\left\lfloor \dfrac{a}{b} \right\rfloor"),
    ],
)
def test_latex_becomes_mathtext(latex: str, expected: str) -> None:
    assert re.sub(r"\s+", " ", mathtext(latex)) == re.sub(r"\s+", " ", expected)


def test_layout_of_what_is_hardly_a_graph() -> None:
    alone = arranged({"a": (40.0, 20.0)}, [])
    assert alone.centres == {"a": (20.0, 10.0)}
    two = arranged({"a": (40.0, 20.0), "b": (60.0, 20.0)}, [Arc("a", "b"), Arc("a", "b", up=True)])
    assert two.centres["a"][1] < two.centres["b"][1]
    assert all(len(two.curves[arc]) == 1 for arc in two.curves)


def test_an_arrow_past_a_row_leaves_room() -> None:
    """`a` reaches `c` past `b`, which stands straight below it otherwise."""
    sizes = {name: (50.0, 20.0) for name in "abc"}
    found = arranged(sizes, [Arc("a", "b"), Arc("b", "c"), Arc("a", "c")])
    (x, _), ys = found.centres["b"], [y for _, y in found.centres.values()]
    assert ys == sorted(ys)
    passing = [px for curve in found.curves[Arc("a", "c")] for px, py in curve if abs(py - found.centres["b"][1]) < 9]
    assert all(abs(px - x) >= 25 for px in passing)


SIDE = st.floats(20.0, 300.0).map(lambda x: round(x, 1))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_no_layout_has_overlaps(data: st.DataObject) -> None:
    """Boxes of any size with any arrows downwards, some of them doubled by one upwards."""
    names = [f"b{i}" for i in range(data.draw(st.integers(1, 8)))]
    sizes = {name: (data.draw(SIDE), data.draw(SIDE)) for name in names}
    pairs = [(a, b) for i, b in enumerate(names) for a in names[:i]]
    down = data.draw(st.lists(st.sampled_from(pairs), unique=True, max_size=12)) if pairs else []
    up = data.draw(st.lists(st.sampled_from(down), unique=True, max_size=3)) if down else []
    arcs = [*(Arc(a, b) for a, b in down), *(Arc(a, b, up=True) for a, b in up)]
    found = arranged(sizes, arcs)
    edges = {
        n: (x - w / 2, y - h / 2, x + w / 2, y + h / 2) for n, (x, y) in found.centres.items() for w, h in [sizes[n]]
    }
    for i, one in enumerate(names):
        for other in names[:i]:
            (a, b, c, d), (e, f, g, h) = edges[one], edges[other]
            assert c < e or g < a or d < f or h < b
    for arc in arcs:
        assert edges[arc.above][3] < edges[arc.below][1]
        for curve in found.curves[arc]:
            for x, y in along(curve):
                assert not any(a + 0.1 < x < c - 0.1 and b + 0.1 < y < d - 0.1 for a, b, c, d in edges.values())


@pytest.mark.parametrize("latex", [r"\nothing{x}", r"\texttt{x[0]}", "é + 1", r"\mathrm{a\_b}"])
def test_what_cannot_be_set_as_a_formula_is_set_as_text(latex: str) -> None:
    outlines = Outlines("g")
    found = outlines.formula(latex, "é[0] < 1", 16.0)
    assert found.width > 5 and found.height > 5
    assert "<title>é[0] &lt; 1</title>" in found.body
    ElementTree.fromstring(f'<svg xmlns="http://www.w3.org/2000/svg">{outlines.definitions()}{found.body}</svg>')


def test_formulas_are_in_computer_modern() -> None:
    outlines = Outlines("g")
    outlines.formula(r"\hat{m} \leftarrow \frac{m}{1 - \beta_{1}^{t}}", "m̂", 16.0)
    assert outlines.paths and all(glyph.startswith("Cm") for glyph in outlines.paths)


def test_settings_that_are_words_are_set_as_they_are() -> None:
    it = flow("muon", {"coefficients": "polar_express"})
    (node,) = [node for node in it.of("setting") if node.label.startswith("coefficients")]
    assert (node.label, node.latex) == (
        "coefficients = polar_express",
        r"\mathrm{coefficients} = \mathrm{polar\_express}",
    )
