"""Training weights and evaluation weights: the swap is exact, travels in checkpoints, and is not forgotten silently."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import Parameter

import ravine
from conformance.support import (
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
    targets,
)
from ravine.lab import training
from ravine.lab.tasks import make
from ravine.optim.evaluation import ASIDE, evaluating

REFERENCE = Target("reference")
OWNERS = ("lookahead(adamw)", "ema(adamw)", "schedule_free(adamw)", "schedule_free(sgd)")
EXAMPLES = (*OWNERS, "rectified(schedule_free(adamw))", "clip_norm(ema(cautious(lion)))", "adamw")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
ENGINES = pytest.mark.parametrize("target", targets(), ids=str)


def trained(spec: str, target: Target = REFERENCE, dtype: torch.dtype = torch.float32) -> ravine.Optimizer:
    optimizer = create(spec, parameters(spec, target, dtype), target, lr=0.05)
    advance(optimizer, 7)
    return optimizer


# The swap


@ENGINES
@DTYPES
@pytest.mark.parametrize("spec", EXAMPLES)
def test_eval_and_train_change_no_bit_of_the_run(spec: str, target: Target, dtype: torch.dtype) -> None:
    one, two = trained(spec, target, dtype), trained(spec, target, dtype)
    for step in range(7, 12):
        before = snapshot(one)
        one.eval()
        one.eval()
        one.train()
        one.train()
        assert_same_everywhere(snapshot(one), before)
        advance(one, 1, start=step)
        advance(two, 1, start=step)
    assert_same_everywhere(snapshot(one), snapshot(two))


def far_apart(dtype: torch.dtype) -> tuple[Parameter, ravine.Optimizer]:
    """Many weights whose y, z and x are of one size but not near each other."""
    p = Parameter(random((10_000,), 1, dtype))
    optimizer = create("schedule_free(sgd)", [p], lr=0.5)
    for step in range(5):
        p.grad = random((10_000,), 2 + step, dtype)
        optimizer.step()
    return p, optimizer


@DTYPES
def test_swapping_by_arithmetic_would_not_be_exact(dtype: torch.dtype) -> None:
    """x back to y by y = x + (1 − β)(z − x), as the authors' code does, rounds: which is why y is set aside."""
    p, optimizer = far_apart(dtype)
    before = p.detach().clone()
    optimizer.eval()
    back = p.detach().lerp(optimizer.state[p]["schedule_free.z"], 0.1)
    optimizer.train()
    assert torch.equal(p, before)
    assert not torch.equal(back, before)


@pytest.mark.parametrize("spec", OWNERS)
def test_what_the_parameters_hold_is_said(spec: str) -> None:
    optimizer = trained(spec)
    training_weights = copies(members(optimizer))
    assert optimizer.holds == "training weights"
    optimizer.eval()
    assert optimizer.holds == "evaluation weights"
    assert any(not torch.equal(p, q) for p, q in zip(members(optimizer), training_weights, strict=True))
    with optimizer.evaluation_weights():
        assert optimizer.holds == "evaluation weights"
    assert optimizer.holds == "evaluation weights", "a block inside eval() must not end it"
    optimizer.train()
    assert optimizer.holds == "training weights"
    assert_same_bits(members(optimizer), training_weights)
    assert not any(ASIDE in state for state in optimizer.state.values())


@pytest.mark.parametrize("spec", EXAMPLES)
def test_a_step_on_evaluation_weights_is_refused(spec: str) -> None:
    """Of every rule, also before its first step and where nothing moves: the mistake shows with AdamW already."""
    optimizer = create(spec, parameters(spec), lr=0.05)
    for steps in (1, 0):
        optimizer.eval()
        before = snapshot(optimizer)
        set_gradients(members(optimizer), 0)
        with pytest.raises(RuntimeError, match=r"call optimizer\.train\(\) first") as caught:
            optimizer.step(pytest.fail)
        assert "\n" not in str(caught.value)
        assert_same_everywhere(snapshot(optimizer), before)
        optimizer.train()
        advance(optimizer, steps)


def test_evaluation_weights_are_computed_in_the_work_type_and_rounded_once() -> None:
    p, optimizer = far_apart(torch.bfloat16)
    y, z = p.detach().clone(), optimizer.state[p]["schedule_free.z"]
    optimizer.eval()
    assert torch.equal(p, (y.float() + (1 - 1 / 0.9) * (z.float() - y.float())).bfloat16())
    assert not torch.equal(p, y + (1 - 1 / 0.9) * (z - y))


def test_parameters_that_rested_and_rules_without_such_weights_stay() -> None:
    first, second, third = parameters()[:3]
    optimizer = ravine.Optimizer(
        [{"params": [first, second], "rule": "schedule_free(adamw)"}, {"params": [third], "rule": "lion"}], lr=0.1
    )
    for step in range(4):
        set_gradients([first, third], step)
        optimizer.step()
    before = copies([first, second, third])
    optimizer.eval()
    assert not torch.equal(first, before[0])
    assert_same_bits([second, third], before[1:])
    optimizer.train()
    assert_same_bits([first, second, third], before)


@pytest.mark.parametrize("spec", OWNERS)
def test_rules_that_ascend_evaluate_there_too(spec: str) -> None:
    """Ascending f and descending −f are the same, x included."""
    up, down = (create(spec, parameters(spec), lr=0.05, maximize=m) for m in (True, False))
    for step in range(7):
        for sign, optimizer in ((1, up), (-1, down)):
            set_gradients(members(optimizer), step)
            for p in members(optimizer):
                p.grad *= sign
            optimizer.step()
    training_weights = copies(members(up))
    up.eval()
    down.eval()
    assert_same_bits(members(up), members(down))
    assert any(not torch.equal(p, q) for p, q in zip(members(up), training_weights, strict=True))


def test_eval_within_inference_mode() -> None:
    optimizer = trained("schedule_free(adamw)")
    before = copies(members(optimizer))
    with torch.inference_mode():
        optimizer.eval()
    optimizer.train()
    assert_same_bits(members(optimizer), before)
    advance(optimizer, 1)


def test_an_eval_that_fails_leaves_training_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = trained("schedule_free(adamw)")
    before = snapshot(optimizer)
    clone, count = torch.Tensor.clone, []

    def failing(x: torch.Tensor, **options: Any) -> torch.Tensor:
        count.append(1)
        if len(count) == 3:
            raise MemoryError
        return clone(x, **options)

    monkeypatch.setattr(torch.Tensor, "clone", failing)
    with pytest.raises(MemoryError):
        optimizer.eval()
    monkeypatch.undo()
    assert optimizer.holds == "training weights"
    assert_same_everywhere(snapshot(optimizer), before)


# Checkpoints


def through_a_file(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@DTYPES
@pytest.mark.parametrize("saved_in", ["train", "eval"])
@pytest.mark.parametrize("order", ["model first", "optimizer first"])
@pytest.mark.parametrize("loads_in", ["train", "eval"])
@pytest.mark.parametrize("spec", ["schedule_free(adamw)", "lookahead(sgd)"])
def test_saved_in_either_mode_a_run_resumes_to_the_bit(
    spec: str, saved_in: str, order: str, loads_in: str, dtype: torch.dtype
) -> None:
    """The model's weights and the optimizer's state dict, in any order, into an optimizer that was in any mode."""
    whole = trained(spec, dtype=dtype)
    getattr(whole, saved_in)()
    model, state = through_a_file(copies(members(whole))), through_a_file(whole.state_dict())
    whole.train()
    held = "evaluation weights" if saved_in == "eval" else "training weights"

    other = create(spec, parameters(spec, dtype=dtype), lr=0.5)
    advance(other, 3, start=20)
    getattr(other, loads_in)()

    def load_model() -> None:
        with torch.no_grad():
            for p, x in zip(members(other), model, strict=True):
                p.copy_(x)

    if order == "model first":
        load_model()
    other.load_state_dict(state)
    if order == "optimizer first":
        load_model()
    assert other.holds == held
    assert_same_bits(members(other), model)
    other.train()
    assert_same_everywhere(snapshot(other), snapshot(whole))
    advance(whole, 5, start=7)
    advance(other, 5, start=7)
    assert_same_everywhere(snapshot(other), snapshot(whole))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_copies_know_what_their_parameters_hold(copied: Any) -> None:
    optimizer = trained("schedule_free(adamw)")
    optimizer.eval()
    other = copied(optimizer)
    assert other.holds == "evaluation weights"
    other.train()
    optimizer.train()
    assert_same_everywhere(snapshot(other), snapshot(optimizer))


@pytest.mark.parametrize("wrong", [torch.ones(1), torch.ones(2, 7), "y"], ids=str)
def test_training_weights_that_do_not_fit_are_refused_on_loading(wrong: Any) -> None:
    optimizer = trained("schedule_free(adamw)")
    before = snapshot(optimizer)
    optimizer.eval()
    state = copy.deepcopy(optimizer.state_dict())
    optimizer.train()
    state["state"][0][ASIDE] = wrong
    with pytest.raises(ValueError, match=r"'training_weights' of parameter 0 must be a tensor of shape \(5, 3\)"):
        optimizer.load_state_dict(state)
    assert_same_everywhere(snapshot(optimizer), before)
    assert optimizer.holds == "training weights"


# Not to be forgotten


def small() -> tuple[nn.Module, ravine.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    optimizer = ravine.ScheduleFreeAdamW(model.parameters(), lr=0.1, engine="reference")
    for _ in range(3):
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    return model, optimizer


def test_evaluating_swaps_and_restores_both() -> None:
    model, optimizer = small()
    model[1].eval()  # a layer that is kept frozen in training comes back frozen
    before = copies(model.parameters())
    torchs = torch.optim.SGD(model.parameters())
    for leaves in (None, KeyboardInterrupt, ValueError):
        try:
            with evaluating(model, optimizer, torchs):
                assert not any(module.training for module in model.modules())
                assert optimizer.holds == "evaluation weights"
                assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
                if leaves:
                    raise leaves
        except (KeyboardInterrupt, ValueError):
            pass
        assert [module.training for module in model.modules()] == [True, True, False, True]
        assert optimizer.holds == "training weights"
        assert_same_bits(model.parameters(), before)
    assert ravine.evaluating is evaluating


def test_an_evaluation_on_training_weights_warns_once() -> None:
    model, optimizer = small()
    handle = optimizer.warn_when_evaluated(model)
    x = torch.ones(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)
        with evaluating(model, optimizer):
            model(x)
    model.eval()
    with pytest.warns(RuntimeWarning, match=r"training weights of schedule_free\(adamw\).*ravine\.evaluating"):
        model(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)
    handle.remove()
    other = optimizer.warn_when_evaluated(model)
    with pytest.warns(RuntimeWarning):
        model(x)
    other.remove()


def test_as_an_error_it_is_one_each_time_until_removed() -> None:
    model, optimizer = small()
    handle = optimizer.warn_when_evaluated(model, error=True)
    model.eval()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="evaluated at the training weights"):
            model(torch.ones(2, 3))
    handle.remove()
    model(torch.ones(2, 3))


def test_rules_that_evaluate_where_they_train_do_not_warn() -> None:
    model = nn.Linear(2, 1)
    optimizer = ravine.AdamW(model.parameters())
    optimizer.warn_when_evaluated(model, error=True)
    model.eval()
    model(torch.ones(1, 2))


# The lab


@pytest.mark.parametrize("spec", OWNERS)
def test_the_lab_evaluates_at_the_right_weights(spec: str) -> None:
    task = make("quadratic", size="tiny")
    model = task.new_model()
    optimizer = create(spec, model.parameters(), lr=0.1)
    draw = torch.Generator().manual_seed(0)
    for step in range(1, 4):
        task.loss(model, task.draw(4, draw, step)).backward()
        optimizer.step()
    with evaluating(model, optimizer), torch.no_grad():
        expected = task.evaluate(model, "tuning")["loss"]
    with torch.no_grad():
        assert task.evaluate(model, "tuning")["loss"] != expected
    assert training.evaluate(task, model, optimizer, "tuning")["loss"] == expected
    assert optimizer.holds == "training weights" and model.training
