"""The page in a browser: the slider, the keyboard, the dark and a phone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.browser import opened
from tests.explain.landscape.conftest import as_network

from ravine.explain.landscape import Result

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def file(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(result.html(), encoding="utf-8")
    return path


Look = Callable[..., None]


@pytest.fixture
def in_browser(browser: Any) -> Look:
    """Opens a page to look at; nothing may be said or asked for."""

    def visit(file: Path, look: Callable[[Any], None], **options: Any) -> None:
        with opened(browser, **options) as shown:
            shown.page.clock.install(time=0)
            shown.page.goto(file.as_uri())
            shown.page.wait_for_selector("main[data-drawn]")
            look(shown.page)

    return visit


def points_shown(page: Any, chart: str) -> list[int]:
    """How many points each line of a chart shows."""
    return page.evaluate(
        f"document.getElementById('{chart}').data.filter(t => t.mode === 'lines').map(t => t.x.length)"
    )


def test_the_slider_and_the_keyboard_move_the_paths(in_browser: Look, file: Path) -> None:

    def look(page: Any) -> None:
        assert points_shown(page, "ground") == points_shown(page, "loss") == [61, 61, 61]
        assert points_shown(page, "moves") == [60, 60, 60]
        page.focus("#step")
        page.keyboard.press("Home")
        assert page.inner_text("#now") == "0 of 60" and points_shown(page, "ground") == [1, 1, 1]
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        assert page.inner_text("#now") == "3 of 60"
        assert points_shown(page, "ground") == [4, 4, 4] and points_shown(page, "moves") == [3, 3, 3]
        assert page.get_attribute("#step", "aria-valuetext") == "step 3 of 60"
        page.clock.pause_at(3_600_000)
        page.click("#play")
        assert page.inner_text("#play") == "Pause"
        page.clock.run_for(2000)  # a quarter of the eight seconds that all 60 steps take
        assert page.inner_text("#now") in ("17 of 60", "18 of 60")
        stopped = page.inner_text("#now")
        page.click("#play")
        assert page.inner_text("#play") == "Play"
        page.clock.run_for(2000)
        assert page.inner_text("#now") == stopped
        page.click("#play")
        page.clock.run_for(10_000)
        assert page.inner_text("#now") == "60 of 60" and page.inner_text("#play") == "Play"
        page.click(".legend button >> nth=1")
        assert page.get_attribute(".legend button >> nth=1", "aria-pressed") == "false"
        assert page.locator("#ground .scatterlayer .js-line").count() == 2

    in_browser(file, look)


@pytest.mark.parametrize("options", [{"color_scheme": "dark"}, PHONE], ids=["dark", "phone"])
def test_it_is_drawn_in_the_dark_and_on_a_phone(in_browser: Look, file: Path, options: dict[str, Any]) -> None:

    def look(page: Any) -> None:
        for chart in ("ground", "loss", "moves"):
            assert page.locator(f"#{chart} .scatterlayer .js-line").count() == 3, chart
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
        ground = page.evaluate("document.getElementById('ground').layout.template.layout.paper_bgcolor")
        assert ground == ("#161b22" if options.get("color_scheme") == "dark" else "#ffffff")

    in_browser(file, look, **options)


def test_a_plane_without_paths_has_a_page_too(in_browser: Look, result: Result, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(replace(as_network(result), tracks=()).html(), encoding="utf-8")

    def look(page: Any) -> None:
        assert page.locator(".chart").count() == 1 and page.locator("#step").count() == 0
        assert page.locator("#ground .contourlayer").count() == 1

    in_browser(file, look)
