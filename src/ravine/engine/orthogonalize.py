"""How to orthogonalize on this machine: type, arrangement and which shapes to stack, by measured speeds.

What is measured is small and once: how fast stacks of square matrices are multiplied in bfloat16 and float32 at three
sizes, in torch and by `ravine.engine.products`, what a call costs, how fast memory is copied. Everything else follows
by counting operations, so that no choice depends on one lucky measurement. Speeds are rounded to half powers of two and
kept on disk for each device, version of torch and number of threads; a process asks once. Where they cannot be kept,
nothing is measured and `ravine.math.orthogonal` chooses by the device's kind.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ravine.engine import products
from ravine.engine.compiler import CompilerError, cache_folder, machine, write_atomically
from ravine.math import orthogonal
from ravine.math.newton_schulz import Triple

Shape = tuple[int, int]
Coefficients = str | Triple

SIZES = (64, 256, 512)
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OWN = "own"
PLAIN = ((1, 0.0),)
OPERATIONS = 2**24
REPEATS = 12
PRODUCTS = 15  # of five plain steps
SEVERAL = 8
"""As many matrices of a shape as choices are made for."""

BOUND = 0.9
"""What must be gained for the less simple way: it is taken where it needs at most this part of the time."""


@dataclass(frozen=True)
class Speeds:
    """What a device can do.

    Args:
        rates: for each type, operations a second of torch on stacks of matrices of each of `SIZES`, in a step of the
            iteration with all that goes with it.
        calls: for each type, seconds of one product of tiny matrices, with its share of what else a call does.
        copy: bytes copied in a second.
        own: the same of `ravine.engine.products`; None where it does not run.
    """

    rates: Mapping[str, Sequence[float]]
    calls: Mapping[str, float]
    copy: float
    own: Sequence[float] | None = None

    def seconds(self, dtype: str, count: int, n: int, m: int, k: int) -> float:
        """How long `count` products of n × m by m × k take in torch."""
        return self.calls[dtype] + 2 * count * n * m * k / _at(self.rates[dtype], n * m * k)


def _at(rates: Sequence[float], volume: int) -> float:
    """The rate at the size that is the nearest to that of a product of so many multiplications."""
    size = max(volume, 1) ** (1 / 3)
    return rates[min(range(len(SIZES)), key=lambda i: abs(math.log(size / SIZES[i])))]


@dataclass(frozen=True)
class Choice:
    """How matrices of one shape are orthogonalized; `own`: by `ravine.engine.products`, else by torch."""

    method: orthogonal.Method
    dtype: torch.dtype
    own: bool = False


@dataclass(frozen=True)
class Group:
    """Matrices to be stacked: the shape of the stack's matrices, and the places of those that belong in it.

    Smaller ones go into the upper left corner, the rest of theirs being zero.
    """

    shape: Shape
    members: tuple[int, ...]


def orthogonalize(
    x: Tensor, steps: int = 5, coefficients: Coefficients = "jordan", out: Tensor | None = None
) -> Tensor:
    """`ravine.math.orthogonal.orthogonalize`, in the way that is the fastest here for a stack of this shape.

    Example:
        >>> orthogonalize(torch.eye(3).expand(2, 3, 3)).shape
        torch.Size([2, 3, 3])
    """
    if x.ndim < 2 or x.numel() == 0:
        return orthogonal.orthogonalize(x, steps, coefficients, out=out)
    rows, columns = x.shape[-2:]
    choice = choose(x.device, x.dtype, (rows, columns), steps, coefficients)
    if choice.own:
        restarts = _restarts(choice, min(rows, columns), steps, coefficients)
        return products.orthogonalize(x, restarts, coefficients, out)
    return orthogonal.orthogonalize(x, steps, coefficients, method=choice.method, dtype=choice.dtype, out=out)


def choose(
    device: torch.device, dtype: torch.dtype, shape: Shape, steps: int = 5, coefficients: Coefficients = "jordan"
) -> Choice:
    """The type and the arrangement for matrices of this shape and type on this device.

    They do not depend on how many there are, so that a matrix is treated as it would be alone.
    """
    found = speeds(device)
    n, m = min(shape), max(shape)
    if dtype == torch.float64:
        return Choice("plain", torch.float64)
    if found is None:
        work = orthogonal.default_dtype(torch.empty(0, dtype=dtype, device=device))
        return Choice(orthogonal.default_method(n, m, steps, coefficients, work), work)
    ways = [Choice("plain", work) for work in TYPES.values()]
    ways += [Choice("gram", work) for work in TYPES.values() if orthogonal.segments(n, steps, coefficients, work)]
    best = _fastest(found, ways, n, m, steps, coefficients)
    if found.own is None or best.dtype != torch.bfloat16 or steps < 1:
        return best  # where calls take the time, the accurate type stays free
    own = [Choice(way.method, way.dtype, own=True) for way in ways if way.dtype == torch.bfloat16]
    return _fastest(found, [best, *own], n, m, steps, coefficients)


def _fastest(found: Speeds, ways: Sequence[Choice], n: int, m: int, steps: int, coefficients: Coefficients) -> Choice:
    """The first of the ways that no later one beats by as much as must be gained."""
    best, least = ways[0], math.inf
    for choice in ways:
        seconds = _predicted(found, choice, SEVERAL, n, m, steps, coefficients)
        if seconds < BOUND * least:
            best, least = choice, seconds
    return best


def _predicted(
    found: Speeds, choice: Choice, count: int, n: int, m: int, steps: int, coefficients: Coefficients
) -> float:
    """Seconds for `count` matrices of n × m, n ≤ m, by the products that each arrangement takes."""
    restarts = _restarts(choice, n, steps, coefficients)
    large, small = len(restarts), sum(4 * length - 3 for length, _ in restarts)
    if choice.own:
        assert found.own is not None
        every = products.operations(n, m, restarts)
        return count * every / _at(found.own, n * n * m)
    name = str(choice.dtype).removeprefix("torch.")
    return 2 * large * found.seconds(name, count, n, n, m) + small * found.seconds(name, count, n, n, n)


def _restarts(choice: Choice, n: int, steps: int, coefficients: Coefficients) -> Sequence[tuple[int, float]]:
    """The segments of a choice's arrangement."""
    found = orthogonal.segments(n, steps, coefficients, choice.dtype) if choice.method == "gram" else None
    return found or [(1, 0.0)] * steps


def group(
    shapes: Sequence[Shape],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    steps: int = 5,
    coefficients: Coefficients = "jordan",
) -> list[Group]:
    """Which matrices to orthogonalize together: those of one shape, and near shapes where padding is faster.

    Args:
        shapes: of all matrices.
        device, dtype: where and what they are.
        steps, coefficients: of the iteration.

    Returns:
        Groups that together hold every place in `shapes` once, in the order of their first members. A matrix that is
        padded is rounded otherwise than it would be alone, within the same bounds.
    """
    alike: dict[Shape, tuple[int, ...]] = {}
    for i, shape in enumerate(shapes):
        alike[shape] = (*alike.get(shape, ()), i)
    groups = [Group(shape, members) for shape, members in alike.items()]
    found = speeds(device)
    if found is None or dtype == torch.float64:
        return groups

    @cache
    def seconds(group: Group) -> float:
        rows, columns = group.shape
        if rows == 0 or columns == 0:
            return 0.0
        choice = choose(device, dtype, group.shape, steps, coefficients)
        count, n, m = len(group.members), min(group.shape), max(group.shape)
        padded = any(shapes[i] != group.shape for i in group.members)
        copied = 4 * padded * count * rows * columns * dtype.itemsize
        return _predicted(found, choice, count, n, m, steps, coefficients) + copied / found.copy

    def together(a: Group, b: Group) -> Group:
        larger = (max(a.shape[0], b.shape[0]), max(a.shape[1], b.shape[1]))
        return Group(larger, tuple(sorted((*a.members, *b.members))))

    @cache
    def part(a: Group, b: Group) -> float:
        return seconds(together(a, b)) / max(seconds(a) + seconds(b), 1e-12)

    while len(groups) > 1:
        a, b = min(itertools.combinations(groups, 2), key=lambda pair: part(*pair))
        if part(a, b) >= BOUND:
            break
        groups = [group for group in groups if group not in (a, b)] + [together(a, b)]
    return sorted(groups, key=lambda group: group.members)


def speeds(device: torch.device) -> Speeds | None:
    """The speeds of a device, from disk or measured now; None where they cannot be kept."""
    return _speeds(device.type, device.index)


@cache
def _speeds(kind: str, index: int | None) -> Speeds | None:
    device = torch.device(kind, index) if index is not None else torch.device(kind)
    try:
        path = _path(device)
        found = _kept(path)
        if found is None:
            found = measure(device)
            write_atomically(path, json.dumps({"device": _name(device), **asdict(found)}))
    except (CompilerError, OSError, RuntimeError):
        return None
    return found


def _kept(path: Path) -> Speeds | None:
    """What was measured before; None if nothing was, or it cannot be read."""
    try:
        kept = json.loads(path.read_text())
        rates = {name: [float(rate) for rate in kept["rates"][name]] for name in TYPES}
        calls = {name: float(kept["calls"][name]) for name in TYPES}
        own = None if kept["own"] is None else [float(rate) for rate in kept["own"]]
        return Speeds(rates, calls, float(kept["copy"]), own)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {machine()}"


def _path(device: torch.device) -> Path:
    threads = torch.get_num_threads() if device.type == "cpu" else ""
    key = f"{_name(device)} {torch.__version__} {threads} {SIZES} own"
    return cache_folder() / f"products-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def measure(device: torch.device) -> Speeds:
    """Measure a device, in about a third of a second.

    Made for machines that are busy: on a CPU one thread multiplies, since a team waits for whichever of its threads has
    lost its core, and all threads count as that many times as fast; each measurement is short, the types take turns,
    the best of many counts, and no size is taken to be slower than a smaller one.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1:
        return _measured(device, 1)
    torch.set_num_threads(1)
    try:
        return _measured(device, threads)
    finally:
        torch.set_num_threads(threads)


def _measured(device: torch.device, threads: int) -> Speeds:
    names = [*TYPES, OWN] if device.type == "cpu" and products.functions() is not None else [*TYPES]
    rates: dict[str, list[float]] = {name: [] for name in names}
    for size in SIZES:
        x = torch.full((max(1, OPERATIONS // (2 * size**3)), size, size), 2.0**-10, device=device)
        # A type that the processor does not know is emulated, at a thousandth of the speed: do not wait for that.
        asked = [name for name in names if not rates[name] or rates[name][-1] * 8 > max(r[-1] for r in rates.values())]
        best = dict.fromkeys(names, math.inf)
        for _ in range(REPEATS):
            for name in asked:
                best[name] = min(best[name], _timed(lambda x=x, name=name: _one_step(x, name), device))  # type: ignore[misc]
        for name in names:
            each = products.operations(size, size, PLAIN) if name == OWN else 3 * 2 * size**3
            rates[name].append(max([*rates[name][-1:], threads * len(x) * each / best[name]]))
    found = {name: [_rounded(rate) for rate in known] for name, known in rates.items()}
    tiny, large = torch.zeros(1, 16, 16, device=device), torch.zeros(2**22, device=device)
    target = torch.empty_like(large)
    calls = {}
    for name, dtype in TYPES.items():
        whole = [
            _timed(lambda d=dtype: orthogonal.orthogonalize(tiny, method="plain", dtype=d), device, 5)  # type: ignore[misc]
            for _ in range(REPEATS)
        ]
        calls[name] = _rounded(min(whole) / PRODUCTS)
    copy = min(_timed(lambda: target.copy_(large), device) for _ in range(REPEATS))
    return Speeds(found, calls, _rounded(large.nbytes / copy), found.pop(OWN, None))


def _one_step(x: Tensor, name: str) -> None:
    """One plain step, in torch in a type of this name, or by products of our own."""
    if name == OWN:
        products.orthogonalize(x, PLAIN, out=x)
    else:
        orthogonal.orthogonalize(x, 1, method="plain", dtype=TYPES[name], out=x)


def _timed(work: Callable[[], Any], device: torch.device, calls: int = 1) -> float:
    """Seconds a call takes, among several."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        work()
    _wait(device)
    return max(time.perf_counter() - start, 1e-9) / calls


def _wait(device: torch.device) -> None:
    if device.type in ("cuda", "xpu", "mps"):
        getattr(torch, device.type).synchronize()


def _rounded(value: float) -> float:
    """The nearest half power of two: what noise in a measurement seldom changes."""
    return float(2.0 ** (round(2 * math.log2(value)) / 2))


def describe(device: torch.device | str = "cpu") -> list[tuple[str, str]]:
    """What was measured on a device and what is chosen there, as rows of a name and a value, for people."""
    device = torch.device(device)
    found = speeds(device)
    if found is None:
        return [("products", "not measured; orthogonalization is chosen by the kind of device")]
    rows = [
        (f"{name} products of {', '.join(map(str, SIZES))}", ", ".join(f"{r / 1e9:.0f}" for r in rates) + " GFLOP/s")
        for name, rates in found.rates.items()
    ]
    if found.own is not None:
        rates = ", ".join(f"{rate / 1e9:.0f}" for rate in found.own)
        rows.append(("bfloat16 products of our own", f"{rates} GFLOP/s"))
    rows += [(f"a {name} product's call", f"{seconds * 1e6:.1f} µs") for name, seconds in found.calls.items()]
    rows.append(("copying", f"{found.copy / 1e9:.1f} GB/s"))
    for shape in ((64, 64), (512, 512), (512, 2048), (1024, 4096)):
        choice = choose(device, torch.float32, shape)
        kind = str(choice.dtype).removeprefix("torch.") + ", own products" * choice.own
        rows.append((f"orthogonalizing {shape[0]} × {shape[1]}", f"{choice.method}, {kind}"))
    return rows
