"""`ravine study pretrain-finetune` as a function: two optimizers, for pre-training and for post-training, in all pairs.

First the two are compared on `lm`, which tunes both for pre-training. Each then pre-trains some bases with the
settings that were chosen for it, and on each base both are compared on `sft`, which tunes both anew. Pre-training reads
the files of post-training's training split alone: no function that post-training is tuned or judged on was seen before.
"""

from __future__ import annotations

import hashlib
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ravine.lab import comparison
from ravine.lab.comparison import Comparison
from ravine.lab.files import read_json, require_writable_folder, to_json, write_atomically
from ravine.lab.pretrain_finetune.result import BaseRun, Stage, result_of
from ravine.lab.report.text import file_name
from ravine.lab.single import written
from ravine.lab.study import record
from ravine.lab.study.arms import Arm
from ravine.lab.study.execute import OnProgress, Running, all_threads
from ravine.lab.study.plan import SEEDS_APART, plan
from ravine.lab.study.settings import Settings
from ravine.lab.study.study import arms_of, device_of
from ravine.lab.tasks import TASK_SIZES
from ravine.lab.tasks import pairs as pairs_of
from ravine.lab.tasks.task import require_one_of, require_whole
from ravine.lab.training import Outcome, fit

BASES = 3
"""Of each optimizer: the least for a claim, since all that is known of pre-training's luck is their spread."""

BASES_APART = 900_000
"""The seeds of an arm's bases begin this far after its judging seeds."""

DEFINITION, TEXT, RESULT, PAGE = "definition.json", "text.py", "pretrain-finetune.json", "pretrain-finetune.html"


@dataclass(frozen=True)
class PretrainFinetune:
    """An experiment that has been checked and can run: nothing has been written yet.

    Args:
        arms: the two optimizers.
        pretraining: settings of the comparison on `lm`, but for its data.
        post_training: settings of the comparisons on `sft`, but for their base.
        bases: that each optimizer pre-trains.
        text: what is pre-trained on.
        out: the folder of all stages.
        command: the call that repeats it.
    """

    arms: tuple[Arm, Arm]
    pretraining: Settings
    post_training: Settings
    bases: int
    text: bytes
    out: Path
    command: str

    @property
    def report(self) -> Path:
        """Where the report will be."""
        return self.out / PAGE

    @property
    def count(self) -> int:
        """Runs of all stages."""
        tuned, judged = (len(plan(self.arms, settings)) for settings in (self.pretraining, self.post_training))
        return tuned + len(self.arms) * self.bases * (1 + judged)

    def definition(self) -> dict[str, Any]:
        """What two calls must agree in to be the same experiment, as plain values."""
        return {
            "arms": [arm.label for arm in self.arms],
            "bases": self.bases,
            "text": hashlib.sha256(self.text).hexdigest(),
            "pretraining": _asked(self.pretraining),
            "post_training": _asked(self.post_training),
        }

    def run(self, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Make what is missing, stage by stage, write the result and its page, and return the result.

        May be interrupted at any time: each stage goes on from what it finds.

        Raises:
            OSError: where a file cannot be written.
            RuntimeError: where a base's pre-training diverged, so that there is nothing to post-train.
            ValueError: where a stage's folder holds something else.
        """
        from ravine.lab.pretrain_finetune.page import html

        self.out.mkdir(parents=True, exist_ok=True)
        write_atomically(self.out / DEFINITION, to_json(self.definition()))
        if not (self.out / TEXT).exists():
            write_atomically(self.out / TEXT, self.text.decode("utf-8"))
        progress = _Progress(self.count, on_progress)
        first = self._comparison(self.pretraining, "pretraining", data=str(self.out / TEXT))
        pretraining = self._compared(first, progress.of("pre-training"))
        bases = [
            self._base(first, pretraining.result, arm, number, progress)
            for number in range(1, self.bases + 1)
            for arm in range(2)
        ]
        compared = []
        for base in bases:
            name = f"{self.arms[base.arm].label} base {base.number}"
            # Measured once: where the machine is busy, every base might get another.
            options = {"base": str(base.checkpoint), "precision": pretraining.result["machine"]["precision"]}
            stage = self._comparison(self.post_training, Path("post-training", base.checkpoint.parent.name), **options)
            compared.append(self._compared(stage, progress.of(f"post-training on {name}")))
        versions = {**record.versions(), "python": platform.python_version()}
        result = result_of([arm.label for arm in self.arms], pretraining, bases, compared)
        result |= {"command": self.command, "size": self.pretraining.size, "versions": versions}
        write_atomically(self.out / RESULT, to_json(result))
        write_atomically(self.report, html(result))
        return result

    def interrupted(self) -> str:
        """What to tell someone who has interrupted it."""
        return f"interrupted; what is done is kept in {self.out}, the same command goes on from there"

    def _comparison(self, settings: Settings, folder: str | Path, **more: Any) -> Comparison:
        options = {setting.name: getattr(settings, setting.name) for setting in fields(settings)}
        return comparison.prepare(options.pop("arms"), out=self.out / folder, **{**options, **more})

    def _compared(self, stage: Comparison, on_progress: OnProgress) -> Stage:
        """A comparison's result; one that is finished, its report written, is only read."""
        finished = stage.out / "result.json"
        if finished.exists() and stage.report.exists():
            result = read_json(finished)
            on_progress(stage.study.count, stage.study.count)
        else:
            result = stage.run(on_progress)
        return Stage.of(stage, result, stage.report.relative_to(self.out))

    def _base(
        self, first: Comparison, result: Mapping[str, Any], place: int, number: int, progress: _Progress
    ) -> BaseRun:
        """Pre-train one base with the settings that the comparison chose, or find it."""
        arm = self.arms[place]
        best = result["arms"][arm.label]["best"]
        tuned = {name: best["settings"][name] for name in best["tuned"]}
        recipe = replace(
            first.study.recipe,
            precision=result["machine"]["precision"],
            warmup=float(tuned.get("warmup", first.study.recipe.warmup)),
        )
        folder = self.out / "bases" / file_name(f"{arm.label}-{number}")
        what, show, loss = f"pre-train {arm.label} base {number}", progress.of(""), None
        seed = (place + 1) * SEEDS_APART + BASES_APART + number

        def stepped(step: int) -> None:
            show(0, 1, [Running(what, step, recipe.steps, loss)])

        def evaluated(step: int, figures: dict[str, float]) -> None:
            nonlocal loss
            loss = figures["loss"]

        show(0, 1, [Running(what, 0, recipe.steps)])
        with all_threads():
            outcome = fit(
                first.study.task, lambda model: arm.build(model, tuned), recipe, folder,
                optimizer=written(arm, tuned), seed=seed, device=first.study.device, on_step=stepped,
                on_evaluation=evaluated,
            )  # fmt: skip
        _require_pretrained(outcome, f"base {number} of {arm.label}")
        show(1, 1)
        return BaseRun(place, number, seed, written(arm, tuned), folder / "checkpoint.pt", outcome)


def prepare(
    arms: Sequence[str],
    *,
    out: str | Path | None = None,
    size: str = "small",
    data: str | None = None,
    steps: int | None = None,
    post_steps: int | None = None,
    trials: int | None = None,
    seeds: int | None = None,
    bases: int = BASES,
    device: str = "auto",
    workers: int | None = None,
    precision: str = "auto",
) -> PretrainFinetune:
    """Check everything about the experiment, and write nothing.

    Args:
        arms: two optimizers, as for `ravine compare`.
        out: the folder of all stages; default `ravine-study/pretrain-finetune-ARMS-HASH`.
        size: of the model and the data: `"tiny"`, `"small"` or `"base"`.
        data: a folder of `.py` files; default Python's standard library.
        steps: of a pre-training run; default the task's.
        post_steps: of a post-training run; default the task's.
        trials, seeds: of each optimizer in every comparison; defaults as for `ravine compare`.
        bases: that each optimizer pre-trains, two or more.
        device, workers, precision: as for `ravine compare`.

    Raises:
        ValueError: one sentence about what is wrong.
    """
    require_one_of("size", size, TASK_SIZES)
    require_whole("bases", bases, 2)
    if len(arms) != 2:
        raise ValueError(f"pretrain-finetune has two optimizers, got {', '.join(arms) or 'none'}; try: adamw muon")
    if seeds is not None:
        require_whole("seeds", seeds, 2)
    if post_steps is not None:
        require_whole("post_steps", post_steps, 1)
    given = {"trials": trials, "seeds": seeds, "workers": workers}
    shared: dict[str, Any] = {
        "arms": tuple(arms), "baseline": False, "size": size, "device": device, "precision": precision,
        **{name: value for name, value in given.items() if value is not None},
    }  # fmt: skip
    pretraining = Settings(task="lm", steps=steps, **shared)
    post_training = Settings(task="sft", steps=post_steps, data=data, **shared)
    first, second = arms_of(pretraining)
    device_of(pretraining)
    pairs = pairs_of.for_size(size, data)
    made = PretrainFinetune((first, second), pretraining, post_training, bases, pairs.text, Path(), "")
    folder = Path(out) if out is not None else _default_folder(made)
    require_writable_folder(folder, "--out")
    if (folder / DEFINITION).exists():
        found = list(record.differences(read_json(folder / DEFINITION), made.definition()))
        if found:
            raise ValueError(f"{folder} holds another experiment: {'; '.join(found[:5])}. Choose another with --out")
    options = {
        "size": None if size == "small" else size, "data": data, "steps": steps, "post-steps": post_steps,
        "trials": trials, "seeds": seeds, "bases": None if bases == BASES else bases,
        "device": None if device == "auto" else device, "workers": workers,
        "precision": None if precision == "auto" else precision, "out": out,
    }  # fmt: skip
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    command = shlex.join(["ravine", "study", "pretrain-finetune", *arms, *words])
    return replace(made, out=folder, command=command)


class _Progress:
    """One count over all stages, for whoever looks."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._total, self._on_progress = total, on_progress
        self._before = self._now = 0

    def of(self, stage: str) -> OnProgress:
        """For the next stage: what it has done counts after what those before it have."""
        self._before = self._now

        def show(
            done: int, total: int, running: Sequence[Running] = (), best: Mapping[str, float | None] | None = None
        ) -> None:
            self._now = self._before + done
            if self._on_progress is not None:
                named = [one._replace(what=f"{stage}: {one.what}" if stage else one.what) for one in running]
                self._on_progress(self._now, self._total, named, best)

        return show


def _asked(settings: Settings) -> dict[str, Any]:
    """All but where and by how many processes it runs, and where the data lies."""
    sections = settings.as_dict()
    sections.pop("machine")
    sections["task"].pop("data", None)
    return sections


def _default_folder(made: PretrainFinetune) -> Path:
    digest = hashlib.sha256(to_json(made.definition()).encode()).hexdigest()[:8]
    arms = file_name("-".join(arm.label for arm in made.arms))[:60]
    return Path("ravine-study", f"pretrain-finetune-{arms}-{digest}")


def _require_pretrained(outcome: Outcome, base: str) -> None:
    if outcome.failed is not None:
        raise RuntimeError(f"pre-training {base} failed: {outcome.failed}")
    if outcome.diverged:
        raise RuntimeError(f"pre-training {base} diverged with the settings that were tuned: try more --trials")
