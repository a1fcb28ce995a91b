"""A browser for the whole session, and pages opened in it that say what they loaded and what went wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.lab.report import samples

from ravine.lab.report import html

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip

PATIENCE = 60_000
"""Milliseconds; the machine may be busy."""


@dataclass
class Opened:
    """A page, and what it said and asked for since it was opened."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def elsewhere(self) -> list[str]:
        """Requests to anything but the page's own file and data."""
        return [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))]


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("Chromium is missing")
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is missing")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield made
        made.close()


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
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        context.set_default_timeout(PATIENCE)
        made = Opened(context.new_page())
        made.page.on("console", lambda message: made.said.append(f"{message.type}: {message.text}"))
        made.page.on("pageerror", lambda error: made.said.append(str(error)))
        made.page.on("dialog", lambda dialog: (made.said.append(dialog.message), dialog.dismiss()))
        made.page.on("request", lambda request: made.asked.append(request.url))
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
