"""Claim 19: Adam's second moment approximates the diagonal of the Fisher information."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ravine.explain import figure as pictures
from ravine.explain.claims.claim import Criterion, Evidence, Run, claim

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ravine.lab.tasks.digits import Digits

BATCH = 32
ARMS = {"v̂, batches of 32": BATCH, "v̂, all examples": None}
LOOKS = 8


class Diagonals(NamedTuple):
    """One number for each weight: of the Fisher information, of the empirical Fisher, and Adam's v̂."""

    fisher: np.ndarray
    empirical: np.ndarray
    second_moment: np.ndarray


@claim(
    number=19,
    slug="fisher",
    title="Adam's second moment approximates the diagonal of the Fisher information",
    says="Adam's v̂ is an approximation of the diagonal of the Fisher information matrix, so Adam adapts to the "
    "geometry of the data, more cautiously than natural gradient descent does. Kunstner, Hennig and Balles object: "
    "squared gradients at the labels of the data are the empirical Fisher, which can be far from the Fisher "
    "information.",
    source="Kingma & Ba 2015, arXiv:1412.6980, Section 5; Kunstner, Hennig & Balles 2019, arXiv:1905.12558",
    criteria=(
        Criterion(
            "rank", "Spearman's correlation of v̂ and the true diagonal over all weights at the end of training; "
            "lowest of the seeds", at_least=0.7,
        ),
        Criterion("start", "the same after 10 steps", at_least=0.7, scope=True),
        Criterion(
            "size", "median of B · v̂ over the true diagonal at the end, mean of the seeds", at_least=0.5, at_most=2.0,
            scope=True,
        ),
        Criterion(
            "all_examples", "the first, where Adam sees the gradient of all examples without noise", at_least=0.7,
            scope=True,
        ),
    ),
    needs=("sklearn",),
)  # fmt: skip
def fisher(run: Run) -> Evidence:
    """Adam trains a small perceptron on handwritten digits, with batches of 32 and, for comparison, with all examples
    at once. Along the way three diagonals are computed for all 2410 weights: that of the true Fisher information, the
    mean over the images of the expected squared gradient of the log-likelihood, the label being distributed as the
    model says; the empirical Fisher, with the label of the data instead; and Adam's v̂, its second moment with the bias
    corrected. A mini-batch's gradient is mostly noise, whose variance is the empirical Fisher over B, so the sizes are
    compared for B · v̂. Correlations are of ranks; weights whose true diagonal is zero, those of silent units, are left
    out.
    """
    from ravine.lab.tasks.digits import Digits

    task = Digits("tiny")
    steps = run.choose(1000, 5000)
    looks = sorted({10, *(round(x) for x in np.geomspace(10, steps, LOOKS))})
    found: dict[str, list[dict[int, Diagonals]]] = {name: [] for name in ARMS}
    done = 0
    for seed in run.seeds:
        for name, batch in ARMS.items():
            found[name].append(train(task, batch, looks, seed))
            run.progress(done := done + 1, len(run.seeds) * len(ARMS))
    noisy, exact = found.values()

    def correlations(of: list[dict[int, Diagonals]], field: str) -> np.ndarray:
        return np.asarray([[spearman(getattr(one[t], field), one[t].fisher) for t in looks] for one in of])

    def sizes(field: str, factor: float) -> np.ndarray:
        return np.asarray([[ratio(factor * getattr(one[t], field), one[t].fisher) for t in looks] for one in noisy])

    rank, all_examples = correlations(noisy, "second_moment"), correlations(exact, "second_moment")
    of_empirical = correlations(noisy, "empirical")
    size, of_empirical_size = sizes("second_moment", BATCH), sizes("empirical", 1)

    measured = (rank, of_empirical, all_examples, size, of_empirical_size)

    def draw(figure: Any) -> None:
        left, middle, right = figure.subplots(1, 3)
        last = noisy[0][looks[-1]]
        some = last.fisher > 0
        left.loglog(
            last.fisher[some], BATCH * last.second_moment[some], ".", markersize=2, alpha=0.4,
            color=pictures.COLOURS[0],
        )  # fmt: skip
        span = np.quantile(last.fisher[some], (0.001, 1))
        left.loglog(span, span, color="#888888", linewidth=1)
        left.set(xlabel="true diagonal", ylabel="B · v̂", title=f"Every weight, step {looks[-1]}", xlim=span / (2, 0.5))
        lines = ((rank, "v̂, batches of 32"), (of_empirical, "empirical Fisher"), (all_examples, "v̂, all examples"))
        for i, (values, label) in enumerate(lines):
            middle.semilogx(looks, values.mean(0), **pictures.series(i), label=label)
            middle.fill_between(looks, values.min(0), values.max(0), color=pictures.COLOURS[i], alpha=0.2, linewidth=0)
        middle.set(xlabel="step", ylabel="rank correlation with the true diagonal", title="Order", ylim=(0, 1.02))
        middle.legend(loc="center right", bbox_to_anchor=(1, 0.58))
        for i, (values, label) in enumerate(((size, "B · v̂, batches of 32"), (of_empirical_size, "empirical Fisher"))):
            right.semilogx(looks, values.mean(0), **pictures.series(i), label=label)
            right.fill_between(looks, values.min(0), values.max(0), color=pictures.COLOURS[i], alpha=0.2, linewidth=0)
        right.axhline(1, color="#888888", linewidth=1)
        right.set(xlabel="step", ylabel="median, over the true diagonal", title="Size", ylim=(0, 2))
        right.legend()

    return Evidence(
        values={
            "rank": float(rank[:, -1].min()),
            "start": float(rank[:, 0].min()),
            "size": float(size[:, -1].mean()),
            "all_examples": float(all_examples[:, -1].min()),
        },
        draw=draw,
        table=(
            ("step", "order: v̂", "empirical Fisher", "v̂, all examples", "size: B · v̂", "empirical Fisher"),
            [(t, *(float(values[:, i].mean()) for values in measured)) for i, t in enumerate(looks)],
        ),
        remarks=(
            "Natural gradient descent divides by the diagonal itself, Adam by its root: even an exact v̂ would not make "
            "Adam a natural gradient method.",
            "v̂ remembers about a thousand steps, while the diagonal is that of the weights as they are.",
        ),
        width=11.0,
        height=3.8,
    )  # fmt: skip


def train(task: Digits, batch: int | None, looks: list[int], seed: int) -> dict[int, Diagonals]:
    """Adam's run, and the diagonals after the steps in `looks`; `batch` None: all examples in every step."""
    import torch

    import ravine

    torch.manual_seed(seed)
    model = task.new_model()
    optimizer = ravine.Adam(model.parameters(), lr=1e-3)
    images, labels = task.tensors["training"]
    random = torch.Generator().manual_seed(seed)
    found = {}
    for step in range(1, looks[-1] + 1):
        drawn = {"images": images, "labels": labels} if batch is None else task.draw(batch, random, step)
        optimizer.zero_grad()
        task.loss(model, drawn).backward()
        optimizer.step()
        if step in looks:
            beta2 = optimizer.param_groups[0]["betas"][1]
            v = torch.cat([optimizer.state[p]["exp_avg_sq"].flatten() for p in model.parameters()])
            found[step] = Diagonals(*fisher_diagonals(model, images, labels), (v / (1 - beta2**step)).double().numpy())
    return found


def fisher_diagonals(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The diagonals of the true and of the empirical Fisher information of a classifier, (weights,) each.

    The true one is exact: of every class the squared gradient is computed, and weighted with the model's probability.
    """
    import torch

    weights = {name: p.detach() for name, p in model.named_parameters()}

    def log_likelihoods(values: Mapping[str, Tensor], image: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.func.functional_call(model, dict(values), (image[None],))[0].log_softmax(0)
        return found, found

    both = torch.zeros(2, sum(p.numel() for p in weights.values()), dtype=torch.float64)
    each = torch.func.vmap(torch.func.jacrev(log_likelihoods, has_aux=True), (None, 0))
    for some, of in zip(images.split(256), labels.split(256), strict=True):
        by_weight, logs = each(weights, some)
        squares = torch.cat([x.flatten(2) for x in by_weight.values()], 2).double().square()  # (B, classes, weights)
        both[0] += torch.einsum("bc,bcw->w", logs.exp().double(), squares)
        both[1] += squares[torch.arange(len(of)), of].sum(0)
    true, empirical = (both / len(images)).numpy()
    return true, empirical


def spearman(values: np.ndarray, true: np.ndarray) -> float:
    """The correlation of ranks over the weights whose true diagonal is not zero."""
    from scipy.stats import spearmanr

    some = true > 0
    return float(spearmanr(values[some], true[some]).statistic)


def ratio(values: np.ndarray, true: np.ndarray) -> float:
    """The median quotient over the weights whose true diagonal is not zero; NaN if all are."""
    some = true > 0
    return float(np.median(values[some] / true[some])) if some.any() else math.nan
