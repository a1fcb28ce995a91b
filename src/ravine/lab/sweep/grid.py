"""`ravine sweep` as a function: the final loss over a grid of settings, one map for each form of weight decay."""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ravine.lab.files import read_json, require_writable_folder, to_json, write_atomically
from ravine.lab.study.arms import Arm, parse
from ravine.lab.study.settings import Settings
from ravine.lab.study.space import Choice, Range, default_space, parse_space
from ravine.lab.sweep.batched import BatchedRuns, Unbatched
from ravine.lab.tasks.task import Task
from ravine.lab.training import Recipe, train
from ravine.optim.settings import normalized
from ravine.registry import nearest
from ravine.rule import DECAYS, Rule

CELLS = 8
LARGEST_BATCHED = 2_000_000
"""Numbers in all models together, up to which they train side by side: beyond that one model keeps the machine busy."""

DECAY_RANGES: Mapping[str, Range] = {
    "lr": Range(1e-3, 10.0), "schedule": Range(1e-6, 1e-2), "lr_squared": Range(1.0, 1e4), "l2": Range(1e-6, 1e-1)
}  # fmt: skip
"""Where weight decay is looked for, by what it means: the product with the learning rate is what counts."""

OPTIONS = (
    "task", "size", "data", "tokenizer", "model", "base", "options", "steps", "batch", "schedule", "warmup", "floor",
    "clip", "device",
)  # fmt: skip
"""Settings of a study that a sweep takes too."""


class OnProgress(Protocol):
    """Called whenever something has changed."""

    def __call__(self, done: int, total: int, what: str, step: int, steps: int) -> None:
        """Say how far the sweep is.

        Args:
            done, total: cells of all maps.
            what: what is at work, in words.
            step, steps: of that.
        """


@dataclass(frozen=True)
class Axis:
    """The values of one setting along a side of a map; `ends` says whether the first and last are ends of a range."""

    name: str
    values: tuple[Any, ...]
    ends: bool


@dataclass(frozen=True)
class Map:
    """One map: an arm over a grid."""

    arm: Arm
    x: Axis
    y: Axis

    @property
    def cells(self) -> list[dict[str, Any]]:
        """Settings, row by row."""
        return [{self.x.name: x, self.y.name: y} for y in self.y.values for x in self.x.values]


@dataclass(frozen=True)
class Sweep:
    """A grid that has been checked and can run.

    Args:
        task: what is learned.
        maps: one for each form of weight decay.
        recipe: of every run.
        seed: of every run.
        device: `"cpu"` or `"cuda"`.
        out: the folder for `sweep.json` and `sweep.html`; finished maps are kept in `maps` there.
    """

    task: Task
    maps: tuple[Map, ...]
    recipe: Recipe
    seed: int
    device: str
    out: Path

    @property
    def cells(self) -> int:
        """Of all maps."""
        return sum(len(one.cells) for one in self.maps)

    @property
    def page(self) -> Path:
        """Where the heat maps are drawn."""
        return self.out / "sweep.html"

    def run(self, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Train every cell that is not there yet, write the maps and return them.

        Interrupted, it keeps the maps that are whole, and the cells of those whose runs are made one by one.
        """
        from ravine.lab.sweep.page import html

        (self.out / "maps").mkdir(parents=True, exist_ok=True)
        made: list[dict[str, Any]] = []
        done = 0
        for one in self.maps:
            tell = functools.partial(_told, on_progress, done, self.cells)
            made.append(self._finished(one) or self._made(one, tell))
            done += len(one.cells)
        result = {**self._about(), "maps": made}
        write_atomically(self.out / "sweep.json", to_json(result))
        write_atomically(self.page, html(result))
        return result

    def interrupted(self) -> str:
        """What is kept of an interrupted sweep, in a sentence."""
        whole = sum(self._finished(one) is not None for one in self.maps)
        cells = sum(len(self._stored(one).get("losses", ())) for one in self.maps)
        more = f" and {cells} single cells" if cells else ""
        return (
            f"interrupted; {whole} of {len(self.maps)} maps{more} are kept in {self.out}, "
            "and the same command goes on from there"
        )

    def _about(self) -> dict[str, Any]:
        return {
            "format": 1,
            "task": self.task.name,
            "optimizer": self.maps[0].arm.optimizer,
            "over": [self.maps[0].x.name, self.maps[0].y.name],
            "loss_name": self.task.loss_name,
            "learned": self.task.settings(),
            "recipe": self.recipe.settings(),
            "seed": self.seed,
            "device": self.device,
        }

    def _asked(self, one: Map) -> dict[str, Any]:
        x, y = list(one.x.values), list(one.y.values)
        return {**self._about(), "label": one.arm.label, "settings": dict(one.arm.settings), "x": x, "y": y}

    def _file(self, one: Map) -> Path:
        """By what it depends on: another sweep in the same folder leaves it alone."""
        digest = hashlib.sha256(to_json(self._asked(one)).encode()).hexdigest()[:12]
        return self.out / "maps" / f"{digest}.json"

    def _stored(self, one: Map) -> dict[str, Any]:
        file = self._file(one)
        return dict(read_json(file)) if file.exists() else {}

    def _finished(self, one: Map) -> dict[str, Any] | None:
        return self._stored(one).get("map")

    def _store(self, one: Map, **kept: Any) -> None:
        write_atomically(self._file(one), to_json({"asked": self._asked(one), **kept}))

    def _made(self, one: Map, tell: OnProgress) -> dict[str, Any]:
        start = time.perf_counter()
        arm, cells = one.arm, one.cells
        try:
            losses, reason = self._together(one, tell), None
        except Unbatched as error:
            losses, reason = self._one_by_one(one, tell), str(error)
        width = len(one.x.values)
        best = min(range(len(cells)), key=lambda i: _order(losses[i]))
        made = {
            "label": arm.label,
            "settings": dict(arm.settings),
            "decay": arm.settings.get("decay", arm.rule.decay) if "weight_decay" in arm.rule.defaults else None,
            "x": list(one.x.values),
            "y": list(one.y.values),
            "loss": [losses[i : i + width] for i in range(0, len(losses), width)],
            "best": {**cells[best], "loss": losses[best]},
            "at_edge": [] if losses[best] is None else [
                axis.name for axis in (one.x, one.y)
                if axis.ends and cells[best][axis.name] in (axis.values[0], axis.values[-1])
            ],
            "diverged": sum(loss is None for loss in losses),
            "batched": reason is None,
            "why_not_batched": reason,
            "seconds": time.perf_counter() - start,
        }  # fmt: skip
        self._store(one, map=made)
        return made

    def _together(self, one: Map, tell: OnProgress) -> list[float | None]:
        cells = one.cells
        if self.device != "cpu":
            raise Unbatched(f"runs train side by side on the CPU, not on {self.device}")
        numbers = sum(p.numel() for p in self.task.new_model().parameters()) * len(cells)
        if numbers > LARGEST_BATCHED:
            raise Unbatched(f"the models have {numbers} numbers together; up to {LARGEST_BATCHED} train side by side")
        steps, what = self.recipe.steps, f"{one.arm.label}, {len(cells)} cells at once"
        runs = BatchedRuns(self.task, one.arm, cells, self.recipe, self.seed)
        tell(0, 0, what, 0, steps)
        runs.run(lambda step: tell(len(cells) * step // steps, 0, what, step, steps))
        return [_kept(figures["loss"], self.task) for figures in runs.evaluate("tuning")]

    def _one_by_one(self, one: Map, tell: OnProgress) -> list[float | None]:
        losses: list[float | None] = list(self._stored(one).get("losses", ()))
        for cell in one.cells[len(losses) :]:
            what = f"{one.arm.label}, " + ", ".join(f"{name} {text(value)}" for name, value in cell.items())
            recipe = replace(self.recipe, warmup=float(cell.get("warmup", self.recipe.warmup)))
            outcome = train(
                self.task, functools.partial(_build, one.arm, cell), recipe, seed=self.seed, split="tuning",
                with_curve=False, device=self.device,
                on_step=functools.partial(_told_steps, tell, len(losses), what, recipe.steps),
            )  # fmt: skip
            if outcome.failed:
                raise RuntimeError(f"{what}: {outcome.failed}")
            losses.append(None if outcome.diverged else outcome.final_loss)
            self._store(one, losses=losses)
        return losses


def prepare(
    optimizer: str,
    over: Sequence[str] = ("lr", "weight_decay"),
    *,
    decay: Sequence[str] = (),
    cells: int = CELLS,
    space: Mapping[str, Any] | None = None,
    seed: int = 1,
    out: str | None = None,
    **options: Any,
) -> Sweep:
    """Check everything about a sweep, and write nothing.

    Args:
        optimizer: as an arm of a comparison: `"adamw"`, `"adamw:beta2=0.95"`.
        over: two settings; the first along x.
        decay: forms of weight decay, a map each; default all where weight decay is swept, else the optimizer's own.
        cells: values along each axis.
        space: where, in place of the optimizer's own: `{"lr": "1e-4..1e-1"}`.
        seed: of weights and data, the same for every cell.
        out: the folder; default `ravine-sweep/OPTIMIZER-TASK`.
        options: settings of a study, those in `OPTIONS`. The gradient is clipped as the task has it where `clip` is
            not given, and at any norm where it is 0.

    Raises:
        ValueError: one sentence about what is wrong.

    Example:
        >>> prepare("adamw", task="ridge", size="tiny", cells=3).cells
        36
    """
    from ravine.lab.study.record import task_of
    from ravine.lab.study.study import device_of

    for name in options:
        if name not in OPTIONS:
            raise ValueError(f"a sweep has no setting {name!r}{nearest(name, OPTIONS)} (it has {', '.join(OPTIONS)})")
    if isinstance(cells, bool) or not isinstance(cells, int) or cells < 2:
        raise ValueError(f"cells must be a whole number of at least 2, got {cells!r}")
    settings = Settings(arms=(optimizer,), precision="float32", **options)
    arm = parse([optimizer], over=())[0]
    _check_over(arm, over, space or {})
    arms = [_with_form(arm, form) for form in _forms(arm, over, decay)] or [arm]
    maps = tuple(Map(one, *(_axis(one, name, cells, space or {}) for name in over)) for one in arms)
    task = task_of(settings)
    recipe = Recipe(
        steps=settings.steps or task.steps, batch=settings.batch or task.batch, schedule=settings.schedule,
        warmup=settings.warmup, floor=settings.floor, clip=options.get("clip", task.clip) or None,
    )  # fmt: skip
    for cell in (cell for one in maps for cell in one.cells):
        _check_cell(arm.rule, cell, recipe)
    folder = Path(out or Path("ravine-sweep", f"{arm.label}-{task.name}"))
    require_writable_folder(folder, "out")
    return Sweep(task, maps, recipe, seed, device_of(settings), folder)


def text(value: Any) -> str:
    """A value of a setting, short.

    Example:
        >>> text(0.00316), text(3), text(True)
        ('0.00316', '3', 'True')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _check_over(arm: Arm, over: Sequence[str], space: Mapping[str, Any]) -> None:
    if len(over) != 2 or over[0] == over[1]:
        raise ValueError(f"over must be two different settings, such as lr,weight_decay, got {','.join(over)!r}")
    known = sorted({*arm.rule.defaults, "warmup"})
    for name in over:
        if name not in known:
            raise ValueError(f"over: {arm.optimizer} has no setting {name!r}{nearest(name, known)}")
        if name in arm.settings:
            raise ValueError(f"over: {name} is given, {text(arm.settings[name])}; leave it out of {arm.label!r}")
    for name in space:
        if name not in over:
            raise ValueError(f"space: {name!r} is not swept{nearest(name, over)} (over is {','.join(over)})")


def _forms(arm: Arm, over: Sequence[str], decay: Sequence[str]) -> tuple[str, ...]:
    if decay and "weight_decay" not in arm.rule.defaults:
        raise ValueError(f"decay: {arm.optimizer} has no weight decay")
    if decay and "decay" in arm.settings:
        raise ValueError(f"decay is given twice: in {arm.label!r}, and as {','.join(decay)}")
    for form in decay:
        if form not in DECAYS:
            raise ValueError(f"decay must be of {', '.join(DECAYS)}, got {form!r}{nearest(form, DECAYS)}")
    swept = "weight_decay" in over and "decay" not in arm.settings
    return tuple(dict.fromkeys(decay)) or (DECAYS if swept else ())


def _axis(arm: Arm, name: str, cells: int, space: Mapping[str, Any]) -> Axis:
    own: Range | Choice | None = default_space(arm.rule, {}).get(name)
    if name == "weight_decay":
        own = DECAY_RANGES[str(arm.settings.get("decay", arm.rule.decay))]
    place = parse_space(space[name], name) if name in space else own
    if place is None:
        raise ValueError(f"{arm.optimizer} has no space of its own for {name}; give one as {name}=LOW..HIGH")
    values = tuple(place.grid(cells))
    if len(set(values)) < len(values):
        raise ValueError(f"the space of {name} is too narrow for {cells} values of three digits")
    return Axis(name, values, isinstance(place, Range))


def _with_form(arm: Arm, form: str) -> Arm:
    settings = {**arm.settings, "decay": form}
    return replace(arm, label=f"{arm.label} (decay {form})", settings=settings)


def _check_cell(rule: Rule, cell: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuse a value that its setting cannot have, now rather than in the middle of the sweep."""
    replace(recipe, warmup=cell.get("warmup", recipe.warmup))
    try:
        normalized(rule, {name: value for name, value in cell.items() if name in rule.defaults})
    except TypeError as error:
        raise ValueError(f"space: {error}") from None


def _kept(loss: float, task: Task) -> float | None:
    return loss if math.isfinite(loss) and loss <= task.diverged_above else None


def _order(loss: float | None) -> float:
    return math.inf if loss is None else loss


def _told(
    show: OnProgress | None, before: int, total: int, done: int, _: int, what: str, step: int, steps: int
) -> None:
    if show is not None:
        show(before + done, total, what, step, steps)


def _told_steps(tell: OnProgress, done: int, what: str, steps: int, step: int) -> None:
    tell(done, 0, what, step, steps)


def _build(arm: Arm, cell: Mapping[str, Any], model: Any) -> Any:
    return arm.build(model, cell)
