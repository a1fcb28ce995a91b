"""Results as frames of pandas and Polars."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.lab.results.made import usual

from ravine.lab.files import to_json
from ravine.lab.results import Results, load, summarize

KINDS = ("pandas", "polars")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "result.json").write_text(to_json(summarize(usual())), encoding="utf-8")
    return tmp_path


def rows(frame: Any) -> list[dict[str, Any]]:
    return frame.to_dict("records") if hasattr(frame, "iloc") else frame.to_dicts()


@pytest.mark.parametrize("kind", KINDS)
def test_runs(folder: Path, kind: Any) -> None:
    pytest.importorskip(kind)
    found = rows(load(folder).frame(kind))
    assert len(found) == 10
    muon = [row for row in found if row["arm"] == "muon"]
    assert [row["seed"] for row in muon] == [200, 201, 202, 203, 204]
    assert [row["final_loss"] for row in muon] == pytest.approx([1.48, 1.49, 1.5, 1.51, 1.52])
    assert {row["setting.lr"] for row in muon} == {0.01}
    assert muon[0]["metric.accuracy"] == pytest.approx(1 / 2.48)
    assert not muon[0]["diverged"]


@pytest.mark.parametrize("kind", KINDS)
def test_trials_and_curves(folder: Path, kind: Any) -> None:
    pytest.importorskip(kind)
    results = load(folder / "result.json")
    trials = [row for row in rows(results.frame(kind, "trials")) if row["arm"] == "adamw"]
    assert [(row["phase"], row["seed"], row["setting.lr"]) for row in trials[:4]] == [
        ("search", 1, 0.003), ("search", 1, 0.01), ("search", 1, 0.05), ("retune", 2, 0.01),
    ]  # fmt: skip
    curves = rows(results.frame(kind, "curves"))
    assert len(curves) == 2 * 5 * 4
    assert [row["step"] for row in curves[:4]] == [10, 20, 30, 40]
    assert curves[3]["loss"] == pytest.approx(1.98)


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_several_types_and_none_at_all(kind: Any) -> None:
    """An arm whose decay is 0 beside one of 0.1, one with a word for a number, and figures nobody has."""
    pytest.importorskip(kind)
    result = summarize(usual())
    result["arms"]["adamw"]["best"]["settings"] |= {"weight_decay": 0, "decay": "torch"}
    result["arms"]["muon"]["best"]["settings"] |= {"weight_decay": 0.1, "decay": True}
    found = rows(Results(result).frame(kind))
    assert {row["setting.weight_decay"] for row in found} == {0.0, 0.1}
    assert {row["setting.decay"] for row in found} == {"torch", "True"}
    for arm in result["arms"].values():
        arm["trials"] = []
    assert rows(Results(result).frame(kind, "trials")) == []


def test_the_verdict_is_at_hand(folder: Path) -> None:
    assert load(folder).text.startswith("muon trained best")


def test_a_library_that_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"^frames of polars need it to be installed: pip install polars$"):
        load(folder).frame("polars")


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the study is not done, or lies elsewhere"):
        load(tmp_path)
    path = tmp_path / "result.json"
    for content in ("[]", "{}", '{"format": 0, "arms": {}}', "{"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"result\.json"):
            load(path)


def test_unknown_frames_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="kind must be 'pandas' or 'polars', got 'dask'"):
        load(folder).frame("dask")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="what must be 'runs', 'trials' or 'curves', got 'losses'"):
        load(folder).frame("pandas", "losses")  # type: ignore[arg-type]
