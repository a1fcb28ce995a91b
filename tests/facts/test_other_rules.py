"""SGD, momentum, AdaGrad, RMSProp, Lion and the wrappers: what their papers and textbooks write."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Parameter

import ravine
from conformance.support import Target, create, targets
from ravine.compose import cautious, clip_norm, lookahead
from ravine.rules import adagrad, lion, momentum, rmsprop, sgd

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)
NUMBERS = st.floats(-100, 100, allow_subnormal=False)


def test_the_textbooks_momentum_is_an_average_and_torchs_is_a_sum() -> None:
    """v ← βv + (1 − β)g against Polyak's v ← βv + g: under a constant gradient of 1 they are 0.878 and 8.78 at step 20.

    So torch's lr is the textbook's times 1 − β, and then both go the same way.
    """
    average = heavy = 0.0
    p = q = 0.0
    for t in range(1, 21):
        p, average = momentum(p, 1.0, average, t=t, lr=0.1, beta=0.9)
        q, heavy = sgd(q, 1.0, heavy, t=t, lr=0.1 * (1 - 0.9), momentum=0.9)
        if t == 1:
            assert (average, heavy) == (pytest.approx(0.1), 1.0)
    assert (round(average, 3), round(heavy, 2)) == (0.878, 8.78)
    assert p == pytest.approx(q, rel=1e-12)


def test_nesterovs_momentum_in_torchs_form() -> None:
    """Sutskever et al. 2013, with the gradient at the look-ahead point renamed: p ← p − lr·(g + μ·(μv + g))."""
    p, buffer = 1.0, 0.0
    position, v = 1.0, 0.0
    for t, g in enumerate([1.0, -2.0, 0.5, 0.25], 1):
        p, buffer = sgd(p, g, buffer, t=t, lr=0.1, momentum=0.9, nesterov=True)
        v = 0.9 * v + g
        position -= 0.1 * (g + 0.9 * v)
        assert (p, buffer) == (pytest.approx(position, rel=1e-14), pytest.approx(v, rel=1e-14))


def test_dampening_spares_the_first_step() -> None:
    """torch's heavy ball begins with the whole gradient and takes 1 − dampening of every later one."""
    p, buffer = sgd(0.0, 2.0, 0.0, t=1, lr=1.0, momentum=0.5, dampening=0.25)
    assert (p, buffer) == (-2.0, 2.0)
    p, buffer = sgd(p, 2.0, buffer, t=2, lr=1.0, momentum=0.5, dampening=0.25)
    assert (p, buffer) == (-4.5, 2.5)


def test_adagrad_sums_squares() -> None:
    """Duchi et al. 2011: v ← v + g², so that after n equal gradients a step is lr/√n."""
    p, v = 0.0, 0.0
    for t in range(1, 101):
        before = p
        p, v = adagrad(p, 3.0, v, t=t, lr=1.0, eps=0.0)
        assert before - p == pytest.approx(1 / t**0.5, rel=1e-12)
    assert v == 900.0


@given(g=NUMBERS, v=st.floats(0, 100), alpha=st.floats(0.01, 0.99))
def test_rmsprop_averages_squares(g: float, v: float, alpha: float) -> None:
    """Tieleman & Hinton 2012, lecture 6.5: v ← βv + (1 − β)g², and a step of lr·g/√v."""
    p, new = rmsprop(1.0, g, v, t=3, lr=0.5, alpha=alpha, eps=1e-8)
    expected = alpha * v + (1 - alpha) * g * g
    assert new == pytest.approx(expected, rel=1e-14)
    assert p == pytest.approx(1.0 - 0.5 * g / (expected**0.5 + 1e-8), rel=1e-12, abs=1e-14)


@ENGINES
def test_a_centered_variance_is_never_negative(target: Target) -> None:
    """Graves 2013 divides by √(v − a²), which rounding makes negative under a constant gradient: no NaN comes of it."""
    p = Parameter(torch.zeros(64, device=target.device))
    optimizer = ravine.RMSprop([p], lr=1e-3, centered=True, alpha=0.5, engine=target.engine)
    g = torch.linspace(0.1, 3.0, 64, device=target.device)
    negative = 0
    for _ in range(100):
        p.grad = g.clone()
        optimizer.step()
        state = optimizer.state[p]
        negative += int((state["square_avg"] - state["grad_avg"] ** 2 < 0).sum())
    assert negative > 0, "the gradients do not show the rounding"
    assert p.isfinite().all()


@given(p=NUMBERS, g=NUMBERS, m=NUMBERS)
def test_lion_is_its_algorithm(p: float, g: float, m: float) -> None:
    """Chen et al. 2023, Algorithm 2: the sign of β₁m + (1 − β₁)g; then m with β₂. Nothing moves where that is 0."""
    c = 0.9 * m + (1 - 0.9) * g
    q, new = lion(p, g, m, t=5, lr=0.01, weight_decay=0.5)
    assert q == pytest.approx(p - 0.01 * (float(np.sign(c)) + 0.5 * p), rel=1e-14, abs=1e-16)
    assert new == pytest.approx(0.99 * m + (1 - 0.99) * g, rel=1e-14, abs=1e-300)


@ENGINES
def test_lions_steps_all_have_one_size(target: Target) -> None:
    p = Parameter(torch.zeros(1000, dtype=torch.float64, device=target.device))
    optimizer = ravine.Lion([p], lr=2.0**-10, engine=target.engine)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        before = p.detach().clone()
        p.grad = torch.randn(1000, generator=generator, dtype=torch.float64).to(target.device) ** 5
        optimizer.step()
        assert ((p - before).abs() == 2.0**-10).all()


# Wrappers


def variance_ratio(alpha: float, target: Target) -> float:
    """The stationary variance of Lookahead's slow weights over SGD's, from many runs side by side."""
    generator = torch.Generator().manual_seed(5)
    slow, fast = (Parameter(torch.zeros(30_000, dtype=torch.float64, device=target.device)) for _ in range(2))
    lookahead_sgd = ravine.optimizer(lookahead(sgd, k=5, alpha=alpha))([slow], lr=0.1, engine=target.engine)
    plain = ravine.SGD([fast], lr=0.1, engine=target.engine)
    for _ in range(150):
        noise = torch.randn(30_000, generator=generator, dtype=torch.float64).to(target.device)
        slow.grad, fast.grad = slow.detach() - noise, fast.detach() - noise
        lookahead_sgd.step()
        plain.step()
    return slow.detach().var().item() / fast.detach().var().item()


@ENGINES
@pytest.mark.parametrize(("alpha", "expected"), [(0.5, 0.4430), (0.8, 0.7608)])
def test_lookahead_reduces_variance(alpha: float, expected: float, target: Target) -> None:
    """Zhang et al. 2019, Proposition 2, on a noisy quadratic with γa = 0.1 and k = 5:

    V_LA/V_SGD = α²(1 − q²ᵏ)/[α²(1 − q²ᵏ) + 2α(1 − α)(1 − qᵏ)], q = 0.9. A variance over 30 000 runs has a standard
    error of √(2/30000) = 0.82 %, a ratio of two independent ones 1.15 %; four of those are allowed. After 150 steps the
    start is forgotten to 0.9³⁰⁰ in SGD, and to (1 − α(1 − 0.9⁵))⁶⁰ in Lookahead, which is less than 1e-6.
    """
    q = 0.9
    formula = alpha**2 * (1 - q**10) / (alpha**2 * (1 - q**10) + 2 * alpha * (1 - alpha) * (1 - q**5))
    assert formula == pytest.approx(expected, abs=5e-5)
    assert variance_ratio(alpha, target) == pytest.approx(formula, rel=4 * 0.0115)


@ENGINES
@pytest.mark.parametrize("rescale", [True, False])
def test_cautious_masks_and_rescales(target: Target, rescale: bool) -> None:
    """Liang et al. 2024, Algorithm 1: u·1[u·g > 0], over the mask's mean, at least 1e-3; decay outside."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=50)
    p = Parameter(torch.tensor(x, device=target.device))
    optimizer = ravine.optimizer(cautious(ravine.rules.adamw, rescale=rescale))(
        [p], lr=0.1, weight_decay=0.2, engine=target.engine
    )
    m, v = np.zeros(50), np.zeros(50)
    kept = []
    for t in range(1, 8):
        g = rng.normal(size=50)
        p.grad = torch.tensor(g, device=target.device)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        mask = (u * g > 0).astype(float)
        kept.append(mask.mean())
        u = u * mask / (max(mask.mean(), 1e-3) if rescale else 1.0)
        x = x - 0.1 * u - 0.1 * 0.2 * x
        np.testing.assert_allclose(p.detach().cpu().numpy(), x, rtol=1e-11, atol=1e-13)
    assert kept[0] == 1.0 and min(kept) < 0.9


@ENGINES
def test_cautious_sees_updates_that_are_too_small_to_see(target: Target) -> None:
    """At lr 1e-8 in float32 p − lr·u is p for most elements: q − p would call all of them disagreement."""
    torch.manual_seed(0)
    p = Parameter(torch.rand(4096, device=target.device) + 1.0)
    exact = Parameter(p.detach().double())
    optimizers = [create("cautious(adamw)", [x], target, lr=1e-8, weight_decay=0.0) for x in (p, exact)]
    for _ in range(3):
        exact.grad = torch.randn(4096, dtype=torch.float64).float().double().to(target.device)
        p.grad = exact.grad.float()
        for optimizer in optimizers:
            optimizer.step()
    assert (p.double() - exact).abs().max() <= 3 * 2.0**-24 * 2  # half an ulp below 2 a step, rounded three times


@ENGINES
@pytest.mark.parametrize("max_norm", [0.1, 1.0, 1e6])
def test_clipping_scales_the_whole_gradient(target: Target, max_norm: float) -> None:
    """Pascanu et al. 2013, Algorithm 1: g ← g·c/‖g‖ where ‖g‖ > c, over all parameters together; else g as it is."""
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=n) for n in (5, 1, 12)]
    params = [Parameter(torch.zeros(a.shape, dtype=torch.float64, device=target.device)) for a in arrays]
    for p, a in zip(params, arrays, strict=True):
        p.grad = torch.tensor(a, device=target.device)
    ravine.optimizer(clip_norm(sgd, max_norm=max_norm))(params, lr=1.0, engine=target.engine).step()
    moved = np.concatenate([p.detach().cpu().numpy() for p in params])
    gradient = np.concatenate(arrays)
    if max_norm > 100:
        np.testing.assert_array_equal(moved, -gradient)
    else:
        assert np.linalg.norm(moved) == pytest.approx(max_norm, rel=1e-5)
        np.testing.assert_allclose(moved / np.linalg.norm(moved), -gradient / np.linalg.norm(gradient), rtol=1e-12)
