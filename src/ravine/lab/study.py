"""A study: every arm is tuned with the same number of trials, then its best setting runs on fresh seeds.

Each finished run is one file in `OUT/runs`, so an interrupted study goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import math
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch

import ravine
from ravine.lab.arms import Arm, best_lr, next_lr
from ravine.lab.data import Corpus
from ravine.lab.files import read_json, require_writable_folder, to_json, write_atomically
from ravine.lab.model import SIZES, Architecture
from ravine.lab.training import Outcome, Precision, Recipe, faster_precision, train

OnProgress = Callable[[str, int, int], None]
"""Called with what runs now, and the steps done and to do in the whole study."""

STEPS = {"tiny": 40, "small": 120}
"""Steps of a run where none are given, by size of the model."""

BATCH = 8
TRIALS = 5
SEEDS = 5
MOST_THREADS = 8
"""A model this small is slower on more threads."""

TUNING_SEED = 1
SEEDS_APART = 1_000_000
"""Judging seeds of arm i (from 1) are i times this and the numbers after it: disjoint from all others."""


@dataclass(frozen=True)
class Study:
    """What is compared, and with what budget.

    Args:
        arms: two or more.
        corpus: the text.
        size: of the model, `"tiny"` (for a try of seconds) or `"small"` (about 0.9 million parameters).
        steps: optimizer steps of a run; default 120, 40 for `tiny`.
        batch: windows per step.
        trials: runs that search for each arm's learning rate; arms with an lr of their own have none.
        seeds: runs of each arm that are judged.

    Raises:
        ValueError: for a budget below one, an unknown size, or too little text.
    """

    arms: tuple[Arm, ...]
    corpus: Corpus = field(repr=False)
    size: str = "small"
    steps: int | None = None
    batch: int = BATCH
    trials: int = TRIALS
    seeds: int = SEEDS

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got {self.size!r}")
        for name in ("steps", "batch", "trials", "seeds"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.seeds >= SEEDS_APART:
            raise ValueError(f"seeds must be below {SEEDS_APART}, got {self.seeds}")
        self.corpus.require(self.architecture.context + 1)

    @property
    def architecture(self) -> Architecture:
        """Of the model."""
        return SIZES[self.size]

    @property
    def recipe(self) -> Recipe:
        """Of every run."""
        return Recipe(steps=self.steps or STEPS[self.size], batch=self.batch)

    @property
    def runs(self) -> int:
        """How many runs the study has."""
        return sum(arm.tuned * self.trials + self.seeds for arm in self.arms)

    def judging_seeds(self, arm: Arm) -> range:
        """The arm's own seeds; no other arm and no trial has any of them."""
        first = (self.arms.index(arm) + 1) * SEEDS_APART
        return range(first, first + self.seeds)

    def settings(self) -> dict[str, Any]:
        """All that the results depend on, as plain values; where two studies agree in it their runs can be mixed."""
        return {
            "task": "lm",
            "arms": [{"label": a.label, "optimizer": a.optimizer, "settings": dict(a.settings)} for a in self.arms],
            "size": self.size,
            "architecture": asdict(self.architecture),
            "recipe": asdict(self.recipe),
            "trials": self.trials,
            "seeds": self.seeds,
            "text": {"sha256": self.corpus.sha256, "bytes": self.corpus.size, "files": self.corpus.files},
            "machine": machine(),
            "versions": {"ravine": ravine.__version__, "torch": torch.__version__},
        }


@dataclass(frozen=True)
class Run:
    """One run of a study, and what came of it (`Outcome` as a dict)."""

    arm: str
    phase: Literal["tuning", "judging"]
    seed: int
    lr: float | None
    outcome: Mapping[str, Any] = field(default_factory=dict)

    @property
    def final_loss(self) -> float | None:
        """None where the run diverged."""
        return None if self.outcome["diverged"] else self.outcome["final_loss"]


@dataclass(frozen=True)
class Finished:
    """A study with all its runs, and the precision they were made in."""

    study: Study
    runs: tuple[Run, ...]
    precision: Precision

    def of(self, arm: Arm, phase: Literal["tuning", "judging"]) -> list[Run]:
        """The arm's runs of one phase, in the order they were made."""
        return [run for run in self.runs if run.arm == arm.label and run.phase == phase]

    def tried(self, arm: Arm) -> dict[float, float]:
        """Final loss on the tuning split by learning rate, infinite where the run diverged."""
        return _tried(self.of(arm, "tuning"))


def device() -> str:
    """`"cuda"` where there is a GPU for torch, else `"cpu"`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def machine() -> dict[str, Any]:
    """What the times depend on: device and threads."""
    name = torch.cuda.get_device_name() if device() == "cuda" else platform.machine()
    return {"device": device(), "name": name, "threads": min(torch.get_num_threads(), MOST_THREADS)}


def default_folder(study: Study) -> Path:
    """`ravine-compare/ARMS-HASH` in the working directory: the same call finds its runs, another has its own folder."""
    digest = hashlib.sha256(to_json(study.settings()).encode()).hexdigest()[:8]
    return Path("ravine-compare", f"{_slug('-'.join(arm.label for arm in study.arms))[:60]}-{digest}")


def check_folder(study: Study, out: Path) -> None:
    """Raise ValueError where the folder cannot be written to, or holds a study with other settings, naming them."""
    require_writable_folder(out, "--out")
    if not (out / "study.json").exists():
        return
    stored = read_json(out / "study.json")
    known = stored.get("settings") if isinstance(stored, dict) else None
    if not isinstance(known, dict) or stored.get("precision") not in ("bfloat16", "float32"):
        raise ValueError(f"{out / 'study.json'} is not a study of ravine; choose another folder with --out")
    differences = list(_differences(known, study.settings()))
    if differences:
        raise ValueError(
            f"{out} holds a study with other settings: {'; '.join(differences)}. "
            "Choose another folder with --out, or delete this one"
        )
    for path in (out / "runs").glob("*.json"):
        if _file_name(study, _load(path)) != path.name:
            raise ValueError(f"{path} is not the run that belongs there; delete it to have it made again")


def run(study: Study, out: Path, on_progress: OnProgress | None = None) -> Finished:
    """Make the runs that are missing in the folder, and return all.

    Tuning uses one seed for all arms and trials, so that trials differ in the learning rate alone; judging
    alternates between the arms, so that a machine that slows down slows them all.

    Raises:
        ValueError: see `check_folder`; also for a run file that is not of this study.
        OSError: where a file cannot be written.
    """
    check_folder(study, out)
    (out / "runs").mkdir(parents=True, exist_ok=True)
    with _threads(machine()["threads"]):
        maker = _Maker(study, out, _precision(study, out), on_progress)
        best: dict[str, float | None] = {}
        for arm in study.arms:
            trials: list[Run] = []
            for _ in range(study.trials if arm.tuned else 0):
                trials.append(maker.make(arm, "tuning", TUNING_SEED, next_lr(arm, _tried(trials))))
            given = arm.settings.get("lr", arm.rule.defaults.get("lr"))
            best[arm.label] = best_lr(_tried(trials)) if trials else None if given is None else float(given)
        for round_ in zip(*(study.judging_seeds(arm) for arm in study.arms), strict=True):
            for arm, seed in zip(study.arms, round_, strict=True):
                maker.make(arm, "judging", seed, best[arm.label])
        return Finished(study, tuple(maker.runs), maker.precision)


class _Maker:
    """Makes runs, or finds them made, and keeps count."""

    def __init__(self, study: Study, out: Path, precision: Precision, on_progress: OnProgress | None) -> None:
        self.study, self.out, self.precision = study, out, precision
        self.on_progress = on_progress or (lambda text, done, total: None)
        self.runs: list[Run] = []

    def make(self, arm: Arm, phase: Literal["tuning", "judging"], seed: int, lr: float | None) -> Run:
        wanted = Run(arm.label, phase, seed, lr)
        path = self.out / "runs" / _file_name(self.study, wanted)
        if path.exists():
            finished = _load(path)
        else:
            finished = self._train(arm, wanted)
            write_atomically(path, to_json(asdict(finished)))
        self.runs.append(finished)
        self._report(wanted, 0)
        return finished

    def _train(self, arm: Arm, wanted: Run) -> Run:
        self._report(wanted, 0)
        outcome = train(
            self.study.architecture, self.study.corpus, lambda model: arm.build(model, wanted.lr), self.study.recipe,
            seed=wanted.seed, split=wanted.phase, with_curve=wanted.phase == "judging", precision=self.precision,
            device=device(), on_step=lambda step: self._report(wanted, step),
        )  # fmt: skip
        return Run(wanted.arm, wanted.phase, wanted.seed, wanted.lr, asdict(outcome))

    def _report(self, run: Run, step: int) -> None:
        steps = self.study.recipe.steps
        what = f"{run.phase} {run.arm}" + (f", lr {run.lr:g}" if run.lr is not None else "")
        self.on_progress(what, len(self.runs) * steps + step, self.study.runs * steps)


def _precision(study: Study, out: Path) -> Precision:
    """The stored one where the study was begun before: a second measurement might come out otherwise."""
    path = out / "study.json"
    if path.exists():
        stored: Precision = read_json(path)["precision"]
        return stored
    precision = faster_precision(study.architecture, study.batch, device())
    write_atomically(path, to_json({"settings": study.settings(), "precision": precision, "source": study.corpus.name}))
    return precision


def _file_name(study: Study, run: Run) -> str:
    """The name of a run's file; empty for a run of no arm of the study."""
    lr = "" if run.lr is None else f"-lr{run.lr!r}"
    names = (
        f"{number}-{_slug(arm.label)[:60]}-{run.phase}{lr}-seed{run.seed}.json"
        for number, arm in enumerate(study.arms, start=1)
        if arm.label == run.arm
    )
    return next(names, "")


def _load(path: Path) -> Run:
    stored = read_json(path)
    needed = {f.name for f in fields(Outcome)}
    if not isinstance(stored, dict) or set(stored) != {f.name for f in fields(Run)}:
        raise ValueError(f"{path} is not a run of ravine; delete it to have it made again")
    if not isinstance(stored["outcome"], dict) or set(stored["outcome"]) != needed:
        raise ValueError(f"{path} does not hold what a run of this version holds; delete it to have it made again")
    return Run(**stored)


def _tried(trials: list[Run]) -> dict[float, float]:
    return {run.lr: math.inf if run.final_loss is None else run.final_loss for run in trials if run.lr is not None}


def _differences(was: Any, is_: Any, name: str = "") -> Iterator[str]:
    """Where two settings differ, in words."""
    if isinstance(was, dict) and isinstance(is_, dict):
        for key in sorted({*was, *is_}):
            yield from _differences(was.get(key), is_.get(key), f"{name}.{key}" if name else key)
    elif was != is_:
        shown = [", ".join(a["label"] for a in x) if name == "arms" and x else str(x) for x in (was, is_)]
        yield f"{name} was {shown[0]}, is {shown[1]}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=_-]+", "-", text).strip("-")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
