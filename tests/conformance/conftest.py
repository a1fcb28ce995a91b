"""A conformance test that takes `spec` runs for every optimizer, one that takes `target` on every engine.

`separable` and `elementwise` stand for the optimizers that treat each parameter, or each element, as if it were alone.
`any_target` includes Triton's interpreter, which takes a second for a few steps, so there it is a sample of optimizers.

What a test asks of the frame around the rule, it need not ask of two optimizers that take the same way through it:

* `@pytest.mark.of_each_kind`: one optimizer of each kind (`support.kind_of`) instead of all;
* `@pytest.mark.varied(argument=(few, many))`: the few values with every optimizer, the many with one of each kind.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from conformance.support import ELEMENTWISE, INTERPRETED, REPRESENTATIVE, SEPARABLE, SPECS, targets, targets_for

OPTIMIZERS = {"spec": SPECS, "separable": SEPARABLE, "elementwise": ELEMENTWISE}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "of_each_kind: one optimizer of each kind instead of all")
    config.addinivalue_line("markers", "varied: few values of an argument with every optimizer, many with each kind")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    asked = metafunc.fixturenames
    given = {name for mark in metafunc.definition.iter_markers("parametrize") for name in _names(mark.args[0])}
    (which,) = [name for name in OPTIMIZERS if name in asked] or [None]
    specs = OPTIMIZERS[which] if which else ()
    if metafunc.definition.get_closest_marker("of_each_kind"):
        specs = tuple(spec for spec in specs if spec in REPRESENTATIVE)
    varied = metafunc.definition.get_closest_marker("varied")
    engine = next((name for name in ("target", "any_target") if name in asked and name not in given), None)
    if which:
        more = varied.kwargs if varied else {}
        names = [which, *([engine] if engine else []), *more]
        metafunc.parametrize(names, list(_combinations(specs, engine, more)), ids=str)
    elif engine:
        metafunc.parametrize(engine, targets(), ids=str)
    if "dtype" in asked and "dtype" not in given and not (varied and "dtype" in varied.kwargs):
        metafunc.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def _names(names: str | tuple[str, ...]) -> list[str]:
    return [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]


def _combinations(specs: tuple[str, ...], engine: str | None, varied: dict[str, tuple[Any, Any]]) -> Iterator[Any]:
    """Optimizers, where asked for each with the engines that run it, and the values that vary with its kind."""
    for spec in specs:
        choices = [many if spec in REPRESENTATIVE else few for few, many in varied.values()]
        if engine:
            interpreted = engine == "any_target" and spec in INTERPRETED
            choices.insert(0, targets_for(spec, interpreted))
        yield from ((spec, *choice) for choice in itertools.product(*choices))
