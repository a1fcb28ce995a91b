"""`ravine train` as a function: one model, trained with one optimizer, and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravine.lab.files import require_writable_folder, to_json
from ravine.lab.study.arms import Arm, parse
from ravine.lab.tasks import Task
from ravine.lab.training import Outcome, Recipe, faster_precision, fit
from ravine.lab.training.distributed import processes
from ravine.lab.training.precision import require_available
from ravine.lab.training.pretraining import record, stored_precision
from ravine.lab.training.run import OnEvaluation, OnStep

LOGGED = {"training_loss": "loss/training", "units": "run/units", "seconds": "run/seconds"}
"""Names in a log of what is no figure of an evaluation."""


@dataclass(frozen=True)
class Single:
    """One run that may start.

    Args:
        task: model, loss and data.
        arm: the optimizer.
        settings: of the optimizer, besides those it was written with.
        recipe: steps, batch, schedule, precision.
        folder: where model and record are kept.
        seed: of the weights and of the order of the data.
        device: `"cpu"` or `"cuda"`.
    """

    task: Task
    arm: Arm
    settings: Mapping[str, Any]
    recipe: Recipe
    folder: Path
    seed: int
    device: str

    @property
    def optimizer(self) -> str:
        """As it is written, with all its settings."""
        return written(self.arm, self.settings)

    @property
    def checkpoint(self) -> Path:
        """Where the model is kept."""
        return self.folder / "checkpoint.pt"

    def run(
        self,
        on_step: OnStep | None = None,
        on_evaluation: OnEvaluation | None = None,
        *,
        checkpoint_every: int | None = None,
        log: str | None = None,
    ) -> Outcome:
        """Train, or go on; see `ravine.lab.training.fit`.

        Args:
            on_step, on_evaluation: called in the first process alone.
            checkpoint_every: steps between checkpoints; default a tenth of the run.
            log: also write the curves for `"tensorboard"` or `"wandb"`, in `FOLDER/log`.

        Raises:
            ValueError: for a folder that holds another run, an unknown kind of log or one whose package is missing.
            KeyboardInterrupt: after Ctrl-C; the checkpoint is written.
        """
        with self._log(log) as write:

            def evaluated(step: int, figures: dict[str, float]) -> None:
                write(step, figures)
                if on_evaluation is not None:
                    on_evaluation(step, figures)

            return fit(
                self.task, lambda model: self.arm.build(model, self.settings), self.recipe, self.folder,
                optimizer=self.optimizer, seed=self.seed, device=self.device, checkpoint_every=checkpoint_every,
                on_step=on_step, on_evaluation=evaluated,
            )  # fmt: skip

    def record(self, outcome: Outcome) -> dict[str, Any]:
        """What is kept of the run in `FOLDER/run.json`."""
        return record(self.task, self.optimizer, self.recipe, self.seed, outcome)

    @contextmanager
    def _log(self, kind: str | None) -> Iterator[OnEvaluation]:
        if kind is None or not processes().first:
            yield lambda step, figures: None
            return
        from ravine.lab.report.logs import open_log

        config = {"task": self.task.name, "optimizer": self.optimizer, "seed": self.seed, **self.recipe.settings()}
        try:
            opened = open_log(kind, self.folder / "log", self.optimizer, config)
        except ImportError as error:
            raise ValueError(str(error)) from None
        with opened as log:
            yield lambda step, figures: log.write(
                step, {LOGGED.get(name, f"{name}/tuning"): value for name, value in figures.items()}
            )


def prepare(
    task: Task,
    optimizer: str,
    *,
    lr: float | None = None,
    steps: int | None = None,
    batch: int | None = None,
    clip: float | None = None,
    precision: str = "auto",
    seed: int = 1,
    device: str = "cpu",
    out: str | None = None,
    **recipe: Any,
) -> Single:
    """A run that may start: nothing is trained yet.

    Args:
        task: model, loss and data.
        optimizer: such as `"muon"` or `"adamw:lr=0.003,weight_decay=0.1"`.
        lr: the learning rate, if not in `optimizer`; default the middle of where `ravine compare` searches.
        steps, batch: default the task's.
        clip: largest norm of the gradient, 0 for any; default the task's.
        precision: `"auto"` is what is faster here, or what the run was begun with.
        seed: of the weights and of the order of the data.
        device: `"cpu"` or `"cuda"`.
        out: the folder; default `ravine-train/TASK-OPTIMIZER-HASH`, so that the same call finds its own.
        recipe: what else `Recipe` takes.

    Raises:
        ValueError: for whatever will not do, in one sentence.
    """
    text = optimizer if lr is None else f"{optimizer}{',' if ':' in optimizer else ':'}lr={lr!r}"
    (arm,) = parse([text], over=["lr"])
    settings = {name: place.at(0.5) for name, place in arm.space.items()}
    made = Recipe(
        task.steps if steps is None else steps, task.batch if batch is None else batch,
        clip=task.clip if clip is None else clip or None, **recipe,
    )  # fmt: skip
    folder = Path(out) if out is not None else _default_folder(task, written(arm, settings), made, seed)
    require_writable_folder(folder, "--out")
    made = Recipe(**{**made.settings(), "precision": _precision(precision, made, folder, task, device)})
    require_available(device, made.precision)
    return Single(task, arm, settings, made, folder, seed, device)


def written(arm: Arm, settings: Mapping[str, Any]) -> str:
    """An arm with further settings, as one would write it: `adamw:weight_decay=0.1,lr=0.003`."""
    more = ",".join(f"{name}={value}" for name, value in settings.items())
    return arm.label + (f"{',' if ':' in arm.label else ':'}{more}" if more else "")


def _default_folder(task: Task, optimizer: str, recipe: Recipe, seed: int) -> Path:
    asked = {"task": task.settings(), "optimizer": optimizer, "recipe": recipe.settings(), "seed": seed}
    digest = hashlib.sha256(to_json(asked).encode()).hexdigest()[:8]
    name = "".join(letter if letter.isalnum() or letter in "=._" else "-" for letter in f"{task.name}-{optimizer}")
    return Path("ravine-train", f"{name[:60]}-{digest}")


def _precision(wanted: str, recipe: Recipe, folder: Path, task: Task, device: str) -> str:
    """The same in all processes: measured in the first, unless an interrupted run has one already."""
    if wanted != "auto":
        return wanted
    here = processes()
    found = (stored_precision(folder) or faster_precision(task, recipe.batch, device)) if here.first else None
    return str(here.from_first(found))
