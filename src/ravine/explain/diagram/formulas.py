"""Formulas as outlines, so that a picture looks the same wherever it is opened, whatever fonts there are.

Matplotlib sets the formula in Computer Modern; each glyph's outline stands in the picture once and is used by number.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from html import escape
from typing import Any

from ravine.explain.figure import STYLE

EM = 100.0  # units of Matplotlib's outlines in an em
# Commands that mathtext does not know, or draws badly, and what stands for them.
SPELLED = {
    "ge": r"\geq",
    "le": r"\leq",
    "ne": r"\neq",
    "textstyle": "",
    "operatorname": r"\mathrm",
    "top": r"\mathsf{T}",
    "texttt": r"\mathtt",
}


@dataclass(frozen=True)
class Formula:
    """A formula in place of its text: its extent in pixels from its origin on the baseline, and its SVG."""

    width: float
    above: float
    below: float
    body: str

    @property
    def height(self) -> float:
        return self.above + self.below


class Outlines:
    """The glyphs of one picture."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.paths: dict[str, str] = {}

    def formula(self, latex: str, text: str, size: float) -> Formula:
        """Set a formula.

        Args:
            latex: in the LaTeX of `typeset`.
            text: what is read aloud for it.
            size: of the letters, in pixels.
        """
        scale = size / EM
        placed, outlines, bars = _glyphs(latex, text)
        parts: list[str] = []
        corners: list[tuple[float, float]] = []
        for name, x, y, own in placed:
            vertices, codes = outlines[name]
            corners += [
                (x + own * vx, y + own * vy) for (vx, vy), code in zip(vertices, codes, strict=True) if code < 79
            ]
            at = f"translate({_number(x)} {_number(y)})" + (f" scale({own:.3g})" if abs(own - 1) > 1e-6 else "")
            parts.append(f'<use href="#{self._glyph(name, vertices, codes)}" transform="{at}"/>')
        for bar, _ in bars:
            (left, low), (right, high) = bar[0], bar[2]
            corners += [(left, low), (right, high)]
            parts.append(
                f'<rect x="{_number(left)}" y="{_number(low)}" width="{_number(right - left)}" '
                f'height="{_number(high - low)}"/>'
            )
        left, right = min(x for x, _ in corners), max(x for x, _ in corners)
        low, high = min(y for _, y in corners), max(y for _, y in corners)
        inside = f'<g transform="scale({scale:.4g} {-scale:.4g}) translate({_number(-left)} 0)">{"".join(parts)}</g>'
        body = f"<g><title>{escape(text)}</title>{inside}</g>"
        return Formula(scale * (right - left), scale * high, -scale * low, body)

    def _glyph(self, name: str, vertices: Any, codes: Any) -> str:
        if name not in self.paths:
            self.paths[name] = _path(vertices, codes)
        return f"{self.prefix}{list(self.paths).index(name)}"

    def definitions(self) -> str:
        """The outlines of all glyphs that were used."""
        drawn = "".join(f'<path id="{self.prefix}{i}" d="{d}"/>' for i, d in enumerate(self.paths.values()))
        return f"<defs>{drawn}</defs>"


def _glyphs(latex: str, text: str) -> Any:
    """Places and outlines of glyphs, and bars: of the formula, or of its text where mathtext cannot set it."""
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with mpl.rc_context(STYLE):
        if latex.isascii():
            with contextlib.suppress(ValueError):
                modern = FontProperties(math_fontfamily="cm")
                return text_to_path.get_glyphs_mathtext(modern, f"${mathtext(latex)}$")
        any_letter = FontProperties(math_fontfamily="dejavusans")
        return text_to_path.get_glyphs_mathtext(any_letter, text.replace("$", r"\$"))


def mathtext(latex: str) -> str:
    """LaTeX of `typeset` as Matplotlib's mathtext has it.

    Fractions that stand on their own get their full size; delimiters around what is not tall stay as they are, since
    mathtext makes what is inside stretched ones smaller.
    """
    spelled = re.sub(rf"\\({'|'.join(SPELLED)})(?![A-Za-z])", lambda found: SPELLED[found[1]], latex)
    return _with_full_fractions(_with_plain_delimiters(spelled))


def _with_plain_delimiters(latex: str) -> str:
    pieces = re.split(r"(\\(?:left|right)(?![a-z])\s*)", latex)
    open_: list[int] = []
    for i, piece in enumerate(pieces):
        if piece.strip() == r"\left":
            open_.append(i)
        elif piece.strip() == r"\right":
            start = open_.pop()
            if r"\frac" not in "".join(pieces[start:i]) and "lfloor" not in pieces[start + 1]:
                pieces[start] = pieces[i] = ""
    return "".join(pieces)


def _with_full_fractions(latex: str) -> str:
    small: list[bool] = []
    out: list[str] = []
    for piece in re.split(r"(\\frac|\\sqrt(?={)|[{}])", latex):
        if piece == "{":
            small.append(not (out and out[-1] == "" and len(out) > 1 and out[-2] == r"\sqrt"))
        elif piece == "}":
            small.pop()
        out.append(r"\dfrac" if piece == r"\frac" and not any(small) else piece)
    return "".join(out)


def _path(vertices: Any, codes: Any) -> str:
    """An outline as an SVG path."""
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    out, left = [], 0
    for (x, y), code in zip(vertices, codes, strict=True):
        if not left:
            out.append(letters[int(code)])
            left = {3: 2, 4: 3}.get(int(code), 1)
        left -= 1
        if code != 79:
            out.append(f"{_number(x)} {_number(y)} ")
    return "".join(out).replace(" Z", "Z").rstrip()


def _number(value: float) -> str:
    return format(round(float(value), 1) + 0.0, "g")
