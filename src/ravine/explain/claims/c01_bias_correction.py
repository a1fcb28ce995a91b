"""Claim 1: what the bias correction of Adam corrects."""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine import rule
from ravine.explain.claims.claim import Criterion, Evidence, Run, claim
from ravine.explain.claims.walk import Walk
from ravine.explain.figure import points, series
from ravine.math import sqrt
from ravine.rules.adam import adam

BETA1, BETA2 = 0.9, 0.999
STEPS = 10_000
SHOWN = (1, 2, 5, 10, 20, 50, 100, 1000, 10_000)


@rule(paper="Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1 without its corrections", state={"m": "m", "v": "v"})
def uncorrected(p: Any, g: Any, m: Any, v: Any, *, t: Any,
                lr: Any = 1e-3, beta1: Any = BETA1, beta2: Any = BETA2, eps: Any = 1e-8) -> Any:  # fmt: skip
    """Uncorrected: Adam that uses its averages as they are, though they start at zero."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    p = p - lr * m / (sqrt(v) + eps)
    return p, m, v


@claim(
    number=1,
    slug="bias-correction",
    title="Without bias correction Adam's first steps are too long",
    says="Averages that start at zero are too small at first: after t steps they hold only the part 1 − βᵗ of what "
    "they average. Dividing by it corrects this. Without the correction, and with a β₂ near 1, the first steps of "
    "Adam are much too long: by (1 − β₁ᵗ) / √(1 − β₂ᵗ).",
    source="Kingma & Ba 2015, arXiv:1412.6980, Section 3",
    criteria=(
        Criterion("mean_1", "part of the mean gradient in m at t = 1", at_least=0.0999, at_most=0.1001),
        Criterion("mean_20", "the same at t = 20", at_least=0.878, at_most=0.879),
        Criterion("first", "the first step without correction over the one with", at_least=3.162, at_most=3.163),
        Criterion("formula", "largest relative difference of that ratio from the formula, t ≤ 10 000", at_most=1e-9),
        Criterion("late", "the ratio at t = 10 000", at_least=0.999, at_most=1.001),
    ),
)
def bias_correction(run: Run) -> Evidence:
    """Adam and the same rule without its two corrections get the same gradients for 10 000 steps, at β₁ = 0.9,
    β₂ = 0.999 and ε = 0: a constant gradient, and for each seed a sequence of normal ones with mean 1 and standard
    deviation 3. The ratio of their steps is compared with the formula, for all sequences. The part of the mean gradient
    that is in m is read off the constant one.
    """
    start = np.zeros(1 + len(run.seeds))
    with_it, without = (Walk(r, start, lr=1.0, beta1=BETA1, beta2=BETA2, eps=0.0) for r in (adam, uncorrected))
    random = [np.random.default_rng(seed) for seed in run.seeds]
    t = np.arange(1, STEPS + 1)
    ratio, held = np.empty((STEPS, len(start))), np.empty((STEPS, 2))
    for i in range(STEPS):
        gradient = np.array([1.0, *(1 + 3 * each.standard_normal() for each in random)])
        # From the origin each time: a step is then where it ends, to the last digit.
        with_it.p, without.p = start, start
        ratio[i] = without.step(gradient) / with_it.step(gradient)
        held[i] = without.states["m"][0], without.states["v"][0]
    formula = (1 - BETA1**t) / np.sqrt(1 - BETA2**t)
    longest = int(np.argmax(formula))

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        at = [s - 1 for s in SHOWN]
        for i, (name, beta, half) in enumerate((("m, β₁ = 0.9", BETA1, 6), ("v, β₂ = 0.999", BETA2, 600))):
            left.plot(t, 1 - beta**t, **series(i))
            left.plot(t[at], held[at, i], **points(i), linestyle="none", markersize=5)
            left.text(half, 0.55, name, ha="right", color=points(i)["color"])
        left.set(xscale="log", xlabel="step t", ylabel="part of the mean that is there")
        left.set_title("Averages that start at zero")
        right.plot(t, formula, **series(0), label="(1 − β₁ᵗ) / √(1 − β₂ᵗ)")
        right.plot(t[at], ratio[at, -1], **points(1), linestyle="none", markersize=5, label="normal gradients")
        right.axhline(1.0, color="#777777", linewidth=0.8)
        right.annotate(f"{formula[0]:.2f}", (1, formula[0]), (6, -3), textcoords="offset points", va="top")
        right.annotate(
            f"{formula[longest]:.2f} at t = {t[longest]}", (t[longest], formula[longest]), (4, 5),
            textcoords="offset points",
        )  # fmt: skip
        right.set(xscale="log", xlabel="step t", ylabel="step without over step with", ylim=(0, 7.4))
        right.set_title("How much too long the steps are")
        right.legend(loc="center right")

    return Evidence(
        values={
            "mean_1": held[0, 0],
            "mean_20": held[19, 0],
            "first": ratio[0, 0],
            "formula": float(np.abs(ratio / formula[:, None] - 1).max()),
            "late": ratio[-1, 0],
        },
        draw=draw,
        table=(
            ("t", "1 − β₁ᵗ", "1 − β₂ᵗ", "formula", "measured"),
            [(s, 1 - BETA1**s, 1 - BETA2**s, formula[s - 1], ratio[s - 1, -1]) for s in SHOWN],
        ),
        remarks=(
            f"The ratio grows before it falls: steps are longest, {formula[longest]:.2f} times too long, at "
            f"t = {t[longest]}.",
            "A warm-up that begins below a sixth of the learning rate hides this. What the longer steps cost depends "
            "on the problem, and is not asked here.",
        ),
        width=8.6,
        height=3.6,
    )
