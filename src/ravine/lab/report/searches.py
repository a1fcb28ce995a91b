"""Charts of the search: every trial over the learning rate, and over two settings at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ravine.lab.report.charts import (
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
)
from ravine.lab.report.text import name_of, settings, value_of

Trial = Mapping[str, Any]

ON_LOG_AXES = ("lr", "weight_decay", "eps")

CELLS = 36
"""Of a heat map between scattered trials, along each side."""

FEW = 4
"""So many values of a setting, or fewer, are shown as rows of their own."""


def sensitivity(result: Mapping[str, Any]) -> Chart | None:
    """Final tuning losses over each numeric hyperparameter that was searched, the learning rate first."""
    arms = result["arms"]
    names = sorted({name for arm in arms.values() for name in _numeric(arm)}, key=lambda name: (name != "lr", name))
    views = tuple(View(name_of(name), _over(name, result)) for name in names)
    if not views:
        return None
    text = (
        "Every trial's final loss on the tuning split. Rings: retuned on further seeds. Star: the mean at "
        "the setting that was judged. Crosses at the top: trials that diverged or failed."
    )
    return Chart(
        "sensitivity", f"Sensitivity to the {views[0].name}" if len(views) == 1 else "Sensitivity", text, views
    )


def heat_maps(result: Mapping[str, Any]) -> Chart | None:
    """For each arm with two numeric hyperparameters or more: the tuning loss over the learning rate and each other."""
    maps = [
        (label, arm, pair) for label, arm in result["arms"].items() for pair in _pairs(_numeric(arm))
        if len(_mean_losses(arm, pair)) > 2
    ]  # fmt: skip
    known = sorted(loss for _, arm, pair in maps for loss in _mean_losses(arm, pair).values() if loss is not None)
    if not known:
        return None
    # Without a ceiling the few worst trials would leave one colour to all others.
    colours = (known[0], max(known[math.ceil(0.8 * (len(known) - 1))], known[0] + 1e-12))
    views = []
    for label, arm, (x, y) in maps:
        name = f"{label}: {name_of(x)} × {name_of(y)}"
        views.append(View(name, _map(arm, x, y, colours, result["loss_name"])))
    text = (
        "Final loss on the tuning split, the mean where a setting had several seeds; all maps share their colours, and "
        "losses in the worst fifth share the last one. Circles: trials. Star: judged. Crosses: diverged or failed. "
        "Between the trials, colours are means weighted by nearness, not measurements."
    )
    return Chart("heat-maps", "Two settings at once", text, tuple(views), legend=None)


def _numeric(arm: Mapping[str, Any]) -> list[str]:
    """The searched hyperparameters whose values are numbers and differ between trials; the learning rate first."""
    names = sorted(arm["best"]["tuned"], key=lambda name: name != "lr")
    return [
        name for name in names
        if len({t["settings"].get(name) for t in arm["trials"]}) > 1
        and all(isinstance(t["settings"].get(name), (int, float)) and not isinstance(t["settings"][name], bool)
                for t in arm["trials"])
    ]  # fmt: skip


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(names[0], other) for other in names[1:]] if "lr" in names else list(itertools.combinations(names, 2))


def _lost(trial: Trial) -> bool:
    return trial["diverged"] or bool(trial["failed"]) or trial["loss"] is None


def _over(name: str, result: Mapping[str, Any]) -> Figure:
    arms = {label: arm for label, arm in result["arms"].items() if name in _numeric(arm)}
    looks = dict(zip(result["arms"], styles(len(result["arms"])), strict=True))
    order = {label: i for i, label in enumerate(result["arms"])}
    known = [t["loss"] for arm in arms.values() for t in arm["trials"] if not _lost(t)] or [1.0]
    vertical = axis(f"tuning loss, {result['loss_name']}", known)
    ratio = max(known) / min(known) if vertical["type"] == "log" else 1.0
    top = max(known) * ratio**0.06 if ratio > 1 else max(known) + 0.06 * (max(known) - min(known))
    data = [
        trace for label, arm in arms.items()
        for trace in _trials(order[label], label, arm, name, looks[label], rounded(top))
    ]  # fmt: skip
    values = [t["settings"][name] for arm in arms.values() for t in arm["trials"]]
    horizontal = axis(name_of(name), values, log=name in ON_LOG_AXES and min(values) > 0)
    if len(set(values)) <= FEW:
        horizontal |= {"tickvals": sorted(set(values)), "ticktext": [value_of(v) for v in sorted(set(values))]}
    return figure(data, horizontal, vertical)


def _trials(index: int, label: str, arm: Mapping[str, Any], name: str, look: Style, top: float) -> list[dict[str, Any]]:
    searched = sorted(
        (t for t in arm["trials"] if t["phase"] == "search" and not _lost(t)), key=lambda t: t["settings"][name]
    )
    retuned = [t for t in arm["trials"] if t["phase"] == "retune" and not _lost(t)]
    lost = [t for t in arm["trials"] if _lost(t)]
    alone = len(arm["best"]["tuned"]) == 1

    def trace(trials: Sequence[Trial], what: str, marker: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "x": [t["settings"][name] for t in trials], "y": [rounded(t["loss"]) for t in trials], "mode": "markers",
            "name": plain(label), "meta": {"arm": index}, "legendgroup": str(index), "showlegend": False,
            "text": [plain(settings(t["settings"])) for t in trials],
            "marker": {"color": look.hex, **marker},
            "hovertemplate": f"<b>%{{fullData.name}}</b><br>{what}: %{{y:.5g}}<br>%{{text}}<extra></extra>", **more,
        }  # fmt: skip

    traces = [
        trace(
            searched, "trial", {"size": 8, "symbol": look.symbol}, showlegend=True,
            mode="lines+markers" if alone else "markers", line={"color": look.hex, "dash": look.dash, "width": 1.5},
        ),
        trace(retuned, "retuned", {"size": 13, "symbol": "circle-open", "line": {"width": 2}}),
    ]  # fmt: skip
    if lost:
        at_top = [{**t, "loss": top} for t in lost]
        said = "<b>%{fullData.name}</b><br>diverged or failed<br>%{text}<extra></extra>"
        traces.append(trace(at_top, "", {"size": 10, "symbol": "x"}, hovertemplate=said))
    best, mean = arm["best"]["settings"], (arm["best"]["tuning_loss"] or {}).get("mean")
    if name in best and mean is not None:
        outline = {"width": 1.5, "color": NEUTRAL}
        traces.append(
            trace([{"settings": best, "loss": mean}], "judged", {"size": 16, "symbol": "star", "line": outline})
        )
    return traces


def _mean_losses(arm: Mapping[str, Any], pair: tuple[str, str]) -> dict[tuple[float, float], float | None]:
    """By place in the plane: the mean loss over all trials there; None where one of them was lost."""
    places: dict[tuple[float, float], list[Trial]] = {}
    for trial in arm["trials"]:
        places.setdefault((trial["settings"][pair[0]], trial["settings"][pair[1]]), []).append(trial)
    return {
        place: None if any(map(_lost, trials)) else sum(t["loss"] for t in trials) / len(trials)
        for place, trials in places.items()
    }


def _map(arm: Mapping[str, Any], x: str, y: str, colours: tuple[float, float], loss_name: str) -> Figure:
    losses = _mean_losses(arm, (x, y))
    columns, rows = sorted({place[0] for place in losses}), sorted({place[1] for place in losses})
    whole = len(losses) == len(columns) * len(rows) and len(columns) > 1 and len(rows) > 1
    across = _Scale(x, columns, as_rows=whole)
    upward = _Scale(y, rows, as_rows=whole or len(rows) <= FEW)
    shade = {"zmin": rounded(colours[0]), "zmax": rounded(colours[1]), "colorscale": "Viridis", "reversescale": True}
    bar = {"title": {"text": plain(loss_name), "side": "right"}, "thickness": 14, "outlinewidth": 0}
    data: list[dict[str, Any]] = [
        {
            "type": "heatmap", "x": across.cells, "y": upward.cells, **shade, "colorbar": bar, "hoverinfo": "skip",
            "z": _cells(losses, across, upward, colours[1], measured=whole),
        }
    ]  # fmt: skip
    best = arm["best"]["settings"]
    groups: list[tuple[str, str, int, list[tuple[tuple[float, float], float | None]]]] = [
        ("trial", "circle", 9, [(place, loss) for place, loss in losses.items() if loss is not None]),
        ("diverged or failed", "x", 10, [(place, None) for place, loss in losses.items() if loss is None]),
    ]
    if x in best and y in best:
        judged = (best[x], best[y])
        groups.append(("judged", "star", 17, [(judged, losses.get(judged))]))
    for what, symbol, big, points in groups:
        data.append(
            {
                "x": [across.place(place[0]) for place, _ in points],
                "y": [upward.place(place[1]) for place, _ in points],
                "mode": "markers", "name": what, "showlegend": False,
                "text": [
                    f"{name_of(x)} {value_of(place[0])}<br>{name_of(y)} {value_of(place[1])}"
                    + ("" if loss is None else f"<br>tuning loss {loss:.5g}")
                    for place, loss in points
                ],
                "marker": {"symbol": symbol, "size": big, "color": "#ffffff",
                           "line": {"width": 1.5, "color": "#000000"}},
                "hovertemplate": f"<b>{what}</b><br>%{{text}}<extra></extra>",
            }
        )  # fmt: skip
    return figure(data, across.axis(), upward.axis(), height=400)


class _Scale:
    """One side of a heat map: values at even places in rows, or along an axis of their own.

    Args:
        name: of the hyperparameter.
        values: its values, sorted.
        as_rows: whether each value has a row (or column) of its own.
    """

    def __init__(self, name: str, values: Sequence[float], as_rows: bool) -> None:
        self.name, self.values, self.as_rows = name, values, as_rows
        self.log = not as_rows and name in ON_LOG_AXES and values[0] > 0
        ends = [self._straight(values[0]), self._straight(values[-1])]
        margin = 0.06 * (ends[1] - ends[0])
        self.low, self.high = ends[0] - margin, ends[1] + margin

    @property
    def cells(self) -> list[float]:
        """Middles of the cells."""
        if self.as_rows:
            return list(range(len(self.values)))
        straight = np.linspace(self.low, self.high, CELLS)
        return [rounded(v) for v in (10**straight if self.log else straight)]

    def place(self, value: float) -> float:
        """Where a value lies."""
        return self.values.index(value) if self.as_rows and value in self.values else value

    def part(self, place: float) -> float:
        """A place as a part of the side, from 0 to 1."""
        return (self._straight(place) - self.low) / (self.high - self.low)

    def axis(self) -> dict[str, Any]:
        """For the layout."""
        made = axis(name_of(self.name), self.values, log=self.log)
        if self.as_rows:
            made |= {"tickvals": self.cells, "ticktext": [value_of(v) for v in self.values]}
        return made | {"showgrid": False, "zeroline": False}

    def _straight(self, value: float) -> float:
        return math.log10(value) if self.log else value


def _cells(
    losses: Mapping[tuple[float, float], float | None], across: _Scale, upward: _Scale, ceiling: float, measured: bool
) -> list[list[float | None]]:
    """The colours: of the trials themselves on a whole grid, else means of them.

    The weights are the inverse distances to the fourth power (Shepard 1968). Such a mean never leaves the range of what
    was measured. What was lost counts as the worst colour.
    """
    if measured:
        return [
            [None if (loss := losses[x, y]) is None else rounded(loss) for x in across.values] for y in upward.values
        ]
    field: list[list[float | None]] = []
    for row in upward.cells:
        near = {p: loss for p, loss in losses.items() if not upward.as_rows or upward.place(p[1]) == row}
        points = np.array([[across.part(p[0]), 0 if upward.as_rows else upward.part(p[1])] for p in near])
        values = np.array([ceiling if loss is None else min(loss, ceiling) for loss in near.values()])
        height = 0.0 if upward.as_rows else upward.part(row)
        cells = np.array([[across.part(x), height] for x in across.cells])
        weights = 1 / (((cells[:, None] - points[None]) ** 2).sum(-1) + 1e-4) ** 2
        field.append([rounded(v) for v in (weights * values).sum(1) / weights.sum(1)])
    return field
