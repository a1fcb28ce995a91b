"""What holds for every test: where kernels are cached, how Triton runs, how long Hypothesis may take."""

from __future__ import annotations

import os

import hypothesis
import pytest
import torch

# The first example of a property may compile a kernel, so single examples have no deadline.
hypothesis.settings.register_profile("ravine", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ravine")

# Triton reads this when it is first imported, which may be in any test.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled kernels beside pytest's own cache: nothing in the user's home, and a second run is quick."""
    os.environ["XDG_CACHE_HOME"] = str(config.rootpath / ".pytest_cache" / "kernels")
