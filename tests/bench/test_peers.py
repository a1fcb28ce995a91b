"""Other libraries: what stands beside an arm is the same algorithm, and whatever they do, the measurement goes on."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from ravine.bench import peers
from ravine.bench.arms import MATRIX_RULES, STANDARD, Arm, parse
from ravine.bench.measure import Measurement
from ravine.bench.peers import LIBRARIES, PEERS, Library, Peer
from ravine.bench.settings import settings_of

STEPS = 7
INSTALLED = [
    pytest.param(label, peer, id=f"{label}-{peer.library}-{peer.engine}")
    for label, them in PEERS.items()
    for peer in them
    if peers.version_of(peer.library) is not None
]


def problem(arm: Arm) -> tuple[list[Parameter], Iterator[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((64, 32), (32, 32), (16, 8)) if arm.steps_matrices else ((64, 32), (32,), (16, 8))
    parameters = [Parameter(0.1 * torch.randn(shape, generator=generator)) for shape in shapes]
    return parameters, (torch.randn(p.shape, generator=generator) for _ in range(STEPS) for p in parameters)


@pytest.mark.parametrize(("label", "peer"), INSTALLED)
def test_a_peer_is_the_same_algorithm(label: str, peer: Peer) -> None:
    (arm,) = parse([label])
    (ours, our_gradients), (theirs, their_gradients) = problem(arm), problem(arm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = (
            (ours, our_gradients, arm.build(ours, "reference")),
            (theirs, their_gradients, peers.make(peer, theirs)),
        )
        walked = [0.0] * len(ours)
        for _ in range(STEPS):
            before = [p.detach().clone() for p in ours]
            for parameters, gradients, optimizer in pairs:
                for p in parameters:
                    p.grad = next(gradients)
                optimizer.step()
            walked = [w + float((p - b).norm()) for w, p, b in zip(walked, ours, before, strict=True)]
    for p, q, way in zip(ours, theirs, walked, strict=True):
        # In each step both round the parameter, to half an ulp, and an update made of some twenty operations.
        allowed = 2**-23 * (STEPS * float(p.norm()) + 20 * way) + peer.apart * way
        assert way > 0
        assert float((p - q).norm()) <= allowed


def test_torch_stands_beside_everything_it_has() -> None:
    assert {label for label, them in PEERS.items() if any(peer.library == "torch" for peer in them)} == {
        "adamw", "adam", "amsgrad", "sgd", "sgd:momentum=0.9", "adagrad", "rmsprop", "clip_norm(adamw)", "radam",
        "adafactor", "muon",
    }  # fmt: skip


def test_a_peer_that_takes_gradients_away_is_told_to_leave_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next step would have nothing to do, and look as fast as nothing is."""

    class Greedy(torch.optim.SGD):
        consume_grad = True

        def step(self, closure: Any = None) -> None:
            super().step()
            if self.consume_grad:
                self.zero_grad(set_to_none=True)

    monkeypatch.setattr(peers, "LIBRARIES", {"greedy": Library("torch", "torch")})
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    made = peers.make(Peer("greedy", "loop", lambda m, parameters: Greedy(parameters, lr=0.1)), [p])
    made.step()
    assert p.grad is not None


def test_peers_stand_beside_arms_that_exist() -> None:
    assert [arm.label for arm in parse(PEERS)] == list(PEERS)
    assert {peer.library for them in PEERS.values() for peer in them} <= set(LIBRARIES)
    alone = {"cautious(adamw):cautious.rescale=false", "adafactor_paper", "normuon"}
    assert set(PEERS) >= {*STANDARD, *MATRIX_RULES} - alone


@pytest.fixture
def a_library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A library that is installed, as `torch` says, and the only one beside `sgd`."""
    module = ModuleType("a_library")
    monkeypatch.setitem(sys.modules, "a_library", module)
    monkeypatch.setattr(peers, "LIBRARIES", {"a_library": Library("a_library", "torch")})
    monkeypatch.setattr(peers, "PEERS", {"sgd": (Peer("a_library", "own", lambda m, p: m.make(p)),)})
    return module


def measured() -> Measurement:
    measurement = Measurement(settings_of(["sgd"], engine="reference", shapes="small", quick=True, rounds=1, steps=1))
    assert [peer.library for _, peer in measurement.peer_jobs] == ["a_library"]
    for job, peer in measurement.peer_jobs:
        measurement._time_peer(job, peer)
    return measurement


def test_a_peer_that_fails_is_noted(a_library: ModuleType) -> None:
    def make(parameters: list[Parameter]) -> Any:
        raise NotImplementedError("no such kernel\non this device")

    a_library.make = make  # type: ignore[attr-defined]
    measurement = measured()
    assert measurement.notes == ["sgd of a_library (own) does not run here: no such kernel"]
    assert measurement.rows == []


def test_a_peer_that_cannot_be_imported_is_noted(a_library: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a_library", None)
    assert "sgd of a_library (own) does not run here: import of a_library halted" in measured().notes[0]


def test_what_a_peer_prints_stays_out_of_the_result(a_library: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def make(parameters: list[Parameter]) -> Any:
        print("welcome to a_library")
        return torch.optim.SGD(parameters, lr=0.1)

    a_library.make = make  # type: ignore[attr-defined]
    measurement = measured()
    out, err = capsys.readouterr()
    assert (out, err) == ("", "welcome to a_library\n")
    assert measurement.notes == []


def test_libraries_that_are_not_installed_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "version_of", lambda library: None)
    measurement = Measurement(settings_of(["adamw"], engine="reference", quick=True))
    assert measurement.peer_jobs == []
    assert {row["library"]: row["version"] for row in measurement.as_dict()["peers"]} == dict.fromkeys(LIBRARIES)
