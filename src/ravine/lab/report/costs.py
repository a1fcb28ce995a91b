"""Charts of cost: what quality was paid with, and where the time of a step goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ravine.lab.report.charts import NEUTRAL, Chart, Figure, View, axis, figure, plain, rounded, styles, wrapped

Cost = Callable[[str, Mapping[str, Any]], float | None]

PARTS = {
    "data": ("#808790", ""),
    "forward": ("#56B4E9", ""),
    "backward": ("#0072B2", ""),
    "optimizer": ("#E69F00", "/"),
}
"""Of a step: colour and hatching."""

REST = "#C3C9D0"


def milliseconds(result: Mapping[str, Any], label: str) -> dict[str, float] | None:
    """Where the time of a step goes, in milliseconds: `data`, `forward`, `backward`, `optimizer`, `step`.

    As measured side by side where that was done, else from the arm's judged runs; None where neither is known.
    """
    measured = (result["cost"] or {}).get(label)
    if measured is not None:
        return dict(measured["milliseconds"])
    arm = result["arms"][label]
    if not arm["seconds_per_run"] or arm["spans"] is None:
        return None
    step = 1000 * arm["seconds_per_run"] / arm["runs"][0]["steps"]
    return {part: share * step for part, share in arm["spans"].items()} | {"step": step}


def flops_per_run(arm: Mapping[str, Any]) -> float | None:
    """Floating-point operations of a whole run; None where they are not known."""
    units = [run["units"] for run in arm["runs"] if not run["diverged"] and run["failed"] is None]
    return None if arm["flops_per_unit"] is None or not units else float(arm["flops_per_unit"] * units[0])


def pareto(result: Mapping[str, Any]) -> Chart | None:
    """Final loss against each cost, and the arms that none is better than in both."""

    def of_optimizer(label: str, arm: Mapping[str, Any]) -> float | None:
        spent = milliseconds(result, label)
        return None if spent is None else spent.get("optimizer")

    costs: list[tuple[str, str, Cost]] = [
        ("optimizer time", "optimizer, milliseconds of a step", of_optimizer),
        ("seconds per run", "seconds of a run", lambda _, arm: arm["seconds_per_run"]),
        ("optimizer state", "optimizer state, bytes per parameter", lambda _, arm: arm["state_bytes_per_param"]),
        ("peak memory", "peak memory, MiB", lambda _, arm: _mebibytes(arm["peak_memory_bytes"])),
        ("FLOPs", "floating-point operations of a run", lambda _, arm: flops_per_run(arm)),
        ("joules", "joules of a run", lambda _, arm: arm["joules_per_run"]),
    ]
    views = [(name, _against(result, title, cost)) for name, title, cost in costs]
    kept = tuple(View(name, view) for name, view in views if view is not None)
    if not kept:
        return None
    text = (
        "Lower left is better. The line is the Pareto front: no arm on it is beaten in both by another. Bars are the "
        "intervals of the mean. Hollow: some seeds were lost, so the arm is not on the front."
    )
    return Chart("pareto", "Quality against cost", text, kept)


def step_split(result: Mapping[str, Any]) -> Chart | None:
    """Stacked bars: data, forward, backward, optimizer and the rest of a step, for each arm."""
    spent = {label: parts for label in result["arms"] if (parts := milliseconds(result, label)) is not None}
    if not spent:
        return None
    rows = [wrapped(label) for label in spent]
    looks = [(part, *PARTS[part]) for part in PARTS] + [("rest", REST, "")]
    data = []
    for part, colour, hatching in looks:
        lengths = [_part(parts, part) for parts in spent.values()]
        if not any(lengths):
            continue
        pattern = {"shape": hatching, "fillmode": "overlay", "fgcolor": "#ffffff", "fgopacity": 1, "solidity": 0.25}
        data.append(
            {
                "type": "bar", "orientation": "h", "name": part, "y": list(range(len(rows))),
                "x": [rounded(length) for length in lengths], "customdata": [plain(label) for label in spent],
                "text": [f"{x / parts['step']:.0%}" for x, parts in zip(lengths, spent.values(), strict=True)],
                "textposition": "none", "marker": {"color": colour, "pattern": pattern},
                "hovertemplate": f"<b>%{{customdata}}</b><br>{part}: %{{x:.3g}} ms, %{{text}}<extra></extra>",
            }
        )  # fmt: skip
    vertical = {
        "tickvals": list(range(len(rows))), "ticktext": rows, "automargin": True, "showgrid": False, "zeroline": False,
        "range": [len(rows) - 0.5, -0.5], "fixedrange": True,
    }  # fmt: skip
    view = figure(
        data,
        axis("milliseconds of a step"),
        vertical,
        barmode="stack",
        bargap=0.35,
        height=90 + 46 * len(rows),
    )
    text = "Measured side by side when all trials were done." if result["cost"] else "From the judged runs."
    if any(_part(parts, "rest") for parts in spent.values()):
        text += " The rest is clipping, the schedule and averages of the weights."
    return Chart("step", "Where the time of a step goes", text, (View("", view),), legend="traces")


def _part(parts: Mapping[str, float], part: str) -> float:
    """The length of a part; of the rest, what is worth showing."""
    if part != "rest":
        return parts.get(part) or 0.0
    rest = parts["step"] - sum(parts.get(known) or 0.0 for known in PARTS)
    return rest if rest > 0.005 * parts["step"] else 0.0


def _mebibytes(count: float | None) -> float | None:
    return None if count is None else count / 2**20


def _against(result: Mapping[str, Any], title: str, cost: Cost) -> Figure | None:
    arms = list(result["arms"].items())
    points = [
        (i, label, arm, spent)
        for i, (label, arm) in enumerate(arms)
        if arm["final_loss"]["mean"] is not None and (spent := cost(label, arm)) is not None
    ]
    if len(points) < 2:
        return None
    looks = styles(len(arms))
    across, losses = [p[3] for p in points], [p[2]["final_loss"]["mean"] for p in points]
    horizontal, vertical = axis(title, across), axis(f"final loss, {result['loss_name']}", losses)
    low, high = min(across), max(across)
    middle = (low * high) ** 0.5 if horizontal["type"] == "log" else (low + high) / 2
    front = _front([(spent, arm["final_loss"]["mean"]) for _, _, arm, spent in points if not _lost(arm)])
    data: list[dict[str, Any]] = [
        {"x": [rounded(x) for x, _ in front], "y": [rounded(y) for _, y in front], "mode": "lines",
         "name": "Pareto front", "line": {"shape": "hv", "dash": "dot", "width": 1.5, "color": NEUTRAL},
         "hoverinfo": "skip", "showlegend": False}
    ]  # fmt: skip
    for i, label, arm, spent in points:
        look, final = looks[i], arm["final_loss"]
        half = final["interval"][1] - final["mean"] if final["interval"] else 0
        data.append(
            {
                "x": [rounded(spent)], "y": [rounded(final["mean"])], "mode": "markers+text", "name": plain(label),
                "meta": {"arm": i}, "text": [wrapped(label)], "textfont": {"size": 12}, "cliponaxis": False,
                "textposition": "top right" if spent <= middle else "top left",
                "error_y": {"type": "data", "array": [half], "color": look.hex, "thickness": 1.5, "width": 4},
                "marker": {"color": look.hex, "size": 12, "symbol": look.symbol + ("-open" if _lost(arm) else "")},
                "hovertemplate": f"<b>%{{fullData.name}}</b><br>{plain(title)}: %{{x:,.4~g}}<br>final loss %{{y:.5g}}"
                "<extra></extra>",
            }
        )  # fmt: skip
    return figure(data, horizontal, vertical)


def _lost(arm: Mapping[str, Any]) -> bool:
    return bool(arm["diverged_seeds"]) or any(run["failed"] for run in arm["runs"])


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other is at most equal to in both, from the cheapest on.

    Example:
        >>> _front([(1, 3.0), (2, 3.5), (3, 2.0)])
        [(1, 3.0), (3, 2.0)]
    """
    kept: list[tuple[float, float]] = []
    for cost, loss in sorted(points):
        if not kept or loss < kept[-1][1]:
            kept.append((cost, loss))
    return kept
