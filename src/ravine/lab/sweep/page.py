"""Heat maps as a page that opens without a network, on a phone and in the dark too."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from ravine.lab.sweep.grid import text

if TYPE_CHECKING:
    import plotly.graph_objects as go

# A chart is drawn before those beside it are there; the event at the end lets all take their places.
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem;
  color: light-dark(#1c2126, #dde3ea); background: light-dark(#f6f7f9, #0d1117); overflow-wrap: anywhere; }}
h1 {{ font-size: 1.35rem; margin: .5rem 0; }}
h2 {{ font-size: 1.05rem; margin: 0; }}
p {{ margin: .2rem 0; color: light-dark(#57606a, #9aa5b1); }}
main {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }}
section {{ min-width: 0; padding: 1rem; border: 1px solid light-dark(#dfe3e8, #30363d); border-radius: .6rem;
  background: light-dark(#ffffff, #161b22); }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{about}</p>
<main>
{maps}
</main>
<script>dispatchEvent(new Event("resize"))</script>
</body>
</html>
"""
COLOUR = "#7d8590"
"""Of texts in charts: readable on both grounds."""
ABOUT = (
    "The {loss} at the end of {steps} steps, on the tuning split. A star is the best cell of a map; an empty cell "
    "diverged. Colours mean the same in all maps, and the worst fifth of the cells has one colour."
)


def html(result: Mapping[str, Any]) -> str:
    """The page."""
    maps = result["maps"]
    losses = [loss for one in maps for row in one["loss"] for loss in row if loss is not None]
    span = (min(losses), _quantile(losses, 0.8)) if losses else (0.0, 1.0)
    drawn = "\n".join(_section(one, result, span, with_plotly=i == 0) for i, one in enumerate(maps))
    about = ABOUT.format(loss=result["loss_name"], steps=result["recipe"]["steps"])
    title = f"{result['optimizer']} on {result['task']}: {result['over'][0]} × {result['over'][1]}"
    return PAGE.format(title=escape(title), about=escape(about), maps=drawn)


def figure(one: Mapping[str, Any], result: Mapping[str, Any], span: tuple[float, float]) -> go.Figure:
    """One map.

    Args:
        one: of `result["maps"]`.
        result: of `Sweep.run`.
        span: the losses at the ends of the colours.
    """
    import plotly.graph_objects as go

    across, up = result["over"]
    hover = f"{_plain(across)} %{{x}}<br>{_plain(up)} %{{y}}<br>%{{z:.4f}}<extra></extra>"
    drawn = go.Figure(
        go.Heatmap(
            x=[text(value) for value in one["x"]], y=[text(value) for value in one["y"]], z=one["loss"], zmin=span[0],
            zmax=span[1], colorscale="Cividis_r", colorbar={"thickness": 12}, hoverongaps=False, hovertemplate=hover,
        )
    )  # fmt: skip
    best = one["best"]
    if best["loss"] is not None:
        star = {"symbol": "star", "size": 15, "color": "#D55E00", "line": {"color": "white", "width": 1}}
        drawn.add_trace(
            go.Scatter(x=[text(best[across])], y=[text(best[up])], mode="markers", marker=star, hoverinfo="skip")
        )
    drawn.update_xaxes(title=_plain(across), type="category", showgrid=False)
    drawn.update_yaxes(title=_plain(up), type="category", showgrid=False)
    return drawn.update_layout(
        height=380, margin={"l": 10, "r": 10, "t": 10, "b": 10}, paper_bgcolor="rgba(0,0,0,0)", showlegend=False,
        plot_bgcolor="rgba(0,0,0,0)", font={"family": "system-ui, sans-serif", "color": COLOUR},
    )  # fmt: skip


def _section(one: Mapping[str, Any], result: Mapping[str, Any], span: tuple[float, float], with_plotly: bool) -> str:
    chart = figure(one, result, span).to_html(
        full_html=False, include_plotlyjs=with_plotly, config={"displaylogo": False, "responsive": True}
    )
    best = escape(_best(one, result["over"]))
    return f"<section>\n<h2>{escape(one['label'])}</h2>\n<p>{best}</p>\n{chart}\n</section>"


def _best(one: Mapping[str, Any], over: list[str]) -> str:
    best = one["best"]
    if best["loss"] is None:
        return "Every cell diverged."
    where = ", ".join(f"{name} {text(best[name])}" for name in over)
    edge = f"; on the edge of {' and '.join(one['at_edge'])}, a better one may lie beyond" if one["at_edge"] else ""
    return f"Best {best['loss']:.4g} at {where}{edge}."


def _quantile(values: list[float], part: float) -> float:
    """Bad cells are far worse than good ones differ: the colours are for the better part."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _plain(name: str) -> str:
    """Plotly reads texts as a kind of HTML."""
    return escape(name, quote=False)
