"""The family tree: every rule is in it, with a reason; and every form of it says the same."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import ravine.registry
from ravine.cli import app
from ravine.explain.tree import markdown, mermaid, summary, tree
from ravine.explain.tree_picture import svg
from ravine.registry import available, lookup, wrappers
from ravine.rule import rule

SVG = "{http://www.w3.org/2000/svg}"
LONGEST = 106  # of a reason; pictures and terminals show it in one line
FAMILY = tree()


@pytest.mark.parametrize("name", available())
def test_every_change_has_its_reason(name: str) -> None:
    """One sentence, with a rule that has a parent, and only then."""
    shown = lookup(name)
    if shown.parent is None:
        assert shown.reason is None
        return
    assert shown.reason is not None, f"{name} is a change of {shown.parent}; say in reason= what it changes, and why"
    assert re.fullmatch(r"[A-Z][^.]*\.", shown.reason), f"the reason of {name} is one sentence"
    assert len(shown.reason) <= LONGEST
    assert shown.title not in shown.reason.split()


def test_no_two_changes_have_the_same_reason() -> None:
    reasons = [lookup(name).reason for name in available()]
    assert len(set(reasons)) == len(reasons)


def test_a_preset_has_its_own_reason_or_none() -> None:
    adam = lookup("adam")
    assert adam.preset("other", doc="Other: made for this test.", paper="none").reason is None
    assert adam.preset("other", doc="Other: made for this test.", paper="none", reason="To see.").reason == "To see."


def test_the_tree_has_every_rule_once_and_the_wrappers_apart() -> None:
    names = [kin.rule.name for _, kin in FAMILY.root.walk()]
    assert sorted(names) == available()
    assert FAMILY.root.rule.name == "sgd" and FAMILY.root.size == len(names)
    assert [wrapper.name for wrapper in FAMILY.wrappers] == wrappers()
    for depth, kin in FAMILY.root.walk():
        assert all(child.rule.parent == kin.rule.name for child in kin.children)
        assert len(FAMILY.line_to(kin.rule.name)) == depth + 1


def test_the_line_of_adamw() -> None:
    """SGD, AdaGrad's division, RMSProp's average, Adam, decoupled weight decay."""
    assert FAMILY.line_to("adamw") == ["sgd", "adagrad", "rmsprop", "adam", "adamw"]
    with pytest.raises(KeyError, match="did you mean 'adamw'"):
        FAMILY.line_to("adamww")


@rule(paper="made for this test", parent="nobody", reason="To be lost.")
def orphan(p, g, *, t, lr=0.1):
    """Orphan: a change of a rule that is not there."""
    return (p - lr * g,)


@rule(paper="made for this test")
def second(p, g, *, t, lr=0.1):
    """Second: another beginning."""
    return (p - lr * g,)


@pytest.mark.parametrize(
    ("added", "says"),
    [(orphan, "descend from none that is registered: orphan"), (second, "here these have none: second, sgd")],
    ids=["orphan", "second"],
)
def test_what_is_no_tree_is_refused(added: ravine.Rule, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ravine.registry._rules, added.name, added)
    with pytest.raises(ValueError, match=says):
        tree()


def test_the_picture_has_a_row_for_each() -> None:
    root = ElementTree.fromstring(svg(FAMILY))
    names = [element for element in root.iter(f"{SVG}text") if element.get("class") == "name"]
    titles = [kin.rule.title for _, kin in FAMILY.root.walk()] + [wrapper.title for wrapper in FAMILY.wrappers]
    assert [element.text for element in names] == titles
    heights = [float(element.get("y", "")) for element in names]
    assert all(low - high >= 18 for high, low in pairwise(heights))
    said = "".join(root.itertext())
    assert all(kin.rule.reason in said for _, kin in FAMILY.root.walk() if kin.rule.reason)
    assert all(summary(wrapper) in said for wrapper in FAMILY.wrappers)
    branches = [element for element in root.iter(f"{SVG}path") if "branch" in str(element.get("class"))]
    assert len(branches) == len(available()) - 1
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    assert max(heights) < height and width < 1400


def test_the_lists_and_the_diagram_have_every_edge() -> None:
    text, drawn = markdown(FAMILY), mermaid(FAMILY)
    for depth, kin in FAMILY.root.walk():
        assert f"\n{'  ' * depth}- {kin.rule.title}: {kin.rule.reason or kin.rule.summary}\n" in f"\n{text}"
        if kin.rule.parent:
            assert re.search(rf'^  {kin.rule.parent} -- "[^"]+" --> {kin.rule.name}$', drawn, re.MULTILINE)
    assert all(f'(["{wrapper.title}"])' in drawn and f"- {wrapper.title}: " in text for wrapper in FAMILY.wrappers)


def test_the_command(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"tree.{kind}" for kind in ("svg", "mmd", "md", "json")}
    options = zip(("--svg", "--mermaid", "--markdown", "--json"), map(str, files.values()), strict=True)
    result = CliRunner().invoke(app, ["tree", *(word for pair in options for word in pair)])
    assert result.exit_code == 0
    assert all(
        kin.rule.title in result.stdout and (kin.rule.reason or "") in result.stdout for _, kin in FAMILY.root.walk()
    )
    assert "Around any rule" in result.stdout
    assert files["svg"].read_text(encoding="utf-8") == svg(FAMILY)
    assert files["mmd"].read_text(encoding="utf-8") == mermaid(FAMILY)
    assert files["md"].read_text(encoding="utf-8") == markdown(FAMILY)
    assert json.loads(files["json"].read_text(encoding="utf-8")) == FAMILY.as_dict()


@pytest.mark.parametrize("option", ["--svg", "--mermaid", "--markdown", "--json"])
def test_a_file_that_cannot_be_written(option: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["tree", option, str(tmp_path / "no" / "such")])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"ravine: {option}: ") and result.stderr.count("\n") == 1


def test_alone_on_standard_output() -> None:
    assert CliRunner().invoke(app, ["tree", "--markdown", "-"]).stdout == markdown(FAMILY)
    assert json.loads(CliRunner().invoke(app, ["tree", "--json", "-"]).stdout) == FAMILY.as_dict()
