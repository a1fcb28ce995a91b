"""What a landscape shows: the ground, what each optimizer did on it, and the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine.explain.landscape.measures import oscillation, steps_to

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOLD_CELLS = 61
"""Values along each side of the ground in JSON, at most."""

PART = 1e-3
"""Of the height above the minimum at the start: what "steps to 1e-3" are counted to."""


@dataclass(frozen=True)
class Terrain:
    """The ground: values of the loss on a grid.

    Args:
        x, y: of the grid, in increasing order.
        heights: the loss, (len(y), len(x)).
        x_name, y_name: of the axes.
        marks: points worth naming, with their names.
        same_scale: whether a unit of x is as long as one of y.
    """

    x: np.ndarray
    y: np.ndarray
    heights: np.ndarray
    x_name: str = "x"
    y_name: str = "y"
    marks: tuple[tuple[str, tuple[float, float]], ...] = ()
    same_scale: bool = False

    def thinned(self, cells: int) -> Terrain:
        """The same on a grid of at most this many values along each side."""
        x, y = (np.linspace(0, len(a) - 1, min(cells, len(a))).round().astype(int) for a in (self.x, self.y))
        return replace(self, x=self.x[x], y=self.y[y], heights=self.heights[np.ix_(y, x)])


@dataclass(frozen=True)
class Track:
    """What one optimizer did.

    Args:
        label: as the optimizer was written.
        optimizer: its rule.
        settings: those given, and the learning rate.
        points: on the ground, (points, 2).
        at: the steps at which the points were taken, from 0.
        losses: at the points.
        moves: how far each step went, in all dimensions, (steps,).
        oscillation: see `measures.oscillation`.
        tuned: whether the learning rate was searched for here.
        at_edge: whether it lies on the edge of what was searched.
        diverged_at: the step at which the run was given up.
        in_plane: the part of the path's variance that lies in the drawn plane; None where the plane is all there is.
        as_matrix: whether the rule is one for matrices, and saw the point as a matrix of one row.
        decay_left_out: whether its customary weight decay was set to 0.
    """

    label: str
    optimizer: str
    settings: Mapping[str, Any]
    points: np.ndarray
    at: np.ndarray
    losses: np.ndarray
    moves: np.ndarray
    oscillation: float
    tuned: bool = False
    at_edge: bool = False
    diverged_at: int | None = None
    in_plane: float | None = None
    as_matrix: bool = False
    decay_left_out: bool = False

    @property
    def lr(self) -> float | None:
        """The learning rate; None where the optimizer finds its own."""
        return self.settings.get("lr")

    @property
    def name(self) -> str:
        """The label, and the learning rate where the label does not say it."""
        if self.lr is None or "lr=" in self.label:
            return self.label
        return f"{self.label}, lr {self.lr:.3g}"


@dataclass(frozen=True)
class Result:
    """A drawn landscape.

    Args:
        title: what it is of.
        about: a sentence or two for below the title.
        ground: the loss on a grid.
        tracks: one an optimizer.
        loss_name: of the loss, for axes.
        minimum: the lowest loss there is, or that was found; None where it is not known.
        remarks: what a reader has to know to read the numbers, in sentences.
        facts: for JSON: what was done, with which settings.
    """

    title: str
    about: str
    ground: Terrain
    tracks: tuple[Track, ...]
    loss_name: str
    minimum: float | None
    remarks: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> float | None:
        """The loss at which a thousandth of the height of the start is left."""
        if self.minimum is None or not self.tracks:
            return None
        return self.minimum + PART * (float(self.tracks[0].losses[0]) - self.minimum)

    def steps_to(self, track: Track) -> int | None:
        """Steps until a thousandth of the height is left, and no more in the rest of the run; None where it is more."""
        if self.level is None or track.diverged_at is not None:
            return None
        arrived = steps_to(track.losses, self.level)
        return None if arrived is None else int(track.at[arrived])

    def height(self, losses: np.ndarray) -> np.ndarray:
        """Losses above the minimum where it is known, as they are where not."""
        return losses if self.minimum is None else np.maximum(losses - self.minimum, 0.0)

    @property
    def start(self) -> float:
        """The height at the start, by which axes are scaled; of the highest ground where that is 0, or 1."""
        began = float(self.height(self.tracks[0].losses[:1])[0]) if self.tracks else 0.0
        return began or float(self.height(self.ground.heights).max()) or 1.0

    @property
    def last(self) -> int:
        """The last step of the longest run."""
        return max((int(track.at[-1]) for track in self.tracks), default=0)

    @property
    def height_name(self) -> str:
        """What `height` is, for axes."""
        return self.loss_name if self.minimum is None else f"{self.loss_name} above the minimum"

    def figure(self) -> Figure:
        """The ground with all paths, the loss and the step sizes, as a Matplotlib figure in the house's style."""
        from ravine.explain.landscape.picture import figure

        return figure(self)

    def html(self) -> str:
        """The same as an animation: a page in one file, which opens without a network."""
        from ravine.explain.landscape.page import page

        return page(self)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is not finite or not known is None.

        Keys: what was done (`on` or `task`, and its settings), `title`, `minimum`, `level`, `remarks`,
        `ground.{x, y, loss, marks}` and `arms.{label}.{optimizer, settings, tuned, at_edge, steps_to, oscillation,
        final_loss, final_point, diverged_at, in_plane, path_length, steps, losses, points, moves}`.
        """
        ground = self.ground.thinned(TOLD_CELLS)
        return {
            **self.facts,
            "title": self.title, "minimum": self.minimum, "level": self.level, "remarks": list(self.remarks),
            "arms": {track.label: self._told(track) for track in self.tracks},
            "ground": {
                "x": _plain(ground.x), "y": _plain(ground.y), "loss": _plain(ground.heights),
                "marks": [{"name": name, "point": list(point)} for name, point in ground.marks],
            },
        }  # fmt: skip

    def _told(self, track: Track) -> dict[str, Any]:
        return {
            "optimizer": track.optimizer, "settings": dict(track.settings), "tuned": track.tuned,
            "at_edge": track.at_edge, "steps_to": self.steps_to(track), "oscillation": track.oscillation,
            "final_loss": float(track.losses[-1]), "final_point": _plain(track.points[-1]),
            "diverged_at": track.diverged_at, "in_plane": track.in_plane, "path_length": float(track.moves.sum()),
            "steps": _plain(track.at), "losses": _plain(track.losses), "points": _plain(track.points),
            "moves": _plain(track.moves),
        }  # fmt: skip


def track_of(points: np.ndarray, **known: Any) -> Track:
    """A track all of whose steps are known, in the plane that is all there is."""
    from ravine.explain.landscape.measures import moves

    return Track(
        points=points, at=np.arange(len(points)), moves=moves(points), oscillation=oscillation(points), **known
    )


def _plain(array: np.ndarray) -> Any:
    """An array as lists, None for what is not finite."""
    if array.ndim > 1:
        return [_plain(row) for row in array]
    return [value if math.isfinite(value) else None for value in array.tolist()]
