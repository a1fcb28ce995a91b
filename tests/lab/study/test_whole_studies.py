"""Whole comparisons on a server and on a cluster: the losses of one process, and no password in anything written."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lab.study.conftest import PASSWORD
from ravine.lab import compare, prepare

ARMS = ["adamw:lr=0.01", "sgd"]
OPTIONS: dict[str, Any] = {
    "task": "digits", "size": "tiny", "steps": 5, "trials": 2, "seeds": 2, "precision": "float32", "baseline": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of one process on an SQLite file."""
    return compare(ARMS, out=tmp_path_factory.mktemp("alone"), workers=1, **OPTIONS)


def losses(result: dict[str, Any]) -> dict[str, list[float]]:
    return {label: arm["final_loss"]["values"] for label, arm in result["arms"].items()}


@pytest.mark.slow
def test_workers_on_postgresql(postgresql: str, tmp_path: Path, alone: dict[str, Any]) -> None:
    result = compare(ARMS, out=tmp_path, workers=2, storage=postgresql, **OPTIONS)
    assert losses(result) == losses(alone)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"study.toml", "result.json", "report.html"} <= {path.name for path in written}
    for path in written:
        content = path.read_bytes()
        assert PASSWORD.encode() not in content and quote(PASSWORD, safe="").encode() not in content, path
    assert "***" in result["command"]
    assert prepare(ARMS, out=tmp_path, workers=1, storage=postgresql, **OPTIONS).run()["verdict"] == result["verdict"]


@pytest.mark.slow
def test_workers_on_ray(tmp_path: Path, alone: dict[str, Any]) -> None:
    pytest.importorskip("ray", reason="Ray is missing")
    result = compare(ARMS, out=tmp_path, workers=2, executor="ray", **OPTIONS)
    assert losses(result) == losses(alone)
