"""What every conformance test needs: which optimizers, on which engines, and small problems with fixed gradients."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

import ravine
import ravine.engine
from ravine.explain.overview import engines_of
from ravine.math import Totals, sweeping
from ravine.registry import wrappers
from ravine.rule import State

NESTS = (
    "cautious(lion)", "clip_norm(lamb)", "lookahead(cautious(clip_norm(adamw)))", "schedule_free(rmsprop)",
    "rectified(schedule_free(adamw))",
)  # fmt: skip
# `maximize` turns the rule around, so it does not descend; it is tested as the setting of that name.
WRAPPED = (*(f"{name}(adamw)" for name in wrappers() if name != "maximize"), *NESTS)
INTERPRETED = ("adamw", "clip_norm(lamb)")
QUIET = 5  # steps for which an optimizer may move nothing: ADOPT looks at its first gradient, rectified rules at four
SHAPES = ((5, 3), (7,), (), (2, 3, 4))
MATRICES = ((5, 3), (4, 4), (3, 8), (2, 3, 4))


@dataclass(frozen=True)
class Target:
    """An engine on a device, as tests are given it."""

    engine: str
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.engine}-{self.device}"


def runs(engine: str, device: str) -> bool:
    """Whether the engine of this name is what this machine offers for this device."""
    try:
        return ravine.engine.choose(engine, torch.device(device)).name == engine
    except (ImportError, RuntimeError, TypeError, ValueError):
        return False


def is_interpreted(target: Target) -> bool:
    """Whether Triton's interpreter stands in for a GPU: it steps about a thousand times slower than a kernel."""
    return (target.engine, target.device) == ("triton", "cpu")


@functools.cache
def targets(interpreted: bool = False) -> tuple[Target, ...]:
    """The engines that run here, on the CPU and on a GPU where there is one; with Triton's interpreter if asked for."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    wanted = [Target(engine, device) for engine in ("reference", "native", "triton") for device in devices]
    return tuple(t for t in wanted if runs(t.engine, t.device) and (interpreted or not is_interpreted(t)))


@functools.cache
def engines_for(spec: str) -> list[str]:
    """The engines that can run an optimizer."""
    return engines_of(ravine.lookup(spec))


def targets_for(spec: str, interpreted: bool = False) -> list[Target]:
    """The targets on which an optimizer runs."""
    return [target for target in targets(interpreted) if target.engine in engines_for(spec)]


def shapes_of(spec: str) -> Sequence[tuple[int, ...]]:
    """Shapes that a rule takes: of every dimension, or matrices only where it sees parameters as matrices."""
    return MATRICES if ravine.lookup(spec).view == "matrix" else SHAPES


def _call(spec: str, p: np.ndarray, g: np.ndarray, numbers: tuple[float, float] = (0.25, 1e-4)) -> np.ndarray:
    """A rule's second step on arrays, from states that are one number each, these two by turns."""
    rule = ravine.lookup(spec)
    absent = rule.absent_states(rule.defaults, rule.seen_shape(p.shape))
    shapes = [state.shape(p.shape) for symbol, state in rule.state.items() if symbol not in absent]
    states = [np.full(shape, number) for shape, number in zip(shapes, itertools.cycle(numbers), strict=False)]
    return np.asarray(rule(p, g, *states, t=2)[0])


def is_elementwise(spec: str) -> bool:
    """Whether a rule treats each element as if it were alone, found by calling it on a matrix and on its elements."""
    if ravine.lookup(spec).view == "matrix":
        return False
    p, g = np.array([[1.0, -2.0, 3.0], [0.5, -1.5, 2.5]]), np.array([[0.5, 5.0, -1.0], [2.0, -0.25, 1.5]])
    for numbers in ((0.25, 1e-4), (1e-4, 0.25)):  # large and small updates, so that a clipping wrapper clips
        alone = [_call(spec, p.reshape(6)[i : i + 1], g.reshape(6)[i : i + 1], numbers) for i in range(6)]
        if (_call(spec, p, g, numbers).reshape(6) != np.concatenate(alone)).any():
            return False
    return True


def is_blind_to_shape(spec: str) -> bool:
    """Whether a rule treats a matrix as the vector of its elements, so that their order in memory is no matter."""
    if ravine.lookup(spec).view == "matrix":
        return False
    p, g = np.array([[1.0, -2.0, 3.0], [0.5, -1.5, 2.5]]), np.array([[0.5, 5.0, -1.0], [2.0, -0.25, 1.5]])
    return bool(np.allclose(_call(spec, p, g).reshape(6), _call(spec, p.reshape(6), g.reshape(6)), rtol=1e-12))


def is_separable(spec: str) -> bool:
    """Whether a rule treats each parameter as if it were alone: it asks for no total over all of them."""
    with sweeping(Totals({})) as sweep:
        _call(spec, np.ones((2, 2)), np.ones((2, 2)))
    return not sweep.collected


def kind_of(spec: str) -> Any:
    """What the frame around a rule can tell of it: optimizers of one kind take the same way through all of its code.

    That is the kinds of states, how they begin, and whether some are absent; whether it sees matrices, inputs, other
    elements and other parameters; what wraps it, and where it evaluates.
    """
    rule = ravine.lookup(spec)

    def described(state: State) -> tuple[str, str, bool]:
        begins = state.init if state.init in ("p", "identity") else type(state.init).__name__
        return state.kind, begins, state.when is not None

    absent = rule.absent_states(rule.defaults, rule.seen_shape((4, 4)))
    states = frozenset(described(s) for s in rule.state.values())
    wrapped, inside = [], rule
    while inside.base is not None and inside.wrapper is not None:
        wrapped.append(inside.wrapper.side)
        inside = inside.base
    return (
        states, bool(absent), rule.view, bool(rule.inputs), is_elementwise(spec), is_separable(spec), tuple(wrapped),
        type(rule.at_eval),
    )  # fmt: skip


def _first_of_each_kind(specs: Sequence[str]) -> tuple[str, ...]:
    found: dict[Any, str] = {}
    for spec in specs:
        found.setdefault(kind_of(spec), spec)
    return tuple(found.values())


def _without_repetition() -> tuple[str, ...]:
    """Every rule and every wrapper, and of presets those of another kind than the rule that they are presets of.

    A preset runs its rule's lines with other numbers, and another customary decay: every form of it is tested anyway.
    """
    rules = [ravine.lookup(name) for name in ravine.available()]
    kept = [r.name for r in rules if r.preset_of is None or kind_of(r.name) != kind_of(r.preset_of.name)]
    return (*kept, *WRAPPED)


SPECS = _without_repetition()
SEPARABLE = tuple(filter(is_separable, SPECS))
ELEMENTWISE = tuple(filter(is_elementwise, SEPARABLE))
REPRESENTATIVE = _first_of_each_kind(SPECS)


def random(shape: Iterable[int], seed: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    """Normal random numbers that depend on the seed alone: the same on every device and in every order of calls."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(device, dtype)


def parameters(
    spec: str = "adamw", target: Target = Target("reference"), dtype: torch.dtype = torch.float32
) -> list[Parameter]:
    """Parameters of every shape that the rule takes, the same at every call."""
    return [Parameter(random(s, 100 + i, dtype, target.device)) for i, s in enumerate(shapes_of(spec))]


def create(spec: str, params: Any, target: Target = Target("reference"), **settings: Any) -> ravine.Optimizer:
    """An optimizer by its spec on a target."""
    return ravine.create(spec, params, engine=target.engine, **settings)


def members(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters of an optimizer."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def set_gradients(params: Iterable[Tensor], step: int) -> None:
    """Give each parameter the gradient of this step: fixed noise, around a pull towards zero."""
    for i, p in enumerate(params):
        p.grad = 0.5 * p.detach() + random(p.shape, 1000 * step + i, p.dtype, str(p.device))


def set_inputs(optimizer: torch.optim.Optimizer, step: int) -> None:
    """Give a rule that takes tensors from outside (Sophia's Hessian) positive ones, at every second step."""
    if isinstance(optimizer, ravine.Optimizer) and optimizer.rule.inputs and step % 2 == 0:
        seeds = {name: 500_000 * (k + 1) + 1000 * step for k, name in enumerate(optimizer.rule.inputs)}
        params = list(enumerate(members(optimizer)))
        optimizer.inputs = {
            name: {p: random(p.shape, seed + i, p.dtype, str(p.device)) ** 2 for i, p in params}
            for name, seed in seeds.items()
        }


def advance(optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    """Take steps with the gradients of `set_gradients`, and inputs where the rule has some, numbered from `start`."""
    params = members(optimizer)
    for step in range(start, start + steps):
        set_gradients(params, step)
        set_inputs(optimizer, step)
        optimizer.step()


def bits(x: Tensor) -> bytes:
    """A tensor's elements as bytes, in logical order, with one pattern for NaN."""
    x = x.detach().cpu().contiguous()
    if x.is_floating_point():
        x = torch.where(x.isnan(), torch.full_like(x, torch.nan), x)
    return x.reshape(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b""


def assert_same_bits(left: Iterable[Tensor], right: Iterable[Tensor]) -> None:
    """Equal types, shapes and bits, tensor by tensor; NaN equals NaN."""
    for i, (a, b) in enumerate(zip(left, right, strict=True)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), f"tensor {i}"
        assert bits(a) == bits(b), f"tensor {i} differs by up to {(a.double().cpu() - b.double().cpu()).abs().max()}"


def assert_same_steps(spec: str, left: Iterable[Tensor], right: Iterable[Tensor]) -> None:
    """Equal bits; for a rule with products of matrices, to 1e-6 of the largest element.

    A BLAS sums in another order where matrices are batched with others or lie otherwise in memory.
    """
    left, right = list(left), list(right)
    if ravine.lookup(spec).view != "matrix":
        assert_same_bits(left, right)
    else:
        for p, q in zip(left, right, strict=True):
            size = q.detach().abs().max().item() if q.numel() else 0.0
            torch.testing.assert_close(p, q, rtol=0.0, atol=1e-6 * size)


def copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Detached copies of tensors in the same layout."""
    return [x.detach().clone() for x in tensors]


def snapshot(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Everything an optimizer holds, copied: its parameters, their states, its groups without parameters."""
    params = members(optimizer)

    def copied(value: Any) -> Any:
        return value.detach().clone() if isinstance(value, Tensor) else value

    return {
        "parameters": copies(params),
        "state": [{k: copied(v) for k, v in optimizer.state.get(p, {}).items()} for p in params],
        "groups": [{k: copied(v) for k, v in g.items() if k != "params"} for g in optimizer.param_groups],
    }


def assert_same_everywhere(left: Any, right: Any, path: str = "") -> None:
    """Two snapshots or state dicts are equal: keys, types, values, tensors to the bit."""
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        assert isinstance(left, Tensor) and isinstance(right, Tensor), path
        assert left.device == right.device, path
        assert_same_bits([left], [right])
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_same_everywhere(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), path
        for i, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same_everywhere(a, b, f"{path}[{i}]")
    else:
        assert left == right or (left != left and right != right), path
