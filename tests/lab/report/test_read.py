"""`ravine report`: the page of a study made again, and several studies on one page."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.lab.report import samples

from ravine.lab.report import report


def study(folder: Path, result: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


def test_one_study_gets_its_page_again(tmp_path: Path) -> None:
    folder = study(tmp_path / "study", samples.full())
    assert report([folder]) == folder / "report.html"
    assert "muon trained best" in (folder / "report.html").read_text(encoding="utf-8")
    elsewhere = report([folder / "result.json"], tmp_path / "elsewhere", ["csv"])
    assert elsewhere == tmp_path / "elsewhere" / "report.html"
    assert (tmp_path / "elsewhere" / "curves.csv").exists()


def test_several_studies_share_a_page(tmp_path: Path) -> None:
    one = study(tmp_path / "one", samples.full())
    other = study(tmp_path / "other", samples.full())
    page = report([one, other], tmp_path / "both").read_text(encoding="utf-8")
    assert "muon (one)" in page.replace("<wbr>", "") and "muon (other)" in page.replace("<wbr>", "")


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [study(tmp_path / name / "study", samples.full()) for name in "ab"]
    page = report(folders, tmp_path / "out").read_text(encoding="utf-8").replace("<wbr>", "")
    assert all(f"muon ({folder})" in page for folder in folders)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot read"),
        ("[]", "is not the result of a study of ravine"),
        ('{"a": 1}', "is not the result of a study of ravine"),
        ('{"format": 99}', "has format 99, and this version of ravine reads format 1"),
        ('{"format": 1}', "lacks task, loss_name"),
    ],
)
def test_what_is_no_result_is_said_in_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "result.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        report([tmp_path])
    assert os.listdir(tmp_path) == ["result.json"]


def test_an_unfinished_study_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no result\.json: give the folder of a study that has come to its end"):
        report([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="at least one study"):
        report([])
