"""Claim 17: Lion ignores the gradient's scale, keeps half the state, and wants a smaller learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine.explain import figure as pictures
from ravine.explain.claims.claim import Criterion, Evidence, Run, claim
from ravine.explain.claims.fits import lowest

if TYPE_CHECKING:
    from torch import Tensor

POWERS = tuple(2.0**k for k in range(-40, 41, 4))
OTHER = (1e-6, 1 / 3, 1000 / 7, 1e6)
NAMES = {"adamw": "AdamW", "lion": "Lion"}
RATES = {
    "adamw": [float(rate) for rate in np.geomspace(2e-3, 6e-2, 7)],
    "lion": [float(rate) for rate in np.geomspace(5e-4, 1.5e-2, 7)],
}


@claim(
    number=17,
    slug="lion",
    title="Lion ignores the gradient's scale, keeps half the state, and wants a smaller learning rate",
    says="Lion's step is a sign: every element moves by the learning rate, whatever the size of the gradients. It "
    "keeps a momentum alone, half of what AdamW keeps. Since the sign makes longer updates than AdamW's, a suitable "
    "learning rate is typically 3 to 10 times smaller than AdamW's.",
    source="Chen et al. 2023, arXiv:2302.06675, Sections 3.2 and 5",
    criteria=(
        Criterion(
            "powers", "largest difference of the weights where gradients are multiplied by powers of two, 2⁻⁴⁰ to 2⁴⁰",
            at_most=0.0,
        ),
        Criterion("factors", "the same for 10⁻⁶, 1/3, 1000/7 and 10⁶, in float64", at_most=1e-12),
        Criterion("state", "bytes of Lion's state over AdamW's, of a transformer", at_most=0.5),
        Criterion("rate", "AdamW's best learning rate over Lion's", at_least=3.0, at_most=10.0),
    ),
)  # fmt: skip
def lion(run: Run) -> Evidence:
    """Scale: 1000 weights take 50 steps along gradients of many sizes, then again along the same gradients times a
    factor. How far the weights are apart at the end is compared, for Lion and for AdamW with its ε of 1e-8.

    State: both optimizers take a step on a small transformer, and the bytes of its parameters' states are counted.

    Learning rate: the transformer learns to predict the next byte of Python's standard library at seven learning rates
    for each optimizer, without weight decay, with a linear warm-up over a tenth of the steps and a linear decline. The
    best one is the vertex of the parabola through the lowest held-out loss and its neighbours; the ratio is the
    geometric mean over the seeds, two of them in the quick form.
    """
    from ravine.lab.study.arms import parse
    from ravine.lab.sweep import BatchedRuns
    from ravine.lab.tasks import make
    from ravine.lab.training import Recipe

    moved = {name: [scale_gap(name, c) for c in (*POWERS, *OTHER)] for name in NAMES}
    task = make("lm", size="tiny")
    recipe = Recipe(steps=run.choose(300, 1000), batch=8, warmup=0.1, schedule="linear")
    losses: dict[str, list[list[float]]] = {name: [] for name in NAMES}
    seeds, done = run.seeds[: run.choose(2, None)], 0
    for seed in seeds:
        for name, rates in RATES.items():
            arm = parse([f"{name}:weight_decay=0"], over=())[0]
            runs = BatchedRuns(task, arm, [{"lr": rate} for rate in rates], recipe, seed)
            runs.run()
            losses[name].append([figures["loss"] for figures in runs.evaluate("tuning")])
            run.progress(done := done + 1, len(seeds) * len(NAMES))
    best = {name: [lowest(RATES[name], one) for one in of] for name, of in losses.items()}
    ratios = [a / b for a, b in zip(best["adamw"], best["lion"], strict=True)]
    bytes_of = {name: state_bytes(name) for name in NAMES}

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        order = np.argsort([*POWERS, *OTHER])
        for i, (name, label) in enumerate(NAMES.items()):
            x, y = np.asarray([*POWERS, *OTHER])[order], np.asarray(moved[name])[order]
            left.plot(x, y, **pictures.points(i), label=label, markersize=4)
            middle = np.mean(losses[name], 0)
            right.plot(RATES[name], middle, **pictures.points(i), markersize=4, label=label)
            for one in losses[name]:
                right.plot(RATES[name], one, color=pictures.COLOURS[i], alpha=0.3, linewidth=0.8)
            centre = math.exp(np.mean(np.log(best[name])))
            right.axvline(centre, color=pictures.COLOURS[i], linestyle=":", linewidth=1.2)
        left.set_xscale("log", base=2)
        left.set_yscale("symlog", linthresh=1e-4)
        left.set(
            ylim=(-2e-5, 200), xlabel="gradients multiplied by", ylabel="largest difference of the weights, in lr",
            title="After 50 steps along scaled gradients",
        )  # fmt: skip
        right.set_xscale("log")
        right.set(
            xlabel="learning rate", ylabel="held-out loss, nats per byte",
            title=f"A small transformer, {recipe.steps} steps",
        )  # fmt: skip
        left.legend()
        right.legend()

    return Evidence(
        values={
            "powers": max(moved["lion"][: len(POWERS)]),
            "factors": max(moved["lion"][len(POWERS) :]),
            "state": bytes_of["lion"] / bytes_of["adamw"],
            "rate": math.exp(np.mean(np.log(ratios))),
        },
        draw=draw,
        table=(
            ("optimizer", "state, bytes per parameter", "best learning rate", "held-out loss there, nats per byte"),
            [
                (NAMES[name], bytes_of[name], math.exp(np.mean(np.log(best[name]))), float(np.mean(np.min(of, 1))))
                for name, of in losses.items()
            ],
        ),
        remarks=(
            f"By seed, AdamW's best learning rate is {', '.join(f'{ratio:.1f}' for ratio in ratios)} times Lion's.",
            "The ratio grows with the length of the run: about 2 in 200 to 500 steps, 5.8 in 1000 (one seed). In "
            "short ones gradients still agree from step to step, so that AdamW's steps are nearly as long.",
        ),
        width=9.0,
        height=3.8,
    )  # fmt: skip


def gradients(steps: int = 50, count: int = 1000) -> Tensor:
    """Of many sizes, from 10⁻⁴ to 1, and random signs: (steps, count), float64."""
    import torch

    random = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-4, 0, count, dtype=torch.float64)
    return sizes * torch.randn(steps, count, generator=random, dtype=torch.float64)


def scale_gap(name: str, factor: float) -> float:
    """How far weights end apart, in units of the learning rate, if all gradients are multiplied by a factor."""
    import torch

    from ravine.optim import create

    ends = []
    for c in (1.0, factor):
        weights = torch.nn.Parameter(torch.zeros(1000, dtype=torch.float64))
        optimizer = create(name, [weights], lr=1.0, weight_decay=0.0)
        for gradient in gradients():
            weights.grad = c * gradient
            optimizer.step()
        ends.append(weights.detach())
    return float((ends[1] - ends[0]).abs().max())


def state_bytes(name: str) -> float:
    """Bytes of state per parameter that an optimizer has after a step on a small transformer; counters left out."""
    import torch

    from ravine.lab.tasks import make
    from ravine.optim import create

    task = make("lm", size="tiny")
    model = task.new_model()
    optimizer = create(name, model.parameters())
    task.loss(model, task.draw(1, torch.Generator().manual_seed(0), 1)).backward()
    optimizer.step()
    kept = sum(
        value.nbytes
        for state in optimizer.state.values()
        for key, value in state.items()
        if key != "step" and isinstance(value, torch.Tensor)
    )
    return kept / sum(p.numel() for p in model.parameters())
