"""The loss of a network on a plane through its weights, with the paths that optimizers take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ravine.explain.landscape import planes
from ravine.explain.landscape.planes import PLANES, Plane
from ravine.explain.landscape.result import Result, Terrain, Track
from ravine.explain.landscape.training import Recorder, rates_of, record
from ravine.lab.training.checkpoint import read, weights_to_evaluate
from ravine.lab.training.run import evaluate

if TYPE_CHECKING:
    from ravine.lab.tasks import Task
    from ravine.lab.training import Recipe

OnProgress = Callable[[int, int, str], None]
"""Told what is done, of how much, and what it is."""

CELLS = 31
TRIALS = 9
MARGIN = 0.2
"""Of the paths' extent, that is drawn around them."""

SHAPE = 4 / 3
"""Width over height of what is drawn."""

LOSSES = "The loss is that of the task's tuning split, which was not trained on, on the plane and along the paths."
RATES = (
    "Learning rates that were not given are the best of {trials}, by the loss at the end: from a hundredth to a "
    "hundred times that of ravine train."
)
EDGE = "The learning rate of {label} is the {which} that was tried: a better one may lie beyond."
AS_GIVEN = "Learning rates that were not given are those of ravine train, not tuned for this run."
IN_PLANE = (
    "Paths are projected on the plane. Where little of a path's variance lies in it, the path runs mostly across it, "
    "and the loss below a projected point is not the loss on the path."
)
OSCILLATION = (
    "Oscillation: the part of the path's length, in all dimensions, that goes back against the step before it."
)
DIVERGED = "{label} diverged: by step {step} its loss was not finite."
CUT = "The loss was not finite in {count} of the {total} cells; they are drawn as the highest that was."


def network_landscape(
    arms: Sequence[str] = ("adamw", "sgd", "muon"),
    *,
    task: str = "digits",
    size: str = "tiny",
    plane: str | None = None,
    checkpoints: Sequence[str | Path] = (),
    cells: int = CELLS,
    steps: int | None = None,
    batch: int | None = None,
    trials: int = TRIALS,
    seed: int = 1,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Result:
    """Train a network with each optimizer from the same weights, and draw the loss on a plane with their paths.

    Args:
        arms: as for `ravine compare`. A learning rate that is not given is that of `ravine train`.
        task, size, options: what is learned, as for `ravine.lab.tasks.make`.
        plane: `"checkpoints"`, through three points: the checkpoints that are given, or the ends of the first three
            paths; `"pca"`, in which the paths vary most; `"random"`, along two filter-normalised random directions
            through the end of the first path. Default `"checkpoints"` where there are three, else `"pca"`.
        checkpoints: three files of `ravine train` on the same task; the plane goes through them. Nothing in them is
            executed.
        cells: of the grid along each side, 5 to 201.
        steps, batch: of a run; default the task's.
        trials: learning rates that are tried for an optimizer that is written without one, see `training.record`.
        seed: of the weights, the data and the random directions.
        on_progress: told of progress.

    Raises:
        ValueError: for whatever will not do, in one sentence: a checkpoint of another model, an unknown plane.
    """
    from ravine.lab.study.arms import parse
    from ravine.lab.tasks import make
    from ravine.lab.training import Recipe

    parsed = parse(list(arms), over=["lr"])
    kind = _kind(plane, len(parsed), len(checkpoints))
    if isinstance(trials, bool) or not isinstance(trials, int) or not 1 <= trials <= 100:
        raise ValueError(f"trials must be a whole number from 1 to 100, got {trials!r}")
    if isinstance(cells, bool) or not isinstance(cells, int) or not 5 <= cells <= 201:
        raise ValueError(f"cells must be a whole number from 5 to 201, got {cells!r}")
    made = make(task, size=size, **options)
    recipe = Recipe(made.steps if steps is None else steps, made.batch if batch is None else batch, clip=made.clip)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = made.new_model()
    given = [_weights_in(Path(path), model, made) for path in checkpoints]

    tell = on_progress or (lambda done, total, what: None)
    total = recipe.steps * sum(len(rates_of(arm, trials)) for arm in parsed) + cells * cells
    runs: list[Recorder] = []
    done = 0
    for arm in parsed:
        what = f"training with {arm.label}"
        runs.append(
            record(made, arm, recipe, seed, trials, lambda step, what=what, done=done: tell(done + step, total, what))  # type: ignore[misc]
        )
        done += recipe.steps * len(rates_of(arm, trials))
    paths = [run.path for run in runs]
    ends = {f"end of {run.arm.label}": run.points[-1] for run in runs}
    named = dict(zip(_names(checkpoints), given, strict=True)) or dict(list(ends.items())[:3])
    if kind == "checkpoints":
        chosen = planes.through(list(named.values()), list(named))
    elif kind == "pca":
        chosen = planes.principal(paths)
    else:
        chosen = planes.random(model, next(iter(named.values())), seed)

    shown = [chosen.project(path).numpy() for path in paths]
    marks = {name: chosen.project(point).numpy() for name, point in named.items()}
    x, y = _axes(np.concatenate([*shown, *(point[None] for point in marks.values())]), cells, chosen)
    heights = _heights(made, model, chosen, x, y, lambda cell: tell(done + cell, total, "the loss on the plane"))
    ground = Terrain(
        x, y, heights, *chosen.names, same_scale=kind != "random",
        marks=_marks(marks if given else {}, shown),
    )  # fmt: skip
    return Result(
        title=f"The loss of a network on a plane: {made.name}, size {made.size}",
        about=_about(recipe, model, chosen, list(named), bool(runs)),
        ground=_finite(ground),
        tracks=tuple(_track(made, model, run, points, chosen) for run, points in zip(runs, shown, strict=True)),
        loss_name="loss" if made.loss_name == "loss" else f"loss in {made.loss_name}",
        minimum=None,
        remarks=_remarks(runs, ground, trials),
        facts={
            "task": made.settings(), "size": made.size, "plane": kind, "through": list(named), "cells": cells,
            "recipe": recipe.settings(), "seed": seed, "parameters": sum(p.numel() for p in planes.trained(model)),
        },
    )  # fmt: skip


def _kind(plane: str | None, arms: int, checkpoints: int) -> str:
    """Which plane, and whether there is what it needs."""
    from ravine.registry import nearest

    if plane is not None and plane not in PLANES:
        raise ValueError(f"plane must be one of {', '.join(PLANES)}, got {plane!r}{nearest(plane, PLANES)}")
    if checkpoints not in (0, 3):
        raise ValueError(f"checkpoints must be three files, for a plane goes through three points, got {checkpoints}")
    kind = plane or ("checkpoints" if checkpoints or arms >= 3 else "pca")
    if kind == "checkpoints" and not checkpoints and arms < 3:
        raise ValueError(
            "plane: 'checkpoints' goes through the ends of three optimizers, or three files with checkpoints, and "
            f"there are {arms}; take 'pca' or 'random' for fewer"
        )
    if checkpoints and kind == "pca":
        raise ValueError("plane: 'pca' looks at the optimizers' paths alone, so checkpoints mean nothing to it")
    if not arms and not checkpoints:
        raise ValueError("arms: at least one optimizer is wanted, or three checkpoints")
    return kind


def _names(checkpoints: Sequence[str | Path]) -> list[str]:
    """What the checkpoints are called: their files' names, with the folders where these are the same."""
    paths = [Path(path) for path in checkpoints]
    short = [path.name for path in paths]
    longer = [f"{path.absolute().parent.name}/{path.name}" for path in paths]
    for names in (short, longer):
        if len(set(names)) == len(names):
            return names
    return [f"checkpoint {i + 1}" for i in range(len(paths))]


def _weights_in(path: Path, model: nn.Module, task: Task) -> Tensor:
    """The weights in a checkpoint, as a vector.

    Raises:
        ValueError: where it is none, or one of another model.
    """
    content = read(path)
    try:
        found = dict(weights_to_evaluate(content))
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"checkpoints: {path} does not hold what a checkpoint of ravine train holds") from None
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    what = f"checkpoints: {path} is of another model than the task {task.name}, size {task.size}, trains"
    for name, p in wanted.items():
        if name not in found:
            raise ValueError(f"{what}: it has no {name}")
        if found[name].shape != p.shape:
            raise ValueError(f"{what}: its {name} is {tuple(found[name].shape)}, and there it is {tuple(p.shape)}")
    extra = sorted(set(found) - set(model.state_dict()))
    if extra:
        raise ValueError(f"{what}: that has no {extra[0]}")
    weights = torch.cat([found[name].to(p.dtype).flatten() for name, p in wanted.items()])
    if not bool(weights.isfinite().all()):
        raise ValueError(f"checkpoints: {path} holds weights that are not finite")
    return weights


def _axes(extent: np.ndarray, cells: int, plane: Plane) -> tuple[np.ndarray, np.ndarray]:
    """What is drawn: all points with a margin, for random directions at least from −1 to 1, as Li et al. draw."""
    low, high = extent.min(0), extent.max(0)
    margin = MARGIN * max(float((high - low).max()), 1e-12)
    low, high = low - margin, high + margin
    if plane.kind == "random":
        low, high = np.minimum(low, -1.0), np.maximum(high, 1.0)
    else:
        width = max(high[0] - low[0], SHAPE * (high[1] - low[1]))
        middle, half = (low + high) / 2, np.array([width, width / SHAPE]) / 2
        low, high = middle - half, middle + half
    return np.linspace(low[0], high[0], cells), np.linspace(low[1], high[1], cells)


def _heights(
    task: Task, model: nn.Module, plane: Plane, x: np.ndarray, y: np.ndarray, tell: Callable[[int], None]
) -> np.ndarray:
    heights = np.empty((len(y), len(x)))
    for row, b in enumerate(y):
        for column, a in enumerate(x):
            heights[row, column] = _loss(task, model, plane.at(float(a), float(b)))
            tell(row * len(x) + column + 1)
    return heights


def _loss(task: Task, model: nn.Module, weights: Tensor) -> float:
    planes.put(model, weights)
    return float(evaluate(task, model, None, "tuning")["loss"])


def _marks(files: Mapping[str, np.ndarray], paths: Sequence[np.ndarray]) -> tuple[tuple[str, tuple[float, float]], ...]:
    """The checkpoints, and where the paths begin; where they end is seen."""
    points = {**files, **({"start": paths[0][0]} if paths else {})}
    return tuple((name, (float(point[0]), float(point[1]))) for name, point in points.items())


def _finite(ground: Terrain) -> Terrain:
    """The same with what is not finite as high as the highest that is."""
    finite = np.isfinite(ground.heights)
    if not finite.any():
        raise RuntimeError("the loss is nowhere finite on the plane")
    return replace(ground, heights=np.where(finite, ground.heights, ground.heights[finite].max()))


def _track(task: Task, model: nn.Module, run: Recorder, points: np.ndarray, plane: Plane) -> Track:
    return Track(
        label=run.arm.label, optimizer=run.arm.optimizer, settings={**run.arm.settings, **run.settings}, points=points,
        at=np.array(run.at), losses=np.array([_loss(task, model, point) for point in run.points]),
        moves=np.array(run.moves), oscillation=run.oscillation, tuned=run.tuned, at_edge=run.at_edge,
        diverged_at=run.diverged_at, in_plane=plane.share(run.path),
    )  # fmt: skip


def _about(recipe: Recipe, model: nn.Module, plane: Plane, through: Sequence[str], ran: bool) -> str:
    count = sum(p.numel() for p in planes.trained(model))
    what = {
        "checkpoints": f"The plane goes through {', '.join(through[:2])} and {through[2]}."
        if len(through) == 3
        else "",
        "pca": "The plane is the one in which the paths vary most.",
        "random": "The plane goes along two random directions, normalised filter by filter (Li et al. 2018), through "
        f"{through[0]}.",
    }
    units = "" if plane.kind == "random" else " Both axes are distances between weights."
    steps = f", {recipe.steps} steps" if ran else ""
    return f"{count:,} weights{steps}. {what[plane.kind]}{units}"


def _remarks(runs: Sequence[Recorder], ground: Terrain, trials: int) -> tuple[str, ...]:
    remarks = [LOSSES]
    if runs:
        remarks += [IN_PLANE, OSCILLATION]
    if any(run.arm.space for run in runs):
        remarks.append(RATES.format(trials=trials) if trials > 1 else AS_GIVEN)
    for run in runs:
        if run.at_edge:
            which = "smallest" if run.settings["lr"] == rates_of(run.arm, trials)[0] else "largest"
            remarks.append(EDGE.format(label=run.arm.label, which=which))
    remarks += [
        DIVERGED.format(label=run.arm.label, step=run.diverged_at) for run in runs if run.diverged_at is not None
    ]
    lost = int((~np.isfinite(ground.heights)).sum())
    if lost:
        remarks.append(CUT.format(count=lost, total=ground.heights.size))
    return tuple(remarks)
