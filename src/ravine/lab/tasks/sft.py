"""Supervised fine-tuning: given a function, say what it does; the loss is taken on the answer alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from ravine.lab.data import Split
from ravine.lab.tasks.lm import CHUNK, perplexity
from ravine.lab.tasks.post_training import PostTraining, evaluated, log_probabilities, window
from ravine.lab.tasks.task import Batch, Evaluated, device_of, moved


@dataclass(frozen=True)
class SupervisedFineTuning(PostTraining):
    """Cross-entropy of the tokens of the answer: the first paragraph of a function's docstring."""

    name: ClassVar[str] = "sft"

    @cached_property
    def windows(self) -> dict[Split, tuple[Tensor, Tensor]]:
        """Tokens and answers, by split."""
        tokenizer = self.start.tokenizer
        made = {split: [window(tokenizer, p, self.length) for p in pairs] for split, pairs in self.distinct.items()}
        return {split: (torch.stack([t for t, _ in m]), torch.stack([a for _, a in m])) for split, m in made.items()}

    @property
    def unit(self) -> str:
        """Bytes or tokens, of answers."""
        return "byte" if self.start.tokenizer.name == "bytes" else "token"

    @property
    def loss_name(self) -> str:
        """Nats per byte or token of the answers."""
        return f"nats per {self.unit} of the answer"

    def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
        """`tokens` and `answer`, which of them are the answer's: (count, length), drawn with replacement."""
        tokens, answer = self.windows["training"]
        drawn = torch.randint(len(tokens), (count,), generator=generator)
        return {"tokens": tokens[drawn], "answer": answer[drawn]}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over the answers' tokens."""
        answer = batch["answer"][:, 1:]
        return -(log_probabilities(model, batch["tokens"])[0] * answer).sum() / answer.sum()

    def units(self, batch: Batch) -> int:
        """Tokens of answers."""
        return int(batch["answer"][:, 1:].sum())

    def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
        """Loss, perplexity per token, and the share of tokens that are the likeliest; of answers."""
        tokens, answers = (evaluated(kept) for kept in self.windows[split])
        loss, right, count = 0.0, 0, 0
        for some in zip(tokens.split(CHUNK), answers.split(CHUNK), strict=True):
            batch = moved(dict(zip(("tokens", "answer"), some, strict=True)), device_of(model))
            answer = batch["answer"][:, 1:]
            found, likeliest = log_probabilities(model, batch["tokens"])
            loss -= (found * answer).sum().item()
            right += int((likeliest & answer).sum())
            count += int(answer.sum())
        return {"loss": loss / count, "accuracy": right / count, "perplexity": perplexity(loss / count)}
