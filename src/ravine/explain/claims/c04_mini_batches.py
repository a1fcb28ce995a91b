"""Claim 4: a batch of B examples has a B-th of the variance, and small batches descend for less."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ravine.explain import figure as pictures
from ravine.explain.claims.claim import Criterion, Evidence, Run, claim
from ravine.explain.claims.fits import exponent

if TYPE_CHECKING:
    from torch import Tensor

    from ravine.lab.tasks.digits import Digits

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
TARGET = 0.3


class Descent(NamedTuple):
    """The training loss along a run: after how many gradients of single examples, and how many seconds."""

    evaluations: list[int]
    seconds: list[float]
    losses: list[float]

    @property
    def to_target(self) -> float:
        """Gradients until the training loss is at most `TARGET`, infinite if it never is."""
        return next((n for n, loss in zip(self.evaluations, self.losses, strict=True) if loss <= TARGET), math.inf)


@claim(
    number=4,
    slug="mini-batches",
    title="A batch of B examples has a B-th of the gradient's variance, and small batches descend for less",
    says="The mean of the gradients of B examples drawn independently is unbiased and has a B-th of the variance of "
    "one; drawn without replacement from N, (N − B)/(N − 1) of that. Since a step costs B gradients, descent with "
    "small batches gets near the minimum after far fewer gradients than descent with all examples at once.",
    source="Bottou, Curtis & Nocedal 2018, arXiv:1606.04838, Sections 3.3 and 5.2",
    criteria=(
        Criterion("with_replacement", "exponent of the variance in B, drawn with replacement", -1.05, -0.95),
        Criterion("without_replacement", "the same without, over (N − B)/(N − 1)", -1.05, -0.95),
        Criterion(
            "correction", "largest deviation from σ²/B · (N − B)/(N − 1), as a fraction of it", at_most=0.1
        ),
        Criterion(
            "stochastic", "gradients that batches of 1 need to a loss of 0.3, over those that all at once need",
            at_most=1 / 3,
        ),
        Criterion("mini_batch", "the same for batches of 32", at_most=1 / 3),
    ),
    needs=("sklearn",),
)  # fmt: skip
def mini_batches(run: Run) -> Evidence:
    """Variance: the gradients of all N training examples are computed one by one, at the initial weights of a small
    perceptron on handwritten digits. Batches of 1 to 1024 are drawn from them, with and without replacement, and the
    squared distances of their means from the mean of all are averaged.

    Descent: SGD with batches of 1, of 32 and of all examples trains the network. Each has the best of six constant
    learning rates, chosen on a seed of its own. What counts is how many gradients of single examples it takes until
    the training loss is 0.3 nats, an eighth of that of guessing: the geometric mean over the seeds. Seconds are shown,
    and decide nothing.
    """
    from ravine.lab.tasks.digits import Digits

    task = Digits("tiny")
    count = len(task.tensors["training"][1])
    draws = run.choose(300, 3000)
    single, (drawn, apart) = variances(task, draws, run.seeds[0])
    finite = [(count - size) / (count - 1) for size in SIZES]
    deviations = [abs(v * size / (single * f) - 1) for v, size, f in zip(apart, SIZES, finite, strict=True)]
    epochs = {1: run.choose(3, 30), 32: run.choose(30, 100), count: 300}
    searched = {1: run.choose(1, 10), 32: 30, count: 300}
    runs: dict[int, list[Descent]] = {}
    rates: dict[int, float] = {}
    total, done = len(epochs) * (len(RATES) + len(run.seeds)), 0
    for size, length in epochs.items():
        trials = []
        for rate in RATES:
            trials.append(descend(task, size, rate, searched[size], seed=0))
            run.progress(done := done + 1, total)
        best = min(range(len(RATES)), key=lambda i: (trials[i].to_target, trials[i].losses[-1]))
        rates[size], runs[size] = RATES[best], []
        for seed in run.seeds:
            runs[size].append(descend(task, size, RATES[best], length, seed))
            run.progress(done := done + 1, total)
    needed = {size: math.exp(np.mean([math.log(one.to_target) for one in of])) for size, of in runs.items()}

    def draw(figure: Any) -> None:
        left, middle, right = figure.subplots(1, 3)
        left.loglog(SIZES, [single / size for size in SIZES], color="#888888", label="σ²/B")
        left.loglog(SIZES, drawn, **pictures.points(0), linestyle="none", label="with replacement")
        left.loglog(SIZES, apart, **pictures.points(1), linestyle="none", fillstyle="none", label="without")
        exact = [single / size * f for size, f in zip(SIZES, finite, strict=True)]
        left.loglog(SIZES, exact, **pictures.series(1), linewidth=1, label="σ²/B · (N − B)/(N − 1)")
        left.set(xlabel="batch size B", ylabel="variance of the batch's gradient", title="Variance")
        left.legend()
        for i, (size, of) in enumerate(runs.items()):
            name = f"{'all ' if size == count else ''}{size}, lr {rates[size]:g}"
            x, y = np.asarray(of[0].evaluations) / count, np.asarray([one.losses for one in of])
            seconds = np.mean([one.seconds for one in of], 0)
            for axes, across in ((middle, x), (right, seconds)):
                axes.loglog(across, y.mean(0), **pictures.series(i), label=name)
                axes.fill_between(across, y.min(0), y.max(0), color=pictures.COLOURS[i], alpha=0.2, linewidth=0)
        for axes in (middle, right):
            axes.axhline(TARGET, color="#888888", linewidth=1)
            axes.set_ylabel("training loss, nats")
        middle.set(xlabel="gradients of single examples, in epochs", title="Descent against work")
        right.set(xlabel="seconds on this machine", title="Descent against time")
        middle.legend(title="batch size")

    return Evidence(
        values={
            "with_replacement": exponent(SIZES, drawn),
            "without_replacement": exponent(SIZES, [v / f for v, f in zip(apart, finite, strict=True)]),
            "correction": max(deviations),
            "stochastic": needed[1] / needed[count],
            "mini_batch": needed[32] / needed[count],
        },
        draw=draw,
        table=(
            ("batch size", "learning rate", "gradients to 0.3 nats", "epochs", "steps", "last loss"),
            [
                (size, rates[size], needed[size], needed[size] / count, needed[size] / size,
                 float(np.mean([one.losses[-1] for one in of])))
                for size, of in runs.items()
            ],
        ),
        remarks=(
            f"N = {count}. A step with few examples leaves most of a machine idle: what batches of 1 save in "
            "gradients they lose in seconds, and how much depends on the machine.",
            "With a constant learning rate a small batch stays at a distance from the minimum, in proportion to its "
            "gradient's variance; the training here ends before this matters.",
        ),
        width=11.0,
        height=3.8,
    )  # fmt: skip


def variances(task: Digits, draws: int, seed: int) -> tuple[float, tuple[list[float], list[float]]]:
    """σ² of one example's gradient, and the variances of batches of `SIZES`, with and without replacement."""
    import torch

    from ravine.lab.training.run import Loss

    torch.manual_seed(seed)
    loss = Loss(task, task.new_model().double())
    images, labels = task.tensors["training"]
    weights = {name: p.detach() for name, p in loss.named_parameters()}

    def of_one(values: dict[str, Tensor], image: Tensor, label: Tensor) -> Any:
        return torch.func.functional_call(loss, values, ({"images": image[None], "labels": label[None]},))

    each = torch.func.vmap(torch.func.grad(of_one), (None, 0, 0))(weights, images.double(), labels)
    gradients = torch.cat([g.flatten(1) for g in each.values()], 1)
    gradients -= gradients.mean(0)
    count = len(gradients)
    products = gradients @ gradients.T
    found: tuple[list[float], list[float]] = ([], [])
    random = torch.Generator().manual_seed(seed)
    for size in SIZES:
        for replacement in (True, False):
            chosen = torch.zeros(draws, count, dtype=torch.float64)
            for row in chosen:
                picked = torch.randint(count, (size,), generator=random)
                if not replacement:
                    picked = torch.randperm(count, generator=random)[:size]
                row.index_add_(0, picked, torch.full((size,), 1 / size, dtype=torch.float64))
            squared = ((chosen @ products) * chosen).sum(1)
            found[0 if replacement else 1].append(float(squared.mean()))
    return float(products.diagonal().mean()), found


def descend(task: Digits, size: int, rate: float, epochs: int, seed: int) -> Descent:
    """SGD with batches of a size; all examples are one batch, drawn without replacement."""
    import torch

    import ravine

    torch.manual_seed(seed)
    model = task.new_model()
    optimizer = ravine.SGD(model.parameters(), lr=rate)
    images, labels = task.tensors["training"]
    everything = {"images": images, "labels": labels}
    count = len(labels)
    random = torch.Generator().manual_seed(seed)
    steps = epochs * count // size
    looks = sorted({round(step) for step in np.geomspace(1, steps, 60)})
    made = Descent([], [], [])
    seconds = 0.0
    for step in range(1, steps + 1):
        start = time.perf_counter()
        batch = everything if size == count else task.draw(size, random, step)
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
        seconds += time.perf_counter() - start
        if step in looks:
            with torch.no_grad():
                loss = task.loss(model, everything).item()
            made.evaluations.append(step * size)
            made.seconds.append(seconds)
            made.losses.append(loss if math.isfinite(loss) else math.inf)
    return made
