"""How much of a new optimizer's gain over AdamW is left when AdamW's learning rate is tuned as well."""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine.explain import figure as pictures
from ravine.explain.claims.claim import Criterion, Evidence, Run, claim

DEFAULT = {"lr": 1e-3, "beta2": 0.999, "weight_decay": 0.01}
"""AdamW as torch's defaults have it."""

RATES = (1.5e-3, 3e-3, 6e-3, 1.2e-2, 2.4e-2, 4.8e-2, 9.6e-2)
DECAY = {"weight_decay": (0.1,)}
FULL: dict[str, Any] = {"width": 64, "layers": 2, "context": 64}


@claim(
    number=20,
    slug="retuned-adamw",
    title="When AdamW's learning rate is tuned, most of a new optimizer's gain over it is gone",
    says="Reported gains of 1.4 to 2 times over AdamW shrink when it is tuned with the same care: a better learning "
    "rate alone can double its speed. What is left for the best optimizers, such as Muon, is 1.4 times at 0.1 billion "
    "parameters and 1.1 times at 1.2 billion: in logarithms, half of what a factor of two is, and less.",
    source="Wen et al. 2025, arXiv:2509.02046, Figure 1; Semenov et al. 2025, arXiv:2509.01440",
    criteria=(
        Criterion(
            "retuning", "final loss of AdamW as it comes minus that of AdamW tuned, nats per byte: lower end of the "
            "95 % interval", at_least=0.0,
        ),
        Criterion(
            "remaining", "share of Muon's gain over AdamW as it comes that is left over AdamW tuned: upper end of the "
            "95 % interval", at_most=0.5,
        ),
        Criterion(
            "better", "final loss of AdamW tuned minus that of Muon tuned: lower end of the 95 % interval",
            at_least=0.0, scope=True,
        ),
    ),
)  # fmt: skip
def retuned_adamw(run: Run) -> Evidence:
    """A small transformer learns to predict the next byte of Python's standard library, with AdamW as torch's defaults
    have it (learning rate 0.001, β₂ 0.999, weight decay 0.01), with AdamW tuned and with Muon tuned, over grids of the
    same size (the learning rate, and in the full form β₂ or the momentum). All three have the same warm-up, the same
    linear way down and the same clipping, so that nothing but the settings of the optimizer is retuned. They are judged
    on other seeds and held-out text.

    Gains are differences of the final loss. The criterion takes the authors' figures for models of 0.1 billion
    parameters: what a gain of two times was is one of 1.4 times, log 1.4 / log 2 = 0.49.
    """
    from ravine.explain.claims import panels
    from ravine.explain.claims import small_transformer as lab
    from ravine.explain.claims.small_transformer import Count, difference, grid, judge, tune
    from ravine.lab.study.arms import Arm

    small = lab.Small(lab.python_source(), run.choose(300, 1500), **run.choose({}, FULL))
    plans = (
        (
            Arm("adamw", "adamw"),
            grid(lr=run.choose(RATES[1:5], RATES[:5]), beta2=run.choose((0.95,), (0.95, 0.999)), **DECAY),
        ),
        (
            Arm("muon", "muon"),
            grid(lr=run.choose(RATES[3:], RATES[2:]), momentum=run.choose((0.95,), (0.9, 0.95)), **DECAY),
        ),
    )
    tuning_seeds = run.choose(1, 2)
    count = Count(run, sum(len(cells) for _, cells in plans) * tuning_seeds + 3 * len(lab.judging_seeds(run)))
    adamw, muon = (tune(small, arm, cells, count, tuning_seeds) for arm, cells in plans)
    judged = {
        "AdamW, default": judge(small, adamw.arm, DEFAULT, run, count),
        "AdamW, tuned": judge(small, adamw.arm, adamw.best, run, count, adamw),
        "Muon, tuned": judge(small, muon.arm, muon.best, run, count, muon),
    }
    default, tuned, other = judged.values()
    retuning, better, gain = difference(default, tuned), difference(tuned, other), difference(default, other)
    shares = np.subtract(tuned.losses, other.losses) / np.subtract(default.losses, other.losses)
    apart = np.subtract(tuned.losses, other.losses)
    remaining = lab.interval(shares, (lab.luck(apart, tuned) + lab.luck(apart, other)) / gain.mean**2)

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
        panels.search(left, {"AdamW": adamw, "Muon": muon})
        left.axvline(DEFAULT["lr"], color=pictures.COLOURS[0], linewidth=1, linestyle=":")
        left.annotate(
            "AdamW's default", (DEFAULT["lr"], 0.97), (3, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", rotation=90, va="top",
        )  # fmt: skip
        panels.means(right, judged, (0, 0, 1))
        right.set(title="Other seeds, held-out text")

    rows = [
        ("AdamW, default", DEFAULT["lr"], default.mean, default.half, ""),
        ("AdamW, tuned", adamw.best["lr"], tuned.mean, tuned.half, str(retuning)),
        ("Muon, tuned", muon.best["lr"], other.mean, other.half, str(gain)),
    ]
    return Evidence(
        values={"retuning": retuning.low, "remaining": remaining.high, "better": better.low},
        draw=draw,
        table=(("optimizer", "learning rate", "final loss", "± (95 %)", "gain over AdamW, default (95 %)"), rows),
        remarks=(
            f"Of Muon's gain over AdamW as it comes, {100 * remaining.mean:.0f} % is left over AdamW tuned "
            f"(95 %: {100 * remaining.low:.0f} to {100 * remaining.high:.0f} %).",
            "The authors' models are thousands of times larger, and Muon's gain shrinks with size in their figures.",
            *lab.edges(adamw, muon),
        ),
        width=10.0,
        height=4.0,
    )
