"""Other libraries' optimizers, where they are the same algorithm as an arm: one table, imported lazily.

Each is built with the settings of ravine's arm, so that it does the same work. A library that only comes near an
algorithm (another epsilon, another rescaling, no momentum schedule) is left out of its row.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch.nn import Parameter


class Steps(Protocol):
    """Whatever takes a step."""

    def step(self) -> Any:
        """Take one step."""


@dataclass(frozen=True)
class Library:
    """Where a library's optimizers are found: the module to import, and the name under which it is installed."""

    module: str
    package: str


LIBRARIES: Mapping[str, Library] = MappingProxyType(
    {
        "torch": Library("torch.optim", "torch"),
        "timm": Library("timm.optim", "timm"),
        "pytorch_optimizer": Library("pytorch_optimizer", "pytorch_optimizer"),
        "optimi": Library("optimi", "torch-optimi"),
        "schedulefree": Library("schedulefree", "schedulefree"),
        "bitsandbytes": Library("bitsandbytes.optim", "bitsandbytes"),
        "heavyball": Library("heavyball", "heavyball"),
    }
)


@dataclass(frozen=True)
class Peer:
    """One library's form of an algorithm.

    Attributes:
        library: a name of `LIBRARIES`.
        engine: which of its implementations runs: `fused`, `foreach`, or what the library chooses by itself.
        build: makes it, from the library's module and the parameters.
        apart: by how much of its way it may part from ravine's reference in a few steps, for another reason than
            rounding: an iteration in bfloat16, another order of refreshing a basis.
    """

    library: str
    engine: str
    build: Callable[[Any, list[Parameter]], Steps]
    apart: float = 0.0


class _Clipped:
    """Gradients clipped to norm 1, then torch's fused AdamW: two calls, as one writes them in a training loop."""

    def __init__(self, optim: Any, parameters: list[Parameter]) -> None:
        self.parameters = parameters
        self.optimizer = optim.AdamW(parameters, fused=True)

    def step(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optimizer.step()


ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}
ADAMW = {**ADAM, "weight_decay": 1e-2}
LION = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0}
LAMB = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 1e-2}
SGD = {"lr": 1e-3}
MOMENTUM = {**SGD, "momentum": 0.9}

ADOPT = {"lr": 1e-3, "betas": (0.9, 0.9999), "eps": 1e-6, "weight_decay": 0.0}
ADAN = {"lr": 1e-3, "betas": (0.98, 0.92, 0.99), "eps": 1e-8, "weight_decay": 0.0}
ADEMAMIX = {"lr": 1e-3, "betas": (0.9, 0.999, 0.9999), "alpha": 5.0, "eps": 1e-8, "weight_decay": 0.0}
MARS = {"lr": 3e-3, "betas": (0.95, 0.99), "gamma": 0.025, "eps": 1e-8, "weight_decay": 0.0}
STABLE = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 1e-2}
MUON = {"lr": 1e-3, "weight_decay": 0.1, "momentum": 0.95}
SOAP = {"lr": 3e-3, "betas": (0.95, 0.95), "weight_decay": 1e-2, "precondition_frequency": 10}


def _training(optimizer: Any) -> Steps:
    """A Schedule-Free optimizer in training."""
    optimizer.train()
    made: Steps = optimizer
    return made


PEERS: Mapping[str, tuple[Peer, ...]] = MappingProxyType(
    {
        "adamw": (
            Peer("torch", "fused", lambda m, p: m.AdamW(p, fused=True, **ADAMW)),
            Peer("torch", "foreach", lambda m, p: m.AdamW(p, foreach=True, **ADAMW)),
            Peer("timm", "foreach", lambda m, p: m.AdamWLegacy(p, foreach=True, **ADAMW)),
            Peer("optimi", "own choice", lambda m, p: m.AdamW(p, **ADAMW)),
            Peer("bitsandbytes", "32 bit", lambda m, p: m.AdamW32bit(p, **ADAMW)),
            Peer("heavyball", "compiled", lambda m, p: m.AdamW(p, **ADAMW)),
        ),
        "adam": (
            Peer("torch", "fused", lambda m, p: m.Adam(p, fused=True, **ADAM)),
            Peer("optimi", "own choice", lambda m, p: m.Adam(p, **ADAM)),
            Peer("bitsandbytes", "32 bit", lambda m, p: m.Adam32bit(p, **ADAM)),
        ),
        "amsgrad": (Peer("torch", "fused", lambda m, p: m.Adam(p, fused=True, amsgrad=True, **ADAM)),),
        "lion": (
            Peer("timm", "foreach", lambda m, p: m.Lion(p, foreach=True, **LION)),
            Peer("pytorch_optimizer", "foreach", lambda m, p: m.Lion(p, foreach=True, **LION)),
            Peer("optimi", "own choice", lambda m, p: m.Lion(p, **LION)),
            Peer("bitsandbytes", "32 bit", lambda m, p: m.Lion32bit(p, **LION)),
        ),
        "sgd": (
            Peer("torch", "fused", lambda m, p: m.SGD(p, fused=True, **SGD)),
            Peer("optimi", "own choice", lambda m, p: m.SGD(p, **SGD)),
        ),
        "sgd:momentum=0.9": (
            Peer("torch", "fused", lambda m, p: m.SGD(p, fused=True, **MOMENTUM)),
            Peer("timm", "foreach", lambda m, p: m.SGDW(p, foreach=True, **MOMENTUM)),
            Peer("pytorch_optimizer", "foreach", lambda m, p: m.SGDW(p, foreach=True, **MOMENTUM)),
            Peer("optimi", "own choice", lambda m, p: m.SGD(p, torch_init=True, **MOMENTUM)),
            Peer("bitsandbytes", "32 bit", lambda m, p: m.SGD32bit(p, **MOMENTUM)),
            Peer("heavyball", "compiled", lambda m, p: m.SGD(p, lr=1e-3, beta=0.9)),
        ),
        "adagrad": (
            Peer("torch", "fused", lambda m, p: m.Adagrad(p, lr=1e-2, fused=True)),
            Peer("bitsandbytes", "32 bit", lambda m, p: m.Adagrad32bit(p, lr=1e-2)),
        ),
        "rmsprop": (
            Peer("torch", "foreach", lambda m, p: m.RMSprop(p, lr=1e-2, foreach=True)),
            Peer("bitsandbytes", "32 bit", lambda m, p: m.RMSprop32bit(p, lr=1e-2)),
        ),
        "lamb": (Peer("timm", "foreach", lambda m, p: m.Lamb(p, max_grad_norm=None, foreach=True, **LAMB)),),
        "cautious(adamw)": (
            Peer("timm", "foreach", lambda m, p: m.AdamWLegacy(p, caution=True, foreach=True, **ADAMW)),
        ),
        "cautious(lion)": (Peer("timm", "foreach", lambda m, p: m.Lion(p, caution=True, foreach=True, **LION)),),
        "lookahead(adamw)": (
            Peer(
                "pytorch_optimizer", "on torch's fused", lambda m, p: m.Lookahead(torch.optim.AdamW(p, fused=True), k=5)
            ),
        ),
        "clip_norm(adamw)": (Peer("torch", "fused", _Clipped),),
        "radam": (Peer("torch", "foreach", lambda m, p: m.RAdam(p, foreach=True, **ADAM)),),
        "nadamw": (Peer("timm", "foreach", lambda m, p: m.NAdamW(p, foreach=True, **ADAMW)),),
        "adopt": (Peer("timm", "foreach", lambda m, p: m.Adopt(p, foreach=True, clip_exp=0.25, **ADOPT)),),
        "adan": (
            Peer("timm", "foreach", lambda m, p: m.Adan(p, foreach=True, **ADAN)),
            Peer("pytorch_optimizer", "foreach", lambda m, p: m.Adan(p, foreach=True, **ADAN)),
            Peer("optimi", "own choice", lambda m, p: m.Adan(p, **ADAN)),
        ),
        "ademamix": (
            Peer("pytorch_optimizer", "loop", lambda m, p: m.AdEMAMix(p, **ADEMAMIX)),
            Peer("heavyball", "compiled", lambda m, p: m.AdEMAMix(p, **ADEMAMIX)),
        ),
        "mars": (Peer("timm", "loop", lambda m, p: m.Mars(p, optimize_1d=True, **MARS)),),
        "stableadamw": (
            Peer(
                "pytorch_optimizer", "foreach", lambda m, p: m.StableAdamW(p, foreach=True, kahan_sum=False, **STABLE)
            ),
            Peer("optimi", "own choice", lambda m, p: m.StableAdamW(p, kahan_sum=False, **STABLE)),
        ),
        "schedule_free(adamw)": (
            Peer("schedulefree", "foreach", lambda m, p: _training(m.AdamWScheduleFree(p, foreach=True, **ADAMW))),
            Peer("pytorch_optimizer", "foreach", lambda m, p: _training(m.ScheduleFreeAdamW(p, **ADAMW))),
            Peer("heavyball", "compiled", lambda m, p: _training(m.SFAdamW(p, **ADAMW))),
        ),
        "adafactor": (Peer("torch", "foreach", lambda m, p: m.Adafactor(p, lr=1e-2, foreach=True)),),
        "prodigy": (Peer("pytorch_optimizer", "loop", lambda m, p: m.Prodigy(p, lr=1.0)),),
        "muon": (
            Peer("torch", "loop", lambda m, p: m.Muon(p, **MUON), 0.1),
            Peer("timm", "loop", lambda m, p: m.Muon(p, nesterov=True, **MUON), 0.1),
            Peer("pytorch_optimizer", "loop", lambda m, p: m.Muon([{"params": p, "use_muon": True}], **MUON), 0.1),
        ),
        "soap": (
            Peer("pytorch_optimizer", "loop", lambda m, p: m.SOAP(p, shampoo_beta=0.95, **SOAP), 0.5),
            Peer("heavyball", "compiled", lambda m, p: m.SOAP(p, merge_dims=False, max_precond_dim=8192, **SOAP), 0.5),
        ),
    }
)
"""For each arm, by its label, who else has it."""


def version_of(library: str) -> str | None:
    """The installed version of a library, or None."""
    try:
        return importlib.metadata.version(LIBRARIES[library].package)
    except importlib.metadata.PackageNotFoundError:
        return None


def make(peer: Peer, parameters: list[Parameter]) -> Steps:
    """A peer's optimizer for these parameters; what importing and building it raise comes through."""
    made = peer.build(importlib.import_module(LIBRARIES[peer.library].module), parameters)
    if hasattr(made, "consume_grad"):
        # HeavyBall takes the gradients away, and its next step would have nothing to do.
        made.consume_grad = False
    return made
