"""Transformers that train in a second or two: what claims about optimizers for language models are tried on.

A comparison is made as the laboratory makes it: every arm is tuned over a grid of the same size, on tuning seeds and
the tuning split; its best setting is judged on other seeds and another split; only ends of whole schedules count; and
the interval of a difference holds the luck of tuning beside that of the seeds. The full forms of these claims, with ten
seeds, take twenty to forty minutes each on one core.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ravine.explain.claims.claim import Run
from ravine.lab import data
from ravine.lab.models import Architecture, Transformer
from ravine.lab.results.statistics import Sample
from ravine.lab.results.tuning import generator, tuned_again
from ravine.lab.study.arms import Arm
from ravine.lab.study.selection import Trial, chosen
from ravine.lab.training import Recipe
from ravine.optim.hessian import INPUT, gauss_newton_bartlett

ASCII = 128
"""The vocabulary: the bytes of ASCII, others left out."""

HEAD_WIDTH = 16

HELD_OUT = 128
"""Windows of an evaluation, always the same ones."""

HESSIAN_EVERY = 10
"""Steps between two estimates of the Hessian's diagonal (Liu et al. 2023, arXiv:2305.14342)."""

FIRST_TUNING_SEED = 1001
"""Tuning seeds begin here; a run's own seeds, which judge, begin at 1."""

Part = Literal["training", "tuning", "judging"]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Text:
    """Tokens in three parts that share nothing, each int64 (tokens,)."""

    training: Tensor
    tuning: Tensor
    judging: Tensor

    @classmethod
    def cut(cls, text: bytes) -> Text:
        """A text in order: 80 % to learn, 10 % to tune on, 10 % to judge on.

        Example:
            >>> [len(part) for part in vars(Text.cut(b"0123456789")).values()]
            [8, 1, 1]
        """
        tokens = ascii_of(np.frombuffer(text, np.uint8))
        first, second = round(0.8 * len(tokens)), round(0.9 * len(tokens))
        return cls(tokens[:first], tokens[first:second], tokens[second:])


def ascii_of(tokens: np.ndarray) -> Tensor:
    """The bytes below 128, int64."""
    return torch.from_numpy(tokens[tokens < ASCII].astype(np.int64))


def python_source() -> Text:
    """The source of Python's standard library: the text of `ravine compare`."""
    splits = data.standard_library().splits
    return Text(*(ascii_of(splits[split]) for split in ("training", "tuning", "judging")))


@dataclass(frozen=True)
class Trained:
    """A run that is over.

    Args:
        loss: at the end, in nats per byte; infinite where the run diverged.
        losses: of the batches, one a step.
        model: as it is then.
    """

    loss: float
    losses: np.ndarray
    model: Transformer


Look = Callable[[int, Transformer, torch.optim.Optimizer], None]


@dataclass(frozen=True)
class Small:
    """A small transformer, what it learns and how: the learning rate rises for a tenth of the steps and falls to zero.

    Args:
        text: what is learned.
        steps: of a whole run.
        batch: windows of a step.
        width: of the transformer, a multiple of 16, the width of a head.
        layers: of the transformer.
        context: tokens that a window predicts.
        epochs: windows lie side by side and each is seen once an epoch; otherwise they are drawn at random places.
        clip: largest norm of the gradient.
        start: weights to begin with; None for new ones of the run's seed.
    """

    text: Text
    steps: int
    batch: int = 16
    width: int = 48
    layers: int = 1
    context: int = 32
    epochs: bool = False
    clip: float = 1.0
    start: Mapping[str, Tensor] | None = field(default=None, repr=False)

    def new_model(self, seed: int) -> Transformer:
        """The transformer with the weights of a seed, or those to begin with."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            heads = self.width // HEAD_WIDTH
            model = Transformer(Architecture(self.width, self.layers, heads, self.context, ASCII))
        if self.start is not None:
            model.load_state_dict(dict(self.start))
        return model

    @cached_property
    def windows(self) -> Tensor:
        """The training text side by side, (windows, context + 1): the last token of one is the first of the next."""
        starts = torch.arange((len(self.text.training) - 1) // self.context) * self.context
        return self.text.training[starts[:, None] + torch.arange(self.context + 1)]

    def batches(self, seed: int) -> Iterator[Tensor]:
        """Windows to learn from, (batch, context + 1), without end."""
        random = torch.Generator().manual_seed(seed)
        tokens, span = self.text.training, torch.arange(self.context + 1)
        while True:
            if self.epochs:
                order = torch.randperm(len(self.windows), generator=random)
                yield from (self.windows[part] for part in order.split(self.batch) if len(part) == self.batch)
            else:
                yield tokens[torch.randint(len(tokens) - self.context, (self.batch, 1), generator=random) + span]

    def train(
        self, arm: Arm, settings: Settings, seed: int, on: Part = "tuning", before_step: Look | None = None
    ) -> Trained:
        """One run.

        Args:
            arm: the optimizer; a rule for matrices gets the hidden ones, AdamW the rest. A rule that takes the
                Hessian's diagonal gets an estimate every 10 steps.
            settings: its own.
            seed: of weights and data.
            on: what it is evaluated on at the end.
            before_step: called with the number of steps done, the model and the optimizer, gradients being there.
        """
        model = self.new_model(seed)
        optimizer: Any = arm.build(model, settings)
        schedule = Recipe(steps=self.steps, batch=self.batch).new_schedule(optimizer)
        labels, losses = torch.Generator().manual_seed(seed), []
        for step, tokens in enumerate(itertools.islice(self.batches(seed), self.steps)):
            logits = model(tokens[:, :-1])
            if INPUT in arm.rule.inputs and step % HESSIAN_EVERY == 0:
                gauss_newton_bartlett(optimizer, logits, generator=labels)
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.clip)
            if before_step is not None:
                before_step(step, model, optimizer)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            losses.append(loss.detach())
        return Trained(self.evaluate(model, on), torch.stack(losses).numpy(), model)

    def evaluate(self, model: Transformer, on: Part) -> float:
        """The loss in nats per byte, of training over all windows side by side; infinite if it is no number."""
        if on == "training":
            windows = self.windows
        else:
            tokens = getattr(self.text, on)
            count = min(HELD_OUT, len(tokens) // (self.context + 1))
            starts = torch.arange(count) * (len(tokens) // count)
            windows = tokens[starts[:, None] + torch.arange(self.context + 1)]
        with torch.inference_mode():
            parts = [model.loss(part).item() * len(part) for part in windows.split(HELD_OUT)]
        loss = math.fsum(parts) / len(windows)
        return loss if math.isfinite(loss) else math.inf


def grid(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """All combinations.

    Example:
        >>> grid(lr=(0.1, 0.3), beta2=(0.9,))
        [{'lr': 0.1, 'beta2': 0.9}, {'lr': 0.3, 'beta2': 0.9}]
    """
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


class Count:
    """Counts runs and says so."""

    def __init__(self, run: Run, total: int) -> None:
        self._run, self._total, self._done = run, total, 0

    def one(self) -> None:
        """One more is done."""
        self._done += 1
        self._run.progress(self._done, self._total)


@dataclass(frozen=True)
class Tuned:
    """An arm after its search.

    Args:
        arm: the optimizer.
        trials: all runs of the search.
    """

    arm: Arm
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Settings:
        """The setting with the lowest mean over the tuning seeds."""
        return chosen(self.trials)

    def at_edge(self, name: str = "lr") -> bool:
        """Whether the best value is the smallest or largest that was tried."""
        values = [trial.settings[name] for trial in self.trials]
        return self.best[name] in (min(values), max(values))

    def along(self, name: str = "lr") -> tuple[list[float], list[float]]:
        """The values tried, in order, and the lowest mean loss with each; runs that diverged leave their value out."""
        means: dict[float, list[float]] = {}
        for settings in {tuple(trial.settings.items()): trial.settings for trial in self.trials}.values():
            losses = [trial.loss for trial in self.trials if trial.settings == settings]
            if all(loss is not None for loss in losses):
                means.setdefault(settings[name], []).append(float(np.mean([x for x in losses if x is not None])))
        values = sorted(means)
        return values, [min(means[value]) for value in values]


def tune(small: Small, arm: Arm, cells: Sequence[Settings], count: Count, seeds: int = 1, on: Part = "tuning") -> Tuned:
    """Every setting on the same tuning seeds."""
    trials = []
    for cell, seed in itertools.product(cells, range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + seeds)):
        loss = small.train(arm, cell, seed, on).loss
        trials.append(Trial(cell, loss if math.isfinite(loss) else None, seed))
        count.one()
    return Tuned(arm, tuple(trials))


def edges(*searches: Tuned) -> list[str]:
    """A sentence for each search whose best learning rate is the smallest or largest that was tried."""
    return [
        f"{one.arm.label}'s best learning rate, {one.best['lr']:g}, is at the edge of what was tried: a better one may "
        "lie beyond."
        for one in searches
        if one.at_edge()
    ]


@dataclass(frozen=True)
class Judged:
    """A setting on the seeds that judge.

    Args:
        losses: at the end, one a seed.
        curves: of the batches' losses, (seeds, steps).
        tuned: the search that chose the setting; None where it was given.
    """

    losses: tuple[float, ...]
    curves: np.ndarray
    tuned: Tuned | None = None

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.losses))

    @property
    def half(self) -> float:
        """Half the width of Student's 95 % interval of the mean; NaN where a run diverged or there is one alone."""
        return interval(self.losses).high - self.mean


def judging_seeds(run: Run) -> tuple[int, ...]:
    """The run's own; in a quick one, whose models are the smallest and differ most, two for each of them.

    Example:
        >>> judging_seeds(Run(quick=True, seeds=(1, 2)))
        (1, 2, 3, 4)
    """
    each = run.choose(2, 1)
    return tuple(each * seed - i for seed in run.seeds for i in reversed(range(each)))


def judge(
    small: Small,
    arm: Arm,
    settings: Settings,
    run: Run,
    count: Count,
    tuned: Tuned | None = None,
    on: Part = "judging",
    seeds: Sequence[int] | None = None,
) -> Judged:
    """A setting on each of the seeds that judge, or on others."""
    runs = []
    for seed in judging_seeds(run) if seeds is None else seeds:
        runs.append(small.train(arm, settings, seed, on))
        count.one()
    return Judged(tuple(each.loss for each in runs), np.stack([each.losses for each in runs]), tuned)


@dataclass(frozen=True)
class Difference:
    """Of two means, with its 95 % interval; NaN where a run diverged or there is one seed only."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:+.3f} to {self.high:+.3f}"


def difference(a: Judged, b: Judged) -> Difference:
    """The mean of a minus that of b, seed by seed, since both begin with the same weights and see the same batches."""
    gaps = np.subtract(a.losses, b.losses)
    return interval(gaps, luck(gaps, a) + luck(gaps, b))


def luck(gaps: Sequence[float] | np.ndarray, judged: Judged) -> float:
    """Variance of the luck of tuning: had the search been made with other seeds, another setting might be chosen.

    Args:
        gaps: differences of two arms, one a seed. All settings are tuned on the same seeds, so that what makes one look
            better than another is not what a seed does to all, but the rest of the noise, which is in these.
        judged: the arm; the variance is zero where its setting was given.
    """
    if judged.tuned is None or len(gaps) < 2 or not np.isfinite(gaps).all():
        return 0.0
    noise = float(np.std(gaps, ddof=1)) / math.sqrt(2)
    again = tuned_again(judged.tuned.trials, noise, generator(judged.tuned.arm.label))
    return float(np.var(again))


def interval(values: Sequence[float] | np.ndarray, further_variance: float = 0.0) -> Difference:
    """The mean of some values with Student's 95 % interval, widened by a variance that their spread does not tell.

    Example:
        >>> str(interval([1.0, 2.0, 3.0]))
        '-0.484 to +4.484'
    """
    mean = float(np.mean(values))
    if len(values) < 2 or not np.isfinite(values).all():
        return Difference(mean, math.nan, math.nan)
    low, high = Sample(tuple(map(float, values))).interval or (mean, mean)
    squared = float(np.var(values, ddof=1)) / len(values)
    half = (high - low) / 2 * (math.sqrt(1 + further_variance / squared) if squared else 1.0)
    return Difference(mean, mean - half, mean + half)
