"""An experiment that is run once, as small as one can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner, Result

from ravine.cli import app
from ravine.lab.pretrain_finetune import prepare

ARMS = ("adamw:lr=0.003", "muon:lr=0.006")
BUDGET: dict[str, Any] = {
    "size": "tiny", "steps": 4, "post_steps": 2, "trials": 1, "seeds": 2, "bases": 2, "device": "cpu", "workers": 1,
    "precision": "float32",
}  # fmt: skip

TIMED = ("seconds", "units_per_second", "optimizer_share", "peak_memory_bytes", "joules", "cost")
"""Keys whose values no second run has."""


class Finished(NamedTuple):
    out: Path
    result: dict[str, Any]
    seen: list[tuple[int, int, list[str]]]


@pytest.fixture(scope="package", autouse=True)
def quick() -> Any:
    """One thread a run, since others are at work on the machine; what a step costs is not measured side by side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ravine.lab.study.execute.MOST_THREADS", 1)
        patch.setattr("ravine.lab.comparison.cost_of", lambda study, outcomes: {})
        yield


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """An experiment of two optimizers whose learning rates are given, so that nothing is tuned."""
    out, seen = tmp_path_factory.mktemp("experiment") / "out", []

    def on_progress(done: int, total: int, running: Any = (), best: Any = None) -> None:
        seen.append((done, total, [one.what for one in running]))

    return Finished(out, prepare(ARMS, out=out, **BUDGET).run(on_progress), seen)


def untimed(value: Any) -> Any:
    """The result without times and the folder's name."""
    if isinstance(value, dict):
        return {key: untimed(inner) for key, inner in value.items() if key not in (*TIMED, "command")}
    return [untimed(inner) for inner in value] if isinstance(value, list) else value


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["study", "pretrain-finetune", *map(str, arguments)])
