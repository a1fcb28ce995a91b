"""Charts of losses: on the way, and at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ravine.lab.report.charts import (
    FAINT,
    HALF,
    NEUTRAL,
    Chart,
    Figure,
    Style,
    View,
    axis,
    figure,
    plain,
    rounded,
    styles,
    translucent,
    wrapped,
)
from ravine.lab.report.text import plural

BEGINNING = 0.15
"""The part of a run whose losses do not decide how high the chart reaches: they would leave no room for the rest."""

MARGIN = 0.06
"""Above and below the losses, as a part of their span; the page's script has the same."""

Axis = Callable[[Mapping[str, Any], Mapping[str, Sequence[float]]], Sequence[float] | None]
"""From an arm and one of its curves to the places of the curve's points; None where they are not known."""


def curves(result: Mapping[str, Any]) -> Chart | None:
    """Loss on the judging split: by steps, data, seconds, and by FLOPs and joules where there are figures."""
    text = (
        "On the judging split. Each line is the mean over the seeds, the band reaches from the lowest to the highest. "
        "Only the right end is ranked: before it, schedules are not over. The steep beginning may reach above the "
        "chart; a double click shows all."
    )
    if any(arm["joules_per_run"] is not None for arm in result["arms"].values()):
        text += " The energy of a run is spread evenly over its seconds."
    missing = [label for label, arm in result["arms"].items() if not _kept(arm, "curve")]
    if missing:
        text += f" Without a curve, since no seed came to its end: {', '.join(missing)}."
    return _chart("curves", "Loss on the way", text, result, "curve")


def training_curves(result: Mapping[str, Any]) -> Chart | None:
    """Loss on the training batches."""
    text = "Mean over the seeds of the loss that is trained on, each point the mean since the one before it."
    return _chart("training", "Loss on the training batches", text, result, "training_curve")


def final_losses(result: Mapping[str, Any]) -> Chart | None:
    """Every judged seed, the mean and its interval, best arm on top."""
    arms = list(result["arms"].items())
    looks = styles(len(arms))
    shown = [i for i, (_, arm) in enumerate(arms) if arm["final_loss"]["values"]]
    if not shown:
        return None
    shown.sort(key=lambda i: arms[i][1]["final_loss"]["mean"])
    data: list[dict[str, Any]] = []
    everything: list[float] = []
    for row, i in enumerate(shown):
        label, final, look = arms[i][0], arms[i][1]["final_loss"], looks[i]
        values = final["values"]
        everything += values
        both = {"name": plain(label), "meta": {"arm": i}, "mode": "markers", "legendgroup": str(i)}
        data.append(
            {
                **both, "x": list(map(rounded, values)), "showlegend": False,
                "y": [row + _apart(k, len(values)) for k in range(len(values))],
                "marker": {"color": translucent(look.hex, HALF), "size": 9, "symbol": look.symbol},
                "hovertemplate": "<b>%{fullData.name}</b><br>one seed: %{x:.5g}<extra></extra>",
            }
        )  # fmt: skip
        interval = final["interval"]
        data.append(
            {
                **both, "x": [rounded(final["mean"])], "y": [row],
                "error_x": {"type": "data", "array": [interval[1] - final["mean"] if interval else 0],
                            "color": look.hex, "thickness": 2, "width": 6},
                "marker": {"color": look.hex, "size": 17, "symbol": "line-ns-open",
                           "line": {"width": 3, "color": look.hex}},
                "hovertemplate": "<b>%{fullData.name}</b><br>mean: %{x:.5g}"
                + (f"<br>95 % interval: {interval[0]:.5g} to {interval[1]:.5g}" if interval else "")
                + "<extra></extra>",
            }
        )  # fmt: skip
    rows = {
        "tickvals": list(range(len(shown))), "ticktext": [wrapped(arms[i][0]) for i in shown], "automargin": True,
        "range": [len(shown) - 0.4, -0.6], "zeroline": False, "showgrid": False, "fixedrange": True,
    }  # fmt: skip
    view = figure(data, axis(f"final loss, {result['loss_name']}", everything), rows, height=110 + 52 * len(shown))
    lost = [label for label, arm in arms if not arm["final_loss"]["values"]]
    text = "Every judged seed, with the mean and its 95 % confidence interval."
    text += f" No seed came to its end: {', '.join(lost)}." if lost else ""
    return Chart("final", "Final losses", text, (View("", view),), legend=None)


def _chart(name: str, title: str, text: str, result: Mapping[str, Any], key: str) -> Chart | None:
    units = plural(result["unit"])
    # Where data is counted in steps, one way takes the place of the other.
    ways: dict[str, tuple[str, Axis]] = {
        "steps": ("step", lambda arm, curve: curve["step"]),
        units: (f"{units} of data" if units != "steps" else "step", lambda arm, curve: curve["units"]),
        "seconds": ("seconds of training", lambda arm, curve: curve["seconds"]),
        "FLOPs": ("floating-point operations", _flops),
        "joules": ("joules", _joules),
    }
    views = [(way, _view(result, key, title, place)) for way, (title, place) in ways.items()]
    kept = tuple(View(way, view) for way, view in views if view is not None)
    return Chart(name, title, text, kept) if kept else None


def _flops(arm: Mapping[str, Any], curve: Mapping[str, Sequence[float]]) -> Sequence[float] | None:
    each = arm["flops_per_unit"]
    return None if each is None else [units * each for units in curve["units"]]


def _joules(arm: Mapping[str, Any], curve: Mapping[str, Sequence[float]]) -> Sequence[float] | None:
    if arm["joules_per_run"] is None or not arm["seconds_per_run"]:
        return None
    power = arm["joules_per_run"] / arm["seconds_per_run"]
    return [seconds * power for seconds in curve["seconds"]]


def _kept(arm: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The curves of the runs that came to their end."""
    return [
        run[key]
        for run in arm["runs"]
        if not run["diverged"] and run["failed"] is None and run[key] and run[key]["step"]
    ]


def _view(result: Mapping[str, Any], key: str, title: str, place: Axis) -> Figure | None:
    arms = result["arms"]
    data: list[dict[str, Any]] = []
    everything: list[float] = []
    late: dict[int, tuple[float, float]] = {}
    for i, ((label, arm), look) in enumerate(zip(arms.items(), styles(len(arms)), strict=True)):
        points = _points(arm, key, place)
        if points:
            data += _traces(i, label, look, points, band=key == "curve")
            everything += [loss for _, losses in points for loss in losses]
            settled = [loss for place, losses in points for loss in losses if place >= BEGINNING * points[-1][0]]
            late[i] = min(settled), max(settled)
    if not data:
        return None
    horizontal = axis(title) | {"rangemode": "tozero"}
    view = figure(data, horizontal, axis(f"loss, {result['loss_name']}", everything))
    if view["layout"]["yaxis"]["type"] == "linear":
        # By arm, so that the page can leave out those that are hidden.
        view["layout"]["meta"] = {"spans": {str(i): list(map(rounded, span)) for i, span in late.items()}}
        low, high = min(low for low, _ in late.values()), max(high for _, high in late.values())
        margin = MARGIN * (high - low) or 1e-9
        view["layout"]["yaxis"]["range"] = [rounded(low - margin), rounded(high + margin)]
    target = result["target"]["loss"]
    if target is not None and key == "curve":
        logarithmic = view["layout"]["yaxis"]["type"] == "log"
        view["layout"]["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": target, "y1": target,
             "line": {"dash": "dash", "width": 1, "color": NEUTRAL}}
        ]  # fmt: skip
        view["layout"]["annotations"] = [
            {"xref": "paper", "x": 1, "y": math.log10(target) if logarithmic else target, "text": "target",
             "showarrow": False, "xanchor": "right", "yanchor": "bottom", "font": {"color": NEUTRAL}}
        ]  # fmt: skip
    return view


def _points(arm: Mapping[str, Any], key: str, place: Axis) -> list[tuple[float, list[float]]]:
    """Of the steps that all seeds share: the mean place on the axis, and the loss of every seed."""
    kept = _kept(arm, key)
    places = [place(arm, curve) for curve in kept]
    if not kept or any(place is None for place in places):
        return []
    by_step = [
        {step: (x, loss) for step, x, loss in zip(curve["step"], xs or (), curve["loss"], strict=True)}
        for curve, xs in zip(kept, places, strict=True)
    ]
    shared = [step for step in kept[0]["step"] if all(step in seed for seed in by_step)]
    points = [[seed[step] for seed in by_step] for step in shared]
    return [
        (sum(x for x, _ in seeds) / len(seeds), [loss for _, loss in seeds])
        for seeds in points
        if all(loss is not None for _, loss in seeds)
    ]


def _traces(
    arm: int, label: str, look: Style, points: Sequence[tuple[float, Sequence[float]]], band: bool
) -> list[dict[str, Any]]:
    x = [rounded(place) for place, _ in points]
    low, high = ([rounded(pick(losses)) for _, losses in points] for pick in (min, max))
    both = {"meta": {"arm": arm}, "legendgroup": str(arm), "name": plain(label)}
    seeds = len(points[0][1])
    traces: list[dict[str, Any]] = []
    if band and seeds > 1:
        traces.append(
            {
                **both, "x": x + x[::-1], "y": high + low[::-1], "mode": "lines", "line": {"width": 0},
                "fill": "toself", "fillcolor": translucent(look.hex, FAINT), "hoverinfo": "skip", "showlegend": False,
            }
        )  # fmt: skip
    traces.append(
        {
            **both, "x": x, "y": [rounded(sum(losses) / seeds) for _, losses in points],
            "customdata": [[a, b] for a, b in zip(low, high, strict=True)],
            "mode": "lines+markers" if band else "lines", "line": {"color": look.hex, "dash": look.dash, "width": 2},
            "marker": {"size": 6, "symbol": look.symbol, "color": look.hex},
            "hovertemplate": "<b>%{fullData.name}</b><br>%{xaxis.title.text} %{x:,.5~g}<br>loss %{y:.5g}"
            + (f"<br>{seeds} seeds: %{{customdata[0]:.5g}} to %{{customdata[1]:.5g}}" if seeds > 1 else "")
            + "<extra></extra>",
        }
    )  # fmt: skip
    return traces


def _apart(k: int, count: int) -> float:
    """A small step aside for the k-th of some points that may lie on one another."""
    return 0.0 if count < 2 else rounded(-0.16 + 0.32 * k / (count - 1))
