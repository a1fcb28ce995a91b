"""`ravine compare` as a function."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import torch

from ravine.lab.files import read_json, require_writable_folder, to_json, write_atomically
from ravine.lab.finish import cost_of, finished
from ravine.lab.report.logs import require
from ravine.lab.study import record
from ravine.lab.study.execute import OnProgress, execute
from ravine.lab.study.redact import Redactor, redacted
from ravine.lab.study.settings import Settings, default_of, read_toml
from ravine.lab.study.store import Store
from ravine.lab.study.study import Outcomes, Study, arms_of, device_of
from ravine.lab.training import Precision, faster_precision

TRIALS_FILE = "trials.db"
STUDY_FILE = "study.toml"
COST_FILE = "cost.json"


@dataclass(frozen=True)
class Comparison:
    """A study that has been checked and can run: nothing has been written yet.

    Args:
        study: what is compared.
        out: the folder for its trials, its result and its report.
        storage: URL of the trials' database.
        command: the call that repeats it, without passwords.
        log: `"tensorboard"`, `"wandb"` or None.
    """

    study: Study
    out: Path
    storage: str
    command: str
    log: str | None = None

    @property
    def report(self) -> Path:
        """Where the report will be."""
        return self.out / "report.html"

    @property
    def redactor(self) -> Redactor:
        """Takes the storage's password out of texts."""
        return Redactor(self.storage)

    def interrupted(self) -> str:
        """What to tell someone who has interrupted it."""
        with self._open() as store:
            done = len(store.outcomes())
        kept = f"{done} of {self.study.count} runs are kept in {self.out}"
        return f"interrupted; {kept}, the same command goes on from there"

    def run(self, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Make the runs that are missing, write `result.json` and `report.html`, and return the result.

        May be interrupted at any time: finished runs are kept, and the next call goes on from there.

        Raises:
            OSError: where a file cannot be written.
            RuntimeError: where the storage stops to answer.
        """
        from ravine.lab.report import html
        from ravine.lab.results import summarize

        self.out.mkdir(parents=True, exist_ok=True)
        write_atomically(self.out / STUDY_FILE, f"# {self.command}\n{self._shown().to_toml()}")
        with self._open() as store:
            study = replace(self.study, precision=record.read(store.definition, self.study.name)["precision"])
            execute(study, store, on_progress)
            outcomes = store.outcomes()
        result = summarize(finished(study, outcomes, self.command, self._shown(), self._cost(study, outcomes)))
        write_atomically(self.out / "result.json", to_json(result))
        write_atomically(self.report, html(result))
        if self.log is not None:
            _write_logs(result, self.log, self.out)
        return result

    def _cost(self, study: Study, outcomes: Outcomes) -> dict[str, Any]:
        """What a step of each arm costs, side by side, now that nothing else of this study runs; measured once."""
        file = self.out / COST_FILE
        if file.exists() and (stored := read_json(file)).get("study") == study.name:
            return dict(stored["arms"])
        arms = cost_of(study, outcomes)
        write_atomically(file, to_json({"study": study.name, "arms": arms}))
        return arms

    def _shown(self) -> Settings:
        given = self.study.settings
        return replace(given, storage=None if given.storage is None else redacted(given.storage))

    def _open(self) -> Store:
        """The trials. The precision is measured once, when the study begins: another day may measure otherwise."""
        name = self.study.name
        if name in record.names(self.storage):
            return Store.open(self.storage, name)
        return Store.open(self.storage, name, self.study.count, record.written(_measured(self.study)))


def prepare(
    arms: Sequence[str],
    *,
    out: str | os.PathLike[str] | None = None,
    log: str | None = None,
    **options: Any,
) -> Comparison:
    """Check everything about a comparison, and write nothing.

    Args:
        arms: optimizers, `"adamw"` or `"adamw:beta2=0.95,weight_decay=0.1"`, those with an `lr` not tuned; or one
            study file, `"study.toml"`, whose settings `options` replace.
        out: the folder for trials and report; default `ravine-compare/STUDY`, one for each setting.
        log: write the judged runs for `"tensorboard"` or `"wandb"` too.
        options: of `ravine.lab.study.settings.Settings`, which has them all with their defaults.

    Raises:
        ValueError: one sentence about what is wrong.

    Example:
        >>> prepare(["adamw", "lion"], task="quadratic", size="tiny", trials=4, seeds=4).study.count
        24
    """
    if log is not None:
        require(log)
    settings = _settings(arms, options)
    study = Study(settings, record.task_of(settings), arms_of(settings), device_of(settings))
    if settings.precision != "auto":
        study = replace(study, precision=cast(Precision, settings.precision))
    _try_arms(study)
    folder = Path(out) if out is not None else Path("ravine-compare", study.name)
    require_writable_folder(folder, "--out")
    if settings.data is not None and folder.absolute().is_relative_to(Path(settings.data).absolute()):
        raise ValueError(f"--out: {folder} lies in the data {settings.data} and would become part of it")
    storage = settings.storage or f"sqlite:///{(folder / TRIALS_FILE).absolute()}"
    made = Comparison(study, folder, storage, _command(settings, out, log), log)
    _check_place(made)
    return made


def compare(arms: Sequence[str], *, on_progress: OnProgress | None = None, **options: Any) -> dict[str, Any]:
    """Compare optimizers: `prepare`, which has the options, then `Comparison.run`.

    Returns:
        The result as plain values, the same that `ravine compare --json` writes.
    """
    return prepare(arms, **options).run(on_progress)


def _write_logs(result: dict[str, Any], kind: str, out: Path) -> None:
    """The curves of the judged runs, a log each."""
    from ravine.lab.report.logs import open_log

    for label, arm in result["arms"].items():
        for run in arm["runs"]:
            config = {"arm": label, "seed": run["seed"], **arm["settings"], **arm["best"]["settings"]}
            with open_log(kind, out / kind, f"{label} seed {run['seed']}", config) as log:
                for name, curve in (("loss/judging", run["curve"]), ("loss/training", run["training_curve"])):
                    for step, loss in zip(curve["step"], curve["loss"], strict=True):
                        log.write(int(step), {name: loss})


def _settings(arms: Sequence[str], options: dict[str, Any]) -> Settings:
    given = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in options.items()
        if value is not None
    }
    known = [setting.name for setting in fields(Settings)]
    for name in given:
        if name not in known:
            raise TypeError(f"compare has no option {name!r}")
    if len(arms) == 1 and arms[0].endswith(".toml"):
        return Settings(**{**read_toml(Path(arms[0])), **given})
    return Settings(arms=tuple(arms), **given)


def _measured(study: Study) -> Study:
    """With the precision that is faster here, where that is left to the machine; kept, since another day may differ."""
    if study.settings.precision != "auto":
        return study
    return replace(study, precision=faster_precision(study.task, study.recipe.batch, study.device))


def _try_arms(study: Study) -> None:
    """Build every arm for the model once, so that what does not fit is refused before anything runs."""
    with torch.random.fork_rng(devices=[]):
        model = study.task.new_model()
    for arm in study.arms:
        try:
            arm.build(model, {})
        except (TypeError, ValueError) as error:
            raise ValueError(f"arm {arm.label!r}: {error}") from None


def _check_place(made: Comparison) -> None:
    """Raise ValueError where the folder holds a study with other settings, or the storage does not answer."""
    own = made.study.settings.storage is None
    if own and not (made.out / TRIALS_FILE).exists():
        return
    for name in record.names(made.storage):
        if own or name == made.study.name:
            with Store.open(made.storage, name) as store:
                stored = record.read(store.definition, name)
            advice = "Choose another folder with --out, or delete this one"
            record.check(made.study, stored, str(made.out if own else name), advice)


def _command(settings: Settings, out: str | os.PathLike[str] | None, log: str | None) -> str:
    """The call with all that differs from the defaults."""
    words = ["ravine", "compare", *settings.arms]
    for setting in fields(Settings):
        value = getattr(settings, setting.name)
        option = "--" + setting.name.replace("_", "-")
        if setting.name == "arms" or value in (default_of(setting.name), None, {}):
            continue
        if setting.name == "options":
            words += [word for name, x in value.items() for word in ("--option", f"{name}={x}")]
        elif setting.name == "space":
            for arm, places in settings.spaces.items():
                for name, place in places.items():
                    words += [option, f"{arm}.{name}={_place(place)}" if arm else f"{name}={_place(place)}"]
        elif isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif isinstance(value, tuple):
            words += [option, ",".join(map(str, value))]
        else:
            words += [option, redacted(value) if setting.name == "storage" else str(value)]
    for option, text in (("--log", log), ("--out", out)):
        words += [option, str(text)] if text is not None else []
    return shlex.join(words)


def _place(place: Any) -> str:
    if isinstance(place, str):
        return place
    return f"{place['low']}..{place['high']}" if isinstance(place, dict) else "|".join(map(str, place))
