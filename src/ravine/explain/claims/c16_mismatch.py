"""Whether a model should be fine-tuned with the optimizer that pre-trained it: AdamW and Muon in all pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ravine.explain import figure as pictures
from ravine.explain.claims.claim import Criterion, Evidence, Run, claim

NAMES = ("AdamW", "Muon")
PRETRAINING = ((6e-3, 1.2e-2, 2.4e-2), (1.2e-2, 2.4e-2, 4.8e-2))
FINE_TUNING = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FINE_TUNING_SEEDS = 3
FULL: dict[str, Any] = {"width": 64, "layers": 2, "context": 64}
DECAY = {"weight_decay": (0.1,)}


@claim(
    number=16,
    slug="mismatch",
    title="Fine-tuning with another optimizer than the one of pre-training costs something",
    says="A model that Adam has pre-trained is fine-tuned worse by Muon than by Adam, and the other way round: the two "
    "leave weights of another kind behind, and a mismatch disturbs what was learned. Moonlight's authors found Muon "
    "best where it did both, and without a clear advantage where the stages differed.",
    source="Qu, Huang & Horváth 2026, arXiv:2605.10468; Liu et al. 2025, arXiv:2502.16982, Section 3.5",
    criteria=(
        Criterion(
            "penalty", "final loss with the optimizer changed minus that with it kept, summed over both directions, "
            "nats per byte: lower end of the 95 % interval", at_least=0.0,
        ),
        Criterion(
            "from_adamw", "what Muon costs over AdamW on models that AdamW has pre-trained: the same", at_least=0.0,
            scope=True,
        ),
        Criterion(
            "from_muon", "what AdamW costs over Muon on models that Muon has pre-trained: the same", at_least=0.0,
            scope=True,
        ),
    ),
    needs=("pydoc_data",),
)  # fmt: skip
def mismatch(run: Run) -> Evidence:
    """Small transformers are pre-trained on the source of Python's standard library, several with each optimizer at the
    learning rate that was best for it. All are then fine-tuned on English, the texts of Python's `help()`, in full,
    with each optimizer.

    The learning rate of fine-tuning is tuned for each of the four pairs, on bases that take no further part, over as
    many learning rates. Every pair is judged on all bases and on three seeds (orders of the text) for each, by the loss
    on held-out help texts. The interval counts the luck of bases, of seeds and of tuning
    (`ravine.lab.pretrain_finetune.contrast`); the same experiment at the sizes of your choice is
    `ravine study pretrain-finetune adamw muon`.
    """
    from ravine.explain.claims import panels
    from ravine.explain.claims import small_transformer as lab
    from ravine.explain.claims.small_transformer import FIRST_TUNING_SEED, Count, Difference, grid, tune
    from ravine.lab.pretrain_finetune.contrast import MISMATCH, SWITCHING, contrast
    from ravine.lab.results.statistics import pooled_std
    from ravine.lab.results.tuning import generator, tuned_again
    from ravine.lab.study.arms import Arm

    source, english = lab.python_source(), help_texts()
    code = lab.Small(source, run.choose(240, 1500), **run.choose({}, FULL))
    arms = [Arm(name.lower(), name.lower()) for name in NAMES]
    cells = grid(lr=run.choose(FINE_TUNING[1:], FINE_TUNING), **DECAY)
    tuning = sum(map(len, PRETRAINING)) + 4 * len(cells)
    count = Count(run, tuning + 2 * (1 + len(run.seeds)) + 4 * len(run.seeds) * FINE_TUNING_SEEDS)
    searches = [tune(code, arm, grid(lr=PRETRAINING[i], **DECAY), count) for i, arm in enumerate(arms)]

    def bases(i: int, seeds: tuple[int, ...]) -> list[lab.Small]:
        made = []
        for seed in seeds:
            pretrained = code.train(arms[i], searches[i].best, seed).model.state_dict()
            made.append(replace(code, text=english, steps=run.choose(80, 400), start=pretrained))
            count.one()
        return made

    losses = np.zeros((2, 2, len(run.seeds), FINE_TUNING_SEEDS))
    kept = np.zeros_like(losses)
    rates, luck, edges = {}, np.zeros((2, 2)), []
    for i in range(2):
        (trial,) = bases(i, (FIRST_TUNING_SEED,))
        judged = bases(i, run.seeds)
        for j in range(2):
            tuned = tune(trial, arms[j], cells, count)
            for k, base in enumerate(judged):
                for seed in range(FINE_TUNING_SEEDS):
                    done = base.train(arms[j], tuned.best, seed + 1, "judging")
                    losses[i, j, k, seed], kept[i, j, k, seed] = done.loss, code.evaluate(done.model, "judging")
                    count.one()
            noise = pooled_std(losses[i, j].tolist()) or 0.0
            luck[i, j] = tuned_again(tuned.trials, noise, generator(f"{i} {j}")).std()
            rates[i, j] = tuned.best["lr"]
            edges += [f"Fine-tuning what {NAMES[i]} has pre-trained: {text}" for text in lab.edges(tuned)]
    found = {
        "both directions": contrast(losses, MISMATCH, luck),
        "AdamW's models:\nMuon − AdamW": contrast(losses, SWITCHING[0], luck),
        "Muon's models:\nAdamW − Muon": contrast(losses, SWITCHING[1], luck),
    }
    lows = [one.interval[0] for one in found.values()]

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for i, name in enumerate(NAMES):
            of_bases = losses[i].mean(2)
            left.plot(NAMES, of_bases, **pictures.series(i), alpha=0.3, linewidth=1)
            left.plot(NAMES, of_bases.mean(1), **pictures.series(i), marker="o", label=f"pre-trained by {name}")
        left.set(
            xlabel="fine-tuned by", ylabel="final loss, nats per byte", xlim=(-0.3, 1.3),
            title="Fine-tuning: means, and each base",
        )  # fmt: skip
        left.legend()
        panels.differences(right, {label: Difference(one.estimate, *one.interval) for label, one in found.items()})
        right.set(xlabel="cost of changing the optimizer, nats per byte", title="Changed minus kept, 95 %")

    return Evidence(
        values=dict(zip(("penalty", "from_adamw", "from_muon"), lows, strict=True)),
        draw=draw,
        table=(
            ("pre-trained by", "fine-tuned by", "learning rate", "final loss", "loss on code then"),
            [
                (NAMES[i], NAMES[j], rates[i, j], float(losses[i, j].mean()), float(kept[i, j].mean()))
                for i in range(2)
                for j in range(2)
            ],
        ),
        remarks=(
            "Fine-tuning is of all weights, on text that is unlike that of pre-training: nearer to going on with "
            "training than to the short fine-tuning of a large model.",
            *edges,
        ),
        width=10.0,
        height=4.0,
    )


def help_texts() -> Any:
    """What Python's `help()` says about its topics."""
    from pydoc_data import topics

    from ravine.explain.claims.small_transformer import Text

    return Text.cut("\n".join(topics.topics[name] for name in sorted(topics.topics)).encode())
