"""Claim 2: AdaGrad's steps die, RMSProp's do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine.explain.claims.claim import Criterion, Evidence, Run, claim
from ravine.explain.claims.fits import exponent
from ravine.explain.claims.walk import Walk
from ravine.explain.figure import series
from ravine.rules.adagrad import adagrad
from ravine.rules.rmsprop import rmsprop

STEPS = 10_000
SETTLED = 1000
"""From this step on the average of RMSProp, over some 100 gradients, has forgotten its start."""

EACH = 20
"""Sequences of gradients for each seed."""

SHOWN = (1, 10, 100, 1000, 10_000)


@claim(
    number=2,
    slug="dying-steps",
    title="AdaGrad's steps die out, RMSProp's do not",
    says="AdaGrad divides by the root of the sum of all squared gradients. The sum only grows, so under gradients of a "
    "constant size the effective learning rate falls like 1/√t, and training in the end stops. RMSProp divides by a "
    "moving average instead and goes on.",
    source="Zeiler 2012, arXiv:1212.5701, Section 3; Tieleman & Hinton 2012, lecture 6.5; "
    "the rule: Duchi, Hazan & Singer 2011",
    criteria=(
        Criterion("adagrad", "exponent k of AdaGrad's effective learning rate ∝ tᵏ", at_least=-0.52, at_most=-0.48),
        Criterion("rmsprop", "the same for RMSProp, from step 1000", at_least=-0.02, at_most=0.02),
        Criterion("adagrad_later", "way of the second half of the run over the first, AdaGrad", at_most=0.5),
        Criterion("rmsprop_later", "the same for RMSProp", at_least=0.9, at_most=1.1),
    ),
)
def dying_steps(run: Run) -> Evidence:
    """Both rules, at their defaults but lr = 1, get normal gradients of mean 0 and standard deviation 1 for 10 000
    steps, in 20 sequences for each seed. The effective learning rate is the step over the gradient; its mean over all
    sequences is fitted by a power of t, from step 100 for AdaGrad, and from step 1000 for RMSProp, whose average is
    over some 100 gradients. The way is that under a constant gradient of 1.
    """
    random = [np.random.default_rng(seed) for seed in run.seeds]
    rates = {rule.title: np.empty(STEPS) for rule in (adagrad, rmsprop)}
    ways = {rule.title: np.empty(STEPS) for rule in (adagrad, rmsprop)}
    gradients = np.stack([np.concatenate([each.standard_normal(EACH) for each in random]) for _ in range(STEPS)])
    for rule in (adagrad, rmsprop):
        walk = Walk(rule, np.zeros(1 + EACH * len(random)), lr=1.0)
        for i, gradient in enumerate(gradients):
            walk.p = np.zeros_like(walk.p)
            rate = -walk.step(np.array([1.0, *gradient])) / np.array([1.0, *gradient])
            rates[rule.title][i], ways[rule.title][i] = rate[1:].mean(), rate[0]
    ways = {name: np.cumsum(way) for name, way in ways.items()}
    t = np.arange(1, STEPS + 1)
    late = {"Adagrad": t >= 100, "RMSprop": t >= SETTLED}
    fitted = {name: exponent(t[late[name]].tolist(), rate[late[name]].tolist()) for name, rate in rates.items()}
    later = {name: (way[-1] - way[STEPS // 2 - 1]) / way[STEPS // 2 - 1] for name, way in ways.items()}

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        at = np.unique(np.geomspace(1, STEPS, 300).astype(int)) - 1
        for i, (name, rate) in enumerate(rates.items()):
            power = round(fitted[name], 2) + 0.0
            left.plot(t[at], rate[at], **series(i), label=rf"{name}: $\propto t^{{{power:.2f}}}$")
            right.plot(t[at], ways[name][at], **series(i), label=name)
        left.plot(t, 1 / np.sqrt(t), color="#777777", linewidth=0.8, zorder=3, label="1/√t")
        left.set(xscale="log", yscale="log", xlabel="step t", ylabel="effective learning rate / lr")
        left.set_title("Normal gradients")
        left.legend()
        right.set(xscale="log", yscale="log", xlabel="step t", ylabel="way / lr")
        right.set_title("A constant gradient")
        right.legend()

    return Evidence(
        values={
            "adagrad": fitted["Adagrad"],
            "rmsprop": fitted["RMSprop"],
            "adagrad_later": later["Adagrad"],
            "rmsprop_later": later["RMSprop"],
        },
        draw=draw,
        table=(
            ("t", "Adagrad: rate / lr", "RMSprop: rate / lr", "Adagrad: way / lr", "RMSprop: way / lr"),
            [(s, *(r[s - 1] for r in rates.values()), *(w[s - 1] for w in ways.values())) for s in SHOWN],
        ),
        remarks=(
            "The gradients here do not shrink. Where they do, AdaGrad's sum grows more slowly and its steps die later.",
            "Steps that do not die are no virtue everywhere: with noise they keep RMSProp from settling, unless lr is "
            "brought down.",
        ),
        width=8.6,
        height=3.6,
    )
