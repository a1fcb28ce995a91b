"""A page in the session's browser, which keeps what the page said and asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
        """Requests to anything but files and data."""
        return [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))]

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Close it; a page that said anything, an error above all, or asked for anything has failed."""
        self.page.context.close()
        if kind is None:
            assert (self.said, self.elsewhere) == ([], [])


def opened(browser: Any, **options: Any) -> Opened:
    """An empty page; keyword arguments are the browser's context's."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
    context.set_default_timeout(PATIENCE)
    made = Opened(context.new_page())
    made.page.on("console", lambda message: made.said.append(f"{message.type}: {message.text}"))
    made.page.on("pageerror", lambda error: made.said.append(str(error)))
    made.page.on("dialog", lambda dialog: (made.said.append(dialog.message), dialog.dismiss()))
    made.page.on("request", lambda request: made.asked.append(request.url))
    return made
