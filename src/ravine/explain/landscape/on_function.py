"""Optimizers on a function of two numbers: `landscape("ravine", ["sgd", "sgd:momentum=0.9"])`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine.explain.landscape.descent import Descent, descend
from ravine.explain.landscape.functions import Landscape, Point, written
from ravine.explain.landscape.measures import target
from ravine.explain.landscape.own import Span, lowest, read
from ravine.explain.landscape.result import PART, Result, Terrain, Track, track_of
from ravine.explain.landscape.tuning import COARSE, FINER, tune

if TYPE_CHECKING:
    from ravine.lab.study.arms import Arm

MOST_STEPS = 100_000
CELLS, OWN_CELLS = 241, 101
"""Values along each side of the grid; fewer where a function takes them one by one."""

OnProgress = Callable[[int, int, str], None]
"""Told the number of arms done, of all, and the label of the next."""

MATRIX = "{names} step{s} matrices: the point is a matrix of one row to {them}."
TUNED = (
    "Learning rates that were not given are the best of {count} from {low:g} to {high:g}, the same for all: the fewest "
    "steps to 1e-3, or else the lowest loss at the end, among runs that stay on the drawn ground."
)
NO_DECAY = "Weight decay that was not given is 0: it would draw to the origin, whatever the function."
UNTUNED = "{label} takes no learning rate."
EDGE = "The learning rate of {label} is the {which} that was tried: a better one may lie beyond."
DIVERGED = "{label} diverged at step {step}."
OWN_MINIMUM = "The minimum is the lowest value that was found, {value:.6g} at {point}."
STEPS_TO = (
    "Steps to 1e-3: until a thousandth of the height above the minimum is left, and no more in the rest of the run. "
    "Oscillation: the part of the path's length that goes back against the step before it."
)


def landscape(
    on: str = "ravine",
    arms: Sequence[str] = ("sgd", "sgd:momentum=0.9", "adam"),
    *,
    steps: int | None = None,
    start: Point | None = None,
    x: Span | None = None,
    y: Span | None = None,
    schedule: str = "constant",
    noise: float = 0.0,
    seed: int = 1,
    on_progress: OnProgress | None = None,
) -> Result:
    """Run optimizers on a function of two numbers, in float64; the same call gives the same numbers.

    Args:
        on: a name of `LANDSCAPES`, or `"FILE.py:FUNCTION"`, which runs the file.
        arms: as for `ravine compare`: `"adamw"`, `"adamw:lr=0.1,beta2=0.95"`. A learning rate that is not given is
            tuned, see `ravine.explain.landscape.tuning`.
        steps: of each run; default the landscape's.
        start: where all begin; default the landscape's.
        x, y: the ranges that are drawn; default the landscape's.
        schedule: of the learning rate, a name of `ravine.schedules`.
        noise: standard deviation of normal noise that is added to each component of the gradient, the same for all.
        seed: of the noise.
        on_progress: told of progress.

    Raises:
        ValueError: for whatever will not do, in one sentence: an unknown landscape or optimizer, a function that is
            not differentiable or not finite.

    Example:
        >>> result = landscape("ravine", ["sgd:lr=0.036", "sgd:lr=0.036,momentum=0.9"])
        >>> [(track.label, result.steps_to(track), round(track.oscillation, 2)) for track in result.tracks]
        [('sgd:lr=0.036', 89, 0.34), ('sgd:lr=0.036,momentum=0.9', 67, 0.05)]
    """
    from ravine.lab.study.arms import parse

    parsed = parse(list(arms), over=["lr"])
    if not parsed:
        raise ValueError("arms: at least one optimizer is wanted")
    function, begin = read(on, x, y, start)
    count = function.steps if steps is None else steps
    _require(count, noise, seed)
    x_grid, y_grid = (
        np.linspace(*span, CELLS if function.of_arrays else OWN_CELLS) for span in (function.x, function.y)
    )
    heights = function.heights(x_grid, y_grid)
    minimum, remarks = function.minimum, []
    if minimum is None:
        minimum, where = lowest(function, x_grid, y_grid, heights)
        function = replace(function, minima=(where,))
        remarks.append(OWN_MINIMUM.format(value=minimum, point=written(where)))

    tracks: list[Track] = []
    for done, arm in enumerate(parsed):
        if on_progress is not None:
            on_progress(done, len(parsed), arm.label)
        options: dict[str, Any] = {"start": begin, "steps": count, "schedule": schedule, "noise": noise, "seed": seed}
        tracks.append(_track(function, arm, minimum, options))
    if on_progress is not None:
        on_progress(len(parsed), len(parsed), "")
    lowest_seen = min(float(track.losses.min()) for track in tracks)
    if not function.formula and lowest_seen < minimum:
        minimum = lowest_seen
    marks = tuple(("minimum", point) for point in function.minima if function.contains(point))
    ground = Terrain(x_grid, y_grid, heights, marks=(("start", begin), *marks))
    facts = {
        "on": function.name, "formula": function.formula or None, "condition": function.condition,
        "start": list(begin), "steps": count, "schedule": schedule, "noise": noise, "seed": seed,
    }  # fmt: skip
    return Result(
        title=_title(function),
        about=_about(function, begin, count, schedule, noise),
        ground=ground, tracks=tuple(tracks), loss_name="loss", minimum=minimum,
        remarks=(*remarks, *_remarks(tracks)), facts=facts,
    )  # fmt: skip


def _track(function: Landscape, arm: Arm, minimum: float, options: dict[str, Any]) -> Track:
    """One arm's run, at its learning rate or the best that is found."""
    rule = arm.rule
    given = {name: value for name, value in arm.settings.items() if name not in ("engine", "other")}
    decays = bool(rule.defaults.get("weight_decay")) and "weight_decay" not in given
    if decays:
        given["weight_decay"] = 0.0

    def runs(settings: Sequence[Any]) -> list[Descent]:
        return descend(function, rule, list(settings), **options)

    tuned, at_edge = False, False
    if "lr" in arm.space and _takes_lr(rule, given):
        start = float(function.slopes([options["start"]])[0][0])
        best = tune(runs, given, target(start, minimum, PART), function.contains)
        given, run, tuned, at_edge = {**given, "lr": best.lr}, best.run, True, best.at_edge
    else:
        (run,) = runs([given])
    return track_of(
        run.points, label=arm.label, optimizer=arm.optimizer, settings=given, losses=run.losses, tuned=tuned,
        at_edge=at_edge, diverged_at=run.diverged_at, as_matrix=rule.steps_matrices,
        decay_left_out=decays,
    )  # fmt: skip


def _takes_lr(rule: Any, given: dict[str, Any]) -> bool:
    """Whether a learning rate may be given: some rules find their own."""
    from ravine.optim.settings import normalized

    try:
        normalized(rule, {**given, "lr": COARSE[0]})
    except ValueError:
        return False
    return True


def _title(function: Landscape) -> str:
    words = [f"{function.name}: f(x, y) = {function.formula}" if function.formula else function.name]
    words += [f"condition number {function.condition:g}"] if function.condition is not None else []
    return ", ".join(words)


def _about(function: Landscape, start: Point, steps: int, schedule: str, noise: float) -> str:
    words = [function.about] if function.formula else []
    more = [f"{steps} steps from {written(start)}"]
    more += [f"schedule {schedule}"] if schedule != "constant" else []
    more += [f"gradient noise of standard deviation {noise:g}"] if noise else []
    return " ".join([*words, ", ".join(more) + "."])


def _remarks(tracks: Sequence[Track]) -> list[str]:
    remarks = [STEPS_TO]
    if any(track.tuned for track in tracks):
        remarks.append(TUNED.format(count=len(COARSE) + FINER, low=COARSE[0], high=COARSE[-1]))
    if any(track.decay_left_out for track in tracks):
        remarks.append(NO_DECAY)
    for track in tracks:
        if track.lr is None:
            remarks.append(UNTUNED.format(label=track.label))
        if track.at_edge:
            which = "largest" if track.lr == COARSE[-1] else "smallest"
            remarks.append(EDGE.format(label=track.label, which=which))
        if track.diverged_at is not None:
            remarks.append(DIVERGED.format(label=track.label, step=track.diverged_at))
    matrices = sorted({track.optimizer for track in tracks if track.as_matrix})
    if matrices:
        one = len(matrices) == 1
        remarks.append(MATRIX.format(names=" and ".join(matrices), s="s" if one else "", them="it" if one else "them"))
    return remarks


def _require(steps: int, noise: float, seed: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"steps must be a whole number from 1 to {MOST_STEPS}, got {steps!r}")
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise must be a finite number of at least 0, got {noise!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
