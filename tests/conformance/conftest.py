"""A conformance test that takes `spec` runs for every optimizer, one that takes `target` on every engine.

`separable` and `elementwise` stand for the optimizers that treat each parameter, or each element, as if it were alone;
`any_target` includes Triton's interpreter.
"""

from __future__ import annotations

import pytest
import torch

from conformance.support import ELEMENTWISE, SEPARABLE, SPECS, Target, targets


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "spec" in metafunc.fixturenames:
        metafunc.parametrize("spec", SPECS)
    if "separable" in metafunc.fixturenames:
        metafunc.parametrize("separable", SEPARABLE)
    if "elementwise" in metafunc.fixturenames:
        metafunc.parametrize("elementwise", ELEMENTWISE)
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", targets(), ids=str)
    if "any_target" in metafunc.fixturenames:
        metafunc.parametrize("any_target", targets(interpreted=True), ids=str)
    if "dtype" in metafunc.fixturenames and not any(m.args[0] == "dtype" for m in metafunc.definition.iter_markers("parametrize")):
        metafunc.parametrize("dtype", [torch.float32, torch.bfloat16], ids=lambda d: str(d).removeprefix("torch."))


@pytest.fixture
def reference() -> Target:
    return Target("reference")
