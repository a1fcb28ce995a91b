"""What holds for every test: where kernels are cached, how Triton runs, how long Hypothesis may take, the browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import torch
from tests.browser import ARGUMENTS

# The first example of a property may compile a kernel, so single examples have no deadline.
hypothesis.settings.register_profile("ravine", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ravine")

# Triton reads this when it is first imported, which may be in any test.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled kernels beside pytest's own cache: nothing in the user's home, and a second run is quick."""
    os.environ["XDG_CACHE_HOME"] = str(config.rootpath / ".pytest_cache" / "kernels")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("Chromium is missing")
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """One browser for all tests of a process: a second one cannot be started beside it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is missing")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield made
        made.close()
