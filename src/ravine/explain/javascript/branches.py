"""The branches of a rule: which of its graphs holds, by the answers to what the rule asks of step and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ravine.engine.graph import program
from ravine.engine.symbols import Expression

Answer = bool | int
Questions = Sequence[tuple[Expression, Answer]]


@dataclass(eq=False)
class Branches:
    """A tree of questions, whose leaves are found by computing with one set of host scalars after the other.

    Attributes:
        leaf: what holds where nothing more is asked.
        question: what is asked here; its answers lead on.
    """

    leaf: Any = None
    question: Expression = None
    answers: dict[Answer, Branches] = field(default_factory=dict)
    _ask: Callable[[Mapping[str, Any]], tuple[Any, ...]] | None = None

    def holds(self, environment: Mapping[str, Any]) -> bool:
        """Whether the leaf for these host scalars is there."""
        at: Branches | None = self
        while at is not None and at._ask is not None:
            at = at.answers.get(at._ask(environment)[0])
        return at is not None and at.leaf is not None

    def add(self, questions: Questions, leaf: Any) -> None:
        """Put a leaf where these answers lead to."""
        at = self
        for question, answer in questions:
            if at._ask is None:
                at.question, at._ask = question, program([question])
            at = at.answers.setdefault(answer, Branches())
        at.leaf = leaf

    @property
    def counted(self) -> set[str]:
        """The settings of which it is asked which whole number they are."""
        inside = set().union(*(branch.counted for branch in self.answers.values()))
        match self.question:
            case ("whole", ("name", name)):
                return inside | {name}
        return inside

    def written(self, place: Callable[[Expression], int]) -> Any:
        """For JSON: a leaf, or `[question, {answer: ...}]`, with questions by their places in a table of values."""
        if self._ask is None:
            return self.leaf
        answers = {str(answer).lower(): branch.written(place) for answer, branch in self.answers.items()}
        return [place(self.question), answers]
