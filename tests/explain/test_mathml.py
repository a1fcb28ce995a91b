"""LaTeX as MathML: every equation of every rule is typeset, and nothing gets into a page that is not mathematics."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravine.explain.equations import equations
from ravine.explain.mathml import APPLY, mathml
from ravine.registry import available, wrappers

NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"


def parsed(latex: str, display: bool = False) -> ElementTree.Element:
    return ElementTree.fromstring(mathml(latex, display))


def inside(latex: str) -> list[tuple[str, str]]:
    """The elements with a text of their own, in order."""
    found = [(e.tag.removeprefix(NAMESPACE), e.text or "") for e in parsed(latex).iter()]
    return [(tag, text) for tag, text in found if text]


@pytest.mark.parametrize("name", [*available(), *(f"{wrapper}(adamw)" for wrapper in wrappers())])
def test_every_equation_is_typeset(name: str) -> None:
    for section in equations(name):
        for line in section.lines:
            tags = {element.tag for element in parsed(line.latex).iter()}
            assert tags >= {NAMESPACE + "math", NAMESPACE + "mrow"}
            assert not any("\\" in text and tag != "mtext" for tag, text in inside(line.latex)), line.latex


IN_BRACKETS = [("mo", "("), ("mi", "x"), ("mo", ")")]


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"\mathrm{scale}", [("mi", "scale")]),
        (r"\mathrm{mu2}", [("mi", "mu2")]),
        (r"\mathrm{trust\_ratio}", [("mi", "trust_ratio")]),
        (r"\operatorname{update\_of}\left(x\right)", [("mi", "update_of"), ("mo", APPLY), *IN_BRACKETS]),
        (r"\max\left(x\right)", [("mi", "max"), ("mo", APPLY), *IN_BRACKETS]),
        (r"\eta_{\max}", [("mi", "η"), ("mi", "max")]),
        (r"g \left(x\right)", [("mi", "g"), *IN_BRACKETS]),
        (r"\texttt{a\_b<c}", [("mtext", "a_b<c")]),
        (r"\textbf{if } x:", [("mtext", "if\N{NO-BREAK SPACE}"), ("mi", "x"), ("mo", ":")]),
    ],
)  # fmt: skip
def test_words_and_functions(latex: str, expected: list[tuple[str, str]]) -> None:
    assert inside(latex) == expected


@pytest.mark.parametrize(
    ("latex", "prefix"),
    [("-3", True), (r"\left(-3\right)", True), (r"a \cdot -3", True), ("a, -b", True), ("a - 3", False),
     (r"x^{-1}", True), (r"\left(a\right) - 3", False)],
)  # fmt: skip
def test_a_minus_sign_stands_close_to_its_own_number(latex: str, prefix: bool) -> None:
    (minus,) = (element for element in parsed(latex).iter() if element.text == "−")
    assert (minus.get("form") == "prefix") == prefix


def test_matrices_have_rows_and_columns() -> None:
    table = parsed(r"\left(\begin{matrix} 1 & -2 \\ 3 & 4 \end{matrix}\right)").find(f".//{NAMESPACE}mtable")
    assert table is not None and [len(row) for row in table] == [2, 2]


def test_a_formula_of_its_own_line_is_displayed() -> None:
    assert parsed("x", display=True).get("display") == "block"
    assert parsed("x").get("display") == "inline"


@pytest.mark.parametrize("latex", ["2^", r"\foo", r"\left(x", r"\begin{matrix} 1"])
def test_what_is_no_formula_is_refused(latex: str) -> None:
    with pytest.raises(ValueError, match="the formula") as caught:
        mathml(latex)
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="abxyz012 +-<>&\"';=^_{}\\\n", max_size=20))
def test_whatever_is_written_is_a_formula_or_refused(latex: str) -> None:
    try:
        made = mathml(latex)
    except ValueError:
        return
    tags = {element.tag.removeprefix(NAMESPACE) for element in ElementTree.fromstring(made).iter()}
    assert all(tag == "math" or tag.startswith("m") for tag in tags)
