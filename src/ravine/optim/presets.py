"""Published settings: how well-known models were trained, with their sources.

A preset builds the optimizer of its paper, gradient clipping included, and the shape of its learning rate:

    optimizer = ravine.presets.llama2.optimizer(model)
    schedule = ravine.presets.llama2.schedule(optimizer, total_steps=10_000)

They are records of what was done at the scale of that work, not advice: a learning rate belongs to a model's width, a
batch size, an initialisation.

Example:
    >>> print(llama2)
    llama2: LLaMA-2 7B and 13B
      rule      clip_norm(adamw)
      settings  lr=0.0003, betas=(0.9, 0.95), eps=1e-05, weight_decay=0.1, clip_norm.max_norm=1.0
      schedule  cosine to 0.1 of the peak, after a linear warm-up of 2000 steps
      lr        7B: 0.0003, 13B: 0.0003, 34B: 0.00015, 70B: 0.00015
      source    Touvron et al. 2023, arXiv:2307.09288, Section 2.2 and Table 1
      note      A step had 4M tokens; the runs had 2T.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ravine.optim.base import Optimizer, rule_named
from ravine.optim.factory import create
from ravine.optim.grouping import Groups, by_role, for_matrices, of
from ravine.optim.routing import route
from ravine.optim.schedules import Schedule, Shape
from ravine.registry import nearest

__all__ = ["Preset", "available", "gpt3", "llama2", "modded_nanogpt", "palm"]


def _frozen(**values: Any) -> Mapping[str, Any]:
    return MappingProxyType(values)


@dataclass(frozen=True)
class Preset:
    """How a model was trained.

    Attributes:
        name: of the preset.
        model: what was trained so.
        rule: the rule, with its wrappers; of the hidden matrices where `other` is set.
        settings: of the rule.
        tail: what follows the warm-up: a name of `ravine.schedules`.
        warmup_steps: steps of linear rise.
        source: where it is written.
        note: what else belongs to it.
        warmup_tokens: the warm-up where it is given in tokens.
        floor: where the learning rate ends, as a fraction of the peak.
        decay_share: the part of the run, at its end, in which the learning rate falls; None for all after the warm-up.
        start: of an inverse square root: the step at which it begins.
        lr_by_size: the peak learning rate of each size of the model.
        other: where the rule is for matrices, the rule of the rest and its settings.
        by_role: settings of the rest by what a parameter is.
    """

    name: str
    model: str
    rule: str
    settings: Mapping[str, Any]
    tail: str
    source: str
    note: str = ""
    warmup_steps: int = 0
    warmup_tokens: float | None = None
    floor: float = 0.0
    decay_share: float | None = None
    start: int = 0
    lr_by_size: Mapping[str, float] = field(default_factory=dict)
    other: Mapping[str, Any] | None = None
    by_role: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def optimizer(self, model: nn.Module | Groups | Iterable[Any], **changes: Any) -> Optimizer:
        """The optimizer.

        Args:
            model: a model, groups (`ravine.groups`), or parameters; a model or groups of one where the preset has rules
                for different parameters.
            changes: settings other than the paper's; `lr` may be a size of `lr_by_size`.

        Raises:
            ValueError: for a size that the paper does not have.
            TypeError: for parameters where a model is needed.

        Example:
            >>> optimizer = gpt3.optimizer(nn.Linear(2, 2), lr="125M")
            >>> optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["rule"]
            (0.0006, 'clip_norm(adamw)')
        """
        if isinstance(changes.get("lr"), str):
            changes["lr"] = self._lr_of(changes["lr"])
        engine = {"engine": changes.pop("engine")} if "engine" in changes else {}
        settings = {**self.settings, **changes}
        if not isinstance(model, (nn.Module, Groups)):
            if for_matrices(rule_named(self.rule)):
                raise TypeError(f"the preset {self.name} has rules for different parameters; it needs the model")
            return create(self.rule, model, **settings, **engine)
        groups = by_role(model, self.by_role) if self.by_role else of(model)
        if for_matrices(rule_named(self.rule)):
            groups = route(groups, self.rule, self.other or "adamw", **settings)
        return Optimizer(groups, self.rule, **settings, **engine)

    def schedule(
        self, optimizer: torch.optim.Optimizer, total_steps: int, tokens_per_step: float | None = None
    ) -> Schedule:
        """The schedule of the learning rate, to be stepped after the optimizer.

        Args:
            optimizer: any optimizer.
            total_steps: steps of the run, or, for a cosine that ends before the run, of the cosine.
            tokens_per_step: tokens in a step, for a warm-up that is given in tokens.

        Raises:
            ValueError: where `tokens_per_step` is needed, or the warm-up is longer than the run.

        Example:
            >>> optimizer = palm.optimizer(nn.Linear(2, 2))
            >>> shape = palm.schedule(optimizer, total_steps=255_000).shape
            >>> [round(1e-2 * shape(step), 6) for step in (0, 10_000, 40_000, 250_000)]
            [0.01, 0.01, 0.005, 0.002]
        """
        warmup = self.warmup_steps
        if self.warmup_tokens is not None:
            if tokens_per_step is None:
                raise ValueError(f"the warm-up of {self.name} is given in tokens: tokens_per_step is needed")
            warmup = round(self.warmup_tokens / tokens_per_step)
        if self.tail == "inverse_sqrt":
            return Schedule(optimizer, Shape("inverse sqrt", warmup, self.start, self.start, self.floor))
        length = total_steps - warmup if self.decay_share is None else round(self.decay_share * total_steps)
        if warmup + length > total_steps or length < 0:
            raise ValueError(
                f"{self.name} warms up for {warmup} steps, which does not fit into total_steps={total_steps}"
            )
        return Schedule(optimizer, Shape(self.tail, warmup, total_steps - length, length, self.floor))

    def _lr_of(self, size: str) -> float:
        if size not in self.lr_by_size:
            sizes = ", ".join(self.lr_by_size) or "none"
            raise ValueError(f"{self.name} has no size {size!r}{nearest(size, list(self.lr_by_size))} (it has {sizes})")
        return self.lr_by_size[size]

    def _schedule_in_words(self) -> str:
        if self.tail == "inverse_sqrt":
            return f"constant for {self.start} steps, then by 1/√step"
        after = "" if self.decay_share is None else f" over the last {self.decay_share:.0%} of the run"
        warm = f"{self.warmup_tokens:.0f} tokens" if self.warmup_tokens else f"{self.warmup_steps} steps"
        before = f", after a linear warm-up of {warm}" if self.warmup_tokens or self.warmup_steps else ""
        return f"{self.tail} to {self.floor:g} of the peak{after}{before}"

    def __str__(self) -> str:
        lines = {
            "rule": self.rule,
            "settings": _listed(self.settings),
            "other": _listed(self.other or {}),
            "by role": "; ".join(f"{kind}: {_listed(values)}" for kind, values in self.by_role.items()),
            "schedule": self._schedule_in_words(),
            "lr": ", ".join(f"{size}: {lr:g}" for size, lr in self.lr_by_size.items()),
            "source": self.source,
            "note": self.note,
        }
        return "\n".join([f"{self.name}: {self.model}", *(f"  {k:<8}  {v}" for k, v in lines.items() if v)])


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


llama2 = Preset(
    name="llama2",
    model="LLaMA-2 7B and 13B",
    rule="clip_norm(adamw)",
    settings=_frozen(lr=3e-4, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1, **{"clip_norm.max_norm": 1.0}),
    tail="cosine",
    warmup_steps=2000,
    floor=0.1,
    lr_by_size=_frozen(**{"7B": 3e-4, "13B": 3e-4, "34B": 1.5e-4, "70B": 1.5e-4}),
    source="Touvron et al. 2023, arXiv:2307.09288, Section 2.2 and Table 1",
    note="A step had 4M tokens; the runs had 2T.",
)

gpt3 = Preset(
    name="gpt3",
    model="GPT-3 175B",
    rule="clip_norm(adamw)",
    settings=_frozen(lr=0.6e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, **{"clip_norm.max_norm": 1.0}),
    tail="cosine",
    warmup_tokens=375e6,
    floor=0.1,
    lr_by_size=_frozen(
        **{
            "125M": 6e-4, "350M": 3e-4, "760M": 2.5e-4, "1.3B": 2e-4, "2.7B": 1.6e-4, "6.7B": 1.2e-4, "13B": 1e-4,
            "175B": 0.6e-4,
        }
    ),
    source="Brown et al. 2020, arXiv:2005.14165, Table 2.1 and Appendix B",
    note="A step had 0.5M (125M to 760M), 1M, 1M, 2M, 2M, 3.2M tokens, fewer at first; the cosine ended at 260B tokens "
    "and the runs went on at its floor to 300B.",
)  # fmt: skip

palm = Preset(
    name="palm",
    model="PaLM 8B, 62B and 540B",
    rule="clip_norm(adafactor)",
    settings=_frozen(
        lr=1e-2, beta1=0.9, beta2_decay=-0.8, eps1=1e-30, eps_form="paper", factored=False, relative_step=False,
        scale_parameter=True, weight_decay=1.0, decay="lr_squared", **{"clip_norm.max_norm": 1.0},
    ),
    tail="inverse_sqrt",
    start=10_000,
    source="Chowdhery et al. 2022, arXiv:2204.02311, Section 5",
    note="Adafactor without factoring is Adam whose steps are relative to the size of the weights. The weight decay is "
    "the square of the current learning rate. Steps had 1M, 2M, then 4M tokens.",
)  # fmt: skip

modded_nanogpt = Preset(
    name="modded_nanogpt",
    model="modded-nanogpt's 124M GPT, the record of 25 May 2025 (MuonWithAuxAdamExample)",
    rule="muon",
    settings=_frozen(lr=0.05, momentum=0.95, weight_decay=0.0, scale="original"),
    other=_frozen(rule="adamw", betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0),
    by_role=_frozen(
        head={"lr": 0.22}, embedding={"lr": 0.6}, norm={"lr": 0.04}, bias={"lr": 0.04}, vector={"lr": 0.04},
        free={"lr": 0.04},
    ),
    tail="linear",
    floor=0.1,
    decay_share=0.4,
    source="Jordan et al. 2024-2025, github.com/KellerJordan/modded-nanogpt, records/052525_MuonWithAuxAdamExample",
    note="1770 steps of 393216 tokens. Muon's momentum rose from 0.85 to 0.95 over the first 300 steps. The learning "
    "rates belong to that model: embedding and head apart, RMS norms without weights, logits scaled and capped.",
)  # fmt: skip

PRESETS: Mapping[str, Preset] = MappingProxyType({p.name: p for p in (llama2, gpt3, palm, modded_nanogpt)})
"""The presets by name."""


def available() -> list[str]:
    """The names of all presets, sorted."""
    return sorted(PRESETS)
