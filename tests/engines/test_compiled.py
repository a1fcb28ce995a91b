"""Compiled engines beyond elementwise rules: host states, shapes, inputs, totals over groups, the cache, the pool."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import ravine
from ravine import engine as engines
from ravine.engine import compiler
from ravine.math import columns, rows, sqrt, where
from ravine.rule import State, rule


@rule(paper="Dozat 2016", state={"m": "exp_avg", "v": "exp_avg_sq", "prod": State("mu_product", init=1.0, kind="host")})
def nadam(p, g, m, v, prod, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, momentum_decay=4e-3, weight_decay=0.0):
    """NAdamLike: a host state that changes every step."""
    mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (s * momentum_decay)) for s in (t, t + 1))
    prod = prod * mu
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = mu_next / (1 - prod * mu_next) * m + (1 - mu) / (1 - prod) * g
    p = p - lr * (m_hat / (sqrt(v / (1 - beta2**t)) + eps) + weight_decay * p)
    return p, m, v, prod


@rule(paper="none", view="matrix")
def shaped(p, g, *, t, lr=0.1, weight_decay=0.0):
    """Shaped: a step size that depends on rows and columns."""
    p = p - lr * sqrt(rows(p) / columns(p)) * (g + weight_decay * p)
    return (p,)


@rule(paper="none", inputs=("curvature",), state={"h": "hessian"})
def curved(p, g, h, *, t, curvature=None, lr=0.1, weight_decay=0.0):
    """Curved: divides by a curvature that is given now and then."""
    if curvature is not None:
        h = 0.5 * h + 0.5 * curvature
    p = p - lr * (where(h > 0, g / (h + 1.0), g) + weight_decay * p)
    return p, h


def parameters(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


@pytest.mark.parametrize("engine", ["native", "triton"])
def test_host_states_follow_torch_nadam(engine):
    ours, theirs = parameters((5, 3), (7,)), parameters((5, 3), (7,))
    a, b = ravine.optimizer(nadam)(ours, engine=engine), torch.optim.NAdam(theirs, lr=2e-3)
    for step in range(10):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.full_like(p, 0.1 * (step + 1))
            q.grad = p.grad.clone()
        a.step()
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
        assert a.state[p]["mu_product"] == pytest.approx(b.state[q]["mu_product"].item(), rel=1e-5)


@pytest.mark.parametrize("engine", ["native", "triton"])
def test_shapes_are_data(engine):
    ps = parameters((8, 2), (2, 8), (8, 2), (4, 2, 3, 1))
    before = [p.detach().clone() for p in ps]
    optimizer = ravine.optimizer(shaped)(ps, engine=engine)
    for p in ps:
        p.grad = torch.ones_like(p)
    optimizer.step()
    for p, q, ratio in zip(ps, before, [4, 0.25, 4, 4 / 6], strict=True):
        expected = q - torch.full_like(q, np.float32(0.1 * np.sqrt(ratio)).item())
        torch.testing.assert_close(p.detach(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("engine", ["reference", "native", "triton"])
def test_inputs_are_used_in_the_step_they_are_given_for(engine):
    (p,) = parameters((3,))
    start = p.detach().clone()
    optimizer = ravine.optimizer(curved)([p], engine=engine)
    for given in (None, 2.0, None):
        p.grad = torch.ones(3)
        if given is not None:
            optimizer.inputs["curvature"] = {p: torch.full((3,), given)}
        optimizer.step()
    expected = start - 0.1 - 2 * 0.1 / (0.5 * 2.0 + 1.0)
    torch.testing.assert_close(p.detach(), expected, rtol=1e-6, atol=1e-6)
    assert optimizer.state[p]["hessian"].tolist() == [1.0] * 3


@pytest.mark.parametrize("engine", ["reference", "native", "triton"])
def test_totals_sum_over_all_groups_and_rules(engine):
    a, b, c = parameters((4,), (3,), (2,))
    optimizer = ravine.Optimizer(
        [{"params": [a]}, {"params": [b], "rule": "clip_norm(momentum)"}, {"params": [c], "rule": "sgd"}],
        "clip_norm(sgd)",
        engine=engine,
    )
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    starts = [p.detach().clone() for p in (a, b, c)]
    for p in (a, b, c):
        p.grad = torch.full_like(p, 2.0)
    optimizer.step()
    scale = 1 / (np.sqrt(7 * 4.0) + 1e-6)
    torch.testing.assert_close(a.detach(), starts[0] - 2 * scale)
    torch.testing.assert_close(b.detach(), starts[1] - 0.1 * 2 * scale)
    torch.testing.assert_close(c.detach(), starts[2] - 2.0)


def test_rules_that_cannot_be_compiled_run_on_reference_unless_asked_otherwise():
    from ravine.engine.batch import Unsupported
    from ravine.math import row_mean, total

    @rule(paper="none")
    def shared_out(p, g, *, t, lr=0.1):
        """SharedOut: descends by the same in every element, the sum of all row means."""
        return (p - lr * (0 * g + total(row_mean(g))),)

    (p,) = parameters((3, 4))
    p.grad = torch.randn(3, 4)
    expected = p.detach() - 0.1 * p.grad.mean(1).sum()
    ravine.optimizer(shared_out)([p]).step()
    torch.testing.assert_close(p.detach(), expected)
    with pytest.raises(Unsupported, match=r"cannot take the total of a value of kind 'row'; engine='reference' can"):
        ravine.optimizer(shared_out)([p], engine="native").step()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ravine"


SOURCE = 'extern "C" int answer() { return 42; }\n'


def test_the_cache_is_private_and_compiled_once(cache, monkeypatch):
    assert compiler.build(SOURCE).answer() == 42
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    libraries = list(cache.glob("*.so"))
    assert len(libraries) == 1
    monkeypatch.setattr(compiler, "_compile", lambda *_: pytest.fail("compiled a second time"))
    assert compiler.build(SOURCE).answer() == 42


def test_the_cache_is_keyed_by_the_cpu(cache, monkeypatch):
    compiler.build(SOURCE)
    monkeypatch.setattr(compiler, "machine", lambda: "another cpu")
    compiler.build(SOURCE)
    assert len(list(cache.glob("*.so"))) == 2


def test_a_cache_that_others_can_write_to_is_refused(cache):
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(compiler.CompilerError, match="can be written by others"):
        compiler.build(SOURCE)


def test_a_linked_cache_is_refused(cache, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    cache.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(compiler.CompilerError, match="is a link"):
        compiler.build(SOURCE)


def test_a_failing_compiler_says_so_and_leaves_nothing(cache, monkeypatch):
    monkeypatch.setattr(compiler, "find_compiler", lambda: "/bin/false")
    with pytest.raises(compiler.CompilerError, match="could not compile"):
        compiler.build(SOURCE + "// changed\n")
    assert not list(cache.glob("*.so")) + list(cache.glob("*.cpp"))


def test_without_a_compiler_auto_warns_once_and_steps(monkeypatch):
    monkeypatch.setattr(engines, "find_compiler", lambda: None)
    engines._warn_once.cache_clear()
    (p,) = parameters((3,))
    p.grad = torch.ones(3)
    optimizer = ravine.SGD([p], lr=1.0)
    before = p.detach().clone()
    with pytest.warns(RuntimeWarning, match=r"install g\+\+"):
        optimizer.step()
    torch.testing.assert_close(p.detach(), before - 1)
    with pytest.raises(RuntimeError, match=r"no C\+\+ compiler"):
        ravine.SGD([p], engine="native").step()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_pool_survives_a_fork():
    script = """
        import os, torch, ravine
        torch.set_num_threads(2)
        p = torch.nn.Parameter(torch.ones(200_000))
        optimizer = ravine.SGD([p], lr=1.0, engine="native")
        p.grad = torch.ones_like(p)
        optimizer.step()
        child = os.fork()
        if child == 0:  # torch's own threads do not survive a fork, so look at single elements only
            optimizer.step()
            os._exit(0 if p[0].item() == p[150_000].item() == p[-1].item() == -1 else 3)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        optimizer.step()
        raise SystemExit(code or int(not bool((p == -1).all())))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=120, check=False)
    assert done.returncode == 0


def test_steps_from_several_threads_do_not_mix():
    from concurrent.futures import ThreadPoolExecutor

    def train(seed):
        (p,) = parameters((100_000,), seed=seed)
        optimizer = ravine.AdamW([p], engine="native")
        for step in range(5):
            p.grad = torch.full_like(p, float(step + 1))
            optimizer.step()
        return p.detach().clone()

    alone = [train(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(train, range(4)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_partial_totals_of_several_engines_add_up():
    from ravine.engine.batch import add_up

    sums = {"clip_norm#0": 1.5}
    add_up(sums, {"clip_norm#0": torch.tensor(2.0, dtype=torch.float64), "other#0": 3.0})
    assert {name: float(value) for name, value in sums.items()} == {"clip_norm#0": 3.5, "other#0": 3.0}
