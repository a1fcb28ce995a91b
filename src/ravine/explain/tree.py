"""The family tree of the rules: which is a change of which, and why each was made.

Example:
    >>> family = tree()
    >>> [kin.rule.name for kin in family.root.children][:2]
    ['nesterov', 'momentum']
    >>> family.line_to("adamw")
    ['sgd', 'adagrad', 'rmsprop', 'adam', 'adamw']
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ravine.registry import available, lookup, lookup_wrapper, nearest, wrappers
from ravine.rule import Rule
from ravine.wrapper import Wrapper


@dataclass(frozen=True)
class Kin:
    """A rule with the rules that change it, those with the fewest descendants first."""

    rule: Rule
    children: tuple[Kin, ...]

    @property
    def size(self) -> int:
        """How many rules descend from this one, itself included."""
        return 1 + sum(child.size for child in self.children)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Kin]]:
        """The rule and all that descend from it, each before its own, with its distance from this one."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        facts = {"name": self.rule.name, "title": self.rule.title, "reason": self.rule.reason, "paper": self.rule.paper}
        return facts | {"children": [child.as_dict() for child in self.children]}


@dataclass(frozen=True)
class Family:
    """All registered rules from the first one on, and the wrappers, which go around any of them."""

    root: Kin
    wrappers: tuple[Wrapper, ...]

    def line_to(self, name: str) -> list[str]:
        """The names from the root to a rule.

        Raises:
            KeyError: for an unknown rule, with the nearest name.
        """
        names = {kin.rule.name: kin.rule.parent for _, kin in self.root.walk()}
        if name not in names:
            raise KeyError(f"unknown optimizer {name!r}{nearest(name, list(names))}")
        line = [name]
        while (parent := names[line[0]]) is not None:
            line.insert(0, parent)
        return line

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        around = [{"name": w.name, "title": w.title, "summary": summary(w), "paper": w.paper} for w in self.wrappers]
        return {"tree": self.root.as_dict(), "wrappers": around}


def tree() -> Family:
    """The family tree of all registered rules.

    Raises:
        ValueError: where the parents that rules declare make no single tree.
    """
    rules = [lookup(name) for name in available()]
    children: dict[str | None, list[Rule]] = {}
    for rule in rules:
        children.setdefault(rule.parent, []).append(rule)
    roots = children.get(None, [])
    if len(roots) != 1:
        raise ValueError(f"one rule, the first of all, has no parent; here these have none: {_named(roots) or 'none'}")

    def kin(rule: Rule) -> Kin:
        own = [kin(child) for child in children.get(rule.name, ())]
        return Kin(rule, tuple(sorted(own, key=lambda child: (child.size, child.rule.title.lower()))))

    root = kin(roots[0])
    found = {member.rule.name for _, member in root.walk()}
    if lost := [rule for rule in rules if rule.name not in found]:
        raise ValueError(f"these rules descend from none that is registered: {_named(lost)}")
    return Family(root, tuple(lookup_wrapper(name) for name in wrappers()))


def summary(wrapper: Wrapper) -> str:
    """The first line of a wrapper's docstring without its title."""
    return wrapper.doc.strip().split("\n", 1)[0].split(":", 1)[-1].strip()


def outline(family: Family, link: str = "") -> str:
    """The rules as nested lists in Markdown.

    Args:
        family: the tree.
        link: what follows a name in the address of its page, such as `.md`; nothing for no links.
    """
    lines = []
    for depth, kin in family.root.walk():
        title = f"[{kin.rule.title}]({kin.rule.name}{link})" if link else kin.rule.title
        lines.append(f"{'  ' * depth}- {title}: {kin.rule.reason or kin.rule.summary}")
    return "\n".join(lines)


def markdown(family: Family) -> str:
    """The tree as nested lists, the wrappers as a list of their own."""
    around = "\n".join(f"- {wrapper.title}: {summary(wrapper)}" for wrapper in family.wrappers)
    return f"{outline(family)}\n\nAround any rule:\n\n{around}\n"


def mermaid(family: Family) -> str:
    """The tree as a Mermaid flowchart, each arrow with its reason."""
    lines = [
        "flowchart LR",
        "  accTitle: The family tree of the optimizers",
        "  accDescr: Each arrow leads from a rule to one that changes it, with the reason.",
        *(f'  {kin.rule.name}["{kin.rule.title}"]' for _, kin in family.root.walk()),
        *(
            f'  {kin.rule.parent} -- "{_escaped(kin.rule.reason or "")}" --> {kin.rule.name}'
            for _, kin in family.root.walk()
            if kin.rule.parent is not None
        ),
        '  subgraph around ["around any rule"]',
        *(f'    around_{wrapper.name}(["{wrapper.title}"])' for wrapper in family.wrappers),
        "  end",
        "  classDef root fill:#e4f1fa,stroke:#0072b2,color:#1b1f24",
        f"  class {family.root.rule.name} root",
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    signs = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "_": "#95;", "*": "#42;"}
    return "".join(signs.get(sign, sign) for sign in text)


def _named(rules: list[Rule]) -> str:
    return ", ".join(rule.name for rule in rules)
