"""The exercise: what is given and asked, its check and its solution, on paper and on a screen."""

from __future__ import annotations

import html
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ravine.cli import app
from ravine.explain import trace_markdown, trace_page, traced
from ravine.explain.trace import Place, Trace, trace
from ravine.explain.worksheet import MOST_STEPS, Worksheet, worksheet
from ravine.registry import available, lookup, wrappers

from .test_trace import takes_an_lr

EXERCISE = trace("adamw", "(x-1)**2", 2.0, lr=0.1, weight_decay=0.01)
NAMES = [*filter(takes_an_lr, available()), *(f"{wrapper}(adamw)" for wrapper in wrappers())]
STARTS: dict[str, Any] = {"number": 2.0, "vector": [2.0, -1.0], "matrix": [[2.0, -1.0], [0.5, 3.0]]}
FORMS = [
    pytest.param(name, start, id=f"{name}-{form}")
    for form, start in STARTS.items()
    for name in NAMES
    if form != "vector" or not lookup(name).steps_matrices
]


def sheet_of(name: str, start: Any) -> Worksheet:
    return worksheet(trace(name, None, start, 3, lr=0.1))


def test_the_worked_exercise() -> None:
    """Loshchilov & Hutter 2019, Algorithm 2, by hand: g = 2, m = 0.2, v = 0.004, m̂ = 2, v̂ = 4, θ = 1.898."""
    sheet = worksheet(EXERCISE)
    assert sheet.title == "One step of AdamW by hand"
    assert [equation.text.text for equation in sheet.equations] == [
        "g ← L′(θ) = 2·(θ − 1)", "m ← β₁·m + (1 − β₁)·g", "v ← β₂·v + (1 − β₂)·g²", "m̂ ← m / (1 − β₁ᵗ)",
        "v̂ ← v / (1 − β₂ᵗ)", "θ ← θ − η·(m̂ / (√v̂ + ε) + λ·θ)",
    ]  # fmt: skip
    (rows,) = sheet.steps
    assert [row.value.text for row in rows] == ["2", "0.2", "0.004", "2", "4", "1.898"]
    assert rows[5].substituted.text == "2 − 0.1·(2 / (√4 + 1e-8) + 0.01·2)"
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]
    assert not any(row.given for row in rows)


def test_the_sheet_in_markdown() -> None:
    text = trace_markdown.worksheet(worksheet(EXERCISE))
    asked, solution = text.split("## Solution")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["Given", "Asked", "Check", "Solution"]
    assert "| (6) | θ | |  |" in asked and "1.898" not in asked.split("## Asked")[1]
    assert "L(θ) must be 0.806404" in asked
    assert "| (6) | θ | `2 − 0.1·(2 / (√4 + 1e-8) + 0.01·2)` | 1.898 |" in solution
    assert "break-after: page" in asked
    assert "ravine trace adamw --x0 2 --loss '(x-1)**2' --lr 0.1" in asked


@pytest.mark.parametrize(("name", "start"), FORMS)
def test_every_rule_makes_a_sheet(name: str, start: Any) -> None:
    """Every line of every step has its equation, a blank or a value, and its solution, in both forms."""
    sheet = sheet_of(name, start)
    numbers = [equation.number for equation in sheet.equations]
    assert numbers == list(range(1, len(numbers) + 1))
    by_number = {equation.number: equation for equation in sheet.equations}
    for step, rows in zip(sheet.trace.steps, sheet.steps, strict=True):
        assert len(rows) == len(step.lines)
        for row, line in zip(rows, step.lines, strict=True):
            assert by_number[row.number].text.text.startswith(f"{row.symbol.text} ← ")
            assert row.value.text == traced.value_of(line.value).text
            here = by_number[row.number].steps
            assert not here or step.t in here
        order = [row.number for row in rows]
        assert order == sorted(order), "the lines of a step stand in the order of the equations"
    text = trace_markdown.worksheet(sheet)
    assert text.count("### Step") == 6
    page = trace_page.worksheet(sheet)
    assert page.count('<table class="blanks') == 3 and page.count("<math") > len(numbers)


def test_lines_of_some_steps_say_so() -> None:
    sheet = worksheet(trace("lookahead(sgd)", "x**2", 1.0, 4, **{"lookahead.k": 2}))
    slow = next(equation for equation in sheet.equations if equation.text.text.startswith("slow"))
    assert slow.steps == (2, 4) and slow.section == "lookahead"
    assert "(step 2, 4)" in trace_markdown.worksheet(sheet)


def test_what_takes_a_computer_is_given() -> None:
    sheet = sheet_of("muon", STARTS["matrix"])
    given = {row.symbol.text for row in sheet.steps[0] if row.given}
    assert given == {"u"}
    assert sheet.words["orthogonalize"].startswith("The nearest semi-orthogonal matrix")
    assert not any(row.given for row in sheet_of("adafactor", STARTS["matrix"]).steps[0])


def test_a_sheet_is_not_a_book() -> None:
    with pytest.raises(ValueError, match="--exercise: a worksheet has at most 20 steps, got 21"):
        worksheet(trace("sgd", "x**2", 1.0, MOST_STEPS + 1))


# Pages


@pytest.mark.parametrize("page", [trace_page.html(EXERCISE), trace_page.worksheet(worksheet(EXERCISE))])
def test_a_page_needs_nothing_else(page: str) -> None:
    assert "default-src 'none'" in html.unescape(page) and "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "prefers-color-scheme" in page or "light-dark(" in page
    assert "@media print" in page and 'lang="en"' in page and 'name="viewport"' in page


def test_a_page_has_an_end() -> None:
    with pytest.raises(ValueError, match="--html: a page has at most 200 steps, got 201"):
        trace_page.html(trace("sgd", "x**2", 1.0, 201))


def test_text_in_a_page_is_text() -> None:
    """A loss or a file's name is not read as HTML."""
    place = Place("<b>.pt", "<i>weight</i>", (2,), (0,), "Run: <u>", remarks=("<s>",))
    page = trace_page.html(replace(EXERCISE, place=place))
    assert not re.search(r"<(?:b|i|u|s)>", page)


def test_markdown_of_a_trace() -> None:
    text = trace_markdown.markdown(trace("adamax", "x**2", 2.0, 2))
    assert text.count("## Step") == 2
    cells = [re.split(r"(?<!\\)\|", row) for row in text.splitlines() if row.startswith("| ") and "---" not in row]
    assert {len(row) for row in cells} == {6}, "a bar within a formula is no border of a cell"
    assert r"\|" in text


@pytest.mark.parametrize(
    "made",
    [
        EXERCISE,
        trace("lookahead(adamw)", "x**2 + 20*y**2", [2.0, -1.0], 2, decay="l2", **{"lookahead.k": 2, "amsgrad": True}),
        trace("muon", "sum((x-1)**2)", [[1.0, 2.5], [1e-8, -3.0]], 2, momentum=0.5, nesterov=False),
    ],
)  # fmt: skip
def test_the_command_makes_the_same_trace(made: Trace) -> None:
    result = CliRunner().invoke(app, [*shlex.split(traced.command(made))[1:], "--json", "-"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(json.dumps(made.as_dict()))


# The command


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["trace", "adamw", "--lr", "0.1", *arguments])


def test_the_sheet_alone_is_printed() -> None:
    for arguments in (["--exercise"], ["--exercise", "--steps", "1"], ["--exercise", "-"]):
        result = call(*arguments)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == trace_markdown.worksheet(worksheet(EXERCISE))


def test_files(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("trace.md", "trace.html", "sheet.md", "sheet.html")}
    result = call("--markdown", str(files["trace.md"]), "--html", str(files["trace.html"]))
    assert result.exit_code == 0 and "θ: 2 → 1.898" in result.stdout
    assert call("--exercise", str(files["sheet.md"])).exit_code == 0
    assert call("--exercise", str(files["sheet.html"])).exit_code == 0
    assert files["trace.md"].read_text() == trace_markdown.markdown(EXERCISE)
    assert files["trace.html"].read_text() == trace_page.html(EXERCISE)
    assert files["sheet.md"].read_text() == trace_markdown.worksheet(worksheet(EXERCISE))
    assert files["sheet.html"].read_text() == trace_page.worksheet(worksheet(EXERCISE))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--exercise", "sheet.pdf"], "--exercise: the file of a worksheet ends in .md or .html"),
        (["--exercise", "/no/such/folder/sheet.md"], "--exercise: /no/such/folder/sheet.md cannot be written"),
        (["--html", "/no/such/folder/x.html"], "--html: /no/such/folder/x.html cannot be written"),
        (["--markdown", "/no/such/folder/x.md"], "--markdown: /no/such/folder/x.md cannot be written"),
        (["--x0", "1,b"], "'--x0': numbers are wanted, as in 2,-1 or 1,2;3,4, got '1,b'"),
        (["--x0", "1,2;3"], "the rows of a matrix must have the same length"),
        (["--parameter", "w"], "--parameter belongs to a training run, and --checkpoint is missing"),
        (["--element", "a"], "whole numbers are wanted, as in 3,7, got 'a'"),
        (["--option", "condition=3"], "--option belongs to a training run"),
    ],
)
def test_a_wrong_call_gets_one_sentence(arguments: list[str], says: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr and result.stderr.count("\n") == 1


# In a browser


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("form", ["number", "vector", "matrix"])
def test_pages_fit_the_screen_and_complain_of_nothing(browser: Any, tmp_path: Path, form: str, width: int) -> None:
    made = trace("lookahead(cautious(adamw))", None, STARTS[form], 2, lr=0.1, **{"lookahead.k": 2})
    for name, page in (("trace", trace_page.html(made)), ("sheet", trace_page.worksheet(worksheet(made)))):
        file = tmp_path / f"{name}.html"
        file.write_text(page, encoding="utf-8")
        tab = browser.new_page(viewport={"width": width, "height": 800})
        said: list[str] = []
        tab.on("console", lambda message, said=said: said.append(message.text))
        tab.goto(file.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        heights = tab.evaluate("[...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().height)")
        assert heights and min(heights) > 5, "every formula is drawn"
        assert said == []
        tab.close()


def test_the_solution_is_printed_on_a_page_of_its_own(browser: Any, tmp_path: Path) -> None:
    """The worked exercise is two sheets of paper: the exercise, and its solution."""
    (tmp_path / "sheet.html").write_text(trace_page.worksheet(worksheet(EXERCISE)), encoding="utf-8")
    tab = browser.new_page()
    tab.goto((tmp_path / "sheet.html").as_uri())
    printed = tab.pdf(format="A4")
    tab.close()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 2
