"""A landscape for print: the ground with all paths, the loss and the step sizes, as one Matplotlib figure."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine.explain import figure as house
from ravine.explain.landscape.result import Result, Track
from ravine.lab.report.charts import LOGARITHMIC_FROM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUND = ("#BCCBDB", "#FFFFFF")
"""From the lowest to the highest: light, so that paths stand out, also in print."""

CONTOURS = "#9AA5B1"
LEVELS = 15
DEEPEST = 1e-3
"""Of the height at the start: the innermost contour."""

SHOWN = 1e-8
"""Of the height at the start: what is lower is below the axis."""

SHORTEST = 1e-6
"""Of the longest step: what is shorter is below the axis."""

HIGHEST = 100.0
"""Of the height at the start: what is higher is above the axis."""

MARKERS_A_PATH = 15

NAMED_BY_SIGN = {"start": "○", "minimum": "★"}
"""Points whose sign is explained above the ground; the others are named beside themselves."""


def figure(result: Result) -> Figure:
    """The figure; see `Result.figure`."""
    arms = len(result.tracks)
    drawn = house.new(width=10.0 if arms else 6.6, height=4.9 + 0.2 * arms)
    drawn.suptitle(result.title, fontsize=11)
    every = _interval(result.last)
    if not result.tracks:
        _ground(drawn.add_subplot(), result)
        return drawn
    map_axes, loss_axes, moves_axes = _axes(drawn)
    _ground(map_axes, result)
    map_axes.set_title(_key(result, every), fontsize=9.5)
    for i, track in enumerate(result.tracks):
        marked = [place for place, step in enumerate(track.at) if step % every == 0]
        map_axes.plot(
            *track.points.T, **house.points(i), linewidth=1.1, markersize=4.5, markevery=marked,
            markeredgecolor="white", markeredgewidth=0.4, zorder=3,
        )  # fmt: skip
        map_axes.plot(*track.points[-1], **house.points(i), markersize=8, markeredgecolor="#000000", zorder=3.5)
        line = {**house.series(i), "linewidth": 1.4}
        loss_axes.plot(track.at, result.height(track.losses), **line)
        moves_axes.plot(np.arange(1, len(track.moves) + 1), track.moves, **line)
    _curves(loss_axes, moves_axes, result)
    handles = [_handle(i) for i in range(arms)]
    drawn.legend(handles, [_said(result, track) for track in result.tracks], loc="outside lower center", ncols=1)
    return drawn


def _key(result: Result, every: int) -> str:
    there = {name for name, _ in result.ground.marks}
    signs = [f"{sign} {name}" for name, sign in NAMED_BY_SIGN.items() if name in there]
    return ", ".join([*signs, "a marker every step" if every == 1 else f"a marker every {every} steps"])


def _axes(drawn: Figure) -> tuple[Axes, Axes, Axes]:
    grid = drawn.add_gridspec(2, 2, width_ratios=(1.75, 1))
    left = drawn.add_subplot(grid[:, 0])
    upper = drawn.add_subplot(grid[0, 1])
    return left, upper, drawn.add_subplot(grid[1, 1], sharex=upper)


def _ground(axes: Axes, result: Result) -> None:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    ground = result.ground
    heights = result.height(ground.heights)
    levels = levels_of(result)
    _place(axes, result)
    tones = LinearSegmentedColormap.from_list("ground", GROUND)
    shown = np.maximum(heights, levels[0])
    norm = LogNorm(levels[0], levels[-1])
    axes.contourf(ground.x, ground.y, shown, levels=levels, cmap=tones, norm=norm, extend="max", zorder=0)
    if heights.max() <= levels[0]:
        return
    lines = axes.contour(ground.x, ground.y, heights, levels=levels, colors=CONTOURS, linewidths=0.6, zorder=1)
    if result.minimum is None:
        axes.clabel(lines, fmt="%.3g", fontsize=7, colors="#57606A")


def _place(axes: Axes, result: Result) -> None:
    """The ground's frame, and the points worth naming."""
    ground = result.ground
    axes.set(
        xlim=(ground.x[0], ground.x[-1]), ylim=(ground.y[0], ground.y[-1]), xlabel=ground.x_name, ylabel=ground.y_name
    )
    axes.grid(False)
    if ground.same_scale:
        axes.set_aspect("equal")
    _points_of_interest(axes, result)


def levels_of(result: Result) -> np.ndarray:
    """The contours' heights, evenly spaced on a logarithmic scale."""
    heights = result.height(result.ground.heights)
    low = max(float(heights.min()), DEEPEST * result.start) if result.minimum is None else DEEPEST * result.start
    return np.geomspace(low, max(float(heights.max()), 2 * low), LEVELS)


def _points_of_interest(axes: Axes, result: Result) -> None:
    for name, (x, y) in result.ground.marks:
        star = name == "minimum"
        axes.plot(
            x, y, marker="*" if star else "o", markersize=13 if star else 7, color="#000000" if star else "white",
            markeredgecolor="white" if star else "#000000", markeredgewidth=0.8 if star else 1.4, zorder=4,
        )  # fmt: skip
        if name not in NAMED_BY_SIGN:
            axes.annotate(
                name, (x, y), xytext=(7, 7), textcoords="offset points", fontsize=9, zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1},
            )  # fmt: skip


def _curves(loss_axes: Axes, moves_axes: Axes, result: Result) -> None:
    low, high, log = loss_range(result)
    loss_axes.set(yscale="log" if log else "linear", ylabel=textwrap.fill(result.height_name, 22), ylim=(low, high))
    loss_axes.tick_params(labelbottom=False)
    if result.level is not None:
        assert result.minimum is not None
        loss_axes.axhline(result.level - result.minimum, color="#555555", linewidth=0.8, linestyle=(0, (1, 2)))
        loss_axes.annotate(
            " 1e-3 of the start", (0, result.level - result.minimum), xycoords=("axes fraction", "data"), fontsize=8,
            va="top", color="#555555", annotation_clip=True, in_layout=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )  # fmt: skip
    moved = any((track.moves > 0).any() for track in result.tracks)
    moves_axes.set(ylabel="step size ‖Δ‖", xlabel="step", ylim=moves_range(result), yscale="log" if moved else "linear")


def loss_range(result: Result) -> tuple[float, float, bool]:
    """What the axis of the losses shows, lowest and highest, and whether it is logarithmic."""
    losses = np.concatenate([result.height(track.losses) for track in result.tracks] or [np.empty(0)])
    losses = losses[losses > 0]
    if not losses.size:
        return 0.0, result.start, False
    low = max(float(losses.min()), SHOWN * result.start)
    high = max(min(float(losses.max()), HIGHEST * result.start), low)
    if result.minimum is not None or high / low > LOGARITHMIC_FROM:
        return low / 1.5, high * 1.5, True
    margin = 0.05 * (high - low) or 0.1 * high
    return low - margin, high + margin, False


def moves_range(result: Result) -> tuple[float, float]:
    """What the logarithmic axis of the step sizes shows: on a function, no step that is longer than the ground."""
    lengths = np.concatenate([track.moves for track in result.tracks]) if result.tracks else np.empty(0)
    lengths = lengths[lengths > 0]
    if not lengths.size:
        return 0.1, 1.0
    high = float(lengths.max())
    if result.minimum is not None:
        high = min(high, math.hypot(*(float(axis[-1] - axis[0]) for axis in (result.ground.x, result.ground.y))))
    return max(float(lengths.min()), SHORTEST * high) / 1.5, high * 1.5


def _said(result: Result, track: Track) -> str:
    """The legend's line: what ran, and its numbers."""
    words = [f"{track.name} (tuned)" if track.tuned else track.name]
    if track.diverged_at is not None:
        words.append(f"diverged at step {track.diverged_at}")
    elif result.level is not None:
        arrived = result.steps_to(track)
        words.append(f"{arrived} steps to 1e-3" if arrived is not None else "1e-3 not reached")
    else:
        words.append(f"loss {track.losses[-1]:.4g}")
    words.append(f"oscillation {track.oscillation:.2f}")
    if track.in_plane is not None:
        words.append(f"{track.in_plane:.1%} of its path's variance in the plane")
    return " · ".join(words)


def _handle(i: int) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], **{**house.series(i), **house.points(i)}, markersize=5)


def _interval(steps: int) -> int:
    """Steps from one marker to the next: 1, 2 or 5 times a power of ten.

    Example:
        >>> [_interval(steps) for steps in (10, 40, 150, 500)]
        [1, 5, 10, 50]
    """
    for power in range(10):
        for factor in (1, 2, 5):
            if steps <= MARKERS_A_PATH * factor * 10**power:
                return factor * 10**power
    return steps
