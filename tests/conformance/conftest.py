"""A conformance test that takes `spec` runs for every optimizer, one that takes `target` on every engine.

`separable` and `elementwise` stand for the optimizers that treat each parameter, or each element, as if it were alone.
`any_target` includes Triton's interpreter, which takes a second for a few steps, so there it is a sample of optimizers.
"""

from __future__ import annotations

import itertools

import pytest
import torch

from conformance.support import ELEMENTWISE, INTERPRETED, SEPARABLE, SPECS, is_interpreted, targets

OPTIMIZERS = {"spec": SPECS, "separable": SEPARABLE, "elementwise": ELEMENTWISE}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    asked = metafunc.fixturenames
    given = {name for mark in metafunc.definition.iter_markers("parametrize") for name in str(mark.args[0]).split(",")}
    (which,) = [name for name in OPTIMIZERS if name in asked] or [None]
    specs = OPTIMIZERS[which] if which else ()
    if which and "any_target" in asked:
        pairs = itertools.product(specs, targets(interpreted=True))
        pairs = [(s, t) for s, t in pairs if not is_interpreted(t) or s in INTERPRETED]
        metafunc.parametrize((which, "any_target"), pairs, ids=str)
    elif which:
        metafunc.parametrize(which, specs)
    if "target" in asked:
        metafunc.parametrize("target", targets(), ids=str)
    if "dtype" in asked and "dtype" not in given:
        metafunc.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
