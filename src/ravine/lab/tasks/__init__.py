"""What can be learned: each task is a model, a loss and data in three splits, and `make` makes one by its name."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

from ravine.lab.models import ModelSource
from ravine.lab.tasks.digits import Digits
from ravine.lab.tasks.dpo import DirectPreferenceOptimization
from ravine.lab.tasks.functions import Quadratic, Rosenbrock
from ravine.lab.tasks.lm import LanguageModelling
from ravine.lab.tasks.online import Online
from ravine.lab.tasks.ridge import Ridge
from ravine.lab.tasks.sft import SupervisedFineTuning
from ravine.lab.tasks.task import TASK_SIZES, Batch, Evaluated, Task
from ravine.registry import nearest

__all__ = ["TASKS", "TASK_SIZES", "Batch", "Evaluated", "Task", "make", "options"]

TASKS: dict[str, str] = {
    "lm": "predict the next byte or token of a text, with a transformer or a model of one's own",
    "sft": "post-training: say what a function does, beginning with a pre-trained model",
    "dpo": "post-training: prefer a function's docstring to one that is shuffled",
    "digits": "tell handwritten digits, or images of one's own, apart",
    "ridge": "linear regression with a penalty, as ill-conditioned as asked for; its optimum is known",
    "quadratic": "a quadratic function with gradient noise, of any dimension and conditioning",
    "rosenbrock": "Rosenbrock's bent, narrow valley, in any even dimension",
    "online": "Reddi's sequence of losses, on which Adam goes to the worst point",
}
"""What each task is, in the order in which they are listed."""

_KINDS: dict[str, type[Task]] = {
    kind.name: kind
    for kind in (
        LanguageModelling,
        SupervisedFineTuning,
        DirectPreferenceOptimization,
        Digits,
        Ridge,
        Quadratic,
        Rosenbrock,
        Online,
    )
}


def options(name: str) -> list[str]:
    """What a task takes, beside its size.

    Raises:
        ValueError: for an unknown task, with the nearest.

    Example:
        >>> options("quadratic")
        ['dimension', 'variance', 'condition']
    """
    return [field.name for field in fields(_kind(name)) if field.init and field.name != "size"]


def make(
    name: str,
    *,
    size: str = "small",
    data: str | os.PathLike[str] | None = None,
    model: str | ModelSource | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    base: str | os.PathLike[str] | None = None,
    **more: Any,
) -> Task:
    """The task of this name; texts, images and models that it names are read, and a model of one's own is tried.

    Args:
        name: one of `TASKS`.
        size: `"tiny"`, `"small"` or `"base"`.
        data: a file or folder in place of the task's own data.
        model: `"path.py:build"`, `"hf:DIR"`, or the name of one of the task's own models.
        tokenizer: `"bytes"`, `"bpe:4096"` or a tokenizer's file.
        base: a checkpoint to begin with.
        more: what else the task takes, see `options`. None leaves any option at its default.

    Raises:
        ValueError: for an unknown task, an option that the task does not take, or a value that will not do, in one
            sentence.

    Example:
        >>> make("quadratic", size="tiny", condition=1000).settings()
        {'task': 'quadratic', 'dimension': 10, 'variance': 0.0001, 'condition': 1000.0}
        >>> make("online", sise="tiny")
        Traceback (most recent call last):
        ValueError: the task online takes no sise; did you mean 'size'? (it takes size, c)
    """
    kind = _kind(name)
    if isinstance(model, ModelSource):
        model = f"hf:{model.path}" if model.kind == "hf" else f"{model.path}:{model.function}"
    named = {"data": data, "model": model, "tokenizer": tokenizer, "base": base}
    given = {option: value for option, value in {**named, **more}.items() if value is not None}
    takes = ["size", *options(name)]
    for option in given:
        if option not in takes:
            raise ValueError(f"the task {name} takes no {option}{nearest(option, takes)} (it takes {', '.join(takes)})")
    for option in named:
        if option in given and not isinstance(given[option], (str, os.PathLike)):
            raise ValueError(f"{option} must be a text, got {given[option]!r}")
    return kind(size=size, **{o: os.fspath(value) if o in named else value for o, value in given.items()})


def _kind(name: str) -> type[Task]:
    if name not in _KINDS:
        raise ValueError(f"unknown task {name!r}{nearest(name, list(_KINDS))} (there are {', '.join(_KINDS)})")
    return _KINDS[name]
