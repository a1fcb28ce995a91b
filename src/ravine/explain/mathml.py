r"""LaTeX as MathML, which browsers typeset by themselves: no script, no fonts, no network.

Example:
    >>> mathml(r"\sqrt{2}").partition("<mrow>")[2]
    '<msqrt><mrow><mn>2</mn></mrow></msqrt></mrow></math>'
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

CSS = """\
math { font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", "Libertinus Math", "DejaVu Math TeX Gyre",
  math, serif; }
math [mathvariant=bold] { font-weight: bold; }
math [mathvariant=monospace] { font-family: ui-monospace, monospace; font-size: .9em; }
math mtd[columnalign=left] { text-align: left; }
"""
"""What the style of a page must hold once: browsers have dropped some of MathML's attributes."""

APPLY = "\N{FUNCTION APPLICATION}"
BRACKETS = "([{|‖⌊"
BEFORE_AN_OPERAND = "=←,·+−<>≤≥≠([{"


def mathml(latex: str, display: bool = False) -> str:
    r"""A formula as a `<math>` element, for a page whose style holds `CSS`.

    Args:
        latex: what stands between the dollar signs.
        display: on a line of its own, with fractions and sums in full size.

    Raises:
        ValueError: for LaTeX that cannot be read.
    """
    from xml.etree.ElementTree import tostring

    from latex2mathml.converter import Converter

    try:
        # The library reads no underscore in the name of an operator.
        readable = latex.replace(r"\operatorname{", r"\mathrm{")
        formula = Converter(display="block" if display else "inline").convert_to_element(readable)
    except Exception as error:  # the library has an exception for each mistake, and no name for them all
        raise ValueError(f"the formula {latex!r} cannot be read as LaTeX: {type(error).__name__}") from None
    for element in formula.iter():
        element.text = html.unescape(element.text) if element.text else None
        if element.tag != "mtext" and re.match(r"\\\w", element.text or ""):
            raise ValueError(f"the formula {latex!r} has {element.text}, which is not known")
    _tidy(formula)
    return tostring(formula, encoding="unicode")


def _tidy(parent: Element) -> None:
    """Names of several letters become one, and minus signs, punctuation and functions get their own spaces."""
    children = _as_one_name(list(parent))
    tidied: list[Element] = []
    for i, child in enumerate(children):
        text = child.text or ""
        tidied.append(child)
        if child.tag == "mtext":
            child.text = re.sub(r"\\([_#$%&{}])", r"\1", text)
        elif child.tag == "mi" and text in (":", ";", "."):
            child.tag = "mo"
        elif child.tag == "mo" and len(text) > 1 and text.isalpha():
            child.tag = "mi"
        elif child.tag == "mo" and text in ("+", "−") and (i == 0 or _awaits_an_operand(children[i - 1])):
            child.set("form", "prefix")
        _tidy(child)
        if _is_a_name(child) and i + 1 < len(children) and _begins_with_a_bracket(children[i + 1]):
            tidied.append(_element("mo", APPLY))
    parent[:] = tidied


def _as_one_name(children: list[Element]) -> list[Element]:
    r"""`\mathrm{scale}` comes as five letters, and digits in it as numbers."""
    if not children or any(c.tag not in ("mi", "mn") or len(c) for c in children):
        return children
    if not any(c.get("mathvariant") == "normal" for c in children):
        return children
    return [_element("mi", "".join(c.text or "" for c in children), mathvariant="normal")]


def _element(tag: str, text: str, **attributes: str) -> Element:
    from xml.etree.ElementTree import Element

    made = Element(tag, attributes)
    made.text = text
    return made


def _is_a_name(element: Element) -> bool:
    """Whether it is a word; a letter before a bracket may be multiplied with it."""
    while element.tag == "mrow" and len(element) == 1:
        element = element[0]
    return element.tag == "mi" and len(element.text or "") > 1


def _begins_with_a_bracket(element: Element) -> bool:
    while len(element):
        element = element[0]
    return element.tag == "mo" and (element.text or " ") in BRACKETS


def _awaits_an_operand(element: Element) -> bool:
    """Whether a minus sign after this element belongs to the number behind it alone."""
    return element.tag == "mo" and (element.get("form") == "prefix" or (element.text or " ") in BEFORE_AN_OPERAND)
