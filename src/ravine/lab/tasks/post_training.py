"""What post-training tasks share: a base model, and instruction pairs as windows of tokens of one length.

A window is a function, a separator and an answer, then padding. The answer is cut to half the window; the function
gets what is left, and is cut at its end, since its signature says most.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ravine.lab.data import Split, Tokenizer
from ravine.lab.tasks import base as bases
from ravine.lab.tasks import pairs as pairs_of
from ravine.lab.tasks.base import Base
from ravine.lab.tasks.own import Own, logits_of
from ravine.lab.tasks.pairs import Pair, Pairs
from ravine.lab.tasks.task import Task, above_uniform

SEPARATOR = '\n"""'
END = '"""\n'
"""Comes after an answer: a model learns to stop by it."""

PADDING = 0
"""Any token will do: no loss is taken on it, and nothing before it sees it."""

SHORTEST = 16
"""Tokens of a window, at least."""

EVALUATED = 128
"""Windows in an evaluation, always the same ones."""


@dataclass(frozen=True)
class PostTraining(Task):
    """Post-training on functions and what their docstrings say.

    Args:
        size: how many pairs there are, and how long a run is; also of the base, where none is given.
        data: a folder of `.py` files; None for Python's standard library.
        base: a checkpoint of `ravine train --task lm`; None for a transformer that is pre-trained on the spot, on the
            files of the training split alone, and kept on disk.
        model: `"path.py:build"` or `"hf:DIR"`, if the base was trained on a model of one's own.

    Raises:
        ValueError: also for a folder without enough documented functions, and for a base that is no language model.
    """

    data: str | None = None
    base: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is not None and self.base is None:
            raise ValueError(f"model says what the base was trained on: the task {self.name} needs a base with it")
        if self.base is None:
            bases.require_quick(self.size)
        if self.length < SHORTEST:
            raise ValueError(f"base must have a context of at least {SHORTEST - 1} tokens, got {self.length - 1}")

    @cached_property
    def pairs(self) -> Pairs:
        """Functions and answers, by split."""
        return pairs_of.for_size(self.size, self.data)

    @cached_property
    def start(self) -> Base:
        """The model that runs begin with."""
        if self.base is not None:
            return bases.from_checkpoint(self.base, self.model)
        return bases.pre_trained(self.size, self.pairs.text)

    @cached_property
    def distinct(self) -> dict[Split, tuple[Pair, ...]]:
        """The pairs without those that are the same as another once they are cut, so that splits share no window."""
        tokenizer, seen = self.start.tokenizer, set()
        least = self.length - self.length // 2 - len(tokenizer.encode(SEPARATOR))
        kept: dict[Split, list[Pair]] = {split: [] for split in self.pairs.splits}
        for split, found in self.pairs.splits.items():
            for pair in found:
                answer = answer_tokens(tokenizer, pair.answer, self.length)
                key = (*prompt_tokens(tokenizer, pair.prompt, least), -1, *answer)
                if key not in seen:
                    seen.add(key)
                    kept[split].append(pair)
        if not all(kept.values()):
            raise ValueError(f"{self.pairs.name} has too few different functions for three splits")
        return {split: tuple(pairs) for split, pairs in kept.items()}

    @property
    def own(self) -> Own | None:
        """The user's model."""
        return self.start.own

    @property
    def length(self) -> int:
        """Tokens of a window."""
        usual = {"tiny": 128, "small": 128, "base": 512}[self.size]
        longest = getattr(self.start.model, "context", None)
        return 1 + (min(usual, longest) if isinstance(longest, int) else usual)

    @property
    def steps(self) -> int:
        """Optimizer steps of a run, where none are asked for."""
        return {"tiny": 40, "small": 120, "base": 1000}[self.size]

    @property
    def batch(self) -> int:
        """Pairs of a step, where none are asked for."""
        return {"tiny": 8, "small": 8, "base": 32}[self.size]

    @property
    def diverged_above(self) -> float:
        """A nat above a uniform guess."""
        return above_uniform(self.start.tokenizer.vocabulary)

    def settings(self) -> dict[str, Any]:
        """The pairs and the base by their hashes, and the window."""
        count = {split: len(found) for split, found in self.distinct.items()}
        return {
            "task": self.name,
            "data": {"sha256": self.pairs.sha256, "files": self.pairs.files, "pairs": count},
            "base": self.start.settings(),
            "window": self.length,
        }

    def about(self) -> dict[str, Any]:
        """What was read, what was skipped, and where the base comes from."""
        skipped = [{"path": s.path, "why": s.why} for s in self.pairs.skipped]
        return {"data": {"name": self.pairs.name, "skipped": skipped}, "base": self.start.origin}

    def new_model(self) -> nn.Module:
        """A copy of the base; nothing is drawn."""
        return copy.deepcopy(self.start.model).train()


def window(tokenizer: Tokenizer, pair: Pair, length: int, room: int = 0) -> tuple[Tensor, Tensor]:
    """One example.

    Args:
        tokenizer: of the tokens.
        pair: a function and its answer.
        length: of the window, in tokens.
        room: tokens that are left for the answer, if that is more than it has.

    Returns:
        Tokens (length,) and which of them are the answer's; both are padded at the end.
    """
    separator, answer = tokenizer.encode(SEPARATOR), answer_tokens(tokenizer, pair.answer, length)
    tokens = prompt_tokens(tokenizer, pair.prompt, length - len(separator) - max(room, len(answer))) + separator
    answered = len(tokens) + len(answer)
    place = torch.arange(length)
    padded = torch.tensor(tokens + answer + [PADDING] * (length - answered))
    return padded, (place >= len(tokens)) & (place < answered)


def answer_tokens(tokenizer: Tokenizer, answer: str, length: int) -> list[int]:
    """The answer and its end, at most half of a window of this length."""
    return tokenizer.encode(answer + END)[: length // 2]


def prompt_tokens(tokenizer: Tokenizer, prompt: str, most: int) -> list[int]:
    """The beginning of a function."""
    # A token has hardly ever more than 16 characters: the rest of a long function need not be looked at.
    return tokenizer.encode(prompt[: 16 * most])[:most]


def evaluated(examples: Tensor) -> Tensor:
    """The examples of a split (count, ...) that are evaluated: at most `EVALUATED`, evenly from all of its files."""
    count = min(EVALUATED, len(examples))
    return examples[torch.arange(count) * len(examples) // count]


def log_probabilities(model: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """For each token but the first: its log-probability given those before, and whether it is the likeliest.

    Args:
        model: tokens in, logits out.
        tokens: (batch, time + 1).

    Returns:
        float32 and bool, (batch, time).
    """
    logits, next_token = logits_of(model(tokens[:, :-1])).float(), tokens[:, 1:]
    found = logits.log_softmax(-1).gather(-1, next_token.unsqueeze(-1)).squeeze(-1)
    return found, logits.argmax(-1) == next_token
