"""One weight decay for another: what λ of a paper or a framework is under the meaning that another gives it.

Every decoupled form shrinks the weights of a step by the factor 1 − λ · lrᵃ / max_lrᵇ, where lr is the learning rate
of the step and max_lr the highest of its schedule. Two forms with the same a are the same for every schedule; with
different a they agree where lr = max_lr: always under a constant learning rate, otherwise at the peak alone. The L2
form adds λ · p to the gradient instead, and what becomes of it there is the rule's doing.

Example:
    >>> made = convert("torch", "schedule", lr=1e-3, weight_decay=0.1)
    >>> f"{made.converted:g}", made.exact
    ('0.0001', True)
    >>> f"{convert('torch', 'palm', lr=1e-2, weight_decay=0.1).converted:g}"
    '10'
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

from ravine.registry import lookup, nearest
from ravine.rule import Decay, Rule

Exactness = Literal["always", "constant learning rate"]

PROBE_STEPS = 6
PROBE_DECAY = 0.1
SAME = 1e-12


@dataclass(frozen=True)
class Strength:
    """How strongly a meaning of λ shrinks the weights in a step: λ · lrᵃ / max_lrᵇ.

    Args:
        line: the step's line for it, in the words of an algorithm box.
        lr_power: a.
        max_lr_power: b.
        decay: the setting `decay` of ravine's optimizers that does the same.
    """

    line: str
    lr_power: int
    max_lr_power: int
    decay: Decay

    def to(self, other: Strength, weight_decay: float, max_lr: float) -> float:
        """The λ of the other form that shrinks the weights as much in a step at the highest learning rate."""
        powers = self.lr_power - self.max_lr_power, other.lr_power - other.max_lr_power
        return weight_decay * max_lr ** (powers[0] - powers[1])


STRENGTHS: Mapping[str, Strength] = MappingProxyType(
    {
        "lr": Strength("p ← p − lr·λ·p", 1, 0, "lr"),
        "schedule": Strength("p ← p − (lr / max_lr)·λ·p", 1, 1, "schedule"),
        "lr_squared": Strength("p ← p − lr²·λ·p", 2, 0, "lr_squared"),
        "corrected": Strength("p ← p − (lr² / max_lr)·λ·p", 2, 1, "lr_squared"),
        "l2": Strength("g ← g + λ·p", 1, 0, "l2"),
    }
)
"""The forms of weight decay. The powers of `l2` are those it has where a step is lr times the gradient, no more."""


@dataclass(frozen=True)
class Meaning:
    """What λ means to somebody.

    Args:
        name: what the command line calls it.
        form: a name of `STRENGTHS`.
        where: whose weight decay it is.
    """

    name: str
    form: str
    where: str


MEANINGS: Mapping[str, Meaning] = MappingProxyType(
    {
        name: Meaning(name, form, where)
        for name, form, where in (
            ("lr", "lr", "ravine, decay='lr'"),
            ("schedule", "schedule", "ravine, decay='schedule'"),
            ("lr_squared", "lr_squared", "ravine, decay='lr_squared'"),
            ("l2", "l2", "ravine, decay='l2'"),
            ("torch", "lr", "torch.optim.AdamW, NAdam and RAdam with decoupled_weight_decay=True, Muon, Adafactor"),
            ("torch-l2", "l2", "torch.optim.SGD, Adam, RMSprop, Adagrad and the others that add λ·p to the gradient"),
            ("optax", "lr", "optax.adamw, optax.lion and its other optimizers with weight_decay"),
            ("keras", "lr", "the argument weight_decay of Keras' optimizers"),
            ("timm", "lr", "timm.optim's optimizers with decoupled decay, as it is by default"),
            ("timm-corrected", "corrected", "timm.optim's with corrected_weight_decay=True"),
            ("optimi", "lr", "optimi's optimizers, as they are by default"),
            ("optimi-decoupled", "schedule", "optimi's with decouple_lr=True"),
            ("composer", "schedule", "MosaicML Composer's DecoupledAdamW and DecoupledSGDW"),
            ("paper", "schedule", "Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithms 1 and 2"),
            ("palm", "lr_squared", "Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, section 5: λ = 1 there"),
        )
    }
)


@dataclass(frozen=True)
class Schedule:
    """A schedule that a conversion was asked about.

    Args:
        name: of the schedule.
        settings: what it was made with.
        share: how much the new λ takes from the weights over the whole run, as a part of what the old one takes.
        same_total: the λ that takes as much over the whole run; it takes more than the old one at the peak.
    """

    name: str
    settings: Mapping[str, Any]
    share: float
    same_total: float


@dataclass(frozen=True)
class Conversion:
    """A weight decay under another meaning of λ.

    Args:
        source: the meaning that λ was given in.
        target: the meaning it is wanted in.
        optimizer: the rule that it is for.
        lr: the highest learning rate of the run.
        weight_decay: λ as given.
        converted: λ as wanted.
        holds: when both do the same: always, or only while the learning rate stays at its highest.
        exact: whether both do the same in the case asked about.
        reason: why, in a sentence.
        schedule: how the two compare over a run, if one was given.
        in_ravine: the settings of a ravine optimizer that does what is wanted.
    """

    source: Meaning
    target: Meaning
    optimizer: str
    lr: float
    weight_decay: float
    converted: float
    holds: Exactness
    exact: bool
    reason: str
    schedule: Schedule | None
    in_ravine: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        plain = asdict(self)
        for end in ("source", "target"):
            plain[end]["line"] = STRENGTHS[plain[end]["form"]].line
        return plain


def meaning(name: str) -> Meaning:
    """The meaning of λ that goes by this name.

    Raises:
        ValueError: for an unknown name, with the nearest.
    """
    if name not in MEANINGS:
        raise ValueError(
            f"unknown weight decay {name!r}{nearest(name, list(MEANINGS))}; there are {', '.join(MEANINGS)}"
        )
    return MEANINGS[name]


def convert(
    source: str,
    target: str,
    *,
    lr: float,
    weight_decay: float,
    optimizer: str | Rule = "adamw",
    settings: Mapping[str, Any] | None = None,
    schedule: str | None = None,
    steps: int = 1000,
    **shape: Any,
) -> Conversion:
    """The λ that means in `target` what `weight_decay` means in `source`.

    Args:
        source, target: names of `MEANINGS`.
        lr: the highest learning rate of the run, above 0.
        weight_decay: λ in the first meaning, at least 0.
        optimizer: the rule, which matters for the L2 form alone.
        settings: the rule's settings, as far as they are not its defaults.
        schedule: a name of `ravine.schedules.SCHEDULES`, to compare the two over a whole run.
        steps: of that run.
        shape: the schedule's settings (`warmup_steps`, `floor` and so on); those that are None stay at their defaults.

    Raises:
        KeyError: for an unknown rule.
        TypeError: for a setting that the rule or the schedule does not have.
        ValueError: for an unknown meaning or schedule, a number outside its range, or where no λ does the same.
    """
    old, new = meaning(source), meaning(target)
    rule = lookup(optimizer) if isinstance(optimizer, str) else optimizer
    for what, value, allowed in (("lr", lr, "above 0"), ("weight_decay", weight_decay, "at least 0")):
        if not (math.isfinite(value) and (value > 0 or (value == 0 and what == "weight_decay"))):
            raise ValueError(f"{what} must be a finite number {allowed}, got {value!r}")
    if "weight_decay" not in rule.defaults:
        raise ValueError(f"{rule.name} has no weight decay")
    before, after = STRENGTHS[old.form], STRENGTHS[new.form]
    if (old.form == "l2") != (new.form == "l2") and not follows_its_gradient(rule, settings or {}):
        raise ValueError(
            f"no λ of {new.name!r} does under {rule.name} what λ = {weight_decay:g} of {old.name!r} does: {rule.name} "
            "does not step by the learning rate times the gradient alone, so a term in the gradient is averaged or "
            "rescaled together with it, and decay beside the step is not"
        )
    converted = before.to(after, weight_decay, lr)
    always = before.lr_power == after.lr_power
    run = None if schedule is None else _over_a_run(schedule, steps, lr, shape, before, after, converted)
    return Conversion(
        old,
        new,
        rule.name,
        lr,
        weight_decay,
        converted,
        "always" if always else "constant learning rate",
        always or (run is not None and math.isclose(run.share, 1, rel_tol=SAME)),
        _reason(old, new, always),
        run,
        {"lr": lr, "weight_decay": after.to(STRENGTHS[after.decay], converted, lr), "decay": after.decay},
    )


def _reason(old: Meaning, new: Meaning, always: bool) -> str:
    before, after = STRENGTHS[old.form], STRENGTHS[new.form]
    if before == after:
        return "both mean the same."
    if "l2" in (old.form, new.form):
        return "the step is the learning rate times the gradient, so that λ·p in the gradient shrinks p by lr·λ."
    if always:
        power = "the learning rate" if before.lr_power == 1 else "the square of the learning rate"
        return f"both shrink the weights in proportion to {power}, whatever its schedule."
    one, two = ("lr", "lr²") if before.lr_power == 1 else ("lr²", "lr")
    return (
        f"the first shrinks the weights in proportion to {one}, the second to {two}: the same at the highest learning "
        f"rate, {'weaker' if after.lr_power == 2 else 'stronger'} at every lower one."
    )


def _over_a_run(
    name: str, steps: int, lr: float, shape: Mapping[str, Any], before: Strength, after: Strength, converted: float
) -> Schedule:
    """Both forms agree at the peak, so that what they take in all is as the sums of the powers of lr / peak."""
    from ravine.explain.schedules import draw

    drawing = draw(name, steps, lr, **shape)
    parts = [now / lr for now in drawing.lr[:-1]]
    share = math.fsum(x**after.lr_power for x in parts) / math.fsum(x**before.lr_power for x in parts)
    return Schedule(name, drawing.settings, share, converted / share)


def follows_its_gradient(rule: Rule, settings: Mapping[str, Any]) -> bool:
    """Whether a rule takes the same path with λ·p in its gradient as with lr·λ·p beside its step, found by trying.

    Raises:
        TypeError: for a setting that the rule does not have.
        ValueError: for a value outside its range.
    """
    import torch

    from ravine.optim.factory import optimizer

    paths = []
    for decay in ("l2", "lr"):
        p = torch.nn.Parameter(torch.linspace(-1.5, 2.0, 6, dtype=torch.float64).reshape(2, 3))
        given = {**settings, "weight_decay": PROBE_DECAY, "decay": decay}
        stepping = optimizer(rule)([p], engine="reference", **given)
        path = []
        for step in range(PROBE_STEPS):
            p.grad = torch.sin(torch.arange(6.0, dtype=torch.float64) + step).reshape(2, 3)
            stepping.step()
            path.append(p.detach().clone())
        paths.append(torch.stack(path))
    return torch.allclose(paths[0], paths[1], rtol=SAME, atol=SAME)
