"""Claim 13: in muP activations keep their size at all widths, and so does the best learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine.explain import figure as pictures
from ravine.explain.claims.claim import Criterion, Evidence, Run, claim
from ravine.explain.claims.fits import exponent, lowest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ravine.lab.tasks.digits import Digits

BASE, BATCH = 32, 64
KINDS = {"standard": "Standard parametrization", "mup": "muP"}
LAYERS = {"hidden.0": "first layer", "hidden.1": "second layer", "head": "readout"}
RATES = [float(rate) for rate in np.geomspace(1e-3, 0.3, 11)]


@claim(
    number=13,
    slug="mup",
    title="In muP activations do not grow with the width, and the best learning rate does not move",
    says="In the standard parametrization a wider network's activations change more in a step of Adam, and the best "
    "learning rate falls with the width. In the maximal update parametrization neither depends on the width, so a "
    "learning rate tuned on a narrow network serves a wide one.",
    source="Yang et al. 2022, arXiv:2203.03466, Figures 1 and 5, Appendix D.1",
    criteria=(
        Criterion(
            "flat", "steepest exponent of the width by which a layer's outputs change in size, in muP after 5 steps",
            at_most=0.2,
        ),
        Criterion("growing", "the same in the standard parametrization", at_least=0.2),
        Criterion(
            "transfer", "exponent of the width by which the best learning rate moves in muP", at_least=-0.25,
            at_most=0.25,
        ),
        Criterion("moving", "the same in the standard parametrization", at_most=-0.5),
    ),
    needs=("sklearn",),
)  # fmt: skip
def mup(run: Run) -> Evidence:
    """A perceptron with two hidden layers learns handwritten digits with Adam at widths from 32 on, in torch's standard
    parametrization, and in muP with the narrowest network as base: there both are the same network.

    Coordinate check: five steps on one batch at the learning rate 0.01, the readout beginning at zero. The mean of the
    outputs' absolute values is fitted by a power of the width for each linear layer, and the steepest exponent counts.

    Transfer: 100 steps on batches of 64 at eleven constant learning rates. The training loss at the end, in logarithms,
    is averaged over the seeds, and its lowest point is found by a parabola. The best learning rate is fitted by a power
    of the width: it should be 0 in muP, and −1 without, by the theory of wide networks.
    """
    import torch

    from ravine.lab.tasks.digits import Digits
    from ravine.optim.mup import coordinate_check

    task = Digits("tiny")
    widths = run.choose((32, 64, 128, 256), (32, 64, 128, 256, 512, 1024))
    batch = task.draw(BATCH, torch.Generator().manual_seed(0), 1)
    checks = {
        kind: coordinate_check(
            lambda width, kind=kind: network(kind, width, 0.01, zero=True),  # type: ignore[misc]
            widths, lambda model: task.loss(model, batch), steps=5, seeds=len(run.seeds),
        )
        for kind in KINDS
    }  # fmt: skip
    slopes = {kind: {name: check.slope(name, 5) for name in check.sizes} for kind, check in checks.items()}
    losses: dict[str, dict[int, np.ndarray]] = {kind: {} for kind in KINDS}
    done, total = 0, len(KINDS) * len(widths) * len(run.seeds)
    for kind in KINDS:
        for width in widths:
            of = []
            for seed in run.seeds:
                of.append([trained(task, kind, width, rate, seed) for rate in RATES])
                run.progress(done := done + 1, total)
            losses[kind][width] = np.exp(np.mean(np.log(of), 0))
    best = {kind: [lowest(RATES, np.log(of)) for of in by_width.values()] for kind, by_width in losses.items()}

    def draw(figure: Any) -> None:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes = figure.subplots(1, 4)
        shades = shades_of(len(widths))
        for i, (kind, label) in enumerate(KINDS.items()):
            for j, name in enumerate(LAYERS):
                sizes = checks[kind].sizes[name][5]
                style = {**pictures.series(i), "linestyle": pictures.DASHES[j], "marker": pictures.MARKERS[j]}
                axes[0].loglog(widths, sizes, **style, markersize=4, label=label if j == 0 else None)
            axes[3].loglog(widths, best[kind], **pictures.points(i), label=label)
            for shade, (width, of) in zip(shades, losses[kind].items(), strict=True):
                axes[1 + i].loglog(RATES, of, color=shade, label=str(width))
            axes[1 + i].set(xlabel="learning rate", ylabel="training loss, nats", title=label)
        axes[1].legend(title="width")
        high = max(float(of[np.isfinite(of)].max()) for by_width in losses.values() for of in by_width.values())
        low = min(float(of.min()) for by_width in losses.values() for of in by_width.values())
        for one in axes[1:3]:
            one.set_ylim(low * 0.7, min(high, 10) * 1.4)
        axes[0].set(xlabel="width", ylabel="mean |output| after 5 steps", title="Size of outputs")
        axes[3].set(xlabel="width", ylabel="best learning rate", title="Best learning rate")
        for j, name in enumerate(LAYERS.values()):
            axes[0].plot([], [], color="#888888", linestyle=pictures.DASHES[j], marker=pictures.MARKERS[j], label=name)
        axes[0].legend(fontsize=8)
        for one in (axes[0], axes[3]):
            one.set_xticks(widths, [str(width) for width in widths])
            one.xaxis.set_minor_formatter(NullFormatter())
            one.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            one.yaxis.set_major_formatter("{x:g}")
            one.yaxis.set_minor_formatter(NullFormatter())

    return Evidence(
        values={
            "flat": steepest(slopes["mup"]),
            "growing": steepest(slopes["standard"]),
            "transfer": exponent(widths, best["mup"]),
            "moving": exponent(widths, best["standard"]),
        },
        draw=draw,
        table=(
            ("width", *(f"{what}, {kind}" for kind in KINDS.values() for what in ("best lr", "lowest loss"))),
            [
                (width, *(x for kind in KINDS for x in (best[kind][k], float(np.min(losses[kind][width])))))
                for k, width in enumerate(widths)
            ],
        ),
        remarks=("The theory is of wide networks, short trainings and widths alone; these are narrow and shallow.",),
        width=13.0,
        height=3.6,
    )  # fmt: skip


def shades_of(count: int) -> list[Any]:
    """Colours from the sequential map, the last one the darkest."""
    import matplotlib as mpl

    return [mpl.colormaps[pictures.SEQUENTIAL](float(part)) for part in np.linspace(0.85, 0.0, count)]


def steepest(slopes: dict[str, float]) -> float:
    """The exponent that is largest in size, infinite if one is not a number."""
    return max((abs(slope) if math.isfinite(slope) else math.inf) for slope in slopes.values())


def network(kind: str, width: int, rate: float, zero: bool = False) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A perceptron of a width and its optimizer, in one of `KINDS`; `zero`: its readout begins at zero."""
    import torch
    from torch import nn

    import ravine
    from ravine.lab.models import MLP
    from ravine.optim import mup as parametrization

    model, base = MLP(width=width, layers=2), MLP(width=BASE, layers=2)
    if zero:
        for each in (model, base):
            nn.init.zeros_(each.head.weight)
            nn.init.zeros_(each.head.bias)
    if kind == "standard" or width == BASE:
        return model, ravine.Adam(model.parameters(), lr=rate)
    with torch.no_grad():
        parametrization.initialise(model, base)
    parametrization.scale_readout(model, base)
    return model, ravine.Adam(parametrization.groups(model, base, lr=rate, weight_decay=None))


def trained(task: Digits, kind: str, width: int, rate: float, seed: int, steps: int = 100) -> float:
    """The loss on all training images after some steps; infinite if it diverges."""
    import torch

    torch.manual_seed(seed)
    model, optimizer = network(kind, width, rate)
    random = torch.Generator().manual_seed(seed)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        task.loss(model, task.draw(BATCH, random, step)).backward()
        optimizer.step()
    images, labels = task.tensors["training"]
    with torch.no_grad():
        loss = task.loss(model, {"images": images, "labels": labels}).item()
    return loss if math.isfinite(loss) else math.inf
