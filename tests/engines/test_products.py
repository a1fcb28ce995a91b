"""Orthogonalization by products of our own: as accurate as torch's in bfloat16, for every shape, to the bit however it
is cut.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from tests.engines.test_orthogonalize import error, exact, matrices, matrix
from torch import Tensor

from ravine.engine import orthogonalize as engine
from ravine.engine import products
from ravine.engine.orthogonalize import Choice, Speeds
from ravine.math import orthogonal
from ravine.math.orthogonal import segments

pytestmark = pytest.mark.skipif(products.functions() is None, reason="no C++ compiler, or no bfloat16 in AVX-512")

PLAIN = ((1, 0.0),) * 5
WAYS = pytest.mark.parametrize("restarts", [PLAIN, orthogonal.TWICE], ids=["plain", "gram"])


def alone(x: Tensor) -> Tensor:
    """The plain iteration in float64."""
    return orthogonal.orthogonalize(x.double(), method="plain")


def test_it_is_as_accurate_as_bfloat16_in_torch() -> None:
    for name, x in matrices():
        expected = exact(name, "jordan")
        bound = error(orthogonal.orthogonalize(x, method="plain", dtype=torch.bfloat16), expected)
        assert error(products.orthogonalize(x, PLAIN), expected) <= 1.05 * bound, name
        restarts = segments(min(x.shape), 5, "jordan", torch.bfloat16)
        assert restarts is not None
        gram = products.orthogonalize(x, restarts)
        assert error(gram, expected) <= 1.1 * bound, name
        assert torch.linalg.matrix_norm(gram, 2) <= 1.4, name


@pytest.mark.parametrize("recipe", ["gaussian", "k^-2"])
def test_large_matrices(recipe: str) -> None:
    x = matrix(recipe, 576, 1152)
    bound = error(orthogonal.orthogonalize(x, method="plain", dtype=torch.bfloat16), alone(x))
    assert error(products.orthogonalize(x, orthogonal.THRICE), alone(x)) <= 1.1 * bound


def test_polar_express_and_any_triple() -> None:
    x = matrix("k^-1", 160, 160)
    for coefficients in ("polar_express", (3.0, -3.0, 1.0)):
        expected = orthogonal.orthogonalize(x.double(), 5, coefficients, method="plain")
        bound = error(orthogonal.orthogonalize(x, 5, coefficients, method="plain", dtype=torch.bfloat16), expected)
        assert error(products.orthogonalize(x, PLAIN, coefficients), expected) <= 1.1 * bound


@WAYS
@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (31, 33), (33, 31), (64, 32), (100, 40), (2, 3, 45, 130)])
def test_every_shape(shape: tuple[int, ...], restarts: products.Restarts) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    found = products.orthogonalize(x, restarts)
    assert found.shape == x.shape
    assert error(found, alone(x)) <= 0.03
    assert error(products.orthogonalize(x.mT, restarts).mT, alone(x)) <= 0.03


@WAYS
def test_zeros_give_zeros_and_nan_stays_in_its_matrix(restarts: products.Restarts) -> None:
    x = matrix("k^-1", 128, 192).repeat(4, 1, 1)
    by_itself = products.orthogonalize(x[0], restarts)
    x[1] = 0.0
    x[2, 5, 7] = torch.nan
    x[3, 5, 7] = torch.inf
    found = products.orthogonalize(x, restarts)
    assert (found[0] == by_itself).all() and (found[1] == 0).all()
    assert found[2].isnan().all() and found[3].isnan().any()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e15, 1e37])
def test_matrices_of_any_size(scale: float) -> None:
    """1e-7 is added to the norm, as everywhere."""
    x = matrix("gaussian", 128, 512) * scale
    expected = torch.zeros_like(x) if scale < 1e-20 else alone(x)
    assert (products.orthogonalize(x, PLAIN) - expected).norm() <= 0.02 * max(1.0, expected.norm().item())


@WAYS
@pytest.mark.parametrize("shape", [(96, 64), (64, 160), (300, 200)])
def test_the_same_bits_alone_in_a_stack_and_on_any_number_of_threads(
    shape: tuple[int, int], restarts: products.Restarts
) -> None:
    x = torch.randn(40, *shape, generator=torch.Generator().manual_seed(5))
    expected = torch.stack([products.orthogonalize(matrix, restarts) for matrix in x])
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert (products.orthogonalize(x, restarts) == expected).all()
    finally:
        torch.set_num_threads(threads)


def test_types_strides_and_where_the_result_goes() -> None:
    x = matrix("k^-1", 40, 60)
    expected = products.orthogonalize(x, PLAIN)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert products.orthogonalize(x.to(dtype), PLAIN).dtype == dtype
    assert (products.orthogonalize(torch.stack([x, -x], -1)[..., 0], PLAIN) == expected).all()
    for out in (torch.empty_like(x), torch.empty(60, 40).mT, torch.empty(40, 60, dtype=torch.float64)):
        assert products.orthogonalize(x, PLAIN, out=out) is out
        assert (out == expected).all()
    with torch.inference_mode():
        assert (products.orthogonalize(x, PLAIN) == expected).all()
    assert products.orthogonalize(x, PLAIN, out=x) is x and (x == expected).all()


def test_the_count_of_operations_is_that_of_the_blocks() -> None:
    """By counting: blocks up to the diagonal of symmetric products, all of others."""
    for (n, m), restarts in itertools.product([(64, 128), (70, 70), (512, 2048)], [PLAIN, orthogonal.TWICE]):
        height, width = -(-n // 32), -(-m // 32)
        triangle = sum(i + 1 for i in range(height))
        blocks = 0
        triples = [(3.0, -3.0, 1.0)] * 5
        for product in orthogonal.products(triples, restarts):
            if product.out == "x":
                blocks += width * height * height
            else:
                blocks += triangle * (width if product.left == "x" else height)
        assert products.operations(n, m, restarts) == blocks * 2 * 32**3


TORCH = {"bfloat16": [4e11, 8e11, 8e11], "float32": [2e11, 2e11, 2e11]}
CALLS = {"bfloat16": 5e-6, "float32": 5e-6}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([4e11, 8e11, 8e11], {"wide": ("gram", True), "square": ("plain", True), "polar_express": ("plain", True)}),
        ([4e10, 8e10, 8e10], {"wide": ("gram", False), "square": ("plain", False), "polar_express": ("plain", False)}),
    ],
)
def test_it_is_chosen_where_it_is_the_faster(
    own: list[float], expected: dict[str, tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_speeds", lambda kind, index: Speeds(TORCH, CALLS, 2e10, own))
    chosen = {
        "wide": engine.choose(torch.device("cpu"), torch.float32, (512, 2048)),
        "square": engine.choose(torch.device("cpu"), torch.float32, (512, 512)),
        "polar_express": engine.choose(torch.device("cpu"), torch.float32, (512, 2048), 5, "polar_express"),
    }
    assert {name: (choice.method, choice.own) for name, choice in chosen.items()} == expected
    assert {choice.dtype for choice in chosen.values()} == {torch.bfloat16}
    assert engine.choose(torch.device("cpu"), torch.float64, (512, 512)) == Choice("plain", torch.float64)
    assert engine.choose(torch.device("cpu"), torch.float32, (5, 3)) == Choice("plain", torch.float32)


def test_it_is_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine._speeds.cache_clear()
    try:
        found = engine.speeds(torch.device("cpu"))
        assert found is not None and found.own is not None
        assert list(found.own) == sorted(found.own) and found.own[0] > 0
        (file,) = (tmp_path / "ravine").glob("products-*.json")
        assert json.loads(file.read_text())["own"] == found.own
        assert "bfloat16 products of our own" in dict(engine.describe("cpu"))
    finally:
        engine._speeds.cache_clear()
