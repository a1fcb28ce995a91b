"""Direct preference optimization: of two descriptions of a function, prefer the one from its docstring."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ravine.lab.data import Split
from ravine.lab.tasks.lm import CHUNK
from ravine.lab.tasks.pairs import Pair
from ravine.lab.tasks.post_training import END, PostTraining, answer_tokens, evaluated, log_probabilities, window
from ravine.lab.tasks.task import Batch, Evaluated, device_of, moved, require_number, require_one_of

FEWEST_WORDS = 3
"""Different words of an answer that is shuffled."""

PREFERENCE = ("chosen", "chosen_answer", "rejected", "rejected_answer")


@dataclass(frozen=True)
class DirectPreferenceOptimization(PostTraining):
    """−log σ(β · (chosen − rejected)), each the log-ratio of the model's probability of an answer to the base's.

    Rafailov et al. 2023 (arXiv:2305.18290), equation 7. Chosen is a function's docstring, rejected the same with its
    words shuffled. The reference is the base, frozen; a new model is a copy of it, and its loss is log 2.

    Args:
        size: how many pairs there are, and how long a run is; also of the base, where none is given.
        data: a folder of `.py` files; None for Python's standard library.
        base: a checkpoint of `ravine train --task lm`; None for one pre-trained on the spot.
        model: `"path.py:build"` or `"hf:DIR"`, if the base was trained on a model of one's own.
        beta: β, how far the model may go from the reference for a preference: the larger, the less.
        rejected: `"words"`; or `"functions"` for the docstring of another function of the same split, which only a
            model that relates the two tells from the true one: the laboratory's small ones do no better than chance.
    """

    beta: float = 0.1
    rejected: str = "words"

    name: ClassVar[str] = "dpo"
    unit: ClassVar[str] = "pair"
    loss_name: ClassVar[str] = "preference loss"

    def __post_init__(self) -> None:
        require_number("beta", self.beta, 0, strictly=True)
        require_one_of("rejected", self.rejected, ("words", "functions"))
        super().__post_init__()

    @property
    def steps(self) -> int:
        """Optimizer steps of a run, where none are asked for: a step takes about twice as long as one of `sft`."""
        return {"tiny": 40, "small": 80, "base": 1000}[self.size]

    @property
    def diverged_above(self) -> float:
        """A nat above the loss of a model without preferences."""
        return math.log(2) + 1

    @cached_property
    def references(self) -> dict[torch.device, nn.Module]:
        """The reference on each device that has asked for it."""
        return {}

    @cached_property
    def preferences(self) -> dict[Split, tuple[Tensor, ...]]:
        """The tensors of `PREFERENCE` for all pairs of each split, (count, length) each."""
        return {split: self._windows(found) for split, found in self.distinct.items()}

    def settings(self) -> dict[str, Any]:
        """The pairs and the base by their hashes, the window, the loss."""
        return {**super().settings(), "beta": float(self.beta), "rejected": self.rejected}

    def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
        """`chosen` and `rejected` tokens, and which of them are answers: (count, length), drawn with replacement."""
        kept = self.preferences["training"]
        drawn = torch.randint(len(kept[0]), (count,), generator=generator)
        return {name: tensor[drawn] for name, tensor in zip(PREFERENCE, kept, strict=True)}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean over the pairs."""
        return -F.logsigmoid(self.margin(model, batch)).mean()

    def units(self, batch: Batch) -> int:
        """Pairs."""
        return len(batch["chosen"])

    def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
        """Loss, the share of pairs in which the chosen answer is preferred (ties count half), and the mean margin."""
        margins = []
        for some in zip(*(evaluated(tensor).split(CHUNK) for tensor in self.preferences[split]), strict=True):
            batch = moved(dict(zip(PREFERENCE, some, strict=True)), device_of(model))
            margins.append(self.margin(model, batch))
        margin = torch.cat(margins)
        right = (margin > 0).float() + 0.5 * (margin == 0)
        return {
            "loss": -F.logsigmoid(margin).mean().item(),
            "accuracy": right.mean().item(),
            "margin": margin.mean().item(),
        }

    def margin(self, model: nn.Module, batch: Batch) -> Tensor:
        """β · (chosen − rejected) for each pair: above 0 where the model prefers the chosen answer, (count,)."""
        tokens = torch.cat((batch["chosen"], batch["rejected"]))
        answer = torch.cat((batch["chosen_answer"], batch["rejected_answer"]))[:, 1:]
        with torch.no_grad():
            reference, _ = log_probabilities(self._reference(tokens.device), tokens)
        found, _ = log_probabilities(model, tokens)
        chosen, rejected = ((found - reference) * answer).sum(1).chunk(2)
        return self.beta * (chosen - rejected)

    def _reference(self, device: torch.device) -> nn.Module:
        if device not in self.references:
            # The first call may come from an evaluation, and what inference mode makes cannot be used in training.
            with torch.inference_mode(False):
                self.references[device] = copy.deepcopy(self.start.model).requires_grad_(False).to(device)
        return self.references[device]

    def _windows(self, pairs: tuple[Pair, ...]) -> tuple[Tensor, ...]:
        tokenizer, length = self.start.tokenizer, self.length
        both = [*zip(pairs, others(pairs), strict=True)] if self.rejected == "functions" else self._shuffled(pairs)
        if not both:
            raise ValueError(
                f"dpo needs docstrings of several different words in each split, {self.pairs.name} has none"
            )
        made = []
        for chosen, rejected in both:
            # Both windows have the same prompt: it is cut for the longer of the two answers.
            room = max(len(answer_tokens(tokenizer, pair.answer, length)) for pair in (chosen, rejected))
            made.append([*window(tokenizer, chosen, length, room), *window(tokenizer, rejected, length, room)])
        return tuple(torch.stack(tensors) for tensors in zip(*made, strict=True))

    def _shuffled(self, pairs: tuple[Pair, ...]) -> list[tuple[Pair, Pair]]:
        """The pairs with what of their answers fits a window, and the same words in another order."""
        generator, made = np.random.default_rng(0), []
        for pair in pairs:
            words = pair.answer.split()
            while len(self.start.tokenizer.encode(" ".join(words) + END)) > self.length // 2:
                words.pop()
            if len(set(words)) >= FEWEST_WORDS:
                made.append((replace(pair, answer=" ".join(words)), replace(pair, answer=shuffled(words, generator))))
        return made


def shuffled(words: list[str], generator: np.random.Generator) -> str:
    """The words in a random order that reads differently; at least two of them must differ."""
    while (order := [words[i] for i in generator.permutation(len(words))]) == words:
        pass
    return " ".join(order)


def others(pairs: tuple[Pair, ...]) -> list[Pair]:
    """Each pair with the answer of another one, always the same, and never its own."""
    order = np.random.default_rng(0).permutation(len(pairs))
    wrong = list(pairs)
    for place, i in enumerate(order):
        around = (pairs[order[(place + k) % len(pairs)]].answer for k in range(1, len(pairs)))
        found = next((answer for answer in around if answer != pairs[i].answer), None)
        if found is None:
            raise ValueError("dpo needs at least two different docstrings in each split")
        wrong[i] = replace(pairs[i], answer=found)
    return wrong
