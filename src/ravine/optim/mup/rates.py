"""Learning rates and weight decay by width, for any rule.

What a width asks of a learning rate depends on three things about a rule's update, which can be measured: how it grows
with the gradient, with the weights, and with the size of the matrix. For a layer with fan-in and fan-out `in` and `out`
times the base's, the change of the weights has to act on the activations as before, that is, its spectral norm has to
grow as √(out / in) (Yang, Simon & Bernstein 2023, arXiv:2310.17813, Condition 1). In a network in muP, a matrix'
gradient shrinks as 1/out, its weights as 1/√in, and the gradient of an embedding, bias or (scaled) readout as 1/width.
For Adam and SGD that gives Table 8 of Tensor Programs V (Yang et al. 2022, arXiv:2203.03466):

| update     | matrix   | vector (embedding, readout, bias, norm) | rules                                              |
|------------|----------|-----------------------------------------|----------------------------------------------------|
| `adam`     | 1 / in   | 1                                       | Adam, AdamW, Lion, RMSprop, AdaGrad: Table 8       |
| `sgd`      | out / in | width                                   | SGD and momentum: Table 8                          |
| `relative` | 1 / √in  | 1                                       | LAMB, LARS: steps in proportion to the weights     |
| `muon`     | 1        | not for vectors                         | Muon, scale √max(1, rows / columns): Condition 1   |
| `muon_rms` | 1 / √in  | not for vectors                         | Muon, scale 0.2 · √max(rows, columns): Condition 1 |

The last two are for matrices whose sides grow alike. As in the theory, the rank of gradients is taken not to grow with
the width; rules that precondition with matrices feel where it does (Qiu et al. 2025, arXiv:2512.05620).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from ravine.optim.base import rule_named
from ravine.optim.factory import optimizer
from ravine.optim.mup.model import multiplier
from ravine.optim.mup.shapes import Scaling, compare, readouts
from ravine.rule import DECAYS, Decay, Rule, lookup

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class Update(NamedTuple):
    """How a rule's update of a matrix grows: exponents of the gradient, of the weights, and of the matrix' side.

    `size` is that of the spectral norm, for a gradient of rank one and entries of fixed size: 1 for whatever treats
    elements alike, 0 for an orthogonalized update.
    """

    gradient: float
    weight: float
    size: float


UPDATES: dict[str, Update] = {
    "adam": Update(0, 0, 1),
    "sgd": Update(1, 0, 1),
    "relative": Update(0, 1, 1),
    "muon": Update(0, 0, 0),
    "muon_rms": Update(0, 0, 0.5),
}

STEPS = 8
"""Steps that are measured, after as many that are not: RAdam's first five are of another kind."""

SIDES = (8, 32)
FACTOR = 16.0


def measure(rule: str | Rule | MakeOptimizer, **settings: Any) -> Update:
    """The kind of a rule's update, from what it does to small matrices in sixteen steps along one gradient of rank one.

    Args:
        rule: a ravine rule or its name, or a function from a list of parameters to any optimizer without weight decay.
        settings: the rule's, such as `scale="match_rms_adamw"`; weight decay is off.

    Raises:
        ValueError: if the exponents are far from multiples of 1/2: the rule knows a size of its own (a clipped
            gradient, a large ε), or it does not move at all. Pass an `Update` instead of measuring then.

    Example:
        >>> measure("lion")
        Update(gradient=0.0, weight=0.0, size=1.0)
        >>> measure(lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9))
        Update(gradient=1.0, weight=0.0, size=1.0)
    """
    make = _maker(rule, settings)
    small, large = SIDES
    moves = (
        _moved(make, small), _moved(make, small, gradient=FACTOR), _moved(make, small, weight=FACTOR),
        _moved(make, large),
    )  # fmt: skip
    if not all(0 < move < math.inf for move in moves):
        raise ValueError("the update cannot be measured: a matrix did not move, or not by a finite step")
    one, *others = map(math.log, moves)
    found = [
        (other - one) / math.log(times) for other, times in zip(others, (FACTOR, FACTOR, large / small), strict=True)
    ]
    rounded = [round(2 * x) / 2 + 0.0 for x in found]
    if any(abs(x - y) > 0.1 for x, y in zip(found, rounded, strict=True)):
        exponents = ", ".join(f"{name} {x:.2f}" for name, x in zip(Update._fields, found, strict=True))
        raise ValueError(f"the update follows no power of the sizes ({exponents}); pass an Update(...) instead")
    return Update(*rounded)


def groups(
    model: nn.Module,
    base: nn.Module,
    lr: float,
    *,
    weight_decay: float | None,
    update: str | Update = "adam",
    decay: Decay = "lr",
    where: Callable[[Scaling], bool] | None = None,
    own_readout_scale: bool = False,
) -> list[dict[str, Any]]:
    """Parameter groups, for any optimizer, by which settings tuned on the base model hold for the model.

    Weight decay is scaled so that what it takes from the weights in a step does not depend on the width: where it is
    multiplied by the learning rate (`decay="lr"`, torch's and most others' form), λ grows as the learning rate falls.

    Args:
        model: the model to train, its readout scaled by `scale_readout`.
        base: the same model at its base width; may be on the meta device.
        lr: the learning rate tuned on the base model.
        weight_decay: λ tuned on the base model; None for an optimizer that has none. It has no default, since a λ given
            to the optimizer alone would not be scaled.
        update: a kind of `UPDATES`, an `Update`, or the name of a rule, which is measured with its defaults.
        decay: what λ means to the optimizer: `"lr"`, `"schedule"` (λ is not scaled), `"lr_squared"` or `"l2"`.
        where: which parameters, by their `Scaling`; default all that are trained. Two calls make groups for two rules,
            such as Muon for the hidden matrices and AdamW for the rest.
        own_readout_scale: the model multiplies what its readouts read by base fan-in / fan-in itself.

    Returns:
        Dicts with `params` (name and parameter), `lr`, `name` and, if given, `weight_decay`.

    Raises:
        ValueError: for an unknown kind of update or decay, a readout that is not scaled, L2 under a rule that
            normalizes gradients, vectors under a rule for matrices, or for what `compare` refuses.

    Example:
        >>> from ravine.optim.mup.model import scale_readout
        >>> model, base = (nn.Sequential(nn.Embedding(9, n), nn.Linear(n, n), nn.Linear(n, 9)) for n in (64, 16))
        >>> _ = scale_readout(model, base)
        >>> [(g["name"], g["lr"], g["weight_decay"]) for g in groups(model, base, lr=0.01, weight_decay=0.1)]
        [('vector', 0.01, 0.1), ('matrix, lr × 0.25', 0.0025, 0.4), ('fixed', 0.01, 0.1)]
    """
    kind = _update_named(update)
    if decay not in DECAYS:
        raise ValueError(f"decay must be one of {', '.join(map(repr, DECAYS))}, got {decay!r}")
    if decay == "l2" and weight_decay and kind.gradient != 1:
        raise ValueError(
            'decay="l2" has no size that holds for all widths under a rule that normalizes gradients; '
            "use decoupled weight decay, or weight_decay=0"
        )
    found = [s for s in compare(model, base) if s.parameter.requires_grad and (where is None or where(s))]
    for name, module, wider in readouts(model, base):
        if not own_readout_scale and not math.isclose(multiplier(module) or 1.0, 1 / wider):
            raise ValueError(
                f"the readout {name!r} is {wider:g} times as wide as in base and not scaled; call "
                "mup.scale_readout(model, base) first, or say own_readout_scale=True if the model does it itself"
            )
    made: dict[tuple[str, float], dict[str, Any]] = {}
    for s in found:
        factor = lr_multiplier(kind, s)
        times = "" if factor == 1 else f", lr × {factor:.4g}"
        group = made.setdefault((s.kind, factor), {"params": [], "lr": lr * factor, "name": f"{s.kind}{times}"})
        group["params"].append((s.name, s.parameter))
        if weight_decay is not None:
            group["weight_decay"] = weight_decay * decay_multiplier(decay, factor)
    return list(made.values())


def lr_multiplier(update: Update, scaling: Scaling) -> float:
    """What the base's learning rate is multiplied by for a parameter: the table of this module.

    Raises:
        ValueError: for a vector under an update that is not elementwise, or a matrix under one whose sides have not
            grown alike, which the exponents do not tell.
    """
    if scaling.kind == "fixed":
        return 1.0
    if scaling.kind == "vector":
        if update.size != 1:
            raise ValueError(f"{scaling.name} is a vector, and this update is for matrices; leave it out by where=...")
        return float(scaling.width**update.gradient)
    out, into = scaling.fan_out, scaling.fan_in
    if update.size != 1 and out != into:
        raise ValueError(
            f"the sides of {scaling.name} have grown by {out:g} and {into:g}; for an update of size {update.size:g} "
            "they must grow alike"
        )
    wanted = math.sqrt(out / into)
    given = (out * into) ** (update.size / 2) * out**-update.gradient * into ** (-update.weight / 2)
    return float(wanted / given)


def decay_multiplier(decay: Decay, lr_factor: float) -> float:
    """What λ is multiplied by where the learning rate is multiplied by `lr_factor`."""
    return {"lr": 1 / lr_factor, "l2": 1 / lr_factor, "lr_squared": lr_factor**-2, "schedule": 1.0}[decay]


def _update_named(update: str | Update) -> Update:
    if isinstance(update, Update):
        return update
    if update in UPDATES:
        return UPDATES[update]
    try:
        rule = lookup(update)
    except KeyError:
        kinds = ", ".join(map(repr, UPDATES))
        raise ValueError(f"update must be one of {kinds}, an Update, or the name of a rule, got {update!r}") from None
    return measure(rule)


def _maker(rule: str | Rule | MakeOptimizer, settings: Mapping[str, Any]) -> MakeOptimizer:
    if not isinstance(rule, (str, Rule)):
        return rule
    rule = rule_named(rule) if isinstance(rule, str) else rule
    off = {"weight_decay": 0.0} if "weight_decay" in rule.defaults else {}
    return partial(optimizer(rule), engine="reference", **{**off, **settings})


def _moved(make: MakeOptimizer, side: int, gradient: float = 1.0, weight: float = 1.0) -> float:
    """How far a square matrix of equal weights moves in the spectral norm in `STEPS` steps, once it has started."""
    p = nn.Parameter(torch.full((side, side), weight, dtype=torch.float64))
    row, column = (torch.randn(side, generator=torch.Generator().manual_seed(seed)).sign().double() for seed in (0, 1))
    made = make([p])
    for step in range(2 * STEPS):
        if step == STEPS:
            before = p.detach().clone()
        p.grad = gradient * torch.outer(row, column)
        made.step()
    return float(torch.linalg.matrix_norm(p.detach() - before, ord=2))
