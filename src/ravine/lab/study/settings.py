"""The settings of a study, as they stand in its TOML file and on the command line: one list of names for both."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from ravine.registry import nearest

SAMPLERS = ("quasi-random", "grid", "tpe")
DEVICES = ("auto", "cpu", "cuda")
EXECUTORS = ("local", "ray")


def _setting(section: str, default: Any, about: str, least: float | None = None) -> Any:
    """A setting's section in the file, its default, what it is, and the least number it may be."""
    return field(default=default, metadata={"section": section, "about": about, "least": least})


@dataclass(frozen=True)
class Settings:
    """All that a study is asked to do. What has the default None is chosen by the task.

    Raises:
        ValueError: for a value of the wrong kind, or out of its range, in one sentence.
    """

    arms: tuple[str, ...] = _setting("study", (), "optimizers, such as adamw or adamw:beta2=0.95; with lr, not tuned")
    baseline: bool = _setting("study", True, "add a tuned adamw where there is none")
    controls: bool = _setting("study", False, "add each arm with decay once more without it")

    seed: int = _setting("study", 0, "of the whole study: another one has other points and other runs", 0)

    task: str = _setting("task", "lm", "what is learned")
    size: str = _setting("task", "small", "of the task: tiny, small or base")
    data: str | None = _setting("task", None, "a file or folder; default: what the task brings")
    tokenizer: str | None = _setting("task", None, "bytes, or bpe:SIZE")
    model: str | None = _setting("task", None, "path.py:build, hf:DIR, or a model of the task")
    base: str | None = _setting("task", None, "a checkpoint to begin with (sft, dpo)")
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata={"section": "task", "least": None, "about": "what else the task takes: condition, rejected, ..."},
    )

    steps: int | None = _setting("budget", None, "optimizer steps of a run", 1)
    batch: int | None = _setting("budget", None, "examples of a step", 1)
    trials: int = _setting("budget", 8, "runs that search for each arm's settings", 1)
    seeds: int = _setting("budget", 5, "judged runs of each arm", 1)
    horizons: tuple[float, ...] = _setting(
        "budget", (), "parts of the steps at which whole shorter runs are judged too"
    )

    over: tuple[str, ...] = _setting("search", ("lr", "beta2"), "settings that are searched for")
    sampler: str = _setting("search", "quasi-random", "quasi-random, grid or tpe")
    space: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "section": "search",
            "least": None,
            "about": "where, for all arms or by arm, in place of their own spaces",
        },
    )
    retuned: int = _setting("search", 2, "best settings of each arm that are run again on more seeds", 1)
    tuning_seeds: int = _setting("search", 3, "seeds that these are run on, that of the search among them", 1)

    schedule: str = _setting("training", "linear", "of the learning rate")
    warmup: float = _setting("training", 0.1, "part of the steps in which the learning rate rises", 0)
    floor: float = _setting("training", 0.0, "part of the learning rate at which it ends", 0)
    clip: float | None = _setting("training", None, "largest norm of the gradient; 0: any; default: the task's", 0)
    accumulate: int = _setting("training", 1, "parts that a batch is computed in", 1)
    precision: str = _setting("training", "auto", "auto, float32, bfloat16 or float16")
    ema: float | None = _setting("training", None, "decay of an average of the weights that is evaluated", 0)
    compile: bool = _setting("training", False, "torch.compile the model")

    target: float | None = _setting("report", None, "loss to reach; default: the baseline's mean + 1 deviation", 0)

    device: str = _setting("machine", "auto", "auto, cpu or cuda")
    workers: int | None = _setting("machine", None, "processes that make runs at the same time", 1)
    processes: int = _setting("machine", 1, "processes of one run, under torchrun", 1)
    executor: str = _setting("machine", "local", "local or ray")
    storage: str | None = _setting("machine", None, "URL of the trials' database; default: a file beside the report")

    def __post_init__(self) -> None:
        for setting in fields(self):
            _check(setting.name, getattr(self, setting.name), str(setting.type), setting.metadata["least"])
        for name, allowed in (("sampler", SAMPLERS), ("device", DEVICES), ("executor", EXECUTORS)):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}{nearest(value, allowed)}")
        for part in self.horizons:
            if not 0 < part < 1:
                raise ValueError(f"horizons are parts of the steps between 0 and 1, got {part}")

    @property
    def spaces(self) -> dict[str, dict[str, Any]]:
        """Spaces by arm, and by `""` those for all arms."""
        by_arm: dict[str, dict[str, Any]] = {"": {}}
        for name, value in self.space.items():
            if isinstance(value, Mapping) and not {"low", "high"} & set(value):
                by_arm[name] = dict(value)
            else:
                by_arm[""][name] = value
        return by_arm

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Sections of plain values; settings that are None are left out."""
        sections: dict[str, dict[str, Any]] = {}
        for setting in fields(self):
            value = getattr(self, setting.name)
            if value is not None:
                plain = list(value) if isinstance(value, tuple) else value
                sections.setdefault(setting.metadata["section"], {})[setting.name] = plain
        return sections

    def to_toml(self) -> str:
        """The study file."""
        import tomli_w

        return tomli_w.dumps(self.as_dict())


def values_of(sections: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Names and values from the sections of a study file.

    Raises:
        ValueError: for an unknown section or name; the nearest is offered. `source` says whose.
    """
    homes = {setting.name: setting.metadata["section"] for setting in fields(Settings)}
    values: dict[str, Any] = {}
    for section, inside in sections.items():
        if section not in homes.values():
            known = sorted(set(homes.values()))
            raise ValueError(f"{source} has an unknown section [{section}]{nearest(section, known)}")
        if not isinstance(inside, Mapping):
            raise ValueError(f"{source}: [{section}] must be a section, got {inside!r}")
        for name, value in inside.items():
            if homes.get(name) != section:
                elsewhere = f"; it belongs into [{homes[name]}]" if name in homes else ""
                allowed = [key for key, home in homes.items() if home == section]
                hint = elsewhere or nearest(name, allowed)
                raise ValueError(f"{source} has an unknown key {name!r} in [{section}]{hint}")
            values[name] = tuple(value) if isinstance(value, list) and name != "space" else value
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """Names and values in a study file.

    Raises:
        ValueError: where it cannot be read, is not TOML, or has an unknown section or name.
    """
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not a study file: {error}") from None
    return values_of(sections, str(path))


def default_of(name: str) -> Any:
    """The default of a setting."""
    found = next(setting for setting in fields(Settings) if setting.name == name)
    return None if found.default is MISSING else found.default


KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "str": (str, "a text"),
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "tuple[str, ...]": (tuple, "a list of texts"),
    "tuple[float, ...]": (tuple, "a list of numbers"),
    "dict[str, Any]": (dict, "a table"),
}


def _check(name: str, value: Any, annotation: str, least: float | None) -> None:
    """One sentence where a value is not what its setting holds."""
    if value is None and "None" in annotation:
        return
    kind, words = KINDS[annotation.removesuffix(" | None")]
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if isinstance(value, tuple):
        inner: Any = str if "str" in annotation else (int, float)
        wrong = wrong or any(not isinstance(item, inner) or isinstance(item, bool) for item in value)
    if wrong:
        raise ValueError(f"{name} must be {words}, got {value!r}")
    if least is not None and (not math.isfinite(value) or value < least):
        raise ValueError(f"{name} must be at least {least}, got {value}")
