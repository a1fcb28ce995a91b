"""Orthogonalization: how near both arrangements come to the iteration in float64, what it maps, and how one is chosen.

The spectra matter. On Gaussian matrices, whose singular values are all alike, the Gram form looks right without its
restarts; momenta in training fall off like k⁻¹ to k⁻³.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ravine import math
from ravine.engine import orthogonalize as engine
from ravine.engine.orthogonalize import Choice, Group, Speeds
from ravine.lab.data import standard_library
from ravine.lab.models.transformer import SIZES, Transformer
from ravine.math import orthogonal
from ravine.math.newton_schulz import schedule
from ravine.math.orthogonal import orthogonalize, segments

CPU = torch.device("cpu")
COEFFICIENTS = ("jordan", "polar_express")
RECIPES = ("gaussian", "k^-1", "k^-2", "k^-3", "rank 16")
SHAPES = ((128, 512), (512, 128), (160, 160))


def with_spectrum(values: Tensor, columns: int, generator: torch.Generator) -> Tensor:
    """A float64 matrix with these singular values and random singular vectors."""
    left, right = (
        torch.linalg.qr(torch.randn(n, len(values), generator=generator, dtype=torch.float64))[0]
        for n in (len(values), columns)
    )
    return (left * values) @ right.mT


@functools.cache
def matrix(recipe: str, rows: int, columns: int) -> Tensor:
    """A matrix of this kind, in float32."""
    generator = torch.Generator().manual_seed(RECIPES.index(recipe))
    n, m = min(rows, columns), max(rows, columns)
    if recipe == "gaussian":
        x = torch.randn(n, m, generator=generator, dtype=torch.float64)
    elif recipe == "rank 16":
        halves = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((n, 16), (16, m)))
        x = torch.matmul(*halves)
    else:
        x = with_spectrum(torch.arange(1, n + 1, dtype=torch.float64) ** float(recipe.removeprefix("k^")), m, generator)
    return (x if rows <= columns else x.mT).float()


@functools.cache
def momenta() -> dict[str, Tensor]:
    """What Muon orthogonalizes after twelve steps on a small language model: Nesterov momenta of hidden matrices."""
    torch.manual_seed(0)
    shape, text, generator = SIZES["small"], standard_library(), torch.Generator().manual_seed(0)
    model = Transformer(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    buffers = {name: torch.zeros_like(p) for name, p in model.hidden_matrices()}
    for _ in range(12):
        optimizer.zero_grad()
        model.loss(text.draw(2, 65, generator)).backward()
        for name, p in model.hidden_matrices():
            buffers[name].lerp_(p.grad, 0.05)
        optimizer.step()
    last = ("blocks.0", "blocks.3")
    return {k: p.grad.lerp(buffers[k], 0.95) for k, p in model.hidden_matrices() if k.startswith(last)}


def matrices() -> Iterator[tuple[str, Tensor]]:
    for recipe in RECIPES:
        for shape in SHAPES:
            yield f"{recipe} {shape}", matrix(recipe, *shape)
    yield from momenta().items()


@functools.cache
def exact(name: str, coefficients: str) -> Tensor:
    """The plain iteration in float64, written out here."""
    x = dict(matrices())[name].numpy().astype(np.float64)
    return torch.from_numpy(newton_schulz(x, *schedule(coefficients, 5)))


def newton_schulz(x: np.ndarray, safety: float, triples: list[tuple[float, float, float]]) -> np.ndarray:
    x = x / (safety * np.linalg.norm(x) + 1e-7)
    for a, b, c in triples:
        gram = x @ x.T if len(x) <= len(x[0]) else x.T @ x
        polynomial = b * gram + c * gram @ gram
        x = a * x + (polynomial @ x if len(x) <= len(x[0]) else x @ polynomial)
    return x


def error(found: Tensor, expected: Tensor) -> float:
    return ((found.double() - expected).norm() / expected.norm()).item()


# Accuracy


@pytest.mark.parametrize("coefficients", COEFFICIENTS)
@pytest.mark.parametrize("method", ["plain", "gram"])
def test_float32_is_within_1e_4_of_float64(method: str, coefficients: str) -> None:
    for name, x in matrices():
        found = orthogonalize(x, 5, coefficients, method=method, dtype=torch.float32)
        assert error(found, exact(name, coefficients)) <= 1e-4, name


def test_the_gram_form_in_bfloat16_is_nearly_as_good_as_the_plain_one() -> None:
    for name, x in matrices():
        expected = exact(name, "jordan")
        plain, gram = (orthogonalize(x, method=method, dtype=torch.bfloat16) for method in ("plain", "gram"))
        assert error(gram, expected) <= 1.2 * error(plain, expected), name
        assert torch.linalg.matrix_norm(gram, 2) <= 1.4, name


@pytest.mark.parametrize("recipe", ["gaussian", "k^-1", "k^-2"])
def test_the_gram_form_of_large_matrices_restarts_more_often(recipe: str) -> None:
    x = matrix(recipe, 576, 1152)
    expected = orthogonalize(x.double())
    plain, gram = (orthogonalize(x, method=method, dtype=torch.bfloat16) for method in ("plain", "gram"))
    assert error(gram, expected) <= 1.2 * error(plain, expected)


def test_without_restarts_the_gram_form_is_wrong() -> None:
    """And a matrix with a flat spectrum does not show it half as much."""
    wrong = {}
    for name in ("gaussian (128, 512)", "blocks.3.contract.weight"):
        x = dict(matrices())[name]
        stack = (x / x.norm()).bfloat16()[None]
        never = orthogonal.products(schedule("jordan", 5)[1], [(5, 0.0)])
        found = orthogonal._multiplied(stack, never, tall=False)[0]
        wrong[name] = error(found, exact(name, "jordan"))
    assert not wrong["blocks.3.contract.weight"] <= 0.4, wrong
    assert wrong["gaussian (128, 512)"] < 0.5 * wrong["blocks.3.contract.weight"] or np.isnan(
        wrong["blocks.3.contract.weight"]
    )


@pytest.mark.parametrize("coefficients", COEFFICIENTS)
def test_the_engines_choice_is_within_the_bounds(coefficients: str) -> None:
    for name, x in matrices():
        expected = exact(name, coefficients)
        bound = 1.2 * error(orthogonalize(x, 5, coefficients, method="plain", dtype=torch.bfloat16), expected)
        assert error(engine.orthogonalize(x[None], 5, coefficients)[0], expected) <= max(bound, 1e-4), name


@pytest.mark.parametrize(
    ("coefficients", "smallest", "low", "high"),
    [("jordan", 0.01, 0.682, 1.134), ("polar_express", 0.003, 0.870, 1.124)],
)
def test_where_singular_values_end(coefficients: str, smallest: float, low: float, high: float) -> None:
    """Jordan et al. 2024 and Amsel et al. 2025 after five steps; both ends of the interval are reached.

    Each matrix of the stack has the singular values s and √(1 − s²), and so the norm 1.
    """
    s = torch.from_numpy(np.geomspace(smallest, np.sqrt(0.5), 20_000))
    values = torch.stack([s, torch.sqrt(1 - s**2)], -1)
    found = torch.diagonal(orthogonalize(torch.diag_embed(values), 5, coefficients), dim1=-2, dim2=-1)
    assert low - 5e-4 <= found.min() <= low + 5e-4
    assert high - 5e-4 <= found.max() <= high + 5e-4


def test_the_whole_list_of_polar_express_and_beyond() -> None:
    """The last triple, (1.875, −1.25, 0.375), is Newton–Schulz's own of degree five; it converges to exactly 1."""
    safety, triples = schedule("polar_express", 10)
    assert safety == 1.01 and triples[7:] == [(1.875, -1.25, 0.375)] * 3
    assert triples[0] == (8.28721201814563 / 1.01, -23.595886519098837 / 1.01**3, 17.300387312530933 / 1.01**5)
    x = matrix("k^-1", 64, 96).double()
    left, _, right = torch.linalg.svd(x, full_matrices=False)
    torch.testing.assert_close(orthogonalize(x, 10, "polar_express"), left @ right, rtol=0, atol=1e-12)


# What holds for every arrangement


WAYS = [("plain", torch.float64), ("plain", torch.float32), ("gram", torch.float32), ("plain", torch.bfloat16),
        ("gram", torch.bfloat16)]  # fmt: skip
ALL_WAYS = pytest.mark.parametrize(("method", "dtype"), WAYS, ids=str)


@ALL_WAYS
def test_zeros_give_zeros_and_nan_stays_in_its_matrix(method: str, dtype: torch.dtype) -> None:
    x = matrix("k^-1", 128, 192).to(torch.promote_types(dtype, torch.float32)).repeat(4, 1, 1)
    alone = orthogonalize(x[:1], method=method, dtype=dtype)[0]
    x[1] = 0.0
    x[2, 5, 7] = torch.nan
    x[3, 5, 7] = torch.inf
    found = orthogonalize(x, method=method, dtype=dtype)
    torch.testing.assert_close(found[0], alone, rtol=0, atol=0.02 if dtype == torch.bfloat16 else 1e-5)
    assert (found[1] == 0).all()
    assert found[2].isnan().all() and found[3].isnan().any()
    assert found[:2].isfinite().all()


@ALL_WAYS
def test_padding_with_zeros_changes_nothing(method: str, dtype: torch.dtype) -> None:
    """In exact arithmetic; in floating point the sums may be added up in another order."""
    for shape in ((128, 160), (160, 128)):
        x = matrix("k^-1", *shape).to(torch.promote_types(dtype, torch.float32))
        padded = torch.nn.functional.pad(x, (0, 24, 0, 40))
        found = orthogonalize(padded, method=method, dtype=dtype)
        assert (found[shape[0] :] == 0).all() and (found[:, shape[1] :] == 0).all()
        expected = orthogonalize(x.double())
        tolerance = 1.2 * error(orthogonalize(x, method=method, dtype=dtype), expected) + 1e-14
        assert error(found[: shape[0], : shape[1]], expected) <= tolerance


@ALL_WAYS
def test_a_tall_matrix_is_the_transpose_of_a_wide_one(method: str, dtype: torch.dtype) -> None:
    x = matrix("k^-2", 128, 512).to(torch.promote_types(dtype, torch.float32))
    wide, tall = (orthogonalize(y, method=method, dtype=dtype) for y in (x, x.mT.contiguous()))
    assert error(tall.mT, wide.double()) <= {torch.bfloat16: 0.02, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1), (2, 3, 1, 5)])
def test_one_row_or_one_column_is_divided_by_its_norm(shape: tuple[int, ...]) -> None:
    """Its one singular value is 1 from the start; Jordan's polynomial takes it to 0.7005... after five steps."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value = 1.0
    for _ in range(5):
        value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
    expected = value * x / x.norm(dim=(-2, -1), keepdim=True)
    torch.testing.assert_close(orthogonalize(x), expected, rtol=1e-5, atol=0)  # 1e-7 is added to the norm


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 3, 4), (2, 0, 0)])
def test_nothing_gives_nothing(shape: tuple[int, ...]) -> None:
    assert orthogonalize(torch.ones(shape)).shape == engine.orthogonalize(torch.ones(shape)).shape == shape


def test_types_and_memory() -> None:
    x = matrix("k^-1", 40, 60)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert orthogonalize(x.to(dtype)).dtype == engine.orthogonalize(x.to(dtype)).dtype == dtype
    assert orthogonal.default_dtype(x.double()) == torch.float64
    assert orthogonal.default_dtype(x.half()) in (torch.bfloat16, torch.float32)
    kept = x.clone()
    expected = orthogonalize(x, dtype=torch.float32)
    assert (x == kept).all()
    strided = torch.stack([x, -x], -1)[..., 0]
    torch.testing.assert_close(orthogonalize(strided, dtype=torch.float32), expected, rtol=0, atol=1e-6)
    assert orthogonalize(x, dtype=torch.float32, out=x) is x
    assert (x == expected).all()


def test_the_vocabulary_on_arrays_and_tensors() -> None:
    """NumPy and torch compute the plain iteration in the type they are given."""
    x = matrix("k^-2", 30, 20).double()
    for coefficients in (*COEFFICIENTS, (3.0, -3.0, 1.0)):
        expected = newton_schulz(x.numpy(), *schedule(coefficients, 4))
        np.testing.assert_allclose(math.orthogonalize(x.numpy(), 4, coefficients), expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(math.orthogonalize(x, 4, coefficients).numpy(), expected, rtol=0, atol=1e-12)
    single = math.orthogonalize(x.float())
    assert single.dtype == torch.float32
    assert (single == orthogonalize(x.float(), method="plain", dtype=torch.float32)).all()
    assert math.orthogonalize(x.float().numpy()).dtype == np.float32


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="a stack of matrices, got a tensor of shape"):
        orthogonalize(torch.ones(3))
    with pytest.raises(ValueError, match="needs a matrix, got a vector or a scalar"):
        math.orthogonalize(torch.ones(3))
    with pytest.raises(ValueError, match="'jordan', 'polar_express' or three numbers, got 'jordon'"):
        orthogonalize(torch.ones(3, 3), coefficients="jordon")
    with pytest.raises(ValueError, match="'plain', 'gram' or None, got 'fast'"):
        orthogonalize(torch.ones(3, 3), method="fast")
    for settings in ({"steps": 3}, {"coefficients": (3.0, -3.0, 1.0)}):
        with pytest.raises(ValueError, match="method='gram' is not accurate"):
            orthogonalize(torch.ones(3, 3), method="gram", dtype=torch.float32, **settings)
    with pytest.raises(ValueError, match=r"not accurate for 5 steps of 'polar_express' in torch\.bfloat16"):
        orthogonalize(torch.ones(200, 200), 5, "polar_express", method="gram", dtype=torch.bfloat16)


# The choice


CALLS = {"bfloat16": 5e-6, "float32": 5e-6}
FAST_BFLOAT16 = Speeds({"bfloat16": [4e11, 8e11, 8e11], "float32": [2e11, 2e11, 2e11]}, CALLS, copy=2e10)
NO_BFLOAT16 = Speeds({"bfloat16": [1e9, 1e9, 1e9], "float32": [2e11, 2e11, 2e11]}, CALLS, copy=2e10)


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(engine, "_speeds", lambda kind, index: request.param)


def chosen(shape: tuple[int, int], dtype: torch.dtype = torch.float32, coefficients: str = "jordan") -> tuple[str, str]:
    choice = engine.choose(CPU, dtype, shape, 5, coefficients)
    return choice.method, str(choice.dtype).removeprefix("torch.")


@pytest.mark.parametrize("speeds", [FAST_BFLOAT16], indirect=True)
def test_bfloat16_where_it_is_fast_and_the_gram_form_where_matrices_are_wide(speeds: None) -> None:
    assert chosen((512, 2048)) == chosen((2048, 512)) == ("gram", "bfloat16")
    assert chosen((512, 512)) == chosen((64, 64)) == ("plain", "bfloat16")
    assert chosen((16, 16)) == ("plain", "float32"), "where calls take the time, the accurate type is free"
    assert chosen((512, 2048), coefficients="polar_express") == ("plain", "bfloat16")
    assert chosen((512, 2048), torch.float64) == ("plain", "float64")


@pytest.mark.parametrize("speeds", [NO_BFLOAT16], indirect=True)
def test_float32_elsewhere(speeds: None) -> None:
    assert chosen((512, 2048)) == chosen((512, 2048), coefficients="polar_express") == ("gram", "float32")
    assert chosen((512, 512)) == ("plain", "float32")


@pytest.mark.parametrize("speeds", [None], indirect=True)
def test_without_measurements_the_kind_of_device_decides(speeds: None) -> None:
    work = orthogonal.default_dtype(torch.empty(0))
    assert engine.choose(CPU, torch.float32, (512, 2048)) == Choice("gram", work)
    assert engine.choose(CPU, torch.float32, (512, 512)) == Choice("plain", work)
    assert engine.group([(3, 4), (5, 6), (3, 4)], CPU) == [Group((3, 4), (0, 2)), Group((5, 6), (1,))]
    ((_, text),) = engine.describe("cpu")
    assert "not measured" in text


def test_the_count_of_operations_is_the_published_one() -> None:
    """20n²m + 10n³ for plain; 8n²m + 28n³, 12n²m + 22n³, 16n²m + 16n³ for Gram."""
    unit = Speeds({"bfloat16": (1.0,) * 3, "float32": (1.0,) * 3}, {"bfloat16": 0.0, "float32": 0.0}, copy=1.0)

    def count(method: str, name: str, n: int, m: int) -> float:
        return engine._predicted(unit, Choice(method, engine.TYPES[name]), 1, n, m, 5, "jordan")

    for n, m in ((256, 1024), (600, 600)):
        restarts = segments(n, 5, "jordan", torch.bfloat16)
        large, small = {3: (12, 22), 4: (16, 16)}[len(restarts)]
        assert count("plain", "float32", n, m) == 20 * n * n * m + 10 * n**3
        assert count("gram", "float32", n, m) == 8 * n * n * m + 28 * n**3
        assert count("gram", "bfloat16", n, m) == large * n * n * m + small * n**3


@pytest.mark.parametrize("speeds", [FAST_BFLOAT16], indirect=True)
def test_small_matrices_of_near_shapes_are_stacked(speeds: None) -> None:
    shapes = [(8, 8), (512, 2048), (7, 8), (512, 512), (6, 6), (8, 8)]
    groups = engine.group(shapes, CPU)
    assert groups == [Group((8, 8), (0, 2, 4, 5)), Group((512, 2048), (1,)), Group((512, 512), (3,))]
    assert sorted(i for group in groups for i in group.members) == list(range(len(shapes)))
    assert engine.group([], CPU) == []
    assert engine.group([(0, 3), (3, 0)], CPU) == [Group((0, 3), (0,)), Group((3, 0), (1,))]


def test_speeds_are_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(engine, "measure", lambda device: measured.append(device) or FAST_BFLOAT16)
    engine._speeds.cache_clear()
    try:
        first = engine.speeds(CPU)
        engine._speeds.cache_clear()
        assert engine.speeds(CPU) == first and measured == [CPU]
        (file,) = (tmp_path / "ravine").glob("products-*.json")
        assert json.loads(file.read_text())["copy"] == 2e10
        assert dict(engine.describe("cpu"))["orthogonalizing 512 × 2048"] == "gram, bfloat16"
        file.write_text("{")
        engine._speeds.cache_clear()
        assert engine.speeds(CPU) == first and measured == [CPU, CPU], "a file that cannot be read is replaced"
        (tmp_path / "ravine").chmod(0o777)
        engine._speeds.cache_clear()
        assert engine.speeds(CPU) is None, "a folder that others may write to is not believed"
        assert measured == [CPU, CPU]
    finally:
        engine._speeds.cache_clear()


def test_a_measurement() -> None:
    """On any machine, busy or not: speeds that are positive, no size slower than a smaller one, all rounded."""
    threads = torch.get_num_threads()
    found = engine.measure(CPU)
    assert torch.get_num_threads() == threads
    for rates in found.rates.values():
        assert list(rates) == sorted(rates) and rates[0] > 0
    for value in (*found.rates["float32"], *found.calls.values(), found.copy):
        assert (2 * np.log2(value)) % 1 == pytest.approx(0, abs=1e-9)
