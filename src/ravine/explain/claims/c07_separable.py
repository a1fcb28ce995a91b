"""Claim 7: whether the best weight decay depends on the learning rate, by the form of weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ravine.explain.claims.claim import Criterion, Evidence, Run, claim
from ravine.explain.claims.fits import exponent
from ravine.lab.data import Split
from ravine.lab.study.arms import parse
from ravine.lab.sweep import BatchedRuns
from ravine.lab.tasks.digits import Digits
from ravine.lab.training import Recipe

TRAINED, WRONG, WIDTH = 300, 0.3, 24
NEAR = 1.15
"""A loss within this factor of the column's lowest is as good as it; runs differ by that much between seeds."""


class Map(NamedTuple):
    """A heat map: an arm, its learning rates, and what is subtracted in a step at the highest of the schedule."""

    title: str
    arm: str
    decay: str
    rates: tuple[float, float]
    shrink: tuple[float, float]
    normalised: bool = True

    def axes(self, columns: int, per_decade: int) -> tuple[list[float], list[float]]:
        """Learning rates, and so many λ a decade. Where the two are multiplied, λ goes as far as the products do."""
        (low, high), (least, most) = self.rates, self.shrink
        if self.decay != "schedule":
            least, most = least / high, most / low
        rows = 1 + round(per_decade * math.log10(most / least))
        return [float(x) for x in np.geomspace(low, high, columns)], [float(x) for x in np.geomspace(least, most, rows)]


SGD, ADAM = ("sgd:momentum=0.9", (0.03, 1.0), (2e-3, 8e-2)), ("adamw", (1e-3, 3e-2), (2e-2, 8e-1))
MAPS = {
    "sgd_decoupled": Map("SGD, decoupled as in the paper", SGD[0], "schedule", *SGD[1:]),
    "sgd_l2": Map("SGD, L2", SGD[0], "l2", *SGD[1:]),
    "adam_decoupled": Map("Adam, decoupled as in the paper", ADAM[0], "schedule", *ADAM[1:]),
    "torch_form": Map("Adam, lr · λ as in torch's AdamW", ADAM[0], "lr", *ADAM[1:]),
    "adam_l2": Map("Adam, L2", ADAM[0], "l2", *ADAM[1:]),
    "without_norms": Map("Adam, decoupled, no norms", ADAM[0], "schedule", ADAM[1], (2e-4, 1e-1), normalised=False),
}


@claim(
    number=7,
    slug="separable",
    title="Decoupled, the best weight decay does not depend on the learning rate; with L2 it does",
    says="With L2 regularization the best λ and the best learning rate lie on a diagonal, for SGD as for Adam: whoever "
    "changes one has to change the other. With weight decay decoupled, multiplied by the schedule alone, the two can "
    "be tuned more nearly one after the other.",
    source="Loshchilov & Hutter 2019, arXiv:1711.05101, Figures 1 and 2",
    criteria=(
        Criterion(
            "sgd_decoupled", "SGD, decoupled: exponent of the learning rate by which the best λ moves", at_least=-0.5,
            at_most=0.5,
        ),
        Criterion("sgd_l2", "the same for SGD with L2, where lr · λ counts if it is −1", at_most=-0.5),
        Criterion("adam_decoupled", "the same for Adam, decoupled", at_least=-0.5, at_most=0.5),
        Criterion("adam_l2", "the same for Adam with L2", at_most=-0.5),
        Criterion(
            "torch_form", "the same for the form that torch's AdamW has, lr · λ", at_least=-0.5, at_most=0.5, scope=True
        ),
        Criterion(
            "without_norms", "the same for Adam, decoupled, in a network without normalisation", at_least=-0.5,
            at_most=0.5, scope=True,
        ),
    ),
    needs=("sklearn",),
)  # fmt: skip
def separable(run: Run) -> Evidence:
    """A network learns 300 handwritten digits, three in ten of which have a random label, so that it should not learn
    them by heart. Like the paper's, its layers are followed by normalisation, so that the length of their weights does
    not matter, only their direction; and its learning rate falls along a cosine. The held-out loss is mapped over the
    learning rate and λ for SGD with momentum and for Adam, each with λ in several forms, and averaged over the seeds,
    two of them in the quick form.

    At each learning rate the good λ are those with a loss of at most 1.15 times the lowest there, and their geometric
    mean is the best λ. It is fitted by a power of the learning rate: the exponent is 0 where the two can be tuned
    apart, and −1 where their product counts; the bounds are half-way.
    """
    columns, per_decade = run.choose((5, 4), (9, 6))
    grids = {name: one.axes(columns, per_decade) for name, one in MAPS.items()}
    seeds = run.seeds[: run.choose(2, None)]
    losses: dict[str, np.ndarray] = {}
    for done, (name, one) in enumerate(MAPS.items()):
        losses[name] = np.mean([trained(one, *grids[name], run.choose(300, 1500), seed) for seed in seeds], 0)
        run.progress(done + 1, len(MAPS))
    best = {name: best_decay(decays, losses[name]) for name, (_, decays) in grids.items()}
    slopes = {name: exponent(rates, best[name]) for name, (rates, _) in grids.items()}

    def draw(figure: Any) -> None:
        axes = figure.subplots(2, 3)
        finite = np.concatenate([of[np.isfinite(of)] for of in losses.values()])
        span = {"vmin": float(finite.min()), "vmax": min(float(finite.max()), 2.0)}
        order = ("sgd_decoupled", "sgd_l2", "without_norms", "adam_decoupled", "torch_form", "adam_l2")
        for at, name in zip(axes.flat, order, strict=True):
            rates, decays = grids[name]
            shown = np.minimum(losses[name], span["vmax"])
            mesh = at.pcolormesh(edges(rates), edges(decays), shown, cmap="cividis_r", **span)
            at.plot(rates, best[name], "o-", color="#D55E00", markersize=4, linewidth=1.2)
            at.set(xscale="log", yscale="log", title=MAPS[name].title, xlabel="learning rate", ylabel="λ")
            at.text(
                0.03, 0.04, f"best λ ∝ lr$^{{{slopes[name]:.2f}}}$", transform=at.transAxes,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
            )  # fmt: skip
            at.grid(visible=False)
        figure.colorbar(mesh, ax=axes, label="held-out loss, nats", extend="max", shrink=0.8)

    return Evidence(
        values=slopes,
        draw=draw,
        table=(
            ("map", "best λ moves as lr to the power", "lowest loss", "at lr", "and λ"),
            [(one.title, slopes[name], *lowest_cell(*grids[name], losses[name])) for name, one in MAPS.items()],
        ),
        remarks=(
            "What is called decoupled here is the paper's form, λ times the schedule's share of its maximum. torch's "
            "AdamW multiplies λ by the learning rate too: its map is that of the paper's form, sheared by one power of "
            "the learning rate.",
            "Normalisation matters: where the length of the weights does not, λ sets how fast their direction turns, "
            "whatever the learning rate. Without it, decoupled decay draws weights towards a size of lr/λ, and the "
            "best λ can grow with the learning rate.",
        ),
        width=10.5,
        height=6.2,
    )  # fmt: skip


def trained(one: Map, rates: list[float], decays: list[float], steps: int, seed: int) -> np.ndarray:
    """The held-out losses of a map's cells, (λ, learning rates); infinite where a run diverged."""
    cells = [{"lr": rate, "weight_decay": decay} for decay in decays for rate in rates]
    arm = parse([f"{one.arm}{',' if ':' in one.arm else ':'}decay={one.decay}"], over=())[0]
    recipe = Recipe(steps=steps, batch=32, schedule="cosine", warmup=0.0, clip=None)
    runs = BatchedRuns(NoisyDigits("tiny", normalised=one.normalised), arm, cells, recipe, seed)
    runs.run()
    losses = [figures["loss"] for figures in runs.evaluate("tuning")]
    return np.asarray([loss if math.isfinite(loss) else math.inf for loss in losses]).reshape(len(decays), -1)


def best_decay(decays: list[float], losses: np.ndarray) -> list[float]:
    """For each column, the geometric mean of the λ whose loss is within a factor of `NEAR` of the column's lowest.

    Example:
        >>> [round(x, 6) for x in best_decay([0.01, 0.1, 1.0], np.array([[1.0, 2.0], [1.0, 1.0], [9.0, 2.0]]))]
        [0.031623, 0.1]
    """
    good = losses <= NEAR * losses.min(0)
    logs = np.log(np.asarray(decays))[:, None]
    return [float(x) for x in np.exp((good * logs).sum(0) / good.sum(0))]


def edges(values: list[float]) -> np.ndarray:
    """The edges of cells around values that are evenly spaced in logarithms."""
    logs = np.log(values)
    half = (logs[1] - logs[0]) / 2
    return np.exp(np.append(logs - half, logs[-1] + half))


def lowest_cell(rates: list[float], decays: list[float], losses: np.ndarray) -> tuple[float, float, float]:
    """The lowest loss of a map, with its learning rate and λ."""
    row, column = np.unravel_index(int(losses.argmin()), losses.shape)
    return float(losses.min()), rates[int(column)], decays[int(row)]


class Perceptron(nn.Module):
    """64 pixels, two hidden layers, ten logits; normalised, no layer's output depends on the length of its weights."""

    def __init__(self, normalised: bool) -> None:
        super().__init__()
        self.normalised = normalised
        self.hidden = nn.ModuleList([nn.Linear(64, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)])
        self.head = nn.Linear(WIDTH, 10, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, 10) of images (batch, 1, 8, 8)."""
        x = images.flatten(1)
        for layer in self.hidden:
            x = layer(x)
            x = F.relu(F.layer_norm(x, (WIDTH,)) if self.normalised else x)
        logits = self.head(x)
        return 4 * F.layer_norm(logits, (10,)) if self.normalised else logits  # so that a guess can be sure of itself


@dataclass(frozen=True)
class NoisyDigits(Digits):
    """Few digits with wrong labels among them to train on; all others, with the right ones, to be evaluated on."""

    normalised: bool = True

    @cached_property
    def tensors(self) -> dict[Split, tuple[Tensor, Tensor]]:
        """As in the task `digits`, cut differently."""
        found = super().tensors
        images, labels = found["training"]
        held = tuple(torch.cat([a[TRAINED:], b]) for a, b in zip((images, labels), found["tuning"], strict=True))
        random = torch.Generator().manual_seed(0)
        wrong = torch.rand(TRAINED, generator=random) < WRONG
        given = torch.where(wrong, torch.randint(10, (TRAINED,), generator=random), labels[:TRAINED])
        return {**found, "training": (images[:TRAINED], given), "tuning": (held[0], held[1])}

    def new_model(self) -> nn.Module:
        """A perceptron, normalised or not."""
        return Perceptron(self.normalised)
