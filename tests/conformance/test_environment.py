"""What surrounds a step in torch: compiled training steps, graph capture, mixed precision, distributed checkpoints."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as dcp
from torch.nn import Parameter

import ravine
from conformance.support import (
    MATRICES,
    Target,
    advance,
    assert_same_bits,
    assert_same_everywhere,
    copies,
    create,
    members,
    parameters,
    random,
    set_gradients,
    snapshot,
)


class Model(nn.Module):
    """Two layers without vectors or scalars, which every optimizer can train."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5, bias=False, device=target.device)
        self.second = nn.Linear(5, 2, bias=False, device=target.device)
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                p.copy_(random(p.shape, 40 + i))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.tanh(self.first(x)))
        return out


def batch(step: int, target: Target) -> Tensor:
    return random((8, 3), 400 + step, device=target.device)


def train(model: Model, optimizer: torch.optim.Optimizer, x: Tensor) -> Tensor:
    optimizer.zero_grad()
    loss = (model(x) - 1).square().mean()
    loss.backward()
    optimizer.step()
    return loss


# torch.compile


@pytest.mark.parametrize("spec_compiled", ["sgd", "adamw", "clip_norm(lamb)", "lookahead(cautious(clip_norm(adamw)))"])
def test_a_compiled_training_step_is_the_training_step(spec_compiled: str, target: Target) -> None:
    """step() is a graph break: forward and backward are compiled around it, and nothing recompiles as steps go by."""
    torch._dynamo.reset()
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    plain, compiled = Model(target), Model(target)
    one, two = (create(spec_compiled, m.parameters(), target, lr=0.01) for m in (plain, compiled))
    step = torch.compile(train, backend=backend)
    counts = []
    for n in range(6):
        expected, got = train(plain, one, batch(n, target)), step(compiled, two, batch(n, target))
        assert expected.item() == got.item()
        counts.append(len(graphs))
    assert_same_bits(plain.parameters(), compiled.parameters())
    assert counts[0] > 0 and counts[2:] == [counts[2]] * 4
    torch._dynamo.reset()


def test_a_full_graph_is_refused_by_torch(target: Target) -> None:
    """fullgraph=True forbids breaks, so torch says that there is one, rather than skipping the step."""
    torch._dynamo.reset()
    model = Model(target)
    optimizer = create("adamw", model.parameters(), target)
    before = copies(model.parameters())
    step = torch.compile(train, backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        step(model, optimizer, batch(0, target))
    assert_same_bits(model.parameters(), before)
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_training_step_compiled_by_inductor(target: Target) -> None:
    torch._dynamo.reset()
    plain, compiled = Model(target), Model(target)
    one, two = (create("adamw", m.parameters(), target, lr=0.01) for m in (plain, compiled))
    step = torch.compile(train)
    for n in range(4):
        train(plain, one, batch(n, target))
        step(compiled, two, batch(n, target))
    for p, q in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-4)
    torch._dynamo.reset()


# CUDA graphs


@pytest.mark.of_each_kind
def test_capture_is_refused_before_anything_happens(spec: str, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = create(spec, parameters(spec, target), target)
    advance(optimizer, 2)
    set_gradients(members(optimizer), 2)
    before, calls = snapshot(optimizer), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match=r"cannot be captured in a CUDA graph.*call step\(\) outside") as caught:
        optimizer.step(lambda: calls.append(1))
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert_same_everywhere(snapshot(optimizer), before)
    assert calls == []
    optimizer.step()


# Mixed precision


@pytest.mark.of_each_kind
def test_the_grad_scaler_skips_steps_with_infinite_gradients(spec: str, target: Target) -> None:
    model, checker = Model(target), Model(target)
    optimizer, plain = create(spec, model.parameters(), target), create(spec, checker.parameters(), target)
    scaler = torch.amp.GradScaler(target.device, init_scale=2.0**10, growth_interval=1000)
    for step in range(6):
        loss = (model(batch(step, target)) - 1).square().mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        before = snapshot(optimizer)
        if step == 3:
            with torch.no_grad():
                next(model.parameters()).grad[0, 0] = torch.inf
        scaler.step(optimizer)
        scaler.update()
        if step == 3:
            assert_same_everywhere(snapshot(optimizer), before)
            assert scaler.get_scale() == 2.0**9
        else:
            train(checker, plain, batch(step, target))
    assert {optimizer.state[p]["step"].item() for p in model.parameters()} == {5.0}
    assert_same_bits(model.parameters(), checker.parameters())  # powers of two scale without rounding


def test_a_step_under_autocast_is_the_same_step(spec: str, target: Target) -> None:
    """Products within a rule must not fall to bfloat16 because the training loop holds the context too long."""
    left, right = parameters(spec, target), parameters(spec, target)
    one, two = create(spec, left, target), create(spec, right, target)
    for step in range(3):
        set_gradients(left, step)
        set_gradients(right, step)
        one.step()
        with torch.autocast(target.device, torch.bfloat16):
            two.step()
    assert_same_bits(left, right)


@ravine.rule(paper="a test", view="matrix", state={"G": ravine.State("gram", kind="left")})
def gram(p: Any, g: Any, G: Any, *, t: int, lr: float = 0.1) -> Any:
    """Gram: a rule with a product of matrices."""
    G = G + g @ ravine.math.T(g)
    p = p - lr * (G @ g)
    return p, G


def test_matrix_products_under_autocast() -> None:
    left, right = ([Parameter(random(s, i)) for i, s in enumerate(MATRICES[:3])] for _ in range(2))
    one, two = (ravine.optimizer(gram)(params, engine="reference") for params in (left, right))
    for step in range(2):
        set_gradients(left, step)
        set_gradients(right, step)
        one.step()
        with torch.autocast("cpu", torch.bfloat16):
            two.step()
    assert_same_bits(left, right)


# Defaults of the process


DEFAULTS = "default dtype and device"


@pytest.fixture
def surroundings(setting: str) -> Iterator[None]:
    """Global settings of torch that a step must not depend on."""
    if "default" in setting:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
    if setting == "deterministic":
        torch.use_deterministic_algorithms(True)
    with torch.autograd.set_detect_anomaly(setting == "anomaly", check_nan=False):
        yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)


@pytest.mark.varied(setting=([DEFAULTS], [DEFAULTS, "deterministic", "anomaly"]))
def test_a_step_does_not_depend_on_global_settings(spec: str, target: Target, setting: str, surroundings: None) -> None:
    """Neither a default device (`torch.set_default_device("cuda")` is common) nor a default type reach into a step."""
    params, gradients = [], []
    with torch.device("cpu"):
        params, other = parameters(spec, target), parameters(spec, target)
        gradients = [
            [random(p.shape, 10 * n + i, device=target.device) for i, p in enumerate(params)] for n in range(4)
        ]
    one = create(spec, params, target, lr=0.01)
    for grads in gradients[:2]:
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        one.step()
    two = create(spec, other, target, lr=0.5)
    two.load_state_dict(one.state_dict())
    with torch.no_grad():
        for p, q in zip(params, other, strict=True):
            q.copy_(p)
    for optimizer in (one, two):
        for grads in gradients[2:]:
            for p, g in zip(members(optimizer), grads, strict=True):
                p.grad = g
            optimizer.step()
    assert_same_bits(params, other)
    assert all(one.state[p]["step"].device.type == "cpu" for p in params)
    assert all(one.state[p]["step"].dtype == torch.float32 for p in params)


# Distributed


@pytest.fixture
def process_group(tmp_path: Any) -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.of_each_kind
def test_dtensor_parameters_are_refused(spec: str, process_group: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    sharded = Parameter(distribute_tensor(torch.ones(4, 2), mesh))
    with pytest.raises(TypeError, match="DTensor parameters are not supported yet") as caught:
        create(spec, [sharded])
    assert "\n" not in str(caught.value)
    optimizer = create(spec, parameters(spec))
    with pytest.raises(TypeError, match="DTensor"):
        optimizer.add_param_group({"params": [sharded]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.of_each_kind
@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
@pytest.mark.parametrize("tensor_lr", [False, True], ids=["float", "tensor"])
def test_distributed_checkpoints_get_and_set(spec: str, target: Target, flat: bool, tensor_lr: bool) -> None:
    """`torch.distributed.checkpoint.state_dict` makes states by a step with lr 0 and zero gradients: nothing moves."""
    options = dcp.StateDictOptions(flatten_optimizer_state_dict=flat)
    lr = torch.tensor(0.01, dtype=torch.float64) if tensor_lr else 0.01
    model = Model(target)
    optimizer = create(spec, model.parameters(), target, lr=lr, weight_decay=0.1)
    for step in range(4):
        train(model, optimizer, batch(step, target))
    model_state, optimizer_state = dcp.get_state_dict(model, optimizer, options=options)

    other = Model(target)
    fresh = create(spec, other.parameters(), target, lr=0.5, weight_decay=0.1)
    before = copies(other.parameters())
    dcp.get_optimizer_state_dict(other, fresh, options=options)
    assert_same_bits(other.parameters(), before)
    assert fresh.param_groups[0]["lr"] == 0.5

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        dcp.set_state_dict(
            other, fresh, model_state_dict=model_state, optim_state_dict=optimizer_state, options=options
        )
    for step in range(4, 8):
        train(model, optimizer, batch(step, target))
        train(other, fresh, batch(step, target))
    assert_same_bits(model.parameters(), other.parameters())
    assert_same_everywhere(snapshot(fresh)["state"], snapshot(optimizer)["state"])


@pytest.mark.of_each_kind
def test_distributed_checkpoints_leave_a_tensor_lr_alone(spec: str) -> None:
    """And the highest learning rate, which the schedule form of weight decay divides by, is not lost to lr 0."""
    lr = torch.tensor(0.01)
    model = Model(Target("reference"))
    optimizer = create(spec, model.parameters(), lr=lr, decay="schedule", weight_decay=0.1)
    dcp.get_optimizer_state_dict(model, optimizer)
    assert optimizer.param_groups[0]["lr"] is lr and lr.item() == torch.tensor(0.01).item()
    assert optimizer.param_groups[0]["max_lr"] == lr.item()


# Threads


@pytest.mark.of_each_kind
def test_optimizers_step_side_by_side_in_threads(spec: str, target: Target) -> None:
    """Searches train several models in one process: each ends where it ends alone."""
    ends: list[dict[int, list[Tensor]]] = [{}, {}]

    def run(i: int, kept: dict[int, list[Tensor]]) -> None:
        optimizer = create(spec, parameters(spec, target), target, lr=0.01 * (i + 1))
        advance(optimizer, 12)
        kept[i] = members(optimizer)

    for i in range(4):
        run(i, ends[0])
    threads = [threading.Thread(target=run, args=(i, ends[1])) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        assert_same_bits(ends[0][i], ends[1][i])
