"""State dicts exchange with the `torch.optim` class of the same name, both ways, and both then continue alike."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import Parameter

import ravine
from conformance.support import Target, advance, assert_same_everywhere, create, members, parameters, set_gradients
from conformance.test_state_dict import through_a_file

# Every setting that leaves a trace in the state or the group, for each class that torch has too.
PAIRS: list[tuple[str, str, dict[str, Any]]] = [
    ("sgd", "SGD", {}),
    ("sgd", "SGD", {"momentum": 0.9}),
    ("sgd", "SGD", {"momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1, "maximize": True}),
    ("sgd", "SGD", {"momentum": 0.9, "nesterov": True}),
    ("adagrad", "Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.1}),
    ("rmsprop", "RMSprop", {}),
    ("rmsprop", "RMSprop", {"momentum": 0.9, "centered": True, "weight_decay": 0.1, "alpha": 0.9}),
    ("adam", "Adam", {"weight_decay": 0.1, "betas": (0.8, 0.99)}),
    ("adam", "Adam", {"amsgrad": True, "maximize": True}),
    ("adam", "Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("adamw", "AdamW", {}),
    ("adamw", "AdamW", {"amsgrad": True, "eps": 1e-6}),
    ("adadelta", "Adadelta", {"rho": 0.8, "weight_decay": 0.1}),
    ("adamax", "Adamax", {"betas": (0.8, 0.99), "weight_decay": 0.1, "maximize": True}),
    ("nadam", "NAdam", {"momentum_decay": 0.01, "weight_decay": 0.1}),
    ("nadam", "NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("radam", "RAdam", {"betas": (0.8, 0.99), "weight_decay": 0.1}),
    ("radam", "RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
]
EVERY_PAIR = pytest.mark.parametrize(("name", "theirs", "settings"), PAIRS)


@pytest.fixture
def doubles() -> Iterator[None]:
    """torch keeps NAdam's product in float32, unless the default type is float64; ravine always keeps it in double."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def torchs(theirs: str, params: list[Parameter], **settings: Any) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = getattr(torch.optim, theirs)(params, **settings)
    return made


def copied(optimizer: torch.optim.Optimizer) -> list[Parameter]:
    return [Parameter(p.detach().clone()) for p in members(optimizer)]


def assert_alike(left: torch.optim.Optimizer, right: torch.optim.Optimizer) -> None:
    """float64 parameters of size 1 agree to 1e-13: 20 steps of a few roundings of 1e-16 each."""
    for p, q in zip(members(left), members(right), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-14)


@EVERY_PAIR
@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("saved_by", ["torch", "ravine"])
@pytest.mark.parametrize("read_by", ["torch", "ravine"])
def test_whoever_saves_whoever_loads(
    name: str, theirs: str, settings: dict[str, Any], saved_by: str, read_by: str, target: Target
) -> None:
    """Loaded into an optimizer with other settings, states and settings are the saved ones; the step count goes on."""
    params = parameters(name, target, torch.float64)
    settings = {"lr": 0.02, **settings}
    saver = torchs(theirs, params, **settings) if saved_by == "torch" else create(name, params, target, **settings)
    advance(saver, 10)
    saved = through_a_file(saver.state_dict())
    fresh = copied(saver)
    reader = torchs(theirs, fresh) if read_by == "torch" else create(name, fresh, target)
    reader.load_state_dict(copy.deepcopy(saved))
    group = reader.param_groups[0]
    assert {key: group[key] for key in settings if key != "decoupled_weight_decay"} == {
        key: value for key, value in settings.items() if key != "decoupled_weight_decay"
    }
    advance(saver, 10, start=10)
    advance(reader, 10, start=10)
    assert_alike(saver, reader)
    if name != "sgd":  # torch's counts no steps
        assert [float(state["step"]) for o in (saver, reader) for state in o.state.values()] == [20.0] * 8


@EVERY_PAIR
@pytest.mark.usefixtures("doubles")
def test_there_and_back_again_is_the_same_to_the_bit(name: str, theirs: str, settings: dict[str, Any]) -> None:
    ours = create(name, parameters(name), lr=0.02, **settings)
    advance(ours, 5)
    there = torchs(theirs, copied(ours))
    there.load_state_dict(ours.state_dict())
    back = create(name, copied(ours))
    back.load_state_dict(there.state_dict())
    host = {s.name for s in ravine.lookup(name).state.values() if s.kind == "host"}
    for optimizer in (back, ours):  # what torch keeps as a tensor of one number is that number here
        for state in optimizer.state.values():
            state.update({key: float(state[key]) for key in host})
    assert_same_everywhere(back.state_dict(), ours.state_dict())


@EVERY_PAIR
def test_states_have_torchs_keys_shapes_and_types(name: str, theirs: str, settings: dict[str, Any]) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        ours = create(name, parameters(name, dtype=dtype), **settings)
        other = torchs(theirs, parameters(name, dtype=dtype), **settings)
        advance(ours, 2)
        advance(other, 2)
        for p, q in zip(members(ours), members(other), strict=True):
            mine, its = ours.state[p], other.state.get(q, {})
            assert set(mine) - {"step"} == set(its) - {"step"}
            for key, value in its.items():
                if type(mine[key]) is float:
                    assert value.numel() == 1, key
                    continue
                assert (mine[key].shape, mine[key].dtype) == (value.shape, value.dtype), key
                assert mine[key].device == value.device


# torch's Adagrad makes all states when it is constructed, and cannot step from a dict without one of them.
RESTED = [(by, *pair) for by in ("torch", "ravine") for pair in PAIRS if (by, pair[0]) != ("ravine", "adagrad")]


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize(("saved_by", "name", "theirs", "settings"), RESTED)
def test_parameters_that_rested(saved_by: str, name: str, theirs: str, settings: dict[str, Any]) -> None:
    """One parameter has had no gradient when the checkpoint is made; it begins in the reader, at its own step 1."""
    params = parameters(name, dtype=torch.float64)
    saver = torchs(theirs, params, **settings) if saved_by == "torch" else create(name, params, **settings)
    reader_of = {"torch": lambda fresh: create(name, fresh), "ravine": lambda fresh: torchs(theirs, fresh)}[saved_by]
    for step in range(4):
        set_gradients(params, step)
        params[2].grad = None
        saver.step()
    reader = reader_of(copied(saver))
    reader.load_state_dict(copy.deepcopy(saver.state_dict()))
    advance(saver, 4, start=4)
    advance(reader, 4, start=4)
    assert_alike(saver, reader)


def test_torchs_dict_of_a_capturable_run_loads() -> None:
    """`capturable` says how torch ran, not what it computed: ravine keeps its own False."""
    params = parameters(dtype=torch.float64)
    saver = torch.optim.AdamW(params, lr=0.02)
    advance(saver, 3)
    saved = saver.state_dict()
    saved["param_groups"][0] |= {"capturable": True, "foreach": True}
    reader = ravine.AdamW(copied(saver))
    reader.load_state_dict(saved)
    assert reader.param_groups[0]["capturable"] is False
    advance(saver, 3, start=3)
    advance(reader, 3, start=3)
    assert_alike(saver, reader)


def test_old_dicts_with_steps_that_are_plain_numbers() -> None:
    """torch before 1.12 kept `step` as an int, SGD a momentum buffer of None."""
    saver = torch.optim.Adam(parameters(dtype=torch.float64), lr=0.02)
    advance(saver, 3)
    saved = copy.deepcopy(saver.state_dict())
    for state in saved["state"].values():
        state["step"] = int(state["step"])
    reader = ravine.Adam(copied(saver))
    reader.load_state_dict(saved)
    advance(saver, 3, start=3)
    advance(reader, 3, start=3)
    assert_alike(saver, reader)

    sgd = ravine.SGD(parameters())
    saved = sgd.state_dict() | {"state": {i: {"momentum_buffer": None} for i in range(4)}}
    sgd.load_state_dict(saved)
    advance(sgd, 1)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adams_decoupled_weight_decay_is_a_form_of_decay(decoupled: bool) -> None:
    """torch's flag, decay="lr" or "l2", and the dicts of either say the same."""
    flagged = ravine.Adam(parameters(), weight_decay=0.1, decoupled_weight_decay=decoupled)
    assert flagged.param_groups[0]["decay"] == ("lr" if decoupled else "l2")
    assert "decoupled_weight_decay" not in flagged.param_groups[0]
    assert flagged.state_dict()["param_groups"][0]["decoupled_weight_decay"] is decoupled
    theirs = torch.optim.Adam(parameters(), weight_decay=0.1)
    theirs.load_state_dict(flagged.state_dict())
    assert theirs.param_groups[0]["decoupled_weight_decay"] is decoupled
    with pytest.raises(TypeError, match="either decay or torch's decoupled_weight_decay"):
        ravine.Adam(parameters(), decay="l2", decoupled_weight_decay=decoupled)
    with pytest.raises(TypeError, match="decoupled_weight_decay must be True or False"):
        ravine.Adam(parameters(), decoupled_weight_decay=1)


def test_every_class_that_torch_shares_is_here() -> None:
    """A rule that torch has too needs its row above, but for two whose settings torch keeps under other names."""
    shared = {n for n in ravine.available() if hasattr(torch.optim, ravine.lookup(n).title)}
    assert shared - {"adafactor", "muon"} == {name for name, _, _ in PAIRS}
