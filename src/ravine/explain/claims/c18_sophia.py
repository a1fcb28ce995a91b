"""Sophia against AdamW where both are tuned alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine.explain.claims.claim import Criterion, Evidence, Run, claim

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ravine.explain.claims.small_transformer import Settings, Small, Tuned
    from ravine.lab.models import Transformer

ADAMW = (3e-3, 6e-3, 1.2e-2, 2.4e-2, 4.8e-2)
SOPHIA = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
DECAY = {"weight_decay": (0.1,)}
FULL: dict[str, Any] = {"width": 64, "layers": 2, "context": 64}
ROUNDING = 1e-3
MARGIN = 0.02
"""Nats per byte that are still called the same loss: 2 % of the perplexity."""


@claim(
    number=18,
    slug="sophia",
    title="Sophia reaches AdamW's loss in half of the steps",
    says="Sophia, which divides the momentum by a cheap estimate of the Hessian's diagonal and clips every element, "
    "reaches the loss of AdamW in half of its steps when language models are pre-trained. Later studies that tuned "
    "both alike found little of that (Wen et al. 2025, arXiv:2509.02046; Semenov et al. 2025, arXiv:2509.01440).",
    source="Liu et al. 2023, arXiv:2305.14342, Section 3",
    criteria=(
        Criterion(
            "half", "final loss of Sophia in half of the steps minus that of AdamW in all, nats per byte: upper end of "
            "the 95 % interval", at_most=MARGIN,
        ),
        Criterion("equal", "the same where both take all steps", at_most=0.0),
    ),
)  # fmt: skip
def sophia(run: Run) -> Evidence:
    """A small transformer learns to predict the next byte of Python's standard library. Sophia-G has an estimate of the
    Hessian's diagonal every ten steps, from labels drawn from the model (Gauss–Newton–Bartlett), for all parameters.

    Both are tuned over grids of the same size: the learning rate, and in the full form β₂ for AdamW and ρ for Sophia.
    In the quick form ρ is 0.16, four times the authors' value, with which as many elements stay unclipped as they
    advise. The best settings are judged on other seeds and held-out text. Sophia's is also judged in whole runs, the
    learning rate brought down to zero, of half of the steps.
    """
    from ravine.explain.claims import panels
    from ravine.explain.claims import small_transformer as lab
    from ravine.explain.claims.small_transformer import Count, difference, grid, judge, tune
    from ravine.lab.study.arms import Arm

    small = lab.Small(lab.python_source(), run.choose(300, 1500), **run.choose({}, FULL))
    plans = (
        (
            Arm("adamw", "adamw"),
            grid(lr=run.choose(ADAMW[:4], ADAMW), beta2=run.choose((0.95,), (0.95, 0.999)), **DECAY),
        ),
        (
            Arm("sophia", "sophia"),
            grid(lr=run.choose(SOPHIA[1:], SOPHIA), rho=run.choose((0.16,), (0.04, 0.16)), **DECAY),
        ),
    )
    tuning_seeds = run.choose(1, 2)
    count = Count(run, sum(len(cells) for _, cells in plans) * tuning_seeds + 3 * len(run.seeds) + 1)
    adamw, tuned = (tune(small, arm, cells, count, tuning_seeds) for arm, cells in plans)
    shorter = replace(small, steps=small.steps // 2)
    judged = {
        "AdamW": judge(small, adamw.arm, adamw.best, run, count, adamw, seeds=run.seeds),
        "Sophia": judge(small, tuned.arm, tuned.best, run, count, tuned, seeds=run.seeds),
        "Sophia,\nhalf the steps": judge(shorter, tuned.arm, tuned.best, run, count, tuned, seeds=run.seeds),
    }
    whole, equal, half = judged.values()
    gaps = {"equal": difference(equal, whole), "half": difference(half, whole)}
    free = unclipped(shorter, tuned, run.seeds[0])
    count.one()

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
        panels.search(left, {"AdamW": adamw, "Sophia": tuned})
        panels.means(right, judged, (0, 1, 1))
        right.set(title="Other seeds, held-out text")

    rows = [
        ("AdamW", "all", _text(adamw.best), whole.mean, whole.half, ""),
        ("Sophia", "all", _text(tuned.best), equal.mean, equal.half, str(gaps["equal"])),
        ("Sophia", "half", _text(tuned.best), half.mean, half.half, str(gaps["half"])),
    ]
    return Evidence(
        values={"half": gaps["half"].high, "equal": gaps["equal"].high},
        draw=draw,
        table=(("optimizer", "steps", "settings", "final loss", "± (95 %)", "minus AdamW's (95 %)"), rows),
        remarks=(
            f"In the middle of a run {100 * free:.0f} % of Sophia's elements were not clipped; its authors "
            "advise 10 to 50 %.",
            "The authors' models have 125 million parameters and more, and their runs 50 to 400 thousand steps.",
            *lab.edges(adamw, tuned),
        ),
        width=10.0,
        height=4.0,
    )


def unclipped(small: Small, tuned: Tuned, seed: int) -> float:
    """The share of elements with a momentum that moved by less than lr, in one step in the middle of a run."""
    kept: dict[str, tuple[Tensor, float, float]] = {}
    shares: list[np.ndarray] = []

    def look(step: int, model: Transformer, optimizer: torch.optim.Optimizer) -> None:
        groups = {p: group for group in optimizer.param_groups for p in group["params"]}
        for name, p in model.named_parameters():
            if name in kept:
                before, lr, decay = kept.pop(name)
                moved = (before - p.detach()) / lr - decay * before
                there = optimizer.state[p]["exp_avg"] != 0
                shares.append((moved.abs() < 1 - ROUNDING)[there].numpy())
            if step == small.steps // 2:
                kept[name] = p.detach().clone(), groups[p]["lr"], groups[p]["weight_decay"]

    small.train(tuned.arm, tuned.best, seed, before_step=look)
    return float(np.concatenate(shares).mean())


def _text(settings: Settings) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in settings.items() if name != "weight_decay")
