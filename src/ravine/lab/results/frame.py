"""Results as data frames, for those who plot and test by themselves."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ravine.lab.files import read_json
from ravine.lab.results.summary import FORMAT

Kind = Literal["pandas", "polars"]
What = Literal["runs", "trials", "curves"]

RESULT_FILE = "result.json"

RUN = ("seed", "steps", "final_loss", "diverged", "diverged_at", "failed", "seconds", "units")
"""What is told of a judged run besides its arm, metrics and settings."""


@dataclass(frozen=True)
class Results:
    """The results of a study; `result` is the content of its `result.json`, and `text` its verdict."""

    result: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The verdict in words."""
        return self.result["verdict"]["text"]

    def frame(self, kind: Kind = "pandas", what: What = "runs") -> Any:
        """A data frame with the arm in its first column.

        Args:
            kind: `"pandas"` or `"polars"`.
            what: `"runs"`, a row for each judged run: its seed, what came of it, its settings; `"trials"`, a row for
                each run that tuned; `"curves"`, a row for each evaluation of a judged run.

        Raises:
            ValueError: for another kind or what.
            ImportError: where the library is not installed.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be 'pandas' or 'polars', got {kind!r}")
        if what not in get_args(What):
            raise ValueError(f"what must be 'runs', 'trials' or 'curves', got {what!r}")
        try:
            library = importlib.import_module(kind)
        except ImportError:
            raise ImportError(f"frames of {kind} need it to be installed: pip install {kind}") from None
        return library.DataFrame(_columns(list(_ROWS[what](self.result))))


def load(study: str | os.PathLike[str]) -> Results:
    """The results of a study that is done.

    Args:
        study: its folder, or its `result.json`.

    Raises:
        ValueError: where there is no result, or it is not one of this version of ravine.
    """
    path = Path(study)
    if path.is_dir():
        path = path / RESULT_FILE
    if not path.exists():
        raise ValueError(f"there is no {path}: the study is not done, or lies elsewhere")
    result = read_json(path)
    if not isinstance(result, dict) or result.get("format") != FORMAT or "arms" not in result:
        raise ValueError(f"{path} is not a result of this version of ravine")
    return Results(result)


def _runs(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "arm": label,
            "optimizer": arm["optimizer"],
            **{key: run[key] for key in RUN},
            **{f"metric.{name}": value for name, value in run["metrics"].items() if name != "loss"},
            **{f"setting.{name}": value for name, value in arm["best"]["settings"].items()},
        }
        for label, arm in result["arms"].items()
        for run in arm["runs"]
    ]


def _trials(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "arm": label,
            "optimizer": arm["optimizer"],
            **{key: trial[key] for key in ("phase", "seed", "loss", "diverged", "failed")},
            **{f"setting.{name}": value for name, value in {**arm["settings"], **trial["settings"]}.items()},
        }
        for label, arm in result["arms"].items()
        for trial in arm["trials"]
    ]


def _curves(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"arm": label, "seed": run["seed"], **{name: values[i] for name, values in run["curve"].items()}}
        for label, arm in result["arms"].items()
        for run in arm["runs"]
        for i in range(len(run["curve"]["step"]))
    ]


_ROWS = {"runs": _runs, "trials": _trials, "curves": _curves}


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Columns of one type each, None where a row has no such value."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _alike([row.get(name) for row in rows]) for name in names}


def _alike(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    if len(kinds) > 1:
        return [None if value is None else str(value) for value in values]
    return values
