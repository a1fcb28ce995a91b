"""Claim 8: a convex problem on which Adam goes to the worst point."""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine.explain.claims.claim import Criterion, Evidence, Run, claim
from ravine.explain.claims.walk import Walk
from ravine.explain.figure import series
from ravine.rules.adam import adam, amsgrad
from ravine.rules.adopt import adopt

LARGE, PERIOD = 4.0, 3
THEIRS = {"beta1": 0.0, "beta2": 1 / (1 + LARGE**2)}
ARMS = {
    "Adam": (adam, THEIRS),
    "AMSGrad": (amsgrad, THEIRS),
    "ADOPT": (adopt, THEIRS),
    "Adam, β = (0.9, 0.999)": (adam, {}),
}


@claim(
    number=8,
    slug="adam-diverges",
    title="Adam goes to the worst point where AMSGrad and ADOPT go to the best",
    says="There are convex problems, deterministic and stochastic, on which Adam does not converge to the optimum: it "
    "divides a rare large gradient by its own size. AMSGrad, which never lets its second moment shrink, converges "
    "there; and so does ADOPT, which leaves the present gradient out of what it divides by, with any β₂.",
    source="Reddi, Kale & Kumar 2018, arXiv:1904.09237, Theorems 1 to 4; Taniguchi et al. 2024, arXiv:2411.02853, "
    "Section 4",
    criteria=(
        Criterion("adam_cycle", "where Adam ends on the cycle, whose best point is −1", at_least=0.95),
        Criterion("amsgrad_cycle", "the same for AMSGrad", at_most=-0.95),
        Criterion("adopt_cycle", "the same for ADOPT", at_most=-0.95),
        Criterion("adam_drawn", "where Adam ends on drawn gradients, the lowest of all seeds", at_least=0.95),
        Criterion("amsgrad_drawn", "the same for AMSGrad, the highest", at_most=-0.95),
        Criterion("adopt_drawn", "the same for ADOPT, the highest", at_most=-0.95),
        Criterion(
            "adam_customary", "where Adam ends on the cycle with its customary β = (0.9, 0.999)", at_least=0.95,
            scope=True,
        ),
    ),
)  # fmt: skip
def adam_diverges(run: Run) -> Evidence:
    """Losses are C·x at every third step and −x at the two others, C = 4, for x in [−1, 1]: over three steps they sum
    to 2x, so −1 is best. In the stochastic form each step draws C·x with probability 1/3, for each seed. All begin at
    0, with lr = 0.1/√t, β₁ = 0 and β₂ = 1/(1 + C²) as in the proof, and after each step x goes back to the nearest
    point of [−1, 1]. Last, Adam runs with the customary β₁ and β₂. 20 000 steps, quick 10 000.
    """
    steps = run.choose(10_000, 20_000)
    random = [np.random.default_rng(seed) for seed in run.seeds]
    walks = {name: Walk(rule, np.zeros(1 + len(random)), **betas) for name, (rule, betas) in ARMS.items()}
    paths = {name: np.empty((steps, 1 + len(random))) for name in ARMS}
    for i in range(steps):
        drawn = [LARGE if each.random() < 1 / PERIOD else -1.0 for each in random]
        gradient = np.array([LARGE if i % PERIOD == 0 else -1.0, *drawn])
        for name, walk in walks.items():
            walk.p = paths[name][i] = np.clip(walk.step(gradient, lr=0.1 / np.sqrt(i + 1)), -1, 1)
        if i % 1000 == 0:
            run.progress(i, steps)
    # The mean of the last hundredth: single large gradients throw x about by lr.
    ends = {name: path[-steps // 100 :].mean(axis=0) for name, path in paths.items()}

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        at = np.unique(np.geomspace(1, steps, 600).astype(int)) - 1
        for k, title in enumerate(("The cycle C, −1, −1", f"Drawn gradients, {len(random)} seeds")):
            for i, (name, path) in enumerate(paths.items()):
                lines = path[at, :1] if k == 0 else path[at, 1:]
                axes[k].plot(at + 1, lines[:, 0], **series(i), label=name)
                axes[k].plot(at + 1, lines[:, 1:], **{**series(i), "linewidth": 0.7}, alpha=0.6)
            axes[k].set(xscale="log", xlabel="step", title=title)
        axes[0].set(ylabel="x, best at −1", ylim=(-1.08, 1.08))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)

    rows = [(name, ends[name][0], float(ends[name][1:].min()), float(ends[name][1:].max())) for name in ARMS]
    return Evidence(
        values={
            "adam_cycle": ends["Adam"][0],
            "amsgrad_cycle": ends["AMSGrad"][0],
            "adopt_cycle": ends["ADOPT"][0],
            "adam_drawn": float(ends["Adam"][1:].min()),
            "amsgrad_drawn": float(ends["AMSGrad"][1:].max()),
            "adopt_drawn": float(ends["ADOPT"][1:].max()),
            "adam_customary": ends["Adam, β = (0.9, 0.999)"][0],
        },
        draw=draw,
        table=(("rule", "x at the end, cycle", "drawn: lowest", "drawn: highest"), rows),
        remarks=(
            "For every β₁ and β₂ with β₁ < √β₂ there is such a problem, and this one is made for β₂ = 1/17. With the "
            "customary β₂ = 0.999 Adam remembers the large gradients and goes to the best point here; the problem made "
            "for that β₂ has gradients that are far rarer and larger.",
            "The rules are those of the library, with their bias corrections, which the proof leaves out.",
        ),
        width=8.6,
        height=3.8,
    )
