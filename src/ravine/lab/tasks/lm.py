"""Language modelling: predict each token of a text from those before it."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ravine.lab import data
from ravine.lab.data import Corpus
from ravine.lab.models import SIZES, Architecture, Transformer, check_loss, parse
from ravine.lab.tasks.own import Own, check, logits_of, tried
from ravine.lab.tasks.task import Batch, Evaluated, Task, above_uniform, device_of, moved, require_whole

EVALUATED = 128
"""Windows in an evaluation, always the same ones."""

CHUNK = 32
"""Windows that are evaluated at a time."""


@dataclass(frozen=True)
class LanguageModelling(Task):
    """Cross-entropy of the next token, in nats; with bytes for tokens, nats per byte.

    Args:
        size: of the transformer, `ravine.lab.models.SIZES`.
        data: a file or folder of text; None for the source of Python's standard library.
        tokenizer: `"bytes"`, `"bpe:4096"` or a tokenizer's file.
        model: `"path.py:build"` or `"hf:DIR"` instead of the transformer; it gives logits (batch, time, vocabulary)
            for tokens (batch, time), or has a loss of its own for batches with `tokens` (batch, context + 1).
        context: tokens that a window predicts; by default the transformer's of this size, or the model's if that
            is less.

    Raises:
        ValueError: also for text too short for one window, and for a model that does not do this.
    """

    data: str | None = None
    tokenizer: str = "bytes"
    model: str | None = None
    context: int | None = None
    own: Own | None = field(init=False, repr=False, compare=False, default=None)

    name: ClassVar[str] = "lm"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.context is not None:
            require_whole("context", self.context, 1)
        if self.model is None:
            self.corpus.require(self.window + 1)
            return
        model, own = tried(parse(self.model))
        object.__setattr__(self, "own", own)
        if self.context is not None and own.context is not None and self.context > own.context:
            raise ValueError(f"context must be at most the model's, {own.context}, got {self.context}")
        self.corpus.require(self.window + 1)
        self._check(own, model)

    @cached_property
    def corpus(self) -> Corpus:
        """The text."""
        if self.data is None:
            return data.standard_library(self.tokenizer)
        return data.read(self.data, tokenizer=self.tokenizer)

    @property
    def architecture(self) -> Architecture:
        """Of the transformer, where the model is none of the user's own."""
        return replace(SIZES[self.size], vocabulary=self.corpus.vocabulary, context=self.window)

    @property
    def window(self) -> int:
        """Tokens that a window predicts; it has one more, the first."""
        usual = SIZES[self.size].context
        longest = None if self.own is None else self.own.context
        return self.context or min(usual, longest or usual)

    @property
    def unit(self) -> str:
        """Bytes or tokens."""
        return "byte" if self.corpus.tokenizer.name == "bytes" else "token"

    @property
    def loss_name(self) -> str:
        """Nats, unless the model has a loss of its own."""
        return "loss" if self.own is not None and self.own.loss is not None else f"nats per {self.unit}"

    @property
    def steps(self) -> int:
        """Optimizer steps of a run, where none are asked for."""
        return {"tiny": 40, "small": 120, "base": 2000}[self.size]

    @property
    def batch(self) -> int:
        """Windows of a step, where none are asked for."""
        return {"tiny": 8, "small": 8, "base": 64}[self.size]

    @property
    def diverged_above(self) -> float:
        """A nat above a uniform guess; any finite loss of the user's own will do."""
        if self.own is not None and self.own.loss is not None:
            return math.inf
        return above_uniform(self.corpus.vocabulary)

    def settings(self) -> dict[str, Any]:
        """The text and the tokenizer by their hashes, the window, the model."""
        corpus, model = self.corpus, asdict(self.architecture) if self.own is None else self.own.source.settings()
        return {
            "task": self.name,
            "data": {"sha256": corpus.sha256, "bytes": corpus.bytes, "files": corpus.files},
            "tokenizer": {"name": corpus.tokenizer.name, "sha256": corpus.tokenizer.sha256},
            "context": self.window,
            "model": model,
        }

    def about(self) -> dict[str, Any]:
        """What was read and what was skipped."""
        return {"data": self.corpus.about(), "model": "transformer" if self.own is None else self.own.source.name}

    def new_model(self) -> nn.Module:
        """The transformer, or the user's model."""
        return Transformer(self.architecture) if self.own is None else self.own.new_model()

    def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
        """`tokens`: windows of the training split at random places, (count, context + 1)."""
        return {"tokens": self.corpus.draw(count, self.window + 1, generator)}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over all tokens but each window's first, or the model's own loss."""
        if self.own is not None and self.own.loss is not None:
            return check_loss(self.own.loss(model, batch))
        return self._predict(model, batch["tokens"])[0]

    def units(self, batch: Batch) -> int:
        """Tokens that are predicted."""
        return batch["tokens"][:, 1:].numel()

    def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
        """Loss, perplexity per token, and the share of tokens that are the likeliest; of its own loss, that alone."""
        windows = self.corpus.windows(split, EVALUATED, self.window + 1)
        sums: dict[str, float] = defaultdict(float)
        for tokens in windows.split(CHUNK):
            batch = moved({"tokens": tokens}, device_of(model))
            if self.own is not None and self.own.loss is not None:
                sums["loss"] += check_loss(self.own.loss(model, batch)).item() * len(tokens)
            else:
                loss, right = self._predict(model, batch["tokens"])
                sums["loss"] += loss.item() * len(tokens)
                sums["accuracy"] += right.float().mean().item() * len(tokens)
        figures = {name: value / len(windows) for name, value in sums.items()}
        if "accuracy" in figures:
            figures["perplexity"] = perplexity(figures["loss"])
            if self.unit != "byte":
                figures["nats_per_byte"] = figures["loss"] / self.corpus.bytes_per_token(split)
        return figures

    @staticmethod
    def _predict(model: nn.Module, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy, and which tokens are the likeliest."""
        logits, next_token = logits_of(model(windows[:, :-1])), windows[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1).float(), next_token.flatten())
        return loss, logits.argmax(-1) == next_token

    def _check(self, own: Own, model: nn.Module) -> None:
        """Try the user's model on the tokenizer's first and last token."""
        vocabulary = self.corpus.vocabulary
        length = self.window if own.loss is None else self.window + 1
        for token in (0, vocabulary - 1):
            tokens = torch.full((1, length), token)
            try:
                check(own, model, {"tokens": tokens}, "tokens", vocabulary)
            except ValueError as error:
                if token == 0 or not isinstance(error.__cause__, IndexError):
                    raise
                raise ValueError(
                    f"{own.source.name} has too small a vocabulary: it fails on token {token} of the tokenizer "
                    f"{self.corpus.tokenizer.name}, which has {vocabulary}"
                ) from error


def perplexity(loss: float) -> float:
    """e to the cross-entropy; infinite where that is too large to be written."""
    return math.exp(loss) if not loss > 700 else math.inf
