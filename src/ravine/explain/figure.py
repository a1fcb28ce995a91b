"""How pictures look: one style for all that is drawn with Matplotlib, readable in print and by the colour-blind.

Example:
    >>> figure = new(width=6.0, height=3.5)
    >>> axes = figure.subplots()
    >>> _ = axes.plot([1, 2, 3], [3, 1, 2], **series(0), label="AdamW")
    >>> svg(figure).startswith("<?xml")
    True
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravine.lab.files import write_given

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color Universal Design", told apart with any colour vision; black last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Told apart in black and white too.
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 3, 3)), (0, (8, 2)), "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SEQUENTIAL = "cividis"
FORMATS = ("svg", "png")
DOTS_PER_INCH = 160

STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 11, "axes.labelsize": 10, "legend.fontsize": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "lines.linewidth": 1.8, "legend.frameon": False,
    "figure.facecolor": "white", "savefig.facecolor": "white", "image.cmap": SEQUENTIAL,
    "svg.hashsalt": "ravine", "svg.fonttype": "path",
}  # fmt: skip


def new(width: float = 6.4, height: float = 4.0) -> Figure:
    """An empty figure in the house's style, sizes in inches; it needs no screen."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update(STYLE)
    return Figure(figsize=(width, height), layout="constrained")


def series(i: int) -> dict[str, Any]:
    """Colour and dashes of the i-th line, counted from 0, for `axes.plot`."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)]}


def points(i: int) -> dict[str, Any]:
    """Colour and marker of the i-th set of points, for `axes.plot`."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def svg(figure: Figure) -> str:
    """A figure as SVG; the same figure gives the same text."""
    return _drawn(figure, "svg").decode()


def png(figure: Figure) -> bytes:
    """A figure as PNG, 160 dots per inch."""
    return _drawn(figure, "png")


def _drawn(figure: Figure, kind: str) -> bytes:
    import matplotlib as mpl

    out = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(STYLE):
        figure.savefig(out, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
    return out.getvalue()


def save(figure: Figure, path: str | Path, argument: str = "path") -> None:
    """Write a figure to a file that appears whole or not at all, in the format of its ending, `.svg` or `.png`.

    Raises:
        ValueError: for another ending, or where it cannot be written; the sentence names the argument.
    """
    write_given(path, _drawn(figure, require_format(path, argument)), argument)


def require_format(path: str | Path, argument: str = "path") -> str:
    """The format that a picture's file is written in, by its ending.

    Raises:
        ValueError: for an ending other than `.svg` or `.png`; the sentence names the argument.
    """
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ValueError(f"{argument}: a picture is written as .svg or .png, and {str(path)!r} ends otherwise")
    return kind
