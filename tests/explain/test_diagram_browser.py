"""Flow diagrams as a browser draws them: what stands in a box is inside of it, by day and by night."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.browser import opened

from ravine.explain import tree_picture
from ravine.explain.diagram import flow, svg
from ravine.explain.tree import tree

NAMES = ["adamw", "adafactor", "prodigy", "soap", "shampoo", "schedule_free(adamw)", "lookahead(cautious(adamw))"]
OUTSIDE = """() => [...document.querySelectorAll('g.node')].flatMap(node => {
    const box = node.querySelector('rect').getBoundingClientRect();
    return [...node.querySelectorAll('text, g.formula, g.setting')].filter(part => {
        const r = part.getBoundingClientRect();
        return r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1;
    }).map(part => node.id + ' ' + part.textContent);
})"""
BEYOND = """() => {
    const page = document.querySelector('svg').getBoundingClientRect();
    return [...document.querySelectorAll('svg > text, svg > g > text')].filter(text => {
        const r = text.getBoundingClientRect();
        return r.left < page.left || r.right > page.right || r.bottom > page.bottom;
    }).map(text => text.textContent);
}"""
PAPER = "() => getComputedStyle(document.querySelector('.paper')).fill"


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    with opened(browser, viewport={"width": 1600, "height": 1200}) as shown:
        yield shown.page


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_in_a_box_is_inside(page: Any, name: str) -> None:
    page.set_content(svg(flow(name)))
    assert page.locator("g.node").count() > 5
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(BEYOND) == []


def test_the_tree_is_inside_its_page(page: Any) -> None:
    page.set_content(tree_picture.svg(tree()))
    assert page.locator("text.name").count() > 20
    assert page.evaluate(BEYOND) == []


@pytest.mark.parametrize("picture", ["flow", "tree"])
def test_it_is_dark_in_the_dark(page: Any, picture: str) -> None:
    page.set_content(svg(flow("adamw")) if picture == "flow" else tree_picture.svg(tree()))
    page.emulate_media(color_scheme="light")
    light = page.evaluate(PAPER)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(PAPER)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 24, 29)")
