"""Claim 5: an L2 penalty is weight decay in plain SGD, and not in Adam."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

import ravine
from ravine import rule
from ravine.explain.claims.claim import Criterion, Evidence, Run, claim
from ravine.explain.claims.paths import NewOptimizer, path, softmax_regression
from ravine.explain.figure import points, series
from ravine.rules.adam import adam
from ravine.rules.sgd import sgd

DECAY = 1e-3
LR = {"SGD": 0.1, "SGD, momentum 0.9": 0.1, "Adam": 1e-3}
FACTORS = tuple(float(x) for x in np.geomspace(1e-2, 10, 10))
"""L2 penalties that are tried, over λ/α."""

LOWEST = 1e-3
"""Of the figure."""


@rule(paper="Loshchilov & Hutter 2019, arXiv:1711.05101, Equation 1")
def decayed(p: Any, g: Any, *, t: Any, lr: Any = 0.1, shrink: Any = DECAY) -> Any:
    """Decayed: gradient descent whose weights first shrink by a part."""
    p = (1 - shrink) * p - lr * g
    return (p,)


@claim(
    number=5,
    slug="l2-and-decay",
    title="L2 and weight decay are the same in SGD, and not in Adam",
    says="Decaying the weights by λ at each step is the same as an L2 penalty of λ' = λ/α in the gradient for SGD with "
    "learning rate α. For an adaptive method such as Adam no L2 penalty has the effect of weight decay.",
    source="Loshchilov & Hutter 2019, arXiv:1711.05101, Propositions 1 and 2",
    criteria=(
        Criterion("sgd", "distance of the two ends over the effect of the decay, SGD, λ' = λ/α", at_most=1e-10),
        Criterion("adam", "the same for Adam, λ' = λ/α", at_least=0.05),
        Criterion("adam_best", "the same for Adam, the best λ' of 10", at_least=0.05),
        Criterion("momentum", "the same for SGD with momentum 0.9, λ' = λ/α", at_most=1e-10, scope=True),
        Criterion("momentum_best", "the same for SGD with momentum 0.9, the best λ' of 10", at_most=1e-10, scope=True),
    ),
)
def l2_and_decay(run: Run) -> Evidence:
    """Softmax regression on handwritten digits from zero weights, in float64, with batches of 64, for 200 steps and one
    seed of the batches (quick) or 2000 and all. Each rule runs without decay, with weights that shrink by λ = 0.001 a
    step, written as in the paper for SGD, and with ten L2 penalties from 0.01 to 10 times λ/α, on the same batches. The
    distance between the ends with decay and with a penalty is divided by that between the ends with decay and without,
    which is what the decay does. The largest over the seeds counts where it should be nothing, else the smallest.
    """
    steps, seeds = run.choose((200, run.seeds[:1]), (2000, run.seeds))
    gaps = {name: np.empty((len(seeds), len(FACTORS))) for name in LR}
    for i, seed in enumerate(seeds):
        for name, lr in LR.items():
            free, shrunk = (_end(_decayed(name, decay), steps, seed) for decay in (0.0, DECAY))
            for k, factor in enumerate(FACTORS):
                penalised = _end(_penalised(name, factor * DECAY / lr), steps, seed)
                gaps[name][i, k] = (penalised - shrunk).norm() / (shrunk - free).norm()
        run.progress(i + 1, len(seeds))
    (one,) = np.flatnonzero(np.isclose(FACTORS, 1.0))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for i, (name, gap) in enumerate(gaps.items()):
            shown = np.maximum(gap.mean(axis=0), LOWEST)
            axes.plot(FACTORS, shown, **{**series(i), **points(i)}, label=name, clip_on=False)
        axes.annotate(
            f"SGD at λ' = λ/α:\n{gaps['SGD'][:, one].max():.0e}", (0.93, LOWEST), (0.12, 3 * LOWEST),
            arrowprops={"arrowstyle": "->", "color": points(0)["color"]}, color=points(0)["color"],
        )  # fmt: skip
        axes.axhline(1.0, color="#777777", linewidth=0.8)
        axes.set(xscale="log", yscale="log", ylim=(LOWEST, 30), xlabel="L2 penalty λ' / (λ/α)")
        axes.set(ylabel="distance / effect of the decay", title="How far an L2 penalty is from weight decay")
        axes.legend(loc="upper left")

    plain, momentum, adams = gaps.values()
    return Evidence(
        values={
            "sgd": float(plain[:, one].max()),
            "adam": float(adams[:, one].min()),
            "adam_best": float(adams.min()),
            "momentum": float(momentum[:, one].max()),
            "momentum_best": float(momentum.min(axis=1).max()),
        },
        draw=draw,
        table=(
            ("λ' / (λ/α)", *LR),
            [(f"{x:.3g}", *(float(gap[:, k].mean()) for gap in gaps.values())) for k, x in enumerate(FACTORS)],
        ),
        remarks=(
            "With momentum the penalty goes through the sum of gradients, which makes it 1/(1 − 0.9) = 10 times as "
            "strong, and late. A tenth of λ/α comes near the decay, and is not the same.",
            "That they differ does not say which is better.",
        ),
    )


def _decayed(name: str, decay: float) -> NewOptimizer:
    """Weights that shrink by a part at each step. The schedule of the form of that name is constant here."""
    if name == "SGD":
        return lambda p: ravine.optimizer(decayed)(p, lr=LR[name], shrink=decay, engine="reference")
    return lambda p: _optimizer(name)(p, weight_decay=decay, decay="schedule")


def _penalised(name: str, penalty: float) -> NewOptimizer:
    return lambda p: _optimizer(name)(p, weight_decay=penalty, decay="l2")


def _optimizer(name: str) -> Any:
    more: dict[str, Any] = {"momentum": 0.9} if "momentum" in name else {}
    return partial(ravine.optimizer(adam if name == "Adam" else sgd), lr=LR[name], engine="reference", **more)


def _end(new: NewOptimizer, steps: int, seed: int) -> Tensor:
    return path(softmax_regression(), new, steps, seed).weights[-1]
