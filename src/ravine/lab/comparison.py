"""`ravine compare` as a function."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravine.lab import data as texts
from ravine.lab.arms import parse
from ravine.lab.files import to_json, write_atomically
from ravine.lab.report import html
from ravine.lab.results import summarize
from ravine.lab.study import BATCH, SEEDS, TRIALS, OnProgress, Study, check_folder, default_folder, run


@dataclass(frozen=True)
class Comparison:
    """A study that has been checked and can run: nothing has been written yet.

    Args:
        study: what is compared.
        out: the folder for its runs, its result and its report.
        target: the loss for the steps to it, or None for the baseline's.
        command: the call that repeats it.
    """

    study: Study
    out: Path
    target: float | None
    command: str

    @property
    def report(self) -> Path:
        """Where the report will be."""
        return self.out / "report.html"

    def interrupted(self) -> str:
        """What to tell someone who has interrupted it."""
        kept = sum(1 for _ in (self.out / "runs").glob("*.json"))
        return (
            f"interrupted; {kept} of {self.study.runs} runs are kept in {self.out}, the same command goes on from there"
        )

    def run(self, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Make the runs that are missing, write `result.json` and `report.html`, and return the result.

        May be interrupted at any time: finished runs are kept, and the next call goes on from there.

        Raises:
            OSError: where a file cannot be written.
        """
        result = summarize(run(self.study, self.out, on_progress), self.target)
        write_atomically(self.out / "result.json", to_json(result))
        write_atomically(self.report, html(result, self.command))
        return result


def prepare(
    arms: Sequence[str],
    *,
    data: str | os.PathLike[str] | None = None,
    task: str = "lm",
    size: str = "small",
    steps: int | None = None,
    batch: int = BATCH,
    trials: int = TRIALS,
    seeds: int = SEEDS,
    out: str | os.PathLike[str] | None = None,
    target: float | None = None,
) -> Comparison:
    """Check everything about a comparison, and write nothing.

    Args:
        arms: two or more, `"adamw"` or `"adamw:beta2=0.95,weight_decay=0.1"`; one with an `lr` is not tuned.
        data: a file or folder of UTF-8 text; default the source of the Python standard library.
        task: `"lm"`, predicting the next byte of a text.
        size: of the model, `"small"` or `"tiny"`.
        steps: of each run; default 120, for `tiny` 40.
        batch: windows per step.
        trials: runs that search for each arm's learning rate.
        seeds: judged runs of each arm.
        out: the folder for runs and report; default `ravine-compare/ARMS-HASH`, one for each setting.
        target: the loss for steps, tokens and seconds to it; default the baseline's mean + 1 standard deviation.

    Raises:
        ValueError: one sentence about what is wrong.

    Example:
        >>> prepare(["adamw", "lion"], size="tiny", seeds=4).study.runs
        18
    """
    if task != "lm":
        raise ValueError(f"task must be 'lm', got {task!r}")
    if target is not None and not (math.isfinite(target) and target > 0):
        raise ValueError(f"target must be a loss above 0, got {target}")
    parsed = tuple(parse(arms))
    corpus = texts.standard_library() if data is None else texts.read(data)
    study = Study(parsed, corpus, size=size, steps=steps, batch=batch, trials=trials, seeds=seeds)
    folder = Path(out) if out is not None else default_folder(study)
    check_folder(study, folder)
    words = ["ravine", "compare", *arms]
    options = {
        "data": data, "size": size, "steps": study.recipe.steps, "batch": batch, "trials": trials, "seeds": seeds,
        "target": target, "out": folder,
    }  # fmt: skip
    words += [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return Comparison(study, folder, target, shlex.join(words))


def compare(arms: Sequence[str], *, on_progress: OnProgress | None = None, **options: Any) -> dict[str, Any]:
    """Compare optimizers on a small language model: `prepare`, which has the options, then `Comparison.run`.

    Returns:
        The result as plain values, the same that `ravine compare --json` writes.
    """
    return prepare(arms, **options).run(on_progress)
