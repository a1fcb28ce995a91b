"""What a storage keeps of a study besides its trials, so that others can join it and nobody mixes two studies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

import ravine
from ravine.lab.models.source import parse
from ravine.lab.study.database import connect
from ravine.lab.study.settings import Settings, values_of
from ravine.lab.study.study import Study, arms_of
from ravine.lab.tasks import make

FORMAT = 1


def versions() -> dict[str, str]:
    """Of what results depend on."""
    return {"ravine": ravine.__version__, "torch": torch.__version__}


def written(study: Study) -> str:
    """A study as a storage keeps it: JSON of plain values. No password, and nothing that a reader would execute."""
    settings = replace(study.settings, storage=None, device=study.device)
    return json.dumps(
        {
            "format": FORMAT,
            "settings": settings.as_dict(),
            "precision": study.precision,
            "definition": study.definition(),
            "versions": versions(),
        },
        sort_keys=True,
    )


def names(url: str) -> list[str]:
    """Of all studies in a storage.

    Raises:
        ValueError: where it does not answer.
    """
    storage = connect(url)
    try:
        return [study.study_name for study in storage.get_all_studies()]
    finally:
        storage.engine.dispose()


def read(text: str | None, name: str) -> dict[str, Any]:
    """The values of `written`.

    Raises:
        ValueError: for anything else.
    """
    try:
        record = json.loads(text or "")
        if record["format"] == FORMAT and {"settings", "precision", "definition", "versions"} <= set(record):
            return dict(record)
    except (ValueError, TypeError, KeyError):
        pass
    raise ValueError(f"{name} in this storage is not a study of this version of ravine")


def check(study: Study, record: Mapping[str, Any], where: str, advice: str) -> None:
    """Raise ValueError, naming what differs, where a stored study is another than this one."""
    mine = {**study.definition(), "versions": versions()}
    theirs = {**record["definition"], "versions": record["versions"]}
    found = list(differences(theirs, json.loads(json.dumps(mine))))
    if found:
        shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        raise ValueError(f"{where} holds a study with other settings: {shown}. {advice}")


def rebuilt(record: Mapping[str, Any], name: str, **given: str | None) -> Study:
    """The study of a record, on this machine.

    Args:
        record: of `read`.
        name: of the study, for messages.
        given: `data`, `model` and `base` as they are on this machine, in place of the record's.

    Raises:
        ValueError: where its model is a file of Python and none is given here, since a storage must not choose what
            this machine executes; or where data, model or versions differ from those of the study.
    """
    values = values_of(record["settings"], f"the study {name}")
    model = values.get("model")
    if model is not None and ".py:" in str(model) and given.get("model") is None:
        raise ValueError(f"the study {name} trains {model}: give your copy of that file with --model PATH.py:FUNCTION")
    given_model = given.get("model")
    if given_model is not None:
        expected = record["definition"]["learned"].get("model", {}).get("sha256")
        found = parse(given_model).settings().get("sha256")
        if expected is not None and found != expected:
            raise ValueError(
                f"the study {name} trains another {model}: its hash is {str(expected)[:12]}, that of {given_model} is "
                f"{str(found)[:12]}; give the file that the study was begun with"
            )
    settings = Settings(**{**values, **{key: value for key, value in given.items() if value is not None}})
    study = Study(settings, task_of(settings), arms_of(settings), settings.device, record["precision"])
    check(
        study, record, f"the study {name}", "Give the data and the model that it was begun with, and the same versions"
    )
    return study


def task_of(settings: Settings) -> Any:
    """The task that the settings ask for."""
    options = {name: getattr(settings, name) for name in ("data", "model", "tokenizer", "base")}
    return make(
        settings.task,
        size=settings.size,
        **{name: value for name, value in options.items() if value is not None},
        **settings.options,
    )


def differences(was: Any, is_: Any, name: str = "") -> Iterator[str]:
    """Where two plain values differ, in words.

    Example:
        >>> list(differences({"budget": {"trials": 5}}, {"budget": {"trials": 8}}))
        ['budget.trials was 5, is 8']
    """
    if isinstance(was, Mapping) and isinstance(is_, Mapping):
        for key in sorted({*was, *is_}):
            yield from differences(was.get(key), is_.get(key), f"{name}.{key}" if name else key)
    elif was != is_:
        shown = [", ".join(a["label"] for a in x) if name == "arms" and x else str(x) for x in (was, is_)]
        yield f"{name} was {shown[0]}, is {shown[1]}" if shown[0] != shown[1] else f"{name} differs in its spaces"
