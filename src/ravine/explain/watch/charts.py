"""What a recording shows, as charts: plain values for plotly.js."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ravine.explain.watch.measures import PER_DECADE, Spread
from ravine.explain.watch.recording import Recording
from ravine.lab.report.charts import COLOURS, DASHES, Chart, View, axis, figure, plain

OVERALL = {
    "weight_norm": ("Weight norm", "sum", "‖θ‖ of all parameters"),
    "update_rms": ("Update", "mean", "RMS of the update, weight decay included"),
    "decay_rms": ("Weight decay", "mean", "RMS of the part of the update that is weight decay"),
    "gradient_rms": ("Gradient", "mean", "RMS of the gradient"),
}
BY_PARAMETER = {
    "update_rms": ("Update", "RMS of the update"),
    "relative_update": ("Update / weights", "RMS of the update / RMS of the weights"),
    "step_size": ("Step size", "median |change| of an element"),
    "gradient_rms": ("Gradient", "RMS of the gradient"),
    "weight_rms": ("Weights", "RMS of the weights"),
}
SPREADS = {
    "direction": ("Direction", "|update / η|, without weight decay"),
    "step": ("Step size", "|change| of an element"),
    "gradient": ("Gradient", "|gradient| of an element"),
}
SPECTRA = {"gradient": "gradient", "before": "before orthogonalization", "update": "update"}
MOST_SPECTRA = 12
ROW, MARGIN = 20, 130
RARE = 1e-3
"""Bins that never hold a larger part of the elements are left out at the ends."""


def charts(recordings: Sequence[Recording]) -> list[Chart]:
    """The charts that these recordings have figures for; those of several recordings in one where that can be."""
    made: list[Chart | None] = [overall(recordings)]
    for i, recording in enumerate(recordings):
        of = f" of {recording.name}" if len(recordings) > 1 else ""
        made += [by_parameter(recording, i, of), spreads(recording, i, of), spectra(recording, i, of)]
    return [chart for chart in made if chart is not None]


def overall(recordings: Sequence[Recording]) -> Chart | None:
    """All parameters together, a line for each recording."""
    views = []
    for key, (name, how, words) in OVERALL.items():
        data, values = [], []
        for i, recording in enumerate(recordings):
            series = recording.overall(key, how)
            values += [v for v in series if v]
            label = plain(recording.name)
            data.append({
                "type": "scatter", "mode": "lines+markers", "x": recording.steps, "y": series, "name": label,
                "line": {"color": COLOURS[i % len(COLOURS)], "dash": DASHES[i // len(COLOURS) % len(DASHES)]},
                "marker": {"size": 5}, "hovertemplate": f"step %{{x}}: %{{y:.4g}}<extra>{label}</extra>",
            })  # fmt: skip
        if values:
            views.append(View(name, figure(data, axis("step"), axis(words, values))))
    text = "Each line is one recording; the decay's part of the update says how much of it only shrinks weights."
    return Chart("overall", "All parameters", text, tuple(views), "traces") if views else None


def by_parameter(recording: Recording, i: int, of: str) -> Chart | None:
    """One row for each parameter, one column for each sample; colours are powers of ten."""
    names = list(dict.fromkeys(name for sample in recording.samples for name in sample["parameters"]))
    if not names:
        return None
    views = []
    for key, (name, words) in BY_PARAMETER.items():
        rows = [recording.series(parameter, key) for parameter in names]
        logs = [[math.log10(v) if v else None for v in row] for row in rows]
        heat = {
            "type": "heatmap", "x": [str(step) for step in recording.steps], "y": [plain(n) for n in names], "z": logs,
            "customdata": rows, "colorscale": "Cividis",
            "colorbar": {"title": {"text": "log₁₀"}, "thickness": 12},
            "hovertemplate": "%{y}, step %{x}<br>" + plain(words) + " %{customdata:.4g}<extra></extra>",
        }  # fmt: skip
        up = {"autorange": "reversed", "type": "category", "automargin": True, "showgrid": False}
        across = axis("step") | {"type": "category", "showgrid": False}
        views.append(View(name, figure([heat], across, up, height=MARGIN + ROW * max(8, len(names)))))
    text = "From the first parameter at the top to the last. Layers that stand apart learn faster or slower."
    return Chart(f"parameters-{i}", f"Layer by layer{of}", text, tuple(views), None)


def spreads(recording: Recording, i: int, of: str) -> Chart | None:
    """How magnitudes are spread over powers of ten, sample by sample, for each rule."""
    rules = list(dict.fromkeys(rule for sample in recording.samples for rule in sample["spreads"]))
    views = []
    for rule in rules:
        for kind, (name, words) in SPREADS.items():
            found = [
                Spread.from_dict(s["spreads"][rule][kind]) if rule in s["spreads"] else Spread()
                for s in recording.samples
            ]
            places = [place for spread in found for place in spread.counts]
            if places:
                shown = f"{name}, {rule}" if len(rules) > 1 else name
                views.append(View(shown, _over_time(recording, found, range(min(places), max(places) + 1), words)))
    text = (
        "Each column is one sample: how large a part of the elements is of which magnitude. The direction is the "
        "update without learning rate and weight decay, in Adam m̂ / (√v̂ + ε): near 1 where gradients agree, smaller "
        "where they are mostly noise."
    )
    return Chart(f"spreads-{i}", f"How elements are spread{of}", text, tuple(views), None) if views else None


def _size(spread: Spread) -> int:
    return max(1, sum(spread.counts.values()) + spread.zeros + spread.unusual)


def _over_time(recording: Recording, found: Sequence[Spread], places: range, words: str) -> Any:
    shares = [[spread.counts.get(p, 0) / _size(spread) for spread in found] for p in places]
    heat = {
        "type": "heatmap", "x": [str(step) for step in recording.steps], "z": shares,
        "y": [10 ** ((place + 0.5) / PER_DECADE) for place in places], "colorscale": "Cividis", "zmin": 0,
        "colorbar": {"title": {"text": "part"}, "thickness": 12, "tickformat": ".0%"},
        "hovertemplate": "step %{x}, about %{y:.2g}<br>%{z:.1%} of the elements<extra></extra>",
    }  # fmt: skip
    return figure([heat], axis("step") | {"type": "category", "showgrid": False}, axis(words, log=True))


def spectra(recording: Recording, i: int, of: str) -> Chart | None:
    """Singular values of some matrices, each relative to its largest; a view for each of some samples, last first."""
    kept = [sample for sample in recording.samples if sample["spectra"]]
    every = max(1, math.ceil(len(kept) / MOST_SPECTRA))
    views = []
    for sample in kept[::-1][::every]:
        data = []
        for m, (name, found) in enumerate(sample["spectra"].items()):
            for (kind, words), dash in zip(SPECTRA.items(), ("dot", "dash", "solid"), strict=True):
                values = found.get(kind)
                if values and values[0] > 0:
                    data.append({
                        "type": "scatter", "mode": "lines", "name": plain(f"{name}: {words}"),
                        "x": [k / max(1, len(values) - 1) for k in range(len(values))],
                        "y": [v / values[0] if v > 1e-7 * values[0] else None for v in values],
                        "line": {"color": COLOURS[m % len(COLOURS)], "dash": dash},
                        "hovertemplate": f"{plain(name)}, {words}: %{{y:.3g}}<extra></extra>",
                    })  # fmt: skip
        if data:
            across = axis("singular values, from the largest to the smallest") | {"tickformat": ".0%"}
            views.append(
                View(f"Step {sample['step']}", figure(data, across, axis("relative to the largest", log=True)))
            )
    text = (
        "A flat line is a matrix that moves weights equally far in all directions, as an orthogonalized one does; a "
        "steep one moves them along few."
    )
    return Chart(f"spectra-{i}", f"Singular values{of}", text, tuple(views), "traces") if views else None
