"""Prodigy: the box of its paper, the authors' code, and what its estimate of the distance does."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import binary_cross_entropy_with_logits

import ravine
from conformance.support import Target, members, random, targets
from ravine.rules import prodigy

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)
SHAPES = ((5, 3), (7,), (), (2, 3, 4))
STEPS = 100


def starts(target: Target, size: float) -> list[Parameter]:
    """Normal numbers of this size; from 0, p₀ − p loses nothing to rounding, however small the first steps are."""
    return [Parameter(size * random(s, 20 + i, torch.float64).to(target.device)) for i, s in enumerate(SHAPES)]


@functools.cache
def lowest(step: int, i: int) -> Tensor:
    """A point about 3 away, seen through noise."""
    return 3 * random(SHAPES[i], 40 + i, torch.float64) - 0.1 * random(SHAPES[i], 1000 * step + i, torch.float64)


def pull(step: int, i: int, p: Tensor) -> Tensor:
    """The gradient of half the squared distance to that point."""
    return p - lowest(step, i).to(p.device)


def warmed_up(step: int) -> float:
    return min(1.0, (step + 1) / 20)


def follow(
    optimizer: torch.optim.Optimizer, lr: Callable[[int], float] = lambda step: 1.0, steps: int = STEPS
) -> list[float]:
    """d after every step."""
    params, path = members(optimizer), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr(step)
        for i, p in enumerate(params):
            p.grad = pull(step, i, p.detach())
        optimizer.step()
        path.append(float(optimizer.param_groups[0]["d"]))
    return path


def in_groups(params: list[Parameter], groups: bool) -> Any:
    return [{"params": params[:1]}, {"params": params[1:]}] if groups else params


@functools.cache
def box(d0: float, size: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> Any:
    """Mishchenko & Defazio 2024, Algorithm 4, on all parameters as one vector, with averages as in the paper: √β₂ of
    the old and 1 − √β₂ of the new. Returns x, s and the path of d."""
    start = x = np.concatenate([p.detach().numpy().ravel() for p in starts(Target("reference"), size)])
    m, v, s = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    r, d, root, path = 0.0, d0, math.sqrt(beta2), []
    for step in range(STEPS):
        pieces = np.split(x, np.cumsum([math.prod(shape) for shape in SHAPES])[:-1])
        g = np.concatenate(
            [pull(step, i, torch.from_numpy(y.reshape(SHAPES[i]))).numpy().ravel() for i, y in enumerate(pieces)]
        )
        m = beta1 * m + (1 - beta1) * d * g
        v = beta2 * v + (1 - beta2) * d**2 * g**2
        r = root * r + (1 - root) * d**2 * np.dot(g, start - x)
        s = root * s + (1 - root) * d**2 * g
        x = x - d * m / (np.sqrt(v) + d * eps)
        d = max(d, r / np.abs(s).sum())
        path.append(d)
    return x, s, path


@ENGINES
@pytest.mark.parametrize(("d0", "size"), [(1e-6, 0.0), (1e-2, 1.0)])
@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.99)])
def test_the_box_of_the_paper(d0: float, size: float, groups: bool, betas: tuple[float, float], target: Target) -> None:
    """Algorithm 4 over 100 steps, one d for all parameters of all groups. s is kept times 1/(d₀·(1 − √β₂)).

    From a start of size 1, p₀ − p of about d₀ carries an error of 2⁻⁵³/d₀, 1e-14, which d multiplies up.
    """
    params = starts(target, size)
    optimizer = ravine.Prodigy(in_groups(params, groups), beta1=betas[0], beta2=betas[1], d0=d0, engine=target.engine)
    path = follow(optimizer)
    x, s, expected = box(d0, size, *betas)
    rtol = 1e-12 if size == 0 else 1e-11
    np.testing.assert_allclose(path, expected, rtol=rtol)
    together = np.concatenate([p.detach().cpu().numpy().ravel() for p in params])
    np.testing.assert_allclose(together, x, rtol=rtol, atol=1e-13)
    kept = np.concatenate([optimizer.state[p]["s"].cpu().numpy().ravel() for p in params])
    np.testing.assert_allclose(kept * d0 * (1 - math.sqrt(betas[1])), s, rtol=1e-10, atol=1e-12 * np.abs(s).max())
    assert [g["d"] for g in optimizer.param_groups] == [path[-1]] * (2 if groups else 1)


AUTHORS: list[tuple[dict[str, Any], dict[str, Any], Callable[[int], float]]] = [
    ({}, {}, lambda step: 1.0),
    ({"growth_rate": 1.05}, {"growth_rate": 1.05}, lambda step: 1.0),
    ({"use_bias_correction": True, "weight_decay": 0.1}, {"use_bias_correction": True, "weight_decay": 0.1}, warmed_up),
    ({"safeguard_warmup": True, "d_coef": 2.0}, {"safeguard_warmup": True, "d_coef": 2.0}, warmed_up),
    ({"beta3": 0.9, "betas": (0.8, 0.99)}, {"beta3": 0.9, "beta1": 0.8, "beta2": 0.99}, lambda step: 0.5),
    ({"weight_decay": 0.1, "decouple": False}, {"weight_decay": 0.1, "decay": "l2"}, lambda step: 1.0),
]


@pytest.mark.parametrize(("theirs", "ours", "lr"), AUTHORS)
@pytest.mark.parametrize("groups", [False, True])
def test_the_authors_code(
    theirs: dict[str, Any], ours: dict[str, Any], lr: Callable[[int], float], groups: bool
) -> None:
    """`prodigyopt` over 100 steps, with all its options. It multiplies ε by the next d, the paper by this one, so ε is
    too small here to matter: with ε = 1e-8, the two differ by 1e-8/√v."""
    prodigyopt = pytest.importorskip("prodigyopt")
    target = Target("reference")
    a, b = starts(target, 0.0), starts(target, 0.0)
    one = prodigyopt.Prodigy(in_groups(a, groups), eps=1e-30, **theirs)
    two = ravine.Prodigy(in_groups(b, groups), eps=1e-30, engine=target.engine, **ours)
    np.testing.assert_allclose(follow(two, lr), follow(one, lr), rtol=1e-12)
    for p, q in zip(b, a, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)
        for key in ("exp_avg", "exp_avg_sq", "s"):
            theirs_now = one.state[q][key].reshape(p.shape)  # s is flat there
            torch.testing.assert_close(two.state[p][key], theirs_now, rtol=1e-10, atol=1e-13)
    assert set(two.state[b[0]]) == set(one.state[a[0]]) | {"step"}
    assert {"d", "d_max", "d_numerator", "d0", "d_coef"} <= set(two.param_groups[0]) & set(one.param_groups[0])


# The options, by what they say


def steps_of(gradients: list[float], p: float = 0.0, **settings: Any) -> list[tuple[float, ...]]:
    """(p, m, v, s, p₀, d, d_max, r) after each of some steps on one number."""
    d0 = settings.get("d0", 1e-6)
    values: tuple[float, ...] = (p, 0.0, 0.0, 0.0, p, d0, d0, 0.0)
    path = []
    for t, g in enumerate(gradients, 1):
        values = prodigy(values[0], g, *values[1:], t=t, **settings)
        path.append(values)
    return path


def test_the_first_step_is_one_of_size_d0() -> None:
    """Algorithm 4: p₀ − p is 0, so d stays; p moves by d₀·(1 − β₁)/√(1 − β₂) = 3.16·d₀, bias corrected by d₀."""
    for settings, factor in (({}, 0.1 / math.sqrt(0.001)), ({"use_bias_correction": True}, 1.0)):
        ((p, *_, d, d_max, r),) = steps_of([5.0], d0=1e-3, eps=0.0, **settings)
        assert p == pytest.approx(-1e-3 * factor, rel=1e-12)
        assert (d, d_max, r) == (1e-3, 1e-3, 0.0)


def test_growth_is_limited_after_the_first() -> None:
    """The authors' code: the first growth, from d₀, is not limited; each later one is by `growth_rate` at most."""
    free, limited = (steps_of([1.0] * 60, growth_rate=rate) for rate in (None, 1.1))
    d = [1e-6, *(values[5] for values in limited)]
    ratios = [after / before for before, after in itertools.pairwise(d)]
    first = next(i for i, ratio in enumerate(ratios) if ratio > 1)
    assert all(ratio <= 1.1 * (1 + 1e-15) for ratio in ratios[first + 1 :])
    assert ratios[first] == pytest.approx(free[first][5] / 1e-6, rel=1e-12) and ratios[first] > 1.1
    assert sum(ratio == pytest.approx(1.1, rel=1e-12) for ratio in ratios) > 20
    assert free[-1][5] > limited[-1][5] and limited[-1][5] < limited[-1][6]


def test_d_coef_multiplies_the_estimate() -> None:
    (_, one), (_, two) = (steps_of([1.0, 1.0], d_coef=c) for c in (4.0, 8.0))
    assert two[5] == pytest.approx(2 * one[5], rel=1e-12) and one[5] > 1e-6


def test_a_safeguard_keeps_a_warm_up_from_making_d_too_large() -> None:
    """The estimate is Σγd²⟨g, p₀ − p⟩/Σγd²|g|: without γ below, small γ make it smaller, never larger."""
    ends = []
    for safeguard in (False, True):
        optimizer = ravine.Prodigy(starts(Target("reference"), 0.0), safeguard_warmup=safeguard, engine="reference")
        ends.append(follow(optimizer, warmed_up))
    assert all(b <= a for a, b in zip(*ends, strict=True)) and ends[1][-1] < 0.95 * ends[0][-1]


# The distance


CONVEX = {
    "a bowl": lambda x, goal: (torch.linspace(0.5, 2.0, len(goal)) * (x - goal) ** 2).sum(),
    "absolute values": lambda x, goal: (x - goal).abs().sum(),
}


@ENGINES
@pytest.mark.parametrize("distance", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize("d0", [1e-6, 1e-4])
@pytest.mark.parametrize("which", CONVEX)
def test_d_finds_the_distance_from_below(which: str, distance: float, d0: float, target: Target) -> None:
    """Section 3: on a convex function, ⟨g, p₀ − p⟩ ≤ ⟨g, p₀ − p*⟩, so that d̂ ≤ ‖p₀ − p*‖∞; and d only grows.

    From two to eight orders of magnitude below, it comes to within one and a half.
    """
    goal = random((20,), 3, torch.float64).to(target.device)
    goal *= distance / goal.abs().max()
    x = Parameter(torch.zeros_like(goal))
    optimizer = ravine.Prodigy([x], d0=d0, engine=target.engine)
    path = []
    for _ in range(120):
        optimizer.zero_grad()
        CONVEX[which](x, goal).backward()
        optimizer.step()
        path.append(optimizer.param_groups[0]["d"])
    assert all(a <= b for a, b in itertools.pairwise(path))
    assert distance / 30 < path[-1] <= distance


def test_d_never_falls_whatever_the_gradients() -> None:
    """Algorithm 4: d ← max(d, d̂)."""
    rng = np.random.default_rng(8)
    path = [values[5] for values in steps_of(list(rng.normal(size=400) * 10 ** rng.uniform(-6, 6, 400)))]
    assert all(a <= b for a, b in itertools.pairwise([1e-6, *path])) and path[-1] > path[0]


def loss_of_logistic_regression(make: Callable[[list[Parameter]], torch.optim.Optimizer], scale: float) -> float:
    """After 200 steps on all the data with a cosine schedule, from 0; features and weights of very different sizes."""
    sizes = torch.logspace(-1, 1, 20, dtype=torch.float64)
    features = random((200, 20), 1, torch.float64) * sizes
    chances = torch.sigmoid(features @ (random((20,), 2, torch.float64) / sizes))
    labels = (torch.special.ndtr(random((200,), 3, torch.float64)) < chances).double()
    weights = Parameter(torch.zeros(20, dtype=torch.float64))
    optimizer = make([weights])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(scale * features @ weights, labels).backward()
        optimizer.step()
        schedule.step()
    return binary_cross_entropy_with_logits(scale * features @ weights, labels).item()


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_untuned_as_good_as_adam_tuned(scale: float) -> None:
    """Section 5: on logistic regression, lr = 1 falls as far as Adam does at its best learning rate, wherever that is.

    As far: 99 % of the way down from ln 2, where both begin. Adam at a third of its best learning rate misses that.
    """
    ours = loss_of_logistic_regression(functools.partial(ravine.Prodigy, engine="reference"), scale)
    adams = [
        loss_of_logistic_regression(functools.partial(torch.optim.Adam, lr=lr / scale), scale)
        for lr in (0.01, 0.1, 0.3, 1.0)
    ]
    best = min(adams)
    reached = [(math.log(2) - loss) / (math.log(2) - best) for loss in (ours, *adams)]
    assert reached[0] > 0.99, reached
    assert adams[2] == best and reached[2] < 0.99


# States


@ENGINES
def test_four_states_as_large_as_the_parameter_and_three_numbers(target: Target) -> None:
    """Algorithm 4: m, v, s and x₀; without momentum, no m."""
    for beta1, names in ((0.9, {"exp_avg", "exp_avg_sq", "s", "p0"}), (0.0, {"exp_avg_sq", "s", "p0"})):
        params = starts(target, 1.0)
        before = [p.detach().clone() for p in params]
        optimizer = ravine.Prodigy(params, beta1=beta1, engine=target.engine)
        follow(optimizer, steps=3)
        for p, start in zip(params, before, strict=True):
            state = optimizer.state[p]
            assert set(state) == names | {"step"}
            assert all(state[k].shape == p.shape and state[k].dtype == p.dtype for k in names)
            assert torch.equal(state["p0"], start)
        assert all(isinstance(optimizer.param_groups[0][k], float) for k in ("d", "d_max", "d_numerator"))
    assert ravine.info("prodigy").state_bytes_per_param == 16


@ENGINES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_zero_gradients_move_nothing(dtype: torch.dtype, target: Target) -> None:
    """d̂ is 0/0 then, and stands for no news."""
    p = Parameter(torch.ones(4, dtype=dtype, device=target.device))
    optimizer = ravine.Prodigy([p], engine=target.engine)
    for _ in range(3):
        p.grad = torch.zeros_like(p)
        optimizer.step()
    assert torch.equal(p, torch.ones_like(p))
    assert optimizer.param_groups[0]["d"] == 1e-6
    p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.step()
    assert p.isfinite().all() and optimizer.param_groups[0]["d"] >= 1e-6


@ENGINES
def test_a_run_goes_on_from_a_checkpoint(target: Target) -> None:
    """d, its maximum and its numerator are part of the state dict."""
    one = ravine.Prodigy(in_groups(starts(target, 1.0), True), engine=target.engine)
    follow(one, steps=30)
    two = ravine.Prodigy(in_groups([Parameter(p.detach().clone()) for p in members(one)], True), engine=target.engine)
    two.load_state_dict(one.state_dict())
    assert follow(one, steps=30) == follow(two, steps=30)
    assert all(torch.equal(p, q) for p, q in zip(members(one), members(two), strict=True))
