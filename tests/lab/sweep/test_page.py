"""The page of heat maps: whole, escaped, and drawn in a browser without a word to the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.browser import opened

from ravine.lab.sweep.page import figure, html

RESULT: dict[str, Any] = {
    "task": "digits", "optimizer": "adamw", "over": ["lr", "weight_decay"], "loss_name": "nats per image",
    "recipe": {"steps": 100},
    "maps": [
        {
            "label": label, "x": [1e-3, 1e-2, 1e-1], "y": [0.01, 0.1], "loss": [[2.0, 1.0, 0.5], [2.1, 0.4, None]],
            "best": {"lr": 1e-2, "weight_decay": 0.1, "loss": 0.4}, "at_edge": ["weight_decay"],
        }
        for label in ("adamw (decay lr)", "<script>alert(1)</script>")
    ],
}  # fmt: skip


INSIDE = """() => [...document.querySelectorAll("section")].every(section => {
  const chart = section.querySelector(".main-svg")
  return chart && chart.getBoundingClientRect().right <= section.getBoundingClientRect().right
})"""


def test_a_map_has_its_losses_and_the_best_cell_marked() -> None:
    heat, star = figure(RESULT["maps"][0], RESULT, (0.4, 2.0)).data
    assert heat.x == ("0.001", "0.01", "0.1") and heat.y == ("0.01", "0.1")
    assert [list(row) for row in heat.z] == [[2.0, 1.0, 0.5], [2.1, 0.4, None]]
    assert (star.x, star.y) == (("0.01",), ("0.1",)) and (heat.zmin, heat.zmax) == (0.4, 2.0)


def test_a_map_without_a_finished_cell() -> None:
    lost = {**RESULT["maps"][0], "loss": [[None] * 3] * 2, "best": {"lr": 1e-3, "weight_decay": 0.01, "loss": None}}
    page = html({**RESULT, "maps": [lost]})
    assert "Every cell diverged." in page and len(figure(lost, RESULT, (0.0, 1.0)).data) == 1


def test_texts_are_escaped_and_the_edge_is_said() -> None:
    page = html(RESULT)
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page
    assert page.count("Best 0.4 at lr 0.01, weight_decay 0.1; on the edge of weight_decay") == 2
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="https?:', page)


def test_in_a_browser(browser: Any, tmp_path: Path) -> None:
    """No error, no request, every map drawn, nothing wider than a phone."""
    path = tmp_path / "sweep.html"
    path.write_text(html(RESULT), encoding="utf-8")
    with opened(browser, viewport={"width": 390, "height": 800}) as shown:
        page = shown.page
        page.goto(path.as_uri())
        page.wait_for_selector("section:last-child .heatmaplayer image", state="attached")
        assert page.locator(".heatmaplayer image").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.set_viewport_size({"width": 1200, "height": 800})
        page.reload()
        page.wait_for_function(INSIDE)
