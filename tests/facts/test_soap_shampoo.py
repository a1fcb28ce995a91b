"""Shampoo and SOAP: what their authors write, and what other libraries do.

On rectangular matrices one of the two sums is singular, its eigenvectors there are any, and two LAPACKs differ: SOAP is
compared with others on square matrices, or with one side only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

import ravine
from conformance.support import Target, targets
from ravine.rules import shampoo, soap

ENGINES = pytest.mark.parametrize("target", targets(), ids=str)


def noise(shape: tuple[int, ...], steps: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for _ in range(steps)]


def follow(optimizer: torch.optim.Optimizer, p: Parameter, grads: list[np.ndarray]) -> list[np.ndarray]:
    """The parameter after every step."""
    path = []
    for g in grads:
        p.grad = torch.from_numpy(g).to(p.device, p.dtype)
        optimizer.step()
        path.append(p.detach().double().cpu().numpy().copy())
    return path


def run(name: str, w: np.ndarray, grads: list[np.ndarray], target: Target, **settings: Any) -> list[np.ndarray]:
    p = Parameter(torch.tensor(w, device=target.device))
    return follow(ravine.create(name, [p], engine=target.engine, **settings), p, grads)


def power(x: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(x)
    return vectors @ np.diag(values**exponent) @ vectors.T


# Shampoo


def shampoo_in_numpy(w: np.ndarray, grads: list[np.ndarray], lr: float, eps: float, every: int) -> list[np.ndarray]:
    """Gupta, Koren & Singer 2018, Algorithm 1: L = εI + ΣGGᵀ, R = εI + ΣGᵀG, W ← W − ηL^(−1/4) G R^(−1/4)."""
    left, right, path = eps * np.eye(len(w)), eps * np.eye(len(w[0])), []
    for t, g in enumerate(grads, 1):
        left, right = left + g @ g.T, right + g.T @ g
        if t % every == 1 or every == 1:
            roots = power(left, -1 / 4), power(right, -1 / 4)
        w = w - lr * roots[0] @ g @ roots[1]
        path.append(w)
    return path


@ENGINES
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("shape", [(5, 5), (3, 6), (6, 3)])
def test_shampoo_is_its_algorithm(shape: tuple[int, int], every: int, target: Target) -> None:
    w, grads = np.ones(shape), noise(shape, 10)
    ours = run("shampoo", w, grads, target, lr=0.1, eps=1e-2, every=every)
    for found, expected in zip(ours, shampoo_in_numpy(w, grads, 0.1, 1e-2, every), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


@ENGINES
def test_shampoos_first_step_is_orthogonal(target: Target) -> None:
    """For G = UΣVᵀ: (GGᵀ + ε)^(−1/4) G (GᵀG + ε)^(−1/4) = U Σ/√(Σ² + ε) Vᵀ, Muon's goal (Bernstein & Newhouse 2024)."""
    (g,) = noise((4, 7), 1)
    (moved,) = run("shampoo", np.zeros_like(g), [g], target, lr=1.0, eps=1e-12)
    left, _, right = np.linalg.svd(g, full_matrices=False)
    np.testing.assert_allclose(-moved, left @ right, rtol=0, atol=1e-9)


def test_shampoo_of_one_entry_is_adagrad() -> None:
    """A 1 × 1 matrix: (ε + Σg²)^(−1/4) twice is AdaGrad's root."""
    state = [np.full((1, 1), x) for x in (0.0, 1e-3, 1e-3, 0.0, 0.0)]
    total, x = 1e-3, 0.0
    for t, g in enumerate(noise((1, 1), 20), 1):
        state = list(shampoo(state[0], g, *state[1:], t=t, lr=0.1))
        total += g.item() ** 2
        x -= 0.1 * g.item() / total**0.5
        assert state[0].item() == pytest.approx(x, rel=1e-12)


@ENGINES
def test_of_a_large_dimension_shampoo_takes_the_diagonal(target: Target) -> None:
    """Gupta et al. 2018: rows' and columns' sums of squares, to the power −1/4."""
    grads = noise((3, 6), 8)
    rows, columns, w, expected = np.full((3, 1), 1e-2), np.full((1, 6), 1e-2), np.zeros((3, 6)), []
    for g in grads:
        rows, columns = rows + (g * g).sum(1, keepdims=True), columns + (g * g).sum(0, keepdims=True)
        w = w - 0.1 * g / rows**0.25 / columns**0.25
        expected.append(w)
    found = run("shampoo", np.zeros((3, 6)), grads, target, max_precond_dim=2, eps=1e-2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_diagonal_is_the_whole_where_rows_and_columns_have_nothing_in_common() -> None:
    """Sums of GGᵀ and GᵀG of diagonal gradients are diagonal."""
    grads = [g * np.eye(4) for g in noise((4, 4), 8)]
    for sides in ((4, 0), (4, 3)):
        a, b = (run("shampoo", np.zeros((4, 4)), grads, Target("reference"), max_precond_dim=n) for n in sides)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@ENGINES
def test_roots_of_singular_sums_stay_in_bounds(target: Target) -> None:
    """In float32 a ridge of 1e-6 drowns beside eigenvalues of 1e6, and some come out negative: roots need a floor."""
    p = Parameter(torch.zeros(24, 24, device=target.device))
    direction = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    grads = [(direction @ torch.from_numpy(x).float()).double().numpy() * 300 for x in noise((3, 24), 12)]
    path = follow(ravine.Shampoo([p], lr=1.0, engine=target.engine), p, grads)
    steps = np.diff(path, axis=0, prepend=0.0)
    assert np.isfinite(steps).all()
    assert np.linalg.norm(steps, axis=(1, 2)).max() <= 2 * np.sqrt(3), "three singular values, none far above one"


def test_pytorch_optimizers_shampoo() -> None:
    peers = pytest.importorskip("pytorch_optimizer")
    w, grads = np.ones((5, 5)), noise((5, 5), 15)
    q = Parameter(torch.tensor(w))
    theirs = follow(peers.Shampoo([q], lr=0.05, matrix_eps=1e-2), q, grads)
    ours = run("shampoo", w, grads, Target("reference"), lr=0.05, eps=1e-2)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)  # its roots are of float32


# SOAP


def soap_in_numpy(
    w: np.ndarray, grads: list[np.ndarray], lr: float, decay: float, every: int, sides: tuple[bool, bool]
) -> list[np.ndarray]:
    """Vyas et al. 2024, Algorithm 3 with Algorithm 4, all three decays 0.95, in the order of the authors' code:

    the first gradient makes the bases; each later one moves the weights by the bases of before, then refreshes them.
    """
    n, k = w.shape
    left, right, basis_l, basis_r = np.zeros((n, n)), np.zeros((k, k)), np.eye(n), np.eye(k)
    m, v, path = np.zeros_like(w), np.zeros_like(w), []
    for t, g in enumerate(grads):
        if t:
            m = 0.95 * m + 0.05 * g
            v = 0.95 * v + 0.05 * (basis_l.T @ g @ basis_r) ** 2
            u = basis_l @ ((basis_l.T @ m @ basis_r) / (np.sqrt(v) + 1e-8)) @ basis_r.T
            w = w - lr * np.sqrt(1 - 0.95**t) / (1 - 0.95**t) * u - lr * decay * w
        left, right = 0.95 * left + 0.05 * g @ g.T, 0.95 * right + 0.05 * g.T @ g
        if t == 0:
            basis_l = np.linalg.eigh(left)[1][:, ::-1] if sides[0] else basis_l
            basis_r = np.linalg.eigh(right)[1][:, ::-1] if sides[1] else basis_r
        elif t % every == 0:
            if sides[0]:
                order = np.argsort(-np.diag(basis_l.T @ left @ basis_l))
                v, basis_l = v[order], np.linalg.qr(left @ basis_l[:, order])[0]
            if sides[1]:
                order = np.argsort(-np.diag(basis_r.T @ right @ basis_r))
                v, basis_r = v[:, order], np.linalg.qr(right @ basis_r[:, order])[0]
        path.append(w)
    return path


@ENGINES
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize(
    ("shape", "largest", "sides"),
    [((6, 6), 6, (True, True)), ((4, 9), 5, (True, False)), ((9, 4), 5, (False, True)), ((4, 5), 3, (False, False))],
)
def test_soap_is_its_algorithm(
    shape: tuple[int, int], largest: int, sides: tuple[bool, bool], every: int, target: Target
) -> None:
    w, grads = np.ones(shape), noise(shape, 14)
    ours = run("soap", w, grads, target, lr=0.03, weight_decay=0.1, every=every, max_precond_dim=largest)
    expected = soap_in_numpy(w, grads, 0.03, 0.1, every, sides)
    np.testing.assert_array_equal(ours[0], w)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)


@ENGINES
def test_soap_is_adam_in_another_basis(target: Target) -> None:
    """Vyas et al. 2024: turn all gradients by orthogonal matrices, and SOAP's updates turn with them."""
    left, right = (np.linalg.qr(x)[0] for x in noise((5, 5), 2, seed=9))
    grads = noise((5, 5), 12)
    turned = [left @ g @ right.T for g in grads]
    settings = {"every": 3, "weight_decay": 0.0, "lr": 0.01}
    plain, other = (run("soap", np.zeros((5, 5)), x, target, **settings) for x in (grads, turned))
    np.testing.assert_allclose(left @ plain[-1] @ right.T, other[-1], rtol=0, atol=1e-8)
    adam, turned_adam = (run("adam", np.zeros((5, 5)), x, target, lr=0.01) for x in (grads, turned))
    assert np.abs(left @ adam[-1] @ right.T - turned_adam[-1]).max() > 0.01


def adam_one_step_late(w: np.ndarray, grads: list[np.ndarray]) -> np.ndarray:
    p = Parameter(torch.tensor(w))
    return follow(torch.optim.AdamW([p], lr=0.01, betas=(0.95, 0.95), eps=0.0, weight_decay=0.1), p, grads[1:])[-1]


def test_without_bases_soap_is_adam_one_step_late() -> None:
    """With both sides too large, and on vectors, as in the authors' code. Its ε is outside of the bias correction."""
    w, grads = np.full((3, 4), 2.0), noise((3, 4), 12)
    ours = run("soap", w, grads, Target("reference"), lr=0.01, eps=0.0, weight_decay=0.1, max_precond_dim=2)
    # AdamW decays first; SOAP subtracts both at once.
    np.testing.assert_allclose(ours[-1], adam_one_step_late(w, grads), rtol=1e-12)
    p, m, v = w[0], np.zeros(4), np.zeros(4)
    for t, g in enumerate(grads, 1):
        p, m, v = soap(p, g[0], m, v, t=t, lr=0.01, eps=0.0, weight_decay=0.1)
    np.testing.assert_allclose(p, adam_one_step_late(w[0], [g[0] for g in grads]), rtol=1e-12)


def states_of(name: str, shape: tuple[int, ...], **settings: Any) -> dict[str, Tensor]:
    p = Parameter(torch.ones(shape))
    p.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    optimizer = ravine.create(name, [p], engine="reference", **settings)
    optimizer.step()
    return {k: x for k, x in optimizer.state[p].items() if k != "step"}


@pytest.mark.parametrize(
    ("name", "square", "flat"),
    [
        ("soap", ({"GG_left", "Q_left"}, {"GG_right", "Q_right"}), (set(), set())),
        ("shampoo", ({"L", "L_root"}, {"R", "R_root"}), ({"L_diagonal"}, {"R_diagonal"})),
    ],
)
def test_large_dimensions_cost_no_square(name: str, square: Any, flat: Any) -> None:
    """A dimension above `max_precond_dim` has no n × n state: at most one number a row or column."""
    for shape, n, k in (((6, 4), 6, 4), ((4, 6), 4, 6), ((6, 2, 3), 6, 6), ((4, 4), 4, 4)):
        found = states_of(name, shape, max_precond_dim=5)
        sizes = (n, k)
        expected = {key for i in (0, 1) for key in (square if sizes[i] <= 5 else flat)[i]}
        assert set(found) - {"exp_avg", "exp_avg_sq"} == expected
        for key in expected:
            side = 0 if key in square[0] | flat[0] else 1
            whole = key in square[side]
            shapes = [(sizes[side],) * 2] if whole else [(n, 1), (1, k)]
            assert tuple(found[key].shape) in shapes, key
    assert ravine.lookup(name).defaults["max_precond_dim"] == 8192


def test_soaps_bases_stay_orthogonal_and_rest_between_refreshments() -> None:
    p = Parameter(torch.zeros(7, 5))
    optimizer = ravine.SOAP([p], every=4, engine="reference")
    previous: dict[str, Tensor] = {}
    for t, g in enumerate(noise((7, 5), 14), 1):
        p.grad = torch.from_numpy(g).float()
        optimizer.step()
        for key in ("Q_left", "Q_right"):
            basis = optimizer.state[p][key].clone()
            torch.testing.assert_close(basis.mT @ basis, torch.eye(len(basis)), rtol=0, atol=1e-5)
            if t > 1:
                assert torch.equal(basis, previous[key]) == ((t - 1) % 4 != 0), t
            previous[key] = basis


def test_pytorch_optimizers_soap() -> None:
    """It decays after the update: without decay the two are equal."""
    peers = pytest.importorskip("pytorch_optimizer")
    for shape, largest in (((6, 6), 100), ((4, 9), 5)):
        w, grads = np.ones(shape), noise(shape, 25)
        q = Parameter(torch.tensor(w))
        peer = peers.SOAP([q], lr=0.01, weight_decay=0.0, precondition_frequency=5, max_precondition_dim=largest)
        theirs = follow(peer, q, grads)
        ours = run("soap", w, grads, Target("reference"), lr=0.01, weight_decay=0.0, every=5, max_precond_dim=largest)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)  # its QR is of float32


def test_a_gradient_that_is_not_a_number_is_not_an_error() -> None:
    """NaN goes into the parameter, as IEEE arithmetic has it, although LAPACK refuses such matrices."""
    for rule in (shampoo, soap):
        p, other = Parameter(torch.ones(4, 4)), Parameter(torch.ones(4, 4))
        optimizer = ravine.optimizer(rule)([p, other], engine="reference")
        for i, g in enumerate(noise((4, 4), 3)):
            p.grad, other.grad = torch.from_numpy(g).float(), torch.from_numpy(g).float()
            if i == 0:
                p.grad[1, 2] = torch.nan
            optimizer.step()
        assert p.isnan().all() and other.isfinite().all()
