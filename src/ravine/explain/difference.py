"""What a rule changes of another, line by line, both at their default settings.

Example:
    >>> print("\\n".join(changes("adamw")))
    - g ← g + λ·θ
      m ← β₁·m + (1 − β₁)·g
      v ← β₂·v + (1 − β₂)·g²
      m̂ ← m / (1 − β₁ᵗ)
      v̂ ← v / (1 − β₂ᵗ)
    - θ ← θ − η·(m̂ / (√v̂ + ε))
    + θ ← θ − η·(m̂ / (√v̂ + ε) + λ·θ)
    >>> difference("adam", "adamw").lines[-2].marked()
    'θ ← θ − η·(m̂ / (√v̂ + ε)[ + λ·θ])'
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ravine.explain.settled import SettledLine, settled_lines
from ravine.explain.source import own_name
from ravine.registry import lookup
from ravine.rule import Rule

Kind = Literal["same", "removed", "added"]

MARKS: dict[Kind, str] = {"same": "  ", "removed": "- ", "added": "+ "}
WORD = re.compile(r"[\w\N{COMBINING CIRCUMFLEX ACCENT}]+|\s+|.")
AT_DEFAULTS = "Both at their default settings, with weight decay in its customary form."
# Two lines of which less agrees are not the same line changed: less for those that give the same symbol a value.
ALIKE, ALIKE_WITH_SYMBOL = 0.8, 0.55


@dataclass(frozen=True)
class Piece:
    """A part of a line, and whether the line's counterpart has another in its place."""

    text: str
    changed: bool


@dataclass(frozen=True)
class DifferentLine:
    """One line of a difference: of both rules, of the old one alone, or of the new one alone.

    Attributes:
        kind: which.
        pieces: the line in parts. Where a removed line has an added one as its counterpart, those parts are changed in
            which the two differ; elsewhere none is.
        section: the rule or wrapper whose line it is.
    """

    kind: Kind
    pieces: tuple[Piece, ...]
    section: str

    @property
    def text(self) -> str:
        """The whole line."""
        return "".join(piece.text for piece in self.pieces)

    def marked(self) -> str:
        """The line with brackets around what is changed."""
        return "".join(f"[{piece.text}]" if piece.changed else piece.text for piece in self.pieces)


@dataclass(frozen=True)
class Difference:
    """What `rule` changes of `against`: lines, and the settings of both that have other defaults (old, new)."""

    rule: Rule
    against: Rule
    lines: tuple[DifferentLine, ...]
    settings: dict[str, tuple[Any, Any]]

    @property
    def is_same(self) -> bool:
        """Whether both take the same step at their default settings, but for the settings' values."""
        return all(line.kind == "same" for line in self.lines)

    @property
    def has_sections(self) -> bool:
        """Whether a wrapper's lines are among them, so that a reader wants to know whose each is."""
        return self.rule.wrapper is not None or self.against.wrapper is not None

    def marked_lines(self) -> list[str]:
        """The lines as in a diff, with a heading for each section where there are several."""
        several = self.has_sections
        out: list[str] = []
        section = None
        for line in self.lines:
            if several and line.section != section:
                out.append(f"# {line.section}")
            section = line.section
            out.append(MARKS[line.kind] + line.text)
        return out

    def markdown(self) -> str:
        """As a Markdown section with a diff block, like the pages of the optimizers have."""
        lines = "\n".join(line.rstrip() for line in self.marked_lines())
        parts = [f"## {self.rule.title} against {self.against.title}", AT_DEFAULTS, f"```diff\n{lines}\n```"]
        if self.settings:
            rows = [f"| `{name}` | `{old!r}` | `{new!r}` |" for name, (old, new) in self.settings.items()]
            header = [f"| setting | {self.against.title} | {self.rule.title} |", "| --- | --- | --- |"]
            parts.append("\n".join(header + rows))
        return "\n\n".join(parts) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        lines = [
            {"kind": line.kind, "section": line.section, "text": line.text, "pieces": [vars(p) for p in line.pieces]}
            for line in self.lines
        ]
        settings = {name: {"against": old, "rule": new} for name, (old, new) in self.settings.items()}
        return {"rule": self.rule.spec, "against": self.against.spec, "lines": lines, "settings": settings}


def difference(rule: str | Rule, against: str | Rule) -> Difference:
    """What one rule changes of another; either may be wrapped.

    Branches that the default settings do not take are left out, and weight decay stands in its customary form.

    Raises:
        KeyError: for an unknown rule, with the nearest name.
        TypeError: for wrappers that do not go around a rule.
        ValueError: if a rule's source cannot be found.
    """
    rule = lookup(rule) if isinstance(rule, str) else rule
    against = lookup(against) if isinstance(against, str) else against
    old, new = settled_lines(against), settled_lines(rule)
    matcher = difflib.SequenceMatcher(None, [line.text for line in old], [line.text for line in new], autojunk=False)
    lines: list[DifferentLine] = []
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "equal":
            lines += [DifferentLine("same", (Piece(line.text, False),), line.section) for line in new[k:m]]
        else:
            lines += _replaced(old[i:j], new[k:m], own_name(rule.innermost))
    values = {name: (against.defaults[name], v) for name, v in rule.defaults.items() if name in against.defaults}
    settings = {name: (a, b) for name, (a, b) in values.items() if a != b or isinstance(a, bool) != isinstance(b, bool)}
    if rule.decay != against.decay:
        settings["decay"] = (against.decay, rule.decay)
    return Difference(rule, against, tuple(lines), settings)


def changes(name: str | Rule) -> list[str]:
    """The lines of a rule against its parent's: `- ` before one that it drops, `+ ` before one that is new.

    Returns:
        The lines, none for a rule without a parent; without marks where the two are the same. See `difference`.
    """
    rule = lookup(name) if isinstance(name, str) else name
    if rule.parent is None:
        return []
    return [MARKS[line.kind] + line.text for line in difference(rule, rule.parent).lines]


def _replaced(old: Sequence[SettledLine], new: Sequence[SettledLine], innermost: str) -> list[DifferentLine]:
    """Old lines and the new ones in their place, with the words in which counterparts differ; wrappers' lines first."""
    removed = [[Piece(line.text, False)] for line in old]
    added = [[Piece(line.text, False)] for line in new]
    for i, j in _counterparts(old, new):
        a, b = WORD.findall(old[i].text), WORD.findall(new[j].text)
        parts = difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
        removed[i] = [Piece("".join(a[s:e]), tag != "equal") for tag, s, e, _, _ in parts if e > s]
        added[j] = [Piece("".join(b[s:e]), tag != "equal") for tag, _, _, s, e in parts if e > s]
    lost = [DifferentLine("removed", tuple(p), line.section) for p, line in zip(removed, old, strict=True)]
    gained = [DifferentLine("added", tuple(p), line.section) for p, line in zip(added, new, strict=True)]
    around = [line for line in gained if line.section != innermost]
    return [*around, *lost, *(line for line in gained if line.section == innermost)]


def _counterparts(old: Sequence[SettledLine], new: Sequence[SettledLine]) -> list[tuple[int, int]]:
    """Pairs of lines that are alike, the most alike first; of equals, those that assign the same symbol."""
    scores = []
    for i, a in enumerate(old):
        for j, b in enumerate(new):
            words = (WORD.findall(a.text.replace(" ", "")), WORD.findall(b.text.replace(" ", "")))
            ratio = difflib.SequenceMatcher(None, *words, autojunk=False).ratio()
            symbol_too = a.text.split(" ← ")[0].strip() == b.text.split(" ← ")[0].strip()
            if ratio >= (ALIKE_WITH_SYMBOL if symbol_too else ALIKE):
                scores.append((ratio, symbol_too, -i, -j))
    pairs: list[tuple[int, int]] = []
    for _, _, i, j in sorted(scores, reverse=True):
        if all(-i != a and -j != b for a, b in pairs):
            pairs.append((-i, -j))
    return pairs
