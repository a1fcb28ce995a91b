"""Arguments: what torch takes is taken, and what is wrong is said in one sentence that names it."""

from __future__ import annotations

import inspect
import math
import re
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Parameter

import ravine
from conformance.support import QUIET, SPECS, Target, advance, assert_same_bits, create, parameters, random


def one() -> list[Parameter]:
    return [Parameter(torch.ones(2, 2))]


def numbers_of(spec: str) -> dict[str, float]:
    """The hyperparameters of a rule that are numbers, with their defaults."""
    defaults = ravine.lookup(spec).defaults
    return {k: v for k, v in defaults.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


NUMBERS = [(spec, name) for spec in SPECS for name in numbers_of(spec)]


# Names


@pytest.mark.of_each_kind
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("learning_rate", "lr"),
        ("weigth_decay", "weight_decay"),
        ("weightdecay", "weight_decay"),
        ("maximise", "maximize"),
    ],
)
def test_a_misspelt_keyword_is_answered_with_the_nearest_name(spec: str, wrong: str, right: str) -> None:
    with pytest.raises(TypeError, match=f"{wrong!r}; did you mean {right!r}") as caught:
        create(spec, one(), **{wrong: 0.1})
    assert "\n" not in str(caught.value)


def test_every_name_misspelt_by_one_letter_is_recognized(spec: str) -> None:
    for name in numbers_of(spec):
        wrong = name[:-1] + name[-1] * 2
        with pytest.raises(TypeError, match=wrong) as caught:
            create(spec, one(), **{wrong: 0.1})
        assert repr(name) in str(caught.value) or repr(name[:-1]) in str(caught.value)


@pytest.mark.of_each_kind
def test_a_misspelt_keyword_in_a_group_is_noticed(spec: str) -> None:
    with pytest.raises(TypeError, match="'weigth_decay'; did you mean 'weight_decay'"):
        create(spec, [{"params": one(), "weigth_decay": 0.1}])
    optimizer = create(spec, one())
    with pytest.raises(TypeError, match="'learning_rate'; did you mean 'lr'"):
        optimizer.add_param_group({"params": one(), "learning_rate": 0.1})
    assert len(optimizer.param_groups) == 1


def test_unknown_optimizers_get_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"unknown optimizer 'admaw'; did you mean 'adamw'\?"):
        ravine.create("admaw", one())
    with pytest.raises(ValueError, match=r"unknown wrapper 'lokahead'; did you mean 'lookahead'\?"):
        ravine.create("lokahead(adamw)", one())
    with pytest.raises(AttributeError, match="AdanW"):
        _ = ravine.AdanW
    with pytest.raises(TypeError, match=r"takes a rule"):
        ravine.optimizer("adamw")


@pytest.mark.of_each_kind
def test_unknown_engines_get_the_nearest_name(spec: str) -> None:
    with pytest.raises(ValueError, match=r"engine must be one of .*, got 'nativ'; did you mean 'native'\?"):
        ravine.create(spec, one(), engine="nativ")


def test_every_optimizer_is_a_class_of_the_package() -> None:
    for name in ravine.available():
        made = getattr(ravine, ravine.lookup(name).title)
        assert issubclass(made, torch.optim.Optimizer) and made.__name__ in dir(ravine)
        assert type(ravine.create(name, one())) is made
        signature = inspect.signature(made)
        assert next(iter(signature.parameters)) == "params"
        assert {"engine", "maximize"} <= {
            n for n, q in signature.parameters.items() if q.kind is inspect.Parameter.KEYWORD_ONLY
        }
        assert all(
            word in made.__doc__ for word in [*signature.parameters] if word not in ("capturable", "differentiable")
        )


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam"])
def test_the_signature_is_torchs(name: str) -> None:
    """Positional calls mean the same, and so do defaults, for what torch's class of that name has."""
    ours = inspect.signature(getattr(ravine, name)).parameters
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    positional = [n for n, q in theirs.items() if q.kind is q.POSITIONAL_OR_KEYWORD and n not in ("foreach",)]
    shared = [n for n, q in ours.items() if n in positional and q.kind is q.POSITIONAL_OR_KEYWORD]
    by_name = ["capturable", "differentiable", "maximize", "decoupled_weight_decay"]
    assert shared == [n for n in positional if n not in by_name][: len(shared)]
    assert set(positional) - set(shared) <= set(by_name)
    assert all(ours[n].default == theirs[n].default for n in theirs if n in ours and n != "params")


# Ranges


@pytest.mark.parametrize(("which", "name"), NUMBERS)
def test_no_hyperparameter_takes_nonsense(which: str, name: str) -> None:
    shown = "betas|" + name if name in ravine.lookup(which).packs else name
    for bad in (math.nan, math.inf, -math.inf, "0.1", None, [0.1], 1j, True):
        with pytest.raises((TypeError, ValueError), match=shown):
            create(which, one(), **{name: bad})


@pytest.mark.parametrize(("which", "name"), NUMBERS)
def test_every_range_is_checked_at_its_ends(which: str, name: str) -> None:
    """Inside: taken, or refused for another reason, by the rule's own check. Outside: ValueError with the name, the
    value and the range. Every range has a lower end."""
    rule = ravine.lookup(which)
    allowed = rule.ranges.get(name, "(-inf, inf)")
    interval = allowed.removeprefix("whole ")
    low, high = (float(x) for x in interval[1:-1].split(","))
    inside = ([low] if interval[0] == "[" else []) + ([high] if interval[-1] == "]" else [])
    outside = ([] if interval[0] == "[" else [low]) + ([] if interval[-1] == "]" else [high])
    outside += [1.5] if interval != allowed else []
    outside += [np.nextafter(low, -math.inf), low - 1, np.nextafter(high, math.inf), high + 1]
    for value in inside:
        complaint = rule.check({**rule.defaults, name: value}) if rule.check else None
        with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$") if complaint else nullcontext():
            create(which, one(), **{name: value})
    for value in outside:
        with pytest.raises(ValueError, match=rf"{name} must be in ") as caught:
            create(which, one(), **{name: float(value)})
        assert repr(float(value)) in str(caught.value) and allowed in str(caught.value)


@pytest.mark.parametrize(
    ("name", "bad"),
    [("lr", -1e-3), ("weight_decay", -0.1), ("eps", -1e-8), ("beta1", 1.0), ("beta2", -0.1), ("momentum", -0.1)],
)
def test_what_torch_refuses_is_refused(name: str, bad: float) -> None:
    having = [spec for spec in SPECS if name in ravine.lookup(spec).defaults]
    assert having
    for spec in having:
        with pytest.raises(ValueError, match=f"{name} must be in"):
            create(spec, one(), **{name: bad})


@given(value=st.floats(allow_nan=True, allow_infinity=True) | st.text() | st.none() | st.integers())
def test_lr_is_a_number_from_zero_or_an_error(value: object) -> None:
    good = isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
    if good:
        assert ravine.AdamW(one(), lr=value).param_groups[0]["lr"] == value
    else:
        with pytest.raises((TypeError, ValueError), match="lr must be"):
            ravine.AdamW(one(), lr=value)


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 0.99, 0.999), 0.9, "ab", None, (0.9, 1.0), (-0.1, 0.9), ("0.9", 0.9)])
def test_betas_are_two_numbers(betas: object) -> None:
    with pytest.raises((TypeError, ValueError), match="beta"):
        ravine.AdamW(one(), betas=betas)


def test_betas_by_either_name() -> None:
    assert ravine.AdamW(one(), beta2=0.95).param_groups[0]["betas"] == (0.9, 0.95)
    assert ravine.AdamW(one(), betas=[0.8, 0.95]).param_groups[0]["betas"] == (0.8, 0.95)
    with pytest.raises(TypeError, match="either betas or beta1"):
        ravine.AdamW(one(), betas=(0.9, 0.99), beta1=0.9)


@pytest.mark.parametrize("flag", ["maximize", "amsgrad", "nesterov", "centered"])
@pytest.mark.parametrize("bad", ["yes", 1, None])
def test_flags_are_true_or_false(flag: str, bad: object) -> None:
    having = [s for s in SPECS if flag == "maximize" or flag in ravine.lookup(s).defaults]
    assert having
    for spec in having:
        with pytest.raises(TypeError, match=f"{flag} must be True or False"):
            create(spec, one(), **{flag: bad})


@pytest.mark.of_each_kind
def test_choices_are_listed(spec: str) -> None:
    with pytest.raises(ValueError, match="decay must be one of 'lr', 'schedule', 'lr_squared', 'l2', got 'L2'"):
        create(spec, one(), decay="L2")


def test_nesterov_needs_momentum_and_no_dampening() -> None:
    for settings in ({}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueError, match="nesterov"):
            ravine.SGD(one(), nesterov=True, **settings)


@pytest.mark.of_each_kind
@pytest.mark.parametrize(
    "number", [np.float64(0.01), np.float32(0.01), np.int64(1), torch.tensor(0.01), torch.tensor([0.01])]
)
def test_numbers_of_other_libraries_are_numbers(spec: str, target: Target, number: object) -> None:
    """A sweep over `np.logspace` gives NumPy scalars; they train the same, and checkpoints hold plain floats."""
    left, right = (parameters(spec, target, torch.float64) for _ in range(2))
    a, b = create(spec, left, target, lr=number), create(spec, right, target, lr=float(number))
    if not isinstance(number, torch.Tensor):
        assert type(a.param_groups[0]["lr"]) in (int, float)
    advance(a, 3)
    advance(b, 3)
    a.param_groups[0]["lr"] = number  # as a scheduler may write it
    advance(a, 2, start=3)
    advance(b, 2, start=3)
    assert_same_bits(left, right)


@pytest.mark.parametrize("k", [2.5, 0, -1, 0.99])
def test_counts_are_whole_numbers(k: float) -> None:
    with pytest.raises((TypeError, ValueError), match=r"lookahead\.k must be"):
        create("lookahead(adamw)", one(), **{"lookahead.k": k})


@pytest.mark.of_each_kind
@pytest.mark.parametrize("shape", [(2,), (0,), (1, 2)])
def test_a_tensor_lr_has_one_element(spec: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="lr must be a number or a tensor with one element"):
        create(spec, one(), lr=torch.ones(shape))


# Parameters


@pytest.mark.of_each_kind
def test_an_empty_list_is_an_error_and_an_empty_group_is_not(spec: str, target: Target) -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        create(spec, [])
    params = parameters(spec, target)
    optimizer = create(spec, [{"params": []}, {"params": params}], target)
    before = [p.detach().clone() for p in params]
    advance(optimizer, QUIET + 1)
    assert any(not torch.equal(p, q) for p, q in zip(params, before, strict=True))


@pytest.mark.of_each_kind
def test_parameters_given_twice_are_refused(spec: str) -> None:
    p, q = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2, 2))
    with pytest.raises(ValueError, match="parameter 2 of the group, of shape \\(2, 2\\), is in it twice"):
        create(spec, [p, q, p])
    with pytest.raises(ValueError, match="more than one parameter group"):
        create(spec, [{"params": [p]}, {"params": [q, p]}])


@pytest.mark.of_each_kind
def test_what_is_no_parameter_is_refused(spec: str) -> None:
    leaf = torch.ones(2, 2, requires_grad=True)
    with pytest.raises(ValueError, match="non-leaf"):
        create(spec, [leaf * 2])
    with pytest.raises(TypeError, match="complex parameters are not supported"):
        create(spec, [Parameter(torch.ones(2, 2, dtype=torch.complex64))])
    with pytest.raises(TypeError, match="Tensor"):
        create(spec, [1.0])
    with pytest.raises(TypeError, match="ordered"):
        create(spec, [{"params": {leaf}}])
    with pytest.raises(TypeError):
        create(spec, leaf)
    with pytest.raises(ValueError, match="'params'"):
        create(spec, [{"weights": [leaf]}])


@pytest.mark.of_each_kind
def test_a_refused_group_leaves_the_optimizer_as_it_was(spec: str) -> None:
    optimizer = create(spec, one())
    before = repr(optimizer)
    for error, group in (
        (TypeError, {"params": [Parameter(torch.ones(2, 2, dtype=torch.complex64))]}),
        (ValueError, {"params": one(), "lr": -1.0}),
        (TypeError, {"params": one(), "spam": 1}),
        (ValueError, {"params": list(optimizer.param_groups[0]["params"])}),
    ):
        with pytest.raises(error):
            optimizer.add_param_group(group)
        assert repr(optimizer) == before and len(optimizer.param_groups) == 1


@pytest.mark.of_each_kind
def test_sparse_gradients_are_refused(spec: str, target: Target) -> None:
    table = torch.nn.Embedding(6, 3, sparse=True)
    optimizer = create(spec, table.parameters(), Target(target.engine))
    table(torch.tensor([1, 4])).sum().backward()
    before = table.weight.detach().clone()
    with pytest.raises(RuntimeError, match="does not support sparse gradients; use sparse=False") as caught:
        optimizer.step()
    assert ravine.lookup(spec).title in str(caught.value)
    assert torch.equal(table.weight, before) and not optimizer.state


# What torch's classes take


@pytest.mark.of_each_kind
@pytest.mark.parametrize("name", ["foreach", "fused"])
@pytest.mark.parametrize("value", [True, False, None])
def test_foreach_and_fused_change_nothing(spec: str, target: Target, name: str, value: bool | None) -> None:
    left, right = parameters(spec, target), parameters(spec, target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a = create(spec, left, target, **{name: value})
    b = create(spec, right, target)
    advance(a, 3)
    advance(b, 3)
    assert_same_bits(left, right)
    assert a.param_groups[0][name] is value


@pytest.mark.of_each_kind
@pytest.mark.parametrize("name", ["capturable", "differentiable"])
def test_capturable_and_differentiable_are_refused(spec: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=True is not supported") as caught:
        create(spec, one(), **{name: True})
    assert "\n" not in str(caught.value)
    create(spec, one(), **{name: False})


def test_positional_arguments() -> None:
    p = random((2, 2), 1)
    left, right = [Parameter(p.clone())], [Parameter(p.clone())]
    a, b = ravine.SGD(left, 0.1, 0.9), ravine.SGD(right, lr=0.1, momentum=0.9)
    advance(a, 3)
    advance(b, 3)
    assert_same_bits(left, right)
    with pytest.raises(TypeError, match="lr"):
        ravine.SGD(one(), 0.1, lr=0.2)
    with pytest.raises(TypeError, match="positional"):
        ravine.SGD(one(), *range(20))
