"""Claims that hold, do not, fail, die and never end. Run as a program, this is the command line with them alone."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ravine.explain.claims.claim import Claim, Criterion, Evidence, Run, claim

MARKER = "RAVINE_TEST_MARKER"
"""The variable with the file that the endless claim writes when it is at work."""


def declared(number: int, slug: str, **more: Any) -> Any:
    given = {
        "title": f"Sample | {slug}", "says": "It is said, in *Markdown*.", "source": "Nobody 2020, arXiv:2001.00001",
        "criteria": (Criterion("x", "a number", at_least=1.0), Criterion("y", "another", at_most=2.0, scope=True)),
    }  # fmt: skip
    return claim(number=number, slug=slug, **{**given, **more})


def evidence(x: float, y: float, **more: Any) -> Evidence:
    return Evidence({"x": x, "y": y}, lambda figure: figure.subplots().plot([1, 2, 3], [x, y, 1.0]), **more)


@declared(901, "good")
def good(run: Run) -> Evidence:
    """All is well."""
    run.progress(1, 2)
    drawn = float(torch.rand(()))
    rows = [(1, np.float32(0.5), "a|b", float("nan")), (2, drawn, "c", float(torch.get_num_threads()))]
    return evidence(1.0, 2.0, table=(("n", "value", "text", "threads"), rows), remarks=("A limit.",))


@declared(902, "limited")
def limited(run: Run) -> Evidence:
    """It reaches less far."""
    return evidence(1.0, 3.0)


@declared(903, "wrong")
def wrong(run: Run) -> Evidence:
    """It does not hold, since NaN never does."""
    return evidence(float("nan"), 3.0)


@declared(904, "raising")
def raising(run: Run) -> Evidence:
    """It fails, inside of a library."""
    np.linalg.inv(np.zeros((2, 2)))
    return evidence(1.0, 1.0)


@declared(905, "dying")
def dying(run: Run) -> Evidence:
    """Its process ends."""
    os._exit(7)


@declared(906, "incomplete")
def incomplete(run: Run) -> Evidence:
    """It forgets a value."""
    return Evidence({"x": 1.0}, lambda figure: None)


@declared(907, "endless")
def endless(run: Run) -> Evidence:
    """It never ends."""
    Path(os.environ[MARKER]).touch()
    threading.Event().wait()
    return evidence(1.0, 1.0)


@declared(908, "needy", needs=("a_package_that_is_not_there", "gpu"))
def needy(run: Run) -> Evidence:
    """It needs what is not here."""
    return evidence(1.0, 1.0)


SAMPLES: dict[str, Claim] = {
    one.slug: one for one in (good, limited, wrong, raising, dying, incomplete, endless, needy)
}


if __name__ == "__main__":
    from explain.claims import samples
    from ravine.cli import app
    from ravine.explain.claims import runner

    runner.lookup_claim = samples.SAMPLES.__getitem__
    runner.claims = lambda: samples.SAMPLES
    app(sys.argv[1:])
