"""Claim 9: what Adafactor saves by factoring, when that is exact, and what clipping is for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ravine.explain import figure as pictures
from ravine.explain.claims.claim import Criterion, Evidence, Run, claim
from ravine.lab.study.arms import parse
from ravine.lab.sweep import BatchedRuns
from ravine.lab.tasks.lm import LanguageModelling
from ravine.lab.training import Recipe
from ravine.math import ZERO
from ravine.optim import create
from ravine.rules.adafactor import adafactor_paper

SHAPES = ((16, 16), (64, 64), (256, 256), (1024, 1024), (64, 256), (1024, 64))
NOISES = (0.0, 0.01, 0.1, 0.3, 1.0)
RATES = (2e-3, 3e-3, 4.5e-3, 6.7e-3, 1e-2)
SLOW = "adafactor:beta2=0.999,relative_step=false,scale_parameter=false,weight_decay=0"
ARMS = {
    "neither": ("false", 0.0),
    "warm-up": ("false", 0.2),
    "clipping": ("true", 0.0),
    "warm-up and clipping": ("true", 0.2),
}
BOTH = "warm-up and clipping"


WIDTH, HEADS = 32, 2


@claim(
    number=9,
    slug="adafactor",
    title="Adafactor's memory is sublinear, its factors are exact at rank one, and clipping replaces a warm-up",
    says="Row and column means keep n + m numbers for a matrix of n · m, and give its second moment exactly where that "
    "has rank one. With a slowly decaying second moment and no momentum, training a transformer without a warm-up "
    "comes to nothing, as updates grow too large; clipping updates by their root mean square rescues it.",
    source="Shazeer & Stern 2018, arXiv:1804.04235, Sections 3 to 6, Table 2",
    criteria=(
        Criterion("memory", "numbers kept for a matrix, over n + m; the most of six shapes", at_most=1.0),
        Criterion(
            "rank_one", "relative difference of the weights with and without factoring, where squared gradients have "
            "rank one", at_most=1e-12,
        ),
        Criterion(
            "collapse", "part of what is learned that is lost without warm-up and clipping; 1 is all beyond byte "
            "frequencies", at_least=0.5,
        ),
        Criterion("rescued", "the same with clipping, and still no warm-up", at_most=0.1),
    ),
)  # fmt: skip
def adafactor(run: Run) -> Evidence:
    """Memory: Adafactor and AdamW take a step on matrices of six shapes, and the numbers in their states are counted.

    Rank one: a 30 × 20 matrix takes 100 steps with gradients whose squares are a product of a column and a row, by
    Adafactor with and without factoring in float64; then with gradients that are off by log-normal noise.

    Collapse: a transformer with its norms after the blocks, as in Vaswani et al. 2017, learns to predict the next byte
    of Python's standard library by Adafactor without momentum, with β₂ = 0.999 and steps that are not relative: with
    and without clipping (d = 1), with and without a linear warm-up over a fifth of the steps, followed by 1/√t. All
    are compared at the learning rate that is best with both. What is lost is counted between the held-out loss with
    both and that of guessing by the frequency of bytes; losses are means over five seeds, one in the quick form.
    """
    kept = {shape: (numbers_kept("adafactor", shape), numbers_kept("adamw", shape)) for shape in SHAPES}
    gaps = [factoring_gap(noise) for noise in NOISES]
    steps, rates = run.choose((150, RATES[:4]), (600, RATES))
    task = PostNorm("tiny")
    seeds = run.seeds[: run.choose(1, 5)]
    losses: dict[str, np.ndarray] = {}
    for done, (name, (clipped, warmup)) in enumerate(ARMS.items()):
        losses[name] = np.asarray([trained(task, rates, clipped, warmup, steps, seed) for seed in seeds])
        run.progress(done + 1, len(ARMS))
    means = {name: of.mean(0) for name, of in losses.items()}
    best = int(means[BOTH].argmin())
    guess = by_frequency(task)
    lost = {name: float(of[best] - means[BOTH][best]) / (guess - means[BOTH][best]) for name, of in means.items()}

    def draw(figure: Any) -> None:
        left, middle, right = figure.subplots(1, 3)
        squares = [shape for shape in SHAPES if shape[0] == shape[1]]
        sides = [n for n, _ in squares]
        for i, (name, bound) in enumerate((("Adafactor", "n + n"), ("AdamW", "2 · n²"))):
            left.loglog(sides, [kept[shape][i] for shape in squares], **pictures.points(i), label=f"{name}: {bound}")
        left.set(xlabel="side n of a square matrix", ylabel="numbers kept", title="State")
        left.legend()
        middle.semilogy(range(len(NOISES)), [max(gap, 1e-17) for gap in gaps], **pictures.points(0), linestyle="none")
        middle.set_xticks(range(len(NOISES)), ["rank one", *(f"{noise:g}" for noise in NOISES[1:])])
        middle.set(
            xlabel="noise in the logarithm of g²", ylabel="relative difference of the weights",
            title="Factored or whole, 100 steps",
        )  # fmt: skip
        for i, (name, of) in enumerate(means.items()):
            right.semilogx(rates, of, **{**pictures.points(i), "linestyle": pictures.DASHES[i]}, label=name)
        right.axhline(guess, color="#888888", linewidth=1)
        right.annotate("guessing by frequency", (rates[0], guess), (0, -11), textcoords="offset points", fontsize=8)
        right.axvline(rates[best], color="#888888", linewidth=1, linestyle=":")
        right.set_xticks(rates, [f"{rate:g}" for rate in rates])
        right.minorticks_off()
        right.set(xlabel="learning rate", ylabel="held-out loss, nats per byte", title="Slow second moment")
        right.set_ylim(top=guess + 0.7 * (guess - float(means[BOTH][best])))
        right.legend(loc="upper left")

    return Evidence(
        values={
            "memory": max(kept[n, m][0] / (n + m) for n, m in SHAPES),
            "rank_one": gaps[0],
            "collapse": lost["neither"],
            "rescued": lost["clipping"],
        },
        draw=draw,
        table=(
            ("with", *(f"loss at lr {rate:g}" for rate in rates), f"lost at lr {rates[best]:g}"),
            [(name, *map(float, of), lost[name]) for name, of in means.items()],
        ),
        remarks=(
            f"The transformer has {task.layers} layers, a width of {WIDTH}, and {steps} steps; the authors' had "
            "six layers in the encoder and the decoder each, a width of 512, and 100 000 steps.",
            "All are compared at one learning rate. At a lower one of its own, training without either loses less: the "
            "right panel shows it.",
            "Measured with one seed: in 150 steps clipping alone loses 0.18 of what is learned, in 600 steps 0.02; "
            "without either, all is lost in both.",
        ),
        width=11.0,
        height=3.8,
    )  # fmt: skip


def numbers_kept(name: str, shape: tuple[int, int]) -> int:
    """How many numbers an optimizer's state has for a matrix after a step, the count of steps left out."""
    weights = nn.Parameter(torch.ones(shape))
    weights.grad = torch.ones(shape)
    optimizer = create(name, [weights])
    optimizer.step()
    return sum(x.numel() for key, x in optimizer.state[weights].items() if key != "step" and isinstance(x, Tensor))


def factoring_gap(noise: float, steps: int = 100) -> float:
    """How far two runs end apart, over the way they went: with row and column means, and with the whole moment.

    Squared gradients are a column times a row, times exp(2 · noise · ξ) with normal ξ that stay as they are.
    """
    random = np.random.default_rng(0)
    size = np.outer(np.exp(random.normal(size=30)), np.exp(random.normal(size=20)))
    size = size * np.exp(noise * random.normal(size=size.shape))
    ends, start = [], random.normal(size=size.shape)
    for factored in (True, False):
        draws = np.random.default_rng(1)
        p, zero = start, np.zeros_like(size)
        r, c, v = np.zeros((30, 1)), np.zeros((1, 20)), zero
        for t in range(1, steps + 1):
            g = size * draws.choice((-1.0, 1.0), size.shape) * draws.uniform(0.5, 2.0)
            held = (r, c, ZERO) if factored else (ZERO, ZERO, v)
            p, r, c, v, _ = adafactor_paper(p, g, *held, ZERO, t=t, factored=factored)
        ends.append(p)
    return float(np.linalg.norm(ends[0] - ends[1]) / np.linalg.norm(ends[1] - start))


def trained(
    task: LanguageModelling, rates: Sequence[float], clipped: str, warmup: float, steps: int, seed: int
) -> list[float]:
    """The held-out losses at all learning rates; of a run that diverged, that of a uniform guess."""
    arm = parse([f"{SLOW},clipped={clipped}"], over=())[0]
    recipe = Recipe(steps=steps, batch=8, warmup=warmup, schedule="inverse_sqrt" if warmup else "constant", clip=None)
    runs = BatchedRuns(task, arm, [{"lr": rate} for rate in rates], recipe, seed)
    runs.run()
    found = [figures["loss"] for figures in runs.evaluate("tuning")]
    return [loss if math.isfinite(loss) else math.log(task.corpus.vocabulary) for loss in found]


def by_frequency(task: LanguageModelling) -> float:
    """The cross-entropy of guessing each byte by its frequency in the training text, on other windows of it."""
    random = torch.Generator().manual_seed(0)
    learned, asked = (task.draw(4096, random, 1)["tokens"].flatten() for _ in range(2))
    counts = torch.bincount(learned, minlength=task.corpus.vocabulary) + 1.0
    return float(-(counts / counts.sum()).log()[asked].mean())


class Block(nn.Module):
    """Attention and a perceptron, each followed by a norm of what it adds to (Vaswani et al. 2017, Section 3.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.expand, self.contract = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.attention_norm, self.mlp_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The stream after the block, (batch, time, width)."""
        q, k, v = (layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        read = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = self.attention_norm(x + self.output(read))
        return self.mlp_norm(x + self.contract(F.relu(self.expand(x))))


class Model(nn.Module):
    """Bytes and their places embedded, blocks, and logits of the next byte."""

    def __init__(self, layers: int, context: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.position = nn.Parameter(0.1 * torch.randn(context, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, time, vocabulary) of tokens (batch, time)."""
        return self.head(self.blocks(self.embedding(tokens) + self.position[: tokens.shape[1]]))


@dataclass(frozen=True)
class PostNorm(LanguageModelling):
    """The task `lm` with another transformer."""

    layers: int = 6

    def new_model(self) -> nn.Module:
        """With new weights."""
        return Model(self.layers, self.window, self.corpus.vocabulary)
