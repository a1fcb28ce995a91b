"""States of every kind, inputs, views and totals: small rules in the form of known optimizers, against plain NumPy.

The rules are short versions of Adafactor, SOAP, Shampoo, NAdam, Prodigy, Sophia, Muon and of a delay line. What they
must compute is written out again below without the rule language, one array at a time.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter

import ravine
from ravine import State, rule
from ravine.math import (
    EYE,
    T,
    clip,
    column_mean,
    columns,
    eigenbasis,
    has,
    inverse_root,
    maximum,
    ndim,
    orthogonalize,
    rms,
    row_mean,
    rows,
    sqrt,
    total,
    where,
)  # fmt: skip
from ravine.math import abs as absolute


def is_matrix(hyper: Any, shape: tuple[int, ...]) -> bool:
    return bool(hyper["factored"]) and len(shape) > 1


@rule(
    paper="after Shazeer & Stern 2018",
    state={
        "r": State("row_var", kind="row", when=is_matrix), "c": State("col_var", kind="column", when=is_matrix),
        "v": State("variance", when=lambda h, s: not is_matrix(h, s)), "m": State("exp_avg", when="beta1"),
    },
)  # fmt: skip
def factors(p, g, r, c, v, m, *, t, lr=1e-2, beta1=0.0, factored=True, eps=1e-3, weight_decay=0.0):
    """Factors: a second moment from its row and column means where there are rows and columns."""
    beta2 = 1 - t**-0.8
    square = g**2 + 1e-30
    if factored and ndim(p) > 1:
        r = beta2 * r + (1 - beta2) * row_mean(square)
        c = beta2 * c + (1 - beta2) * column_mean(square)
        v_hat = r / column_mean(r) * c
    else:
        v_hat = v = beta2 * v + (1 - beta2) * square
    u = g / sqrt(v_hat)
    u = maximum(eps, rms(p)) * lr * u / maximum(1.0, rms(u))
    if has(m):
        u = m = beta1 * m + (1 - beta1) * u
    p = p - (u + lr * weight_decay * p)
    return p, r, c, v, m


def factors_in_numpy(p: np.ndarray, s: dict, g: np.ndarray, t: int, h: dict) -> np.ndarray:
    beta2 = 1 - t**-0.8
    if p.ndim > 1:
        s["row_var"] = beta2 * s.get("row_var", 0) + (1 - beta2) * (g * g + 1e-30).mean(-1, keepdims=True)
        s["col_var"] = beta2 * s.get("col_var", 0) + (1 - beta2) * (g * g + 1e-30).mean(-2, keepdims=True)
        v = s["row_var"] * s["col_var"] / s["row_var"].mean(-2, keepdims=True)
    else:
        v = s["variance"] = beta2 * s.get("variance", 0) + (1 - beta2) * (g * g + 1e-30)
    u = g / np.sqrt(v)
    u = max(1e-3, np.sqrt((p * p).mean())) * h["lr"] * u / max(1.0, np.sqrt((u * u).mean()))
    if h.get("beta1"):
        u = s["exp_avg"] = h["beta1"] * s.get("exp_avg", 0) + (1 - h["beta1"]) * u
    return p - u


def small(side: int) -> Callable[..., bool]:
    return lambda hyper, shape: len(shape) > 1 and shape[side] <= hyper["largest"]


@rule(
    paper="after Vyas et al. 2024",
    view="matrix",
    state={
        "m": "exp_avg", "v": "exp_avg_sq", "L": State("GG_left", kind="left", when=small(-2)),
        "R": State("GG_right", kind="right", when=small(-1)),
        "Ql": State("Q_left", kind="left", when=small(-2), absent=EYE),
        "Qr": State("Q_right", kind="right", when=small(-1), absent=EYE),
    },
)  # fmt: skip
def rotated(p, g, m, v, L, R, Ql, Qr, *, t, lr=3e-3, beta=0.9, largest=6):
    """Rotated: Adam in the eigenbasis of the gradients' covariance; sides that are too large keep theirs."""
    if t > 1:
        m = beta * m + (1 - beta) * g
        v = beta * v + (1 - beta) * (T(Ql) @ g @ Qr) ** 2
        p = p - lr * (Ql @ (T(Ql) @ m @ Qr / (sqrt(v) + 1e-8)) @ T(Qr))
    if has(L):
        L = beta * L + (1 - beta) * g @ T(g)
        Ql = eigenbasis(L) if t == 1 else Ql
    if has(R):
        R = beta * R + (1 - beta) * T(g) @ g
        Qr = eigenbasis(R) if t == 1 else Qr
    return p, m, v, L, R, Ql, Qr


def rotated_in_numpy(p: np.ndarray, s: dict, g: np.ndarray, t: int, h: dict) -> np.ndarray:
    shape, (p, g) = p.shape, (x.reshape(x.shape[0], -1) for x in (p, g))
    left, right = (s.get(k, np.eye(n)) for k, n in zip(("Q_left", "Q_right"), g.shape, strict=True))
    if t > 1:
        s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
        s["v"] = 0.9 * s.get("v", 0) + 0.1 * (left.T @ g @ right) ** 2
        p = p - h["lr"] * left @ (left.T @ s["m"] @ right / (np.sqrt(s["v"]) + 1e-8)) @ right.T
    for name, n, gram in (("left", g.shape[0], g @ g.T), ("right", g.shape[1], g.T @ g)):
        if n <= 6:
            s["GG_" + name] = 0.9 * s.get("GG_" + name, 0) + 0.1 * gram
            if t == 1:
                s["Q_" + name] = np.linalg.eigh(s["GG_" + name])[1][:, ::-1]
    return p.reshape(shape)


@rule(
    paper="after Gupta et al. 2018",
    view="matrix",
    state={
        "L": State("L", kind="left", init="ridge"),
        "R": State("R", kind="right", init="identity"),
        "l": State("inv", kind="left"),
    },
)
def roots(p, g, L, R, l, *, t, lr=0.1, ridge=0.25, every=2):  # noqa: E741
    """Roots: a preconditioner from the left, renewed every other step, and one from the right."""
    L = L + g @ T(g)
    R = 0.5 * R + 0.5 * T(g) @ g
    if t % every == 1:
        l = inverse_root(L, 4)  # noqa: E741
    p = p - lr * (l @ g @ inverse_root(R, 2))
    return p, L, R, l


def roots_in_numpy(p: np.ndarray, s: dict, g: np.ndarray, t: int, h: dict) -> np.ndarray:
    def power(x: np.ndarray, exponent: float) -> np.ndarray:
        values, vectors = np.linalg.eigh(x)
        return vectors @ np.diag(values**exponent) @ vectors.T

    shape, (p, g) = p.shape, (x.reshape(x.shape[0], -1) for x in (p, g))
    s["L"] = s.get("L", 0.25 * np.eye(len(g))) + g @ g.T
    s["R"] = 0.5 * s.get("R", np.eye(g.shape[1])) + 0.5 * g.T @ g
    if t % 2 == 1:
        s["inv"] = power(s["L"], -1 / 4)
    return (p - h["lr"] * s["inv"] @ g @ power(s["R"], -1 / 2)).reshape(shape)


@rule(
    paper="after Dozat 2016",
    decay="l2",
    state={"m": "exp_avg", "v": "exp_avg_sq", "product": State("mu_product", init=1.0, kind="host")},
)
def nesterov_adam(
    p, g, m, v, product, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, momentum_decay=4e-3, weight_decay=0.0
):
    """NesterovAdam: Adam with a momentum schedule, whose product is one number for each parameter."""
    mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (s * momentum_decay)) for s in (t, t + 1))
    product = product * mu
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = mu_next / (1 - product * mu_next) * m + (1 - mu) / (1 - product) * g
    p = p - lr * (m_hat / (sqrt(v / (1 - beta2**t)) + eps) + weight_decay * p)
    return p, m, v, product


@rule(
    paper="after Mishchenko & Defazio 2024",
    state={
        "s": "s",
        "start": State("p0", init="p"),
        "d": State("d", init="d0", kind="shared"),
        "n": State("d_numerator", kind="shared"),
    },
)
def finds_its_size(p, g, s, start, d, n, *, t, lr=1.0, d0=1e-2, beta=0.9):
    """FindsItsSize: one estimate of the distance to go for all parameters, from two sums over all of them."""
    n = beta * n + d / d0 * total(d * lr * (g * (start - p)))
    s = beta * s + d / d0 * d * lr * g
    d = maximum(d, n / maximum(total(absolute(s)), 1e-300))
    p = p - d * lr * g / (sqrt(total(g**2)) + 1e-12)
    return p, s, start, d, n


@rule(paper="after Liu et al. 2023", state={"m": "exp_avg", "h": "hessian"}, inputs=("hessian",))
def curved(p, g, m, h, *, t, hessian=None, lr=1e-2, beta1=0.9, beta2=0.99, rho=0.04, weight_decay=0.1):
    """Curved: steps divided by a curvature that is measured elsewhere, now and then."""
    if hessian is not None:
        h = beta2 * h + (1 - beta2) * hessian
    m = beta1 * m + (1 - beta1) * g
    p = p - lr * (clip(m / maximum(rho * h, 1e-15), -1.0, 1.0) + weight_decay * p)
    return p, m, h


@rule(paper="after Jordan et al. 2024", view="matrix", state={"m": "momentum_buffer"})
def orthogonal(p, g, m, *, t, lr=0.02, momentum=0.95, weight_decay=0.0):
    """Orthogonal: steps whose singular values are all near 1, scaled by the shape."""
    m = momentum * m + (1 - momentum) * g
    u = sqrt(maximum(1.0, rows(p) / columns(p))) * orthogonalize(m)
    p = p - lr * (u + weight_decay * p)
    return p, m


def orthogonal_in_numpy(p: np.ndarray, s: dict, g: np.ndarray, t: int, h: dict) -> np.ndarray:
    shape, (p, g) = p.shape, (x.reshape(x.shape[0], -1) for x in (p, g))
    s["m"] = 0.95 * s.get("m", 0) + 0.05 * g
    x = s["m"] if g.shape[0] <= g.shape[1] else s["m"].T
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    x = x if g.shape[0] <= g.shape[1] else x.T
    return (p - h["lr"] * max(1.0, g.shape[0] / g.shape[1]) ** 0.5 * x).reshape(shape)


@rule(paper="a test", state={"last": "last_grad", "older": "older_grad", "before": State("before", init="p")})
def delayed(p, g, last, older, before, *, t, lr=0.1):
    """Delayed: old gradients move on from state to state, the last weights are kept."""
    new = p - lr * (g + 0.5 * last + 0.25 * older) + 0.1 * where(before > p, 1.0 + 0 * p, -1.0)
    return new, g, last, p


def delayed_in_numpy(p: np.ndarray, s: dict, g: np.ndarray, t: int, h: dict) -> np.ndarray:
    zero, before = np.zeros_like(p), s.get("before", p)
    last, older = s.get("last_grad", zero), s.get("older_grad", zero)
    s |= {"older_grad": last, "last_grad": g, "before": p}
    return p - h["lr"] * (g + 0.5 * last + 0.25 * older) + 0.1 * np.where(before > p, 1.0, -1.0)


def nesterov_adam_in_numpy(p: np.ndarray, s: dict, g: np.ndarray, t: int, h: dict) -> np.ndarray:
    g = g + h["weight_decay"] * p
    now, after = (0.9 * (1 - 0.5 * 0.96 ** (0.004 * x)) for x in (t, t + 1))
    s["mu_product"] = s.get("mu_product", 1.0) * now
    s["exp_avg"] = 0.9 * s.get("exp_avg", 0) + 0.1 * g
    s["exp_avg_sq"] = 0.999 * s.get("exp_avg_sq", 0) + 0.001 * g * g
    m_hat = after * s["exp_avg"] / (1 - s["mu_product"] * after) + (1 - now) * g / (1 - s["mu_product"])
    return p - h["lr"] * m_hat / (np.sqrt(s["exp_avg_sq"] / (1 - 0.999**t)) + 1e-8)


EVERY_SHAPE = [(4, 6), (5,), (), (3, 2, 2), (7, 3)]
MATRICES = [(4, 4), (3, 8), (8, 3), (2, 3, 2)]
CASES = [
    (factors, factors_in_numpy, EVERY_SHAPE, {"lr": 0.05}),
    (factors, factors_in_numpy, EVERY_SHAPE, {"lr": 0.05, "beta1": 0.9}),
    (rotated, rotated_in_numpy, [(4, 4), (3, 8), (8, 3), (9, 7)], {"lr": 0.05}),
    (roots, roots_in_numpy, MATRICES, {"lr": 0.05}),
    (nesterov_adam, nesterov_adam_in_numpy, EVERY_SHAPE, {"lr": 0.05, "weight_decay": 0.1}),
    (orthogonal, orthogonal_in_numpy, MATRICES, {"lr": 0.05}),
    (delayed, delayed_in_numpy, EVERY_SHAPE, {"lr": 0.05}),
]
ENGINES = pytest.mark.parametrize("engine", ["reference", "native", "triton"])


def start(shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float64) -> list[Parameter]:
    rng = np.random.default_rng(11)
    return [Parameter(torch.tensor(rng.normal(size=s), dtype=dtype)) for s in shapes]


def gradients(step: int, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    rng = np.random.default_rng(100 + step)
    return [np.asarray(rng.normal(size=s)) for s in shapes]


def give(params: list[Parameter], grads: list[np.ndarray]) -> None:
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.tensor(g, dtype=p.dtype)


@ENGINES
@pytest.mark.parametrize(("made", "plain", "shapes", "hyper"), CASES, ids=lambda x: getattr(x, "name", None))
def test_rules_do_what_they_say(made: Any, plain: Any, shapes: Any, hyper: Any, engine: str) -> None:
    """Ten steps; the second parameter's first gradient comes at step 4, so its own count and states begin there."""
    params = start(shapes)
    optimizer = ravine.optimizer(made)(params, engine=engine, **hyper)
    arrays, states, counts = [p.detach().numpy().copy() for p in params], [{} for _ in params], [0] * len(params)
    for step in range(10):
        grads = gradients(step, shapes)
        give(params, grads)
        for i, g in enumerate(grads):
            if i == 1 and step < 3:
                params[i].grad = None
                continue
            counts[i] += 1
            arrays[i] = plain(arrays[i], states[i], g, counts[i], hyper)
        optimizer.step()
        for p, array in zip(params, arrays, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), array, rtol=1e-9, atol=1e-11)
    names = {s.name for s in made.state.values()}
    for p, state, count in zip(params, states, counts, strict=True):
        assert optimizer.state[p]["step"].item() == count
        assert set(optimizer.state[p]) <= {"step", *names}
        for name in set(state) & set(optimizer.state[p]):
            found, expected = np.asarray(optimizer.state[p][name]), state[name]
            if name.startswith("Q_"):  # an eigenvector's sign is anyone's choice
                found, expected = np.abs(found), np.abs(expected)
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@ENGINES
def test_only_the_states_of_a_shape_exist(engine: str) -> None:
    params = start(EVERY_SHAPE)
    optimizer = ravine.optimizer(factors)(params, engine=engine)
    give(params, gradients(0, EVERY_SHAPE))
    optimizer.step()
    for p in params:
        shapes = {k: tuple(v.shape) for k, v in optimizer.state[p].items() if k != "step"}
        if p.ndim > 1:
            *batch, n, m = p.shape
            assert shapes == {"row_var": (*batch, n, 1), "col_var": (*batch, 1, m)}
        else:
            assert shapes == {"variance": tuple(p.shape)}
    mixed = start(EVERY_SHAPE)
    plain = ravine.optimizer(factors)(mixed, factored=False, engine=engine)
    give(mixed, gradients(0, EVERY_SHAPE))
    plain.step()
    assert all(set(plain.state[p]) == {"step", "variance"} for p in mixed)


def test_states_that_are_not_of_the_parameters_shape_are_kept_wide() -> None:
    """Means, products of matrices and bases of a bfloat16 parameter are float32; states of its shape are bfloat16."""
    params = start([(4, 6)], torch.bfloat16)
    for made in (factors, rotated):
        optimizer = ravine.optimizer(made)(params, engine="reference")
        give(params, gradients(0, [(4, 6)]))
        optimizer.step()
        types = {k: v.dtype for k, v in optimizer.state[params[0]].items()}
        for name, dtype in types.items():
            assert dtype == (torch.bfloat16 if name in ("exp_avg", "exp_avg_sq") else torch.float32), name


@ENGINES
def test_shared_states_are_one_number_per_optimizer(engine: str) -> None:
    """Prodigy's d over two groups and parameters of three types of shape: every parameter sees the same."""
    shapes = [(4, 6), (5,), (), (3, 2)]
    params = start(shapes)
    optimizer = ravine.optimizer(finds_its_size)(
        [{"params": params[:2], "lr": 1.0}, {"params": params[2:], "lr": 0.5}], engine=engine
    )
    arrays = [p.detach().numpy().copy() for p in params]
    first, s = [a.copy() for a in arrays], [np.zeros_like(a) for a in arrays]
    lrs, d, n = [1.0, 1.0, 0.5, 0.5], 1e-2, 0.0
    for step in range(15):
        grads = [0.1 * g + a for g, a in zip(gradients(step, shapes), arrays, strict=True)]
        give(params, grads)
        optimizer.step()
        n = 0.9 * n + d / 1e-2 * sum(
            lr * d * (g * (f - a)).sum() for lr, g, f, a in zip(lrs, grads, first, arrays, strict=True)
        )
        s = [0.9 * x + d / 1e-2 * d * lr * g for x, lr, g in zip(s, lrs, grads, strict=True)]
        d = max(d, n / max(sum(np.abs(x).sum() for x in s), 1e-300))
        norm = np.sqrt(sum((g * g).sum() for g in grads)) + 1e-12
        arrays = [a - d * lr * g / norm for a, lr, g in zip(arrays, lrs, grads, strict=True)]
        for p, a in zip(params, arrays, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), a, rtol=1e-10, atol=1e-12)
        for group in optimizer.param_groups:
            assert (group["d"], group["d_numerator"]) == (
                pytest.approx(d, rel=1e-10),
                pytest.approx(n, rel=1e-9, abs=1e-15),
            )
    assert d > 1e-2, "the estimate has not grown, so nothing was tested"


@pytest.mark.parametrize(
    "made", [nesterov_adam, finds_its_size, factors, rotated, roots, delayed], ids=lambda x: x.name
)
@ENGINES
def test_states_of_every_kind_are_saved_and_loaded(made: Any, engine: str) -> None:
    shapes = MATRICES[:3]
    params = start(shapes)
    optimizer = ravine.optimizer(made)(params, engine=engine)
    for step in range(4):
        give(params, gradients(step, shapes))
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    others = [Parameter(p.detach().clone()) for p in params]
    other = ravine.optimizer(made)(others, engine=engine)
    other.load_state_dict(torch.load(file, weights_only=True))
    third = copy.deepcopy(optimizer)
    for step in range(4, 8):
        for o in (optimizer, other, third):
            mine = o.param_groups[0]["params"]
            give(mine, gradients(step, shapes))
            o.step()
    for a, b, c in zip(params, others, third.param_groups[0]["params"], strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


@ENGINES
def test_inputs_reach_the_parameters_they_are_given_for(engine: str) -> None:
    """Sophia's Hessian, every other step, and for the first two of three parameters only."""
    shapes = [(4, 6), (5,), (3,)]
    params = start(shapes)
    optimizer = ravine.optimizer(curved)(params, lr=0.05, engine=engine)
    arrays = [p.detach().numpy().copy() for p in params]
    m, h = [np.zeros_like(a) for a in arrays], [np.zeros_like(a) for a in arrays]
    for step in range(6):
        grads, squares = gradients(step, shapes), [g**2 for g in gradients(50 + step, shapes)]
        give(params, grads)
        given = range(2) if step % 2 == 0 else range(0)
        if given:
            optimizer.inputs["hessian"] = {params[i]: torch.tensor(squares[i]) for i in given}
        optimizer.step()
        assert optimizer.inputs == {}
        for i in range(3):
            if i in given:
                h[i] = 0.99 * h[i] + 0.01 * squares[i]
            m[i] = 0.9 * m[i] + 0.1 * grads[i]
            arrays[i] = arrays[i] - 0.05 * (np.clip(m[i] / np.maximum(0.04 * h[i], 1e-15), -1, 1) + 0.1 * arrays[i])
        for p, a in zip(params, arrays, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), a, rtol=1e-11, atol=1e-13)


@ENGINES
def test_a_view_as_a_matrix_does_not_move_memory(engine: str) -> None:
    """A convolution's kernel is seen as (out, rest), in whatever order it lies in memory."""
    start_at, g = torch.randn(4, 3, 2, 2, dtype=torch.float64), torch.randn(4, 3, 2, 2, dtype=torch.float64)
    plain, last = Parameter(start_at.clone()), Parameter(start_at.clone().to(memory_format=torch.channels_last))
    flat = Parameter(start_at.reshape(4, 12).clone())
    for p in (plain, last, flat):
        optimizer = ravine.optimizer(orthogonal)([p], engine=engine)
        for _ in range(3):
            p.grad = torch.empty_like(p).copy_(g.reshape(p.shape))
            optimizer.step()
    assert last.is_contiguous(memory_format=torch.channels_last)
    for p in (last, flat):
        torch.testing.assert_close(p.detach().reshape(4, 12), plain.detach().reshape(4, 12), rtol=1e-12, atol=1e-13)


def test_a_matrix_rule_on_a_vector_says_what_it_needs() -> None:
    p = Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    with pytest.raises((ValueError, TypeError, RuntimeError), match="takes matrices"):
        ravine.optimizer(roots)([p], engine="reference").step()
    assert torch.equal(p, torch.ones(3))
