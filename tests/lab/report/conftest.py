"""Pages of the samples, opened in the session's browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser import Opened
from tests.browser import opened as new_page
from tests.lab.report import samples

from ravine.lab.report import html


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of the samples, as files."""
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for name in ("full", "minimal", "hostile", "combined"):
        made[name] = folder / f"{name}.html"
        made[name].write_text(html(getattr(samples, name)()), encoding="utf-8")
    return made


@pytest.fixture(scope="session")
def opening(browser: Any, pages: dict[str, Path]) -> Callable[..., Opened]:
    """Opens the page of a sample; keyword arguments are the browser's context's."""

    def open_page(name: str, **options: Any) -> Opened:
        made = new_page(browser, **options)
        made.page.goto(pages[name].as_uri())
        made.page.wait_for_selector("main:not([aria-busy])")
        return made

    return open_page


@pytest.fixture
def opened(opening: Callable[..., Opened]) -> Iterator[Callable[..., Opened]]:
    """The same, closed after the test."""
    made: list[Opened] = []

    def open_page(name: str, **options: Any) -> Opened:
        made.append(opening(name, **options))
        return made[-1]

    yield open_page
    for one in made:
        one.page.context.close()
