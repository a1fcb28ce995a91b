"""The playground, opened in the session's browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.browser import PATIENCE
from tests.browser import Opened as Shown
from tests.browser import opened as opened_page

from ravine.explain.playground import page

RULES = ("sgd", "momentum", "adamw", "muon", "lion", "sophia", "lookahead(adamw)", "schedule_free(adamw)")


@dataclass
class Opened(Shown):
    """The playground, and what it said and asked for since it was opened."""

    file: Path = Path()

    def go(self, hash_: str) -> None:
        """Follow a link on the page to another set-up."""
        self.page.evaluate("hash => { location.hash = hash }", hash_)
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is drawn, and stands in the address."""
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.page.wait_for_timeout(350)

    def until(self, condition: str) -> None:
        """Wait for a condition; the page's policy keeps Playwright from asking within the page."""
        for _ in range(PATIENCE // 50):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"this never held: {condition}")

    @property
    def hash(self) -> str:
        """The set-up in the address."""
        return str(self.page.evaluate("location.hash"))


@pytest.fixture(scope="package")
def html() -> str:
    """The playground with a few rules."""
    return page(RULES)


@pytest.fixture(scope="package")
def file(html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("playground") / "playground.html"
    made.write_text(html, encoding="utf-8")
    return made


@pytest.fixture(scope="package")
def opening(browser: Any, file: Path) -> Callable[..., Opened]:
    """Opens the page at a hash; keyword arguments are the browser's context's."""

    def open_page(hash_: str = "#t=0", **options: Any) -> Opened:
        shown = opened_page(browser, **{"viewport": {"width": 1300, "height": 900}, **options})
        made = Opened(**vars(shown), file=file)
        made.page.goto(file.as_uri() + hash_)
        made.page.wait_for_selector("main[data-ready]", state="attached")
        made.settle()
        return made

    return open_page


@pytest.fixture(scope="package")
def desk(opening: Callable[..., Opened]) -> Iterator[Opened]:
    """The page on a desk, for tests that begin by going to a set-up of their own."""
    made = opening(permissions=["clipboard-read", "clipboard-write"])
    yield made
    assert made.said == [] and made.elsewhere == []
    made.page.context.close()


@pytest.fixture
def opened(opening: Callable[..., Opened]) -> Iterator[Callable[..., Opened]]:
    """The same as `opening`, closed after the test."""
    made: list[Opened] = []

    def open_page(*arguments: Any, **options: Any) -> Opened:
        made.append(opening(*arguments, **options))
        return made[-1]

    yield open_page
    for one in made:
        one.page.context.close()
