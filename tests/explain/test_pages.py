"""The pages of the optimizers: complete, true, readable where they are read, and those that are committed."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

import ravine
from ravine.compose import maximize
from ravine.explain import tree, tree_picture
from ravine.explain.cost import cost_of, state_bytes
from ravine.explain.difference import changes
from ravine.explain.pages import AROUND, COMMAND, IMAGES, INDEX, TREE, USE, pages, picture
from ravine.explain.settled import lines_at_defaults
from ravine.registry import available, lookup, lookup_wrapper, wrappers
from ravine.rule import rule

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "optimizers"
PAGES = pages()
NAMES = [*available(), *wrappers()]


def test_the_committed_pages_are_those_of_the_rules() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    stale = sorted(name for name in PAGES.keys() | committed.keys() if PAGES.get(name) != committed.get(name))
    assert stale == [], f"docs/optimizers lags behind the rules; write it anew with `{COMMAND}`"


def spoken(picture: str) -> list[tuple[str, str]]:
    """All that stands in a picture or is said of it; outlines of glyphs, which libraries draw, left out."""
    tags = ("title", "desc", "text")
    elements = (
        (element.tag.rpartition("}")[2], element.text or "") for element in ElementTree.fromstring(picture).iter()
    )
    return [(tag, text) for tag, text in elements if tag in tags]


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_pictures_are_those_of_the_rules(name: str) -> None:
    committed = (FOLDER / IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    assert spoken(committed) == spoken(picture(name)), f"docs/optimizers/{IMAGES} lags; write it anew with `{COMMAND}`"
    assert f"({IMAGES}/{name}.svg)" in PAGES[f"{name}.md"]


def test_the_committed_tree_is_that_of_the_rules() -> None:
    assert (FOLDER / TREE).read_text(encoding="utf-8") == tree_picture.svg(tree.tree())
    assert f"({TREE})" in PAGES[INDEX] and tree.outline(tree.tree(), ".md") in PAGES[INDEX]


def test_there_is_no_picture_of_what_is_not_there() -> None:
    assert {path.stem for path in (FOLDER / IMAGES).iterdir()} == {*NAMES, Path(TREE).stem}


@pytest.mark.parametrize("name", available())
def test_pages_of_rules_say_what_they_change_and_why(name: str) -> None:
    shown = lookup(name)
    if shown.parent is not None:
        assert f"A change of [{lookup(shown.parent).title}]({shown.parent}.md)" in PAGES[f"{name}.md"]
        assert f"{shown.reason}\n" in PAGES[f"{name}.md"]


def test_there_is_a_page_for_everything() -> None:
    assert sorted(PAGES) == sorted([INDEX, *(f"{name}.md" for name in NAMES)])
    for name in NAMES:
        assert f"({name}.md)" in PAGES[INDEX]


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_says_when_to_use_it(name: str) -> None:
    """In the docstring's second paragraph, in two to five sentences."""
    doc = (lookup(name) if name in available() else lookup_wrapper(name)).doc
    use = doc.split("\n\n")[1]
    assert use.startswith(USE)
    assert 2 <= len(re.findall(r"[^.]\.(?:\s|$)", use.replace("et al.", "et al"))) <= 5
    assert use in re.sub(r"\[(arXiv:[\d.]+)\]\([^)]+\)", r"\1", PAGES[f"{name}.md"])


@pytest.mark.parametrize("name", available())
def test_pages_of_rules_tell_all_settings_and_states(name: str) -> None:
    page, shown = PAGES[f"{name}.md"], lookup(name)
    for setting, default in shown.defaults.items():
        assert f"| `{setting}` | `{default!r}` |" in page
    for state in shown.state.values():
        assert f"| `{state.name}` |" in page
    assert f"`{shown.decay!r}` (customary)" in page


@pytest.mark.parametrize("name", wrappers())
def test_pages_of_wrappers_tell_their_own_settings_and_states(name: str) -> None:
    page, shown = PAGES[f"{name}.md"], lookup_wrapper(name)
    assert {f"{name}.{own}" for own in shown.own} == set(re.findall(rf"^\|[^|]*\| `({name}\.\w+)` \| `", page, re.M))
    for state in shown.state.values():
        assert f"| `{name}.{state.name}` |" in page


@pytest.mark.parametrize("name", sorted(PAGES))
def test_pages_are_what_github_renders(name: str) -> None:
    """Links lead somewhere, tables have as many cells in every row, and math uses no macro that GitHub refuses."""
    page = PAGES[name]
    for link in re.findall(r"\]\(([^)]+)\)", page):
        target, _, anchor = link.partition("#")
        assert target.startswith("https://arxiv.org/abs/") or target in PAGES or (FOLDER / target).resolve().exists()
        headings = re.findall(r"^#+ (.*)$", PAGES.get(target, ""), re.MULTILINE)
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings]
    assert r"\operatorname" not in page
    assert page.count("```") % 2 == 0
    for block in re.findall(r"^```math\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        assert block.startswith("\\begin{aligned}\n") and block.endswith("\n\\end{aligned}\n")
        assert block.isascii() and block.count("{") == block.count("}")
    for table in re.findall(r"(?:^\|.*\|\n)+", page, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_examples_train(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = re.findall(r"^```python\n(.*?)^```$", PAGES[f"{name}.md"], re.MULTILINE | re.DOTALL)
    after: dict[str, list[float]] = {}
    exec(compile(text, name, "exec"), after)
    first, last = map(float, capsys.readouterr().out.split(" -> "))
    assert last > first if name == maximize.name else last < first


@pytest.mark.parametrize("name", NAMES)
def test_what_creates_an_optimizer_creates_it(name: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 1))
    written = re.findall(r"`(ravine\.[^`]*\bmodel\b[^`]*)`", PAGES[f"{name}.md"].split("## When to use it")[0])
    written += re.findall(r"under its full name: `([^`]*)`", PAGES[f"{name}.md"])
    made = [eval(code, {"ravine": ravine, "model": model}) for code in written]
    rule = lookup(name if name in available() else f"{name}({AROUND})")
    assert len(made) >= 2
    assert {type(optimizer) for optimizer in made} == {ravine.optimizer(rule)}


def test_every_rule_but_the_first_is_a_change_of_another() -> None:
    for name in available():
        line = [lookup(name)]
        while (parent := line[-1].parent) is not None:
            line.append(lookup(parent))
            assert len(line) <= len(available()), f"{name} descends from itself"
        assert line[-1].name == "sgd"


@pytest.mark.parametrize("name", available())
def test_changes_lead_from_the_parent_to_the_rule(name: str) -> None:
    shown = lookup(name)
    lines = changes(name)
    if shown.parent is None:
        assert lines == []
        return
    assert [line[2:] for line in lines if line[0] in " -"] == lines_at_defaults(lookup(shown.parent))
    assert [line[2:] for line in lines if line[0] in " +"] == lines_at_defaults(shown)


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("nesterov", ["m ← μ·m + (1 − τ if t > 1 else 1)·g", "g ← g + μ·m"]),
        ("amsgrad", ["vₘₐₓ ← max(vₘₐₓ, v)", "v̂ ← vₘₐₓ / (1 − β₂ᵗ)"]),
        ("lion", ["u ← sign(β₁·m + (1 − β₁)·g)", "θ ← θ − η·(u + λ·θ)", "m ← β₂·m + (1 − β₂)·g"]),
        ("nadamw", ["m̂ ← (β₁·m + (1 − β₁)·g) / (1 − β₁ᵗ)"]),
    ],
)
def test_what_is_new(name: str, new: list[str]) -> None:
    """What each paper adds: Nesterov's look ahead, AMSGrad's maximum, Lion's sign, NAdam's numerator."""
    assert [line[2:] for line in changes(name) if line.startswith("+")] == new


@rule(paper="made for this test", parent="adamw")
def branching(p, g, *, t, lr=0.1, form="a", weight_decay=0.0):
    """Branching: conditions that the defaults decide, and one that they do not."""
    if form == "a":
        if t > 3:
            g = 2 * g
    else:
        g = -g
    if form != "a" and lr > 0:
        g = 0.0 * g
    p = p - lr * ((g if form is None else g**2) + weight_decay * p)
    return (p,)


def test_branches_that_defaults_decide_are_settled() -> None:
    assert lines_at_defaults(branching) == ["if t > 3:", "  g ← 2·g", "θ ← θ − η·(g² + λ·θ)"]


@pytest.mark.parametrize(
    ("name", "passes", "mean"),
    [
        ("adamw", 1, 28),
        ("lamb", 2, 40),
        ("adafactor", 3, 24),
        ("lookahead(adamw)", 1, 29.6),
        ("cautious(adamw)", 2, 40),
    ],
)
def test_cost(name: str, passes: int, mean: float) -> None:
    """Bytes counted by hand: 4 for each read of p, g and a state, and each write of p and a state.

    Lookahead reads and writes its slow weights in one step of five.
    """
    cost = cost_of(lookup(name))
    assert (cost.passes, cost.bytes_mean) == (passes, pytest.approx(mean))
    assert cost.with_inputs is None


def test_cost_of_inputs_and_of_matrices() -> None:
    sophia, muon = cost_of(lookup("sophia")), cost_of(lookup("muon"))
    assert (sophia.bytes_most, sophia.with_inputs) == (24, 32)
    assert muon.has_matrices and not sophia.has_matrices


def test_bytes_of_state_count_rows_columns_and_squares() -> None:
    assert state_bytes(lookup("adafactor"), (10, 40)) == 4 * (10 + 40) / 400
    assert state_bytes(lookup("soap"), (10, 40)) == 8 + 8 * (10 * 10 + 40 * 40) / 400
    assert state_bytes(lookup("sgd")) == 0
