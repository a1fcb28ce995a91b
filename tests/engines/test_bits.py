"""The same bits everywhere: NumPy, the C++ kernels and the Triton kernels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engines.arithmetic import Arithmetic, same_bits

import ravine
from ravine.rule import lookup

ELEMENTWISE: list[tuple[str, dict]] = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("momentum", {}),
    ("adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.3}),
    ("rmsprop", {}),
    ("rmsprop", {"centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    ("adam", {"weight_decay": 0.1}),
    ("adam", {"maximize": True}),
    ("amsgrad", {}),
    ("adamw", {}),
    ("adamw", {"eps_form": "hat"}),
    ("adamw", {"decay": "schedule"}),
    ("adamw", {"decay": "lr_squared", "lr": 0.5}),
    ("adamw", {"eps": 0.0}),
    ("lion", {"weight_decay": 0.1}),
    ("adadelta", {"weight_decay": 0.1}),
    ("adamax", {"weight_decay": 0.1}),
    ("nadamw", {}),
    ("radam", {"betas": (0.9, 0.8)}),
    ("adopt", {"weight_decay": 0.1}),
    ("adan", {"weight_decay": 0.1}),
    ("ademamix", {"weight_decay": 0.1}),
    ("sophia", {}),
    ("lookahead(adamw)", {}),
    ("lookahead(sgd)", {"momentum": 0.9, "lookahead.k": 3}),
    ("cautious(adamw)", {"cautious.rescale": False}),
    ("cautious(lion)", {"cautious.rescale": False, "weight_decay": 0.1}),
    ("lookahead(cautious(amsgrad))", {"cautious.rescale": False}),
]
REDUCING: list[tuple[str, dict]] = [
    ("lamb", {}),
    ("cautious(adamw)", {}),
    ("clip_norm(adamw)", {"clip_norm.max_norm": 0.1}),
    ("clip_norm(lamb)", {}),
    ("lookahead(cautious(clip_norm(lamb)))", {}),
]
TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SIZES = [0, 1, 7, 4097]
LARGE = 2**20 + 3


def label(case: tuple[str, dict]) -> str:
    return f"{case[0]} {case[1] or ''}".strip()


def tensors(sizes: list[int], dtype: torch.dtype, seed: int, special: bool = True) -> list[torch.Tensor]:
    """Normal values; with `special`, also zeros of both signs, denormals, the largest values, infinities and NaN."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    info = torch.finfo(dtype)
    edge = [0.0, -0.0, info.tiny, -info.tiny, info.smallest_normal / 8, info.max, -info.max, np.inf, -np.inf, np.nan]
    for size in sizes:
        x = torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)
        if special and size > 100:
            places = torch.randint(size, (60,), generator=generator)
            x[places] = torch.tensor(edge * 6, dtype=torch.float64).to(dtype)
        made.append(x)
    return made


def compare(case, dtype, engine, sizes, steps, special=True, exact=True):
    spec, options = case
    start = tensors(sizes, dtype, 1, special)
    parameters = [torch.nn.Parameter(x.clone()) for x in start]
    optimizer = ravine.create(spec, parameters, engine=engine, **options)
    expected = Arithmetic(spec, start, **options)
    for step in range(steps):
        gradients = tensors(sizes, dtype, 100 + step, special)
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g.clone()
        optimizer.step()
        expected.step(gradients)
    for p, q, states in zip(parameters, expected.parameters, expected.states, strict=True):
        pairs = [(p, q), *((optimizer.state[p][lookup(spec).state[s].name], x) for s, x in states.items())]
        for ours, theirs in pairs:
            if exact:
                assert same_bits(ours, theirs), f"{(ours != theirs).sum()} of {ours.numel()} elements differ"
            else:
                scale = theirs.double().abs().max().item() if theirs.numel() else 0.0
                bound = 1e-6 if dtype == torch.float32 else 1e-12
                torch.testing.assert_close(ours.detach().double(), theirs.double(), rtol=bound, atol=bound * scale)
    return optimizer


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("case", ELEMENTWISE, ids=label)
def test_native_gives_the_bits_of_numpy(case, dtype):
    compare(case, dtype, "native", SIZES, steps=50)


# How bfloat16 is loaded and stored is the same for every rule; all types and 50 steps are among the slow tests.
INTERPRETED = [
    *((case, torch.float32) for case in ELEMENTWISE),
    *((case, torch.bfloat16) for case in (ELEMENTWISE[1], ELEMENTWISE[10])),
]


@pytest.mark.parametrize(("case", "dtype"), INTERPRETED, ids=lambda x: label(x) if isinstance(x, tuple) else str(x))
def test_triton_gives_the_bits_of_numpy(case, dtype):
    compare(case, dtype, "triton", SIZES, steps=3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("case", ELEMENTWISE, ids=label)
def test_triton_gives_the_bits_of_numpy_over_many_steps(case, dtype):
    compare(case, dtype, "triton", SIZES, steps=50)


@pytest.mark.parametrize("engine", ["native", "triton"])
@pytest.mark.parametrize("case", [("adamw", {}), ("lion", {}), ("lookahead(adamw)", {"lookahead.k": 2})], ids=label)
def test_large_tensors_give_the_bits_of_numpy(case, engine):
    compare(case, torch.float32, engine, [LARGE], steps=3)


@pytest.mark.parametrize("engine", ["native", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", REDUCING, ids=label)
def test_reductions_agree_with_numpy(case, dtype, engine):
    sizes = [0, 1, 7, 4097, 40961] if engine == "native" else [0, 1, 7, 4097]
    compare(case, dtype, engine, sizes, steps=1 if dtype == torch.float32 else 7, special=False, exact=False)


@pytest.mark.parametrize("case", [ELEMENTWISE[10], *REDUCING], ids=label)
def test_bits_do_not_depend_on_the_number_of_threads(case):
    spec, options = case
    sizes = [300_001, 5, 70_000]
    outcomes = []
    before = torch.get_num_threads()
    try:
        for threads in range(1, 9):
            torch.set_num_threads(threads)
            parameters = [torch.nn.Parameter(x) for x in tensors(sizes, torch.float32, 1, special=False)]
            optimizer = ravine.create(spec, parameters, engine="native", **options)
            for step in range(6):
                for p, g in zip(parameters, tensors(sizes, torch.float32, 9 + step, special=False), strict=True):
                    p.grad = g
                optimizer.step()
            outcomes.append([p.detach().clone() for p in parameters])
    finally:
        torch.set_num_threads(before)
    for outcome in outcomes[1:]:
        assert all(same_bits(a, b) for a, b in zip(outcome, outcomes[0], strict=True))


@pytest.mark.parametrize("size", [100, 100_000])
def test_flushing_denormals_in_torch_changes_no_bits(size):
    start = tensors([size], torch.float32, 1, special=False)
    tiny = [x * torch.finfo(torch.float32).tiny for x in start]
    expected = Arithmetic("sgd", tiny, lr=0.125)
    expected.step(tiny)
    p = torch.nn.Parameter(tiny[0].clone())
    p.grad = tiny[0].clone()
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    try:
        ravine.SGD([p], lr=0.125, engine="native").step()
    finally:
        torch.set_flush_denormal(False)
    assert same_bits(p, expected.parameters[0])


@pytest.mark.parametrize("engine", ["native", "triton"])
@settings(max_examples=10)
@given(cuts=st.lists(st.integers(0, 40_000), max_size=4))
def test_elementwise_bits_do_not_depend_on_how_tensors_are_split(engine, cuts):
    whole = tensors([40_000], torch.float32, 1)[0]
    bounds = [0, *sorted(cuts), 40_000]
    outcomes = []
    for edges in ([0, 40_000], bounds):
        pieces = [slice(a, b) for a, b in itertools.pairwise(edges)]
        parameters = [torch.nn.Parameter(whole[piece].clone()) for piece in pieces]
        optimizer = ravine.create("lookahead(adamw)", parameters, engine=engine, **{"lookahead.k": 2})
        for step in range(2):
            gradient = tensors([40_000], torch.float32, 5 + step)[0]
            for p, piece in zip(parameters, pieces, strict=True):
                p.grad = gradient[piece].clone()
            optimizer.step()
        outcomes.append(torch.cat([p.detach() for p in parameters]))
    assert same_bits(*outcomes)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("case", [*ELEMENTWISE, *REDUCING], ids=label)
def test_one_step_of_reference_is_within_four_ulps(case, dtype):
    """From the same state, since errors of many steps add up; an ulp is that of the largest number in p − x = q."""
    spec, options = case
    start = tensors([4097], dtype, 3, special=False)
    parameters = [torch.nn.Parameter(x.clone()) for x in start]
    optimizer = ravine.create(spec, parameters, engine="reference", **options)
    expected = Arithmetic(spec, start, **options)
    for step in range(5):
        gradients = tensors([4097], dtype, 50 + step, special=False)
        before = expected.parameters[0].clone()
        with torch.no_grad():
            parameters[0].copy_(before)
            for symbol, value in expected.states[0].items():
                if step > 0:
                    optimizer.state[parameters[0]][lookup(spec).state[symbol].name].copy_(value)
        parameters[0].grad = gradients[0].clone()
        optimizer.step()
        expected.step(gradients)
        ours, theirs = parameters[0].detach().double(), expected.parameters[0].double()
        moved = before.double() - theirs
        size = torch.stack([before.double().abs(), theirs.abs(), moved.abs()]).amax(0)
        ulp = torch.finfo(dtype).eps * 2.0 ** torch.floor(torch.log2(size))
        assert ((ours - theirs).abs() <= 4 * ulp).all()
