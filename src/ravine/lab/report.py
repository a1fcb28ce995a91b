"""The report: one HTML file that carries all it shows and opens without a network."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ravine.lab.statistics import p_text

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#44AA99", "#999933", "#555555")
"""Apart for the colour-blind too (Okabe & Ito 2008, Tol 2021); an eleventh arm begins again, with another dash."""

DASHES = ("solid", "dash", "dot", "dashdot")


def html(result: Mapping[str, Any], command: str) -> str:
    """The report as a page.

    Args:
        result: of `ravine.lab.results.summarize`.
        command: that repeats the study, shown to the reader.
    """
    environment = Environment(
        loader=PackageLoader("ravine.lab"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "p": p_text, "rate": rate}
    page = environment.get_template("report.html.jinja")
    return page.render(
        result=result,
        rows=table(result),
        columns=COLUMNS,
        styles=dict(zip(result["arms"], (colour for colour, _ in _styles(result)), strict=True)),
        command=command,
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        charts=[
            (title, text, Markup(_embedded(figure, f"chart-{i}")))
            for i, (title, text, figure) in enumerate(
                [
                    (
                        "Loss by step",
                        "Judging split. Each line is the mean over the seeds, the band reaches from the lowest to the "
                        "highest. Only its right end is compared: before it, schedules are not over.",
                        _curves(result, "step", "step"),
                    ),
                    (
                        "Loss by time",
                        "The same, over seconds of training; evaluations are left out of the clock.",
                        _curves(result, "seconds", "seconds of training"),
                    ),
                    (
                        "Final losses",
                        "Every judged seed, with the mean and its 95 % confidence interval.",
                        _final(result),
                    ),
                    (
                        "Sensitivity to the learning rate",
                        "Final loss on the tuning split of every trial; the star is what was judged. Trials that "
                        "diverged are crosses at the top.",
                        _sensitivity(result),
                    ),
                ]
            )
        ],
    )


COLUMNS = (
    ("final loss", "mean ± standard deviation over the seeds, nats per byte of the judging split"),
    ("learning rate", "the best of the trials, or as given"),
    ("steps to target", "median first crossing of the target by the evaluated curve"),
    ("tokens to target", "the same, in tokens"),
    ("seconds to target", "the same, in seconds of training"),
    ("reached", "seeds that reached the target"),
    ("tokens/s", "median over the judged runs, evaluations left out"),
    ("optimizer", "its part of the time of a step"),
    ("state bytes", "optimizer state per parameter"),
    ("peak memory", "of the process, or of tensors on the GPU"),
    ("diverged", "trials / judged seeds that diverged"),
)
"""Of the table: heading and what it means."""


def table(result: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each arm, best first, the cells of `COLUMNS` as text."""
    return {label: _cells(arm) for label, arm in sorted(result["arms"].items(), key=lambda item: _rank(item[1]))}


def number(value: float | None, form: str = ",.3g") -> str:
    """A figure for people; a dash for None."""
    return "–" if value is None else f"{value:{form}}"


def rate(lr: float | None) -> str:
    """A learning rate for people: `0.003`, `1.5e-05`."""
    return "–" if lr is None else f"{lr:g}"


def _rank(arm: Mapping[str, Any]) -> tuple[bool, float]:
    mean = arm["final_loss"]["mean"]
    return arm["diverged_seeds"] > 0, math.inf if mean is None else mean


def _cells(arm: Mapping[str, Any]) -> list[str]:
    final, best = arm["final_loss"], arm["best"]
    spread = "" if final["std"] is None else f" ± {final['std']:.3f}"
    memory = arm["peak_memory_bytes"]
    return [
        "–" if final["mean"] is None else f"{final['mean']:.3f}{spread} ({final['n']})",
        rate(best["lr"]) + ("" if best["tuned"] else " (given)") + (" (at edge)" if best["at_edge"] else ""),
        number(arm["steps_to_target"], ",.0f"),
        number(arm["tokens_to_target"], ",.0f"),
        number(arm["seconds_to_target"], ",.1f"),
        f"{arm['reached_target']}/{final['n'] + arm['diverged_seeds']}",
        number(arm["tokens_per_second"], ",.0f"),
        f"{arm['optimizer_share']:.1%}",
        f"{arm['state_bytes_per_param']:.1f}",
        "–" if memory is None else f"{memory / 2**20:,.0f} MiB",
        f"{arm['diverged_trials']} / {arm['diverged_seeds']}",
    ]


def _styles(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A colour and a dash for each arm, in the order of the arms."""
    return [(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i in range(len(result["arms"]))]


def _curves(result: Mapping[str, Any], axis: str, title: str) -> go.Figure:
    figure = _figure(title, "loss, nats per byte")
    for (label, arm), (colour, dash) in zip(result["arms"].items(), _styles(result), strict=True):
        curves = [run["curve"] for run in arm["runs"] if not run["diverged"]]
        if not curves:
            continue
        x = [_mean(values) for values in zip(*(c[axis] for c in curves), strict=True)]
        by_mark = list(zip(*(c["loss"] for c in curves), strict=True))
        line = {"color": colour, "dash": dash}
        band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, "legendgroup": label}
        figure.add_scatter(x=x, y=[max(v) for v in by_mark], **band)
        figure.add_scatter(x=x, y=[min(v) for v in by_mark], fill="tonexty", fillcolor=_faint(colour), **band)
        figure.add_scatter(
            x=x, y=[_mean(v) for v in by_mark], name=_escaped(label), legendgroup=label, line=line,
            mode="lines+markers", marker={"size": 5},
        )  # fmt: skip
    if result["target"]["loss"] is not None:
        figure.add_hline(
            y=result["target"]["loss"], line={"dash": "dash", "width": 1, "color": "#777"}, annotation_text="target",
            annotation_position="top right",
        )  # fmt: skip
    return figure


def _final(result: Mapping[str, Any]) -> go.Figure:
    figure = _figure("", "final loss, nats per byte")
    for (label, arm), (colour, _) in zip(result["arms"].items(), _styles(result), strict=True):
        final, name = arm["final_loss"], _escaped(label)
        if not final["values"]:
            continue
        figure.add_scatter(
            x=[name] * final["n"], y=final["values"], mode="markers", showlegend=False, name=name,
            marker={"color": _faint(colour, 0.5), "size": 8},
        )  # fmt: skip
        half = 0.0 if final["interval"] is None else final["interval"][1] - final["mean"]
        figure.add_scatter(
            x=[name], y=[final["mean"]], mode="markers", showlegend=False, name=f"{name}, mean",
            error_y={"type": "constant", "value": half, "color": colour},
            marker={"color": colour, "size": 12, "symbol": "line-ew-open", "line": {"width": 3, "color": colour}},
        )  # fmt: skip
    return figure


def _sensitivity(result: Mapping[str, Any]) -> go.Figure:
    figure = _figure("learning rate", "loss, nats per byte")
    figure.update_xaxes(type="log", exponentformat="power")
    trials = [trial for arm in result["arms"].values() for trial in arm["best"]["trials"]]
    top = max((t["loss"] for t in trials if not t["diverged"]), default=1.0)
    for (label, arm), (colour, dash) in zip(result["arms"].items(), _styles(result), strict=True):
        best = arm["best"]
        ordered = sorted(best["trials"], key=lambda t: t["lr"])
        kept = [t for t in ordered if not t["diverged"]]
        lost = [t for t in ordered if t["diverged"]]
        figure.add_scatter(
            x=[t["lr"] for t in kept], y=[t["loss"] for t in kept], name=_escaped(label), legendgroup=label,
            mode="lines+markers", line={"color": colour, "dash": dash},
            marker={"size": [14 if t["lr"] == best["lr"] else 7 for t in kept],
                    "symbol": ["star" if t["lr"] == best["lr"] else "circle" for t in kept]},
        )  # fmt: skip
        figure.add_scatter(
            x=[t["lr"] for t in lost], y=[top] * len(lost), name=f"{_escaped(label)}, diverged", legendgroup=label,
            showlegend=False, mode="markers", marker={"symbol": "x", "color": colour, "size": 10},
        )  # fmt: skip
    return figure


def _figure(x: str, y: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white", height=380, margin={"l": 60, "r": 20, "t": 20, "b": 50}, xaxis_title=x, yaxis_title=y,
        font={"family": "system-ui, sans-serif", "size": 13}, legend={"orientation": "h", "y": 1.12},
        hovermode="closest",
    )  # fmt: skip
    return figure


def _embedded(figure: go.Figure, name: str) -> str:
    """The chart's element and script; Plotly itself is in the page once."""
    return str(
        figure.to_html(
            full_html=False, include_plotlyjs=False, div_id=name, config={"displaylogo": False, "responsive": True}
        )
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _faint(colour: str, opacity: float = 0.15) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _escaped(text: str) -> str:
    """Plotly reads names as a kind of HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
