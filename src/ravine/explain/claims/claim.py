"""What a claim is: a sentence of the literature, an experiment, and criteria that were fixed before it ran.

A file `cNN_<slug>.py` in this package holds one claim; no list has to be edited.

Example:
    >>> @claim(
    ...     number=99,
    ...     slug="first-step",
    ...     title="Adam's first step is lr long",
    ...     says="The first step of Adam has the size of the learning rate, whatever the gradient's.",
    ...     source="Kingma & Ba 2015, arXiv:1412.6980, Section 2.1",
    ...     criteria=(Criterion("length", "length of the first step over lr", at_least=0.999, at_most=1.001),),
    ... )
    ... def first_step(run: Run) -> Evidence:
    ...     '''One step of Adam from 0 along the gradient 1000, with lr 1.'''
    ...     from ravine.rules.adam import adam
    ...
    ...     after, *_ = adam(0.0, 1000.0, 0.0, 0.0, t=1, lr=1.0)
    ...     return Evidence(values={"length": abs(after)}, draw=lambda figure: None)
    >>> evidence = first_step(Run(quick=True))
    >>> verdict(first_step.criteria, evidence.values)
    'holds'
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ravine.registry import nearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Verdict = Literal["holds", "holds here with limits", "does not hold at this scale"]
HOLDS: Verdict = "holds"
WITH_LIMITS: Verdict = "holds here with limits"
FAILS: Verdict = "does not hold at this scale"

QUICK_SEEDS = 3
SEEDS = 10
GPU = "gpu"

_MODULE = re.compile(r"c(\d\d)_(\w+)")
_BESIDE = re.compile(r"ravine\.explain\.claims\.(\w+)")
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

Chosen = TypeVar("Chosen")


@dataclass(frozen=True)
class Criterion:
    """What a number of the experiment has to be for the claim to hold, fixed before the experiment ran.

    Args:
        name: of the value in `Evidence.values`.
        what: what the number is, in words.
        at_least: the smallest value with which it holds, that value included; None for no such bound.
        at_most: the largest one, likewise.
        scope: it is not what the authors claim, but asks how far the claim reaches.

    Raises:
        ValueError: without a bound, or where no value lies between the two.
    """

    name: str
    what: str
    at_least: float | None = None
    at_most: float | None = None
    scope: bool = False

    def __post_init__(self) -> None:
        low, high = self.at_least, self.at_most
        if low is None and high is None:
            raise ValueError(f"criterion {self.name!r} needs at_least, at_most or both")
        if low is not None and high is not None and not low <= high:
            raise ValueError(f"criterion {self.name!r}: no value is at least {low} and at most {high}")

    def holds(self, value: float) -> bool:
        """Whether the value lies within the bounds; NaN never does.

        Example:
            >>> Criterion("gap", "a difference", at_most=1e-12).holds(3e-16)
            True
        """
        above = value >= self.at_least if self.at_least is not None else value == value
        below = value <= self.at_most if self.at_most is not None else value == value
        return above and below


def verdict(criteria: Sequence[Criterion], values: Mapping[str, float]) -> Verdict:
    """What the values say of a claim.

    It holds where all criteria do; with limits where one does not that asks how far it reaches (`scope`); and it does
    not hold where any other fails.

    Args:
        criteria: of the claim.
        values: one for each criterion, under its name.
    """
    failed = [each for each in criteria if not each.holds(values[each.name])]
    if not failed:
        return HOLDS
    return WITH_LIMITS if all(each.scope for each in failed) else FAILS


@dataclass(frozen=True)
class Run:
    """How an experiment is to be made.

    Args:
        quick: small enough that all claims end within a few minutes.
        seeds: for what is random, an experiment for each; where nothing is, they are not used.
        report: is called with how many parts of the experiment are done, and how many there are.
    """

    quick: bool = False
    seeds: tuple[int, ...] = ()
    report: Callable[[int, int], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.seeds:
            object.__setattr__(self, "seeds", seeds(QUICK_SEEDS if self.quick else SEEDS))

    def choose(self, quick: Chosen, full: Chosen) -> Chosen:
        """The first for a quick run, the second for a full one."""
        return quick if self.quick else full

    def progress(self, done: int, total: int) -> None:
        """Say that `done` of `total` parts are done."""
        if self.report is not None:
            self.report(done, total)


def seeds(count: int) -> tuple[int, ...]:
    """1, 2, ..., count."""
    return tuple(range(1, count + 1))


Table = tuple[Sequence[str], Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class Evidence:
    """What an experiment found.

    Args:
        values: a number for each criterion, under exactly its name.
        draw: draws the figure on what `explain.figure.new(width, height)` gives.
        table: headings and rows that a reader wants to see as numbers; numbers are shown with four digits.
        remarks: limits of the experiment, in sentences.
        width: of the figure, in inches.
        height: of the figure, in inches.
    """

    values: Mapping[str, float]
    draw: Callable[[Figure], object]
    table: Table | None = None
    remarks: Sequence[str] = ()
    width: float = 6.4
    height: float = 4.0


Experiment = Callable[[Run], Evidence]


@dataclass(frozen=True, eq=False)
class Claim:
    """A claim of the literature with its experiment; see `claim` for what the fields are. Call it with a `Run`."""

    number: int
    slug: str
    title: str
    says: str
    source: str
    criteria: tuple[Criterion, ...]
    needs: tuple[str, ...]
    function: Experiment

    @property
    def experiment(self) -> str:
        """What is done: the function's docstring."""
        return inspect.getdoc(self.function) or ""

    @property
    def file(self) -> Path:
        """The file that the claim is in."""
        return Path(inspect.getfile(self.function))

    @property
    def version(self) -> str:
        """A digest of the claim's file and of those beside it that it imports: when they change, so may the result."""
        text = self.file.read_text(encoding="utf-8")
        beside = (self.file.with_name(f"{name}.py") for name in sorted({*_BESIDE.findall(text)} - {"claim"}))
        used = [text, *(file.read_text(encoding="utf-8") for file in beside if file.is_file())]
        return hashlib.sha256("".join(used).encode()).hexdigest()[:16]

    @property
    def missing(self) -> tuple[str, ...]:
        """What it needs that is not here."""
        return tuple(need for need in self.needs if not _here(need))

    def __call__(self, run: Run) -> Evidence:
        """Make the experiment.

        Raises:
            ValueError: if there is not exactly one value for each criterion.
        """
        evidence = self.function(run)
        wanted = [each.name for each in self.criteria]
        if sorted(evidence.values) != sorted(wanted):
            raise ValueError(
                f"claim {self.slug!r} has the criteria {', '.join(wanted)}, and values for {', '.join(evidence.values)}"
            )
        return evidence


def claim(
    *,
    number: int,
    slug: str,
    title: str,
    says: str,
    source: str,
    criteria: Sequence[Criterion],
    needs: Sequence[str] = (),
) -> Callable[[Experiment], Claim]:
    """Declare a function to be the experiment of a claim; its docstring says what it does.

    Args:
        number: its place in the list.
        slug: its name on the command line and in addresses: small letters, digits and hyphens.
        title: the claim in half a line.
        says: what the authors say, in our own words.
        source: authors, year, and where: `arXiv:...`, `doi:...` or an address becomes a link.
        criteria: what has to come out, from what the authors say.
        needs: importable packages, or `"gpu"`, beyond what ravine itself needs.

    Raises:
        ValueError: for a slug that cannot be one, no criterion but those of scope, a criterion's name used twice, or a
            function without a docstring.
    """

    def declare(function: Experiment) -> Claim:
        names = [each.name for each in criteria]
        if not _SLUG.fullmatch(slug):
            raise ValueError(f"a slug is small letters, digits and hyphens, got {slug!r}")
        if all(each.scope for each in criteria):
            raise ValueError(f"claim {slug!r} needs a criterion that is not one of scope")
        if len(set(names)) < len(names):
            raise ValueError(f"claim {slug!r} has two criteria of one name")
        if not inspect.getdoc(function):
            raise ValueError(f"claim {slug!r} needs a docstring that says what is done")
        return Claim(number, slug, title, says, source, tuple(criteria), tuple(needs), function)

    return declare


@functools.cache
def claims() -> dict[str, Claim]:
    """All claims of this package by slug, in the order of their numbers.

    Raises:
        ValueError: if two have the same number, or a file is not named after its claim.
    """
    import ravine.explain.claims as package

    found: dict[int, Claim] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if not (named := _MODULE.fullmatch(module.name)):
            continue
        one = _only_claim(importlib.import_module(f"{package.__name__}.{module.name}"))
        if (one.number, one.slug) != (int(named[1]), named[2].replace("_", "-")):
            raise ValueError(f"{module.name} holds claim {one.number}, {one.slug!r}: a file is named after its claim")
        if one.number in found:
            raise ValueError(f"claims {found[one.number].slug!r} and {one.slug!r} both have the number {one.number}")
        found[one.number] = one
    return {found[number].slug: found[number] for number in sorted(found)}


def _only_claim(module: ModuleType) -> Claim:
    made = [x for x in vars(module).values() if isinstance(x, Claim) and x.function.__module__ == module.__name__]
    if len(made) != 1:
        raise ValueError(f"{module.__name__} should hold one claim, and holds {len(made)}")
    return made[0]


def lookup_claim(slug: str) -> Claim:
    """The claim of this name.

    Raises:
        KeyError: with the nearest name when there is none.
    """
    if slug not in claims():
        raise KeyError(f"unknown claim {slug!r}{nearest(slug, list(claims()))} (`ravine claims` lists them)")
    return claims()[slug]


def _here(need: str) -> bool:
    if need == GPU:
        import torch

        return torch.cuda.is_available()
    return importlib.util.find_spec(need.partition(".")[0]) is not None
