"""What all charts share: colours, dashes, how text is escaped, and what a chart is.

A chart is what plotly.js draws, as plain values. Pages, and pictures for files, are made of the same ones.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#44AA99", "#999933", "#555555")
"""Apart for the colour-blind too (Okabe & Ito 2008, Tol 2021); an eleventh arm begins again, with another dash."""

DARK_COLOURS = (
    "#4AA3E8", "#F2803A", "#2BC596", "#E5A0C8", "#F2BC42", "#A3DAFB", "#DB6A98", "#7FE0D0", "#CDCD5F", "#B5B5B5",
)  # fmt: skip
"""The same hues where the page is dark."""

DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "triangle-down", "hexagon")

NEUTRAL = "#808790"
"""Of what belongs to no arm; it can be seen on light and on dark."""

FAINT, HALF = 0.15, 0.55
"""Opacities of bands and of single seeds."""

LOGARITHMIC_FROM = 30.0
"""Losses that lie further apart than this factor are shown on a logarithmic axis."""

LINES = 3
"""Of a label on an axis; more would run into the next."""

Figure = dict[str, Any]
"""`data` and `layout` of plotly.js."""


class Style(NamedTuple):
    """How an arm looks in every chart: `colour` is the index into `COLOURS`."""

    colour: int
    dash: str
    symbol: str

    @property
    def hex(self) -> str:
        """The colour where the page is light."""
        return COLOURS[self.colour]


@dataclass(frozen=True)
class View:
    """One figure of a chart, and the name of the button that shows it."""

    name: str
    figure: Figure


@dataclass(frozen=True)
class Chart:
    """A chart of one view or of several that one chooses from.

    Args:
        id: in the page, and of the files it is exported to.
        title: above it.
        text: what is shown and how it is to be read.
        views: at least one.
        legend: `"arms"`, which the page's own legend hides and shows; `"traces"`, which only names them; or none.
    """

    id: str
    title: str
    text: str
    views: tuple[View, ...]
    legend: Literal["arms", "traces"] | None = "arms"
    arms: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = {arm for view in self.views for trace in view.figure["data"] if (arm := _arm_of(trace)) is not None}
        object.__setattr__(self, "arms", tuple(sorted(found)))


def _arm_of(trace: Mapping[str, Any]) -> int | None:
    arm: int | None = trace.get("meta", {}).get("arm")
    return arm


def styles(count: int) -> list[Style]:
    """A look for each arm, no two alike among 80."""
    return [
        Style(i % len(COLOURS), DASHES[(i + i // 20) % len(DASHES)], SYMBOLS[i % len(SYMBOLS)]) for i in range(count)
    ]


def translucent(colour: str, opacity: float) -> str:
    """A colour that lets through what lies below.

    Example:
        >>> translucent("#0072B2", 0.15)
        'rgba(0,114,178,0.15)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def plain(text: str) -> str:
    """Text for plotly.js, which takes names for a kind of HTML and for templates.

    Example:
        >>> plain("a<b> %{x}")
        'a&lt;b&gt; %&#123;x}'
    """
    return html.escape(" ".join(text.split()), quote=False).replace("%{", "%&#123;")


def wrapped(label: str, width: int = 18) -> str:
    """A label in at most three lines of about this width, for axes; broken after a colon, a comma or a space."""
    lines = [""]
    piece = ""
    for character in " ".join(label.split()):
        piece += character
        if character in ":, " or len(piece) == width:
            lines, piece = _appended(lines, piece, width), ""
    lines = _appended(lines, piece, width)
    shown = lines if len(lines) <= LINES else [*lines[: LINES - 1], f"{lines[LINES - 1][: width - 1]}…"]
    return "<br>".join(map(plain, shown))


def _appended(lines: list[str], piece: str, width: int) -> list[str]:
    if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
        return [*lines, piece]
    return [*lines[:-1], lines[-1] + piece]


def axis(title: str, values: Sequence[float] = (), *, log: bool | None = None) -> dict[str, Any]:
    """An axis; logarithmic if the values ask for it, or as `log` says."""
    if log is None:
        log = bool(values) and min(values) > 0 and max(values) / min(values) > LOGARITHMIC_FROM
    scale: dict[str, Any] = {"type": "log", "exponentformat": "power"} if log else {"type": "linear"}
    if log and values:
        # Whole decades, or 1, 2, 5 in each where there are few.
        scale["dtick"] = 1 if max(values) / min(values) > LOGARITHMIC_FROM else "D2"
    return {"title": {"text": plain(title)}, "automargin": True, **scale}


def figure(data: Sequence[Mapping[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any], **layout: Any) -> Figure:
    """A figure with the layout that all share."""
    return {
        "data": list(data),
        "layout": {
            "height": 380, "margin": {"l": 60, "r": 16, "t": 16, "b": 52}, "hovermode": "closest",
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}, "xaxis": x, "yaxis": y, **layout,
        },
    }  # fmt: skip


def rounded(value: float) -> float:
    """Six digits: more than a screen can show."""
    return float(f"{value:.6g}")


def theme(dark: bool) -> dict[str, Any]:
    """The template of plotly.js for a light or a dark page."""
    text, grid, ground = ("#d7dde4", "#323a45", "#161b22") if dark else ("#24292f", "#e3e7eb", "#ffffff")
    line = {"gridcolor": grid, "linecolor": grid, "zerolinecolor": grid, "ticks": "outside", "tickcolor": grid}
    return {
        "layout": {
            "paper_bgcolor": ground, "plot_bgcolor": ground,
            "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": text},
            "xaxis": line, "yaxis": line, "colorway": list(DARK_COLOURS if dark else COLOURS),
            "hoverlabel": {"bgcolor": ground, "bordercolor": text, "font": {"color": text}, "namelength": -1},
        }
    }  # fmt: skip


def recolouring() -> dict[str, str]:
    """From each colour of a light page to that of a dark one."""
    pairs = list(zip(COLOURS, DARK_COLOURS, strict=True))
    return dict(pairs) | {
        translucent(light, opacity): translucent(dark, opacity) for light, dark in pairs for opacity in (FAINT, HALF)
    }
