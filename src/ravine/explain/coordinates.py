"""The coordinate check of muP as a page: sizes of activations over the width, step by step."""

from __future__ import annotations

import math
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ravine.lab.files import write_atomically
from ravine.lab.report import COLOURS, DASHES
from ravine.optim.mup import CoordinateCheck


def page(check: CoordinateCheck) -> str:
    """A chart for each step, a line for each module, and the verdict; an HTML page that opens without a network.

    Example:
        >>> check = CoordinateCheck((64, 128), 1, {"head": [[0.5, 0.5], [0.5, 1.0]]})
        >>> "grow with the width in 1 of 1 modules" in page(check)
        True
    """
    steps = check.steps + 1
    columns = min(3, steps)
    figure = make_subplots(
        rows=math.ceil(steps / columns), cols=columns, shared_yaxes="all", shared_xaxes="all",
        subplot_titles=["new model", *(f"step {step}" for step in range(1, steps))],
    )  # fmt: skip
    for i, (name, rows) in enumerate(check.sizes.items()):
        line = {"color": COLOURS[i % len(COLOURS)], "dash": DASHES[i // len(COLOURS) % len(DASHES)]}
        for step, sizes in enumerate(rows):
            figure.add_trace(
                go.Scatter(
                    x=list(check.widths), y=[size if 0 < size < math.inf else None for size in sizes], name=name,
                    legendgroup=name, showlegend=step == 0, mode="lines+markers", line=line,
                    hovertemplate=f"{name}, width %{{x}}: %{{y:.3g}}<br>∝ width^{check.slope(name, step):.2f}",
                ),
                row=step // columns + 1,
                col=step % columns + 1,
            )  # fmt: skip
    figure.update_layout(
        template="plotly_white", title={"text": check.verdict, "font": {"size": 15}}, height=360 * -(-steps // columns),
        font={"family": "system-ui, sans-serif", "size": 13}, hovermode="closest",
    )  # fmt: skip
    figure.update_xaxes(type="log", tickvals=list(check.widths), title_text="width")
    figure.update_yaxes(type="log", exponentformat="power")
    figure.update_yaxes(title_text="mean |activation|", col=1)
    return str(figure.to_html(include_plotlyjs=True, config={"displaylogo": False, "responsive": True}))


def write_page(check: CoordinateCheck, file: str | Path) -> None:
    """Write the page to a file, which appears whole or not at all."""
    write_atomically(Path(file), page(check))
