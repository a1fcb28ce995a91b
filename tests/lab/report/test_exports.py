"""CSV files that read back to the result's figures, and pictures of every chart."""

from __future__ import annotations

import csv
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.lab.report import samples

from ravine.lab.report import export
from ravine.lab.report.exports import figures
from ravine.lab.report.text import RESERVED, file_name


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_read_back(tmp_path: Path) -> None:
    result = samples.full()
    written = export(result, tmp_path / "new", ["csv"])
    assert [path.name for path in written] == ["arms.csv", "trials.csv", "runs.csv", "curves.csv", "pairs.csv"]
    arms, trials, runs, curves, pairs = map(rows, written)
    assert [row["arm"] for row in arms] == list(result["arms"])
    assert float(arms[1]["mean"]) == result["arms"]["muon"]["final_loss"]["mean"]
    assert arms[3]["mean"] == "" and arms[1]["optimizer milliseconds"] == "19.4"
    assert len(trials) == 3 * 10 and trials[0]["phase"] == "search" and trials[0]["beta2"] in ("0.95", "0.999")
    assert len(runs) == 20 and [row["diverged"] for row in runs].count("True") == 2 + 5
    losses = [float(row["loss"]) for row in curves if row["arm"] == "adamw" and row["split"] == "judging"]
    assert losses == [loss for run in result["arms"]["adamw"]["runs"] for loss in run["curve"]["loss"]]
    assert float(pairs[0]["low"]) == result["pairs"][0]["interval"][0] and pairs[1]["p"] == ""


def test_hostile_labels_stay_in_their_cells(tmp_path: Path) -> None:
    result = samples.hostile()
    arms = rows(export(result, tmp_path, ["csv"])[0])
    assert [row["arm"] for row in arms] == list(result["arms"])


def test_the_least_result_has_tables_too(tmp_path: Path) -> None:
    written = export(samples.minimal(), tmp_path, ["csv"])
    assert [len(rows(path)) for path in written] == [2, 0, 2, 26, 1]


def test_another_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"formats must be of csv, png, got 'pgn'"):
        export(samples.minimal(), tmp_path / "new", ["csv", "pgn"])
    assert not (tmp_path / "new").exists()


def test_without_a_browser_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kaleido", reason="the package kaleido is missing")
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(RuntimeError, match="PNGs need Chromium or Chrome, and none was found"):
        export(samples.minimal(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_pictures(tmp_path: Path, chromium: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kaleido", reason="the package kaleido is missing")
    monkeypatch.setenv("BROWSER_PATH", chromium)
    written = export(samples.minimal(), tmp_path, ["png"])
    names = [
        "curves-steps",
        "curves-bytes",
        "curves-seconds",
        "training-steps",
        "training-bytes",
        "training-seconds",
        "final",
    ]
    assert [path.stem for path in written] == names
    for path in written:
        content = path.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", content[16:24])
        assert width == 1800 and height > 300 and len(content) > 10_000
    assert {path.suffix for path in tmp_path.iterdir()} == {".png"}, "nothing else is left behind"


def test_every_view_has_a_file_of_its_own() -> None:
    names = [name for name, _ in figures(samples.full())]
    assert {"curves-joules", "sensitivity-learning-rate", "sensitivity-beta2", "pareto-peak-memory"} <= set(names)
    assert len({name.lower() for name in names}) == len(names) == 23


def test_views_whose_names_end_alike_are_counted() -> None:
    result = samples.full()
    result["arms"] = {"adamw": result["arms"]["adamw"], "AdamW!": result["arms"]["adamw"]}
    result["cost"] = None
    names = [name for name, _ in figures(result) if name.startswith("heat-maps")]
    assert len({name.lower() for name in names}) == 2


@given(st.text())
def test_file_names_are_taken_everywhere(text: str) -> None:
    name = file_name(text)
    assert name and len(name) <= 81 and name.isascii()
    assert not set(name) & set('<>:"/\\|?* \n\t')
    assert name[-1] not in ". " and name.split(".")[0].lower() not in RESERVED


def test_kaleido_is_not_told_to_load_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kaleido: Any = pytest.importorskip("kaleido", reason="the package kaleido is missing")
    seen: dict[str, Any] = {}

    def write(wanted: list[dict[str, Any]], kopts: dict[str, Any], **_: Any) -> None:
        seen.update(kopts)
        for one in wanted:
            Path(one["path"]).write_bytes(b"")

    monkeypatch.setattr(kaleido, "write_fig_from_object_sync", write)
    monkeypatch.setenv("BROWSER_PATH", shutil.which("true") or "/bin/true")
    export(samples.minimal(), tmp_path, ["png"])
    assert seen["mathjax"] is False
