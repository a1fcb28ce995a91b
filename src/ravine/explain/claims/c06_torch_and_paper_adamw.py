"""Claim 6: AdamW of PyTorch and AdamW of its paper are one, at another weight decay."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

import ravine
from ravine.explain.claims.claim import Criterion, Evidence, Run, claim
from ravine.explain.claims.paths import NewOptimizer, Path, path, perceptron
from ravine.explain.figure import series

LR, DECAY = 1e-3, 1e-3
SAME = 1e-10


@claim(
    number=6,
    slug="torch-and-paper-adamw",
    title="PyTorch's AdamW with λ/lr is the paper's AdamW with λ",
    says="The paper takes λ times the schedule's multiplier off the weights, PyTorch lr · λ. So PyTorch's AdamW is the "
    "paper's if its weight_decay is λ/lr, and whoever changes lr in PyTorch changes how fast weights decay.",
    source="Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2, against torch.optim.AdamW; "
    "Schaipp 2024, https://fabian-sp.github.io/posts/2024/02/decoupling/",
    criteria=(
        Criterion("constant", "distance of the ends over the effect of the decay, constant lr", at_most=SAME),
        Criterion("same_number", "the same if both are given the same λ", at_least=0.5),
        Criterion("doubled", "the same after lr is doubled in both and λ left alone", at_least=0.1),
        Criterion(
            "cosine", "as the first, with warm-up and cosine and λ over the highest lr", at_most=SAME, scope=True
        ),
        Criterion("present", "likewise, but λ over the first step's lr", at_most=SAME, scope=True),
    ),
)
def torch_and_paper_adamw(run: Run) -> Evidence:
    """A perceptron with two hidden layers learns handwritten digits in float64, for 200 steps and one seed (quick) or
    3000 and all, with lr = 0.001 and λ = 0.001 a step: by `torch.optim.AdamW`, and by ravine's AdamW with the paper's
    form of weight decay. All runs of a seed have the same weights to begin with and the same batches. The distance
    between the ends of two runs is divided by that between the paper's with and without decay; the largest over the
    seeds counts where they should be the same, else the smallest. Schedules are constant, or a warm-up over a tenth of
    the steps and then a cosine to zero; with it PyTorch is given λ over the highest lr, or over that of the first step.
    """
    steps, seeds = run.choose((200, run.seeds[:1]), (3000, run.seeds))
    gaps: dict[str, list[float]] = {name: [] for name in ("constant", "same_number", "doubled", "cosine", "present")}
    norms: dict[str, torch.Tensor] = {}
    for i, seed in enumerate(seeds):

        def train(new: NewOptimizer, factor: Callable[[int], float], seed: int = seed) -> Path:
            return path(perceptron(seed), new, steps, seed, factor)

        def cosine(step: int) -> float:
            warm = steps // 10
            return (step + 1) / warm if step < warm else (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2

        for names, factor in ((("constant", "same_number"), _constant), (("cosine", "present"), cosine)):
            free, paper = train(_paper(LR, 0.0), factor), train(_paper(LR, DECAY), factor)
            others = {"constant": DECAY / LR, "same_number": DECAY, "cosine": DECAY / LR}
            others["present"] = DECAY / (LR * cosine(0))
            for name in names:
                torchs = train(_torch(LR, others[name]), factor)
                gaps[name].append(_gap(free, paper, torchs))
                norms[name] = torchs.weights.norm(dim=1)
            norms[f"{names[0]}, paper"] = paper.weights.norm(dim=1)
        free, paper = train(_paper(2 * LR, 0.0), _constant), train(_paper(2 * LR, DECAY), _constant)
        gaps["doubled"].append(_gap(free, paper, train(_torch(2 * LR, DECAY / LR), _constant)))
        run.progress(i + 1, len(seeds))

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        for k, (title, shown) in enumerate(
            (
                ("Constant lr", (("constant, paper", "paper, λ"), ("constant", "PyTorch, λ/lr"),
                                 ("same_number", "PyTorch, λ"))),
                ("Warm-up and cosine", (("cosine, paper", "paper, λ"), ("cosine", "PyTorch, λ/highest lr"),
                                        ("present", "PyTorch, λ/first lr"))),
            )
        ):  # fmt: skip
            for i, (name, label) in enumerate(shown):
                axes[k].plot(norms[name], **{**series(i), "linewidth": (3.5, 1.6, 1.6)[i]}, label=label)
            axes[k].set(xlabel="step", title=title)
            axes[k].legend()
        axes[0].set(ylabel="norm of the weights")

    over = {name: (min if name in ("same_number", "doubled") else max) for name in gaps}
    return Evidence(
        values={name: over[name](each) for name, each in gaps.items()},
        draw=draw,
        remarks=(
            "Under a schedule it holds with λ over the highest lr, since both then decay by λ times the schedule's "
            "multiplier. A constructor's lr need not be the highest one: torch's OneCycleLR begins at a 25th of it.",
            "What is called fully decoupled decay, λ at every step whatever the schedule, is neither of the two.",
        ),
        table=(
            ("distance / effect of the decay", "smallest of all seeds", "largest"),
            [(name, min(each), max(each)) for name, each in gaps.items()],
        ),
        width=8.6,
        height=3.6,
    )


def _constant(step: int) -> float:
    return 1.0


def _paper(lr: float, weight_decay: float) -> NewOptimizer:
    settings: dict[str, Any] = {"decay": "schedule", "engine": "reference"}
    return lambda p: ravine.AdamW(p, lr=lr, weight_decay=weight_decay, **settings)


def _torch(lr: float, weight_decay: float) -> NewOptimizer:
    return lambda p: torch.optim.AdamW(p, lr=lr, weight_decay=weight_decay)


def _gap(free: Path, paper: Path, other: Path) -> float:
    effect = (paper.weights[-1] - free.weights[-1]).norm()
    return ((other.weights[-1] - paper.weights[-1]).norm() / effect).item()
