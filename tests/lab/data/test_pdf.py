"""PDF: text page by page, scanned pages by tesseract, damaged and enormous files named."""

from __future__ import annotations

import zlib
from pathlib import Path

import pypdf
import pytest

from ravine.lab import data
from ravine.lab.data import pdf as pages_of
from ravine.lab.data.extract import Extraction, text_of
from ravine.lab.data.sources import Unreadable, search

from .documents import file_of, lines, needs_tesseract, pdf, picture, stream


def extracted(path: Path, **options: object) -> tuple[str, Extraction]:
    extraction = Extraction(path.parent, **options)
    (found,) = search(path).found
    return b"".join(text_of(found, extraction)).decode(), extraction


def whys(extraction: Extraction) -> list[tuple[str, str]]:
    return [(s.path, s.why) for s in extraction.skipped]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "paper.pdf"


@pytest.mark.parametrize("compress", [False, True])
def test_text_is_read_page_by_page(path: Path, compress: bool) -> None:
    path.write_bytes(pdf("page one\nsecond line", "page two", compress=compress))
    assert extracted(path)[0] == "page one\nsecond line\n\npage two\n\n"


def test_pages_without_text_are_named(path: Path) -> None:
    path.write_bytes(pdf("words", picture("scanned"), ""))
    text, extraction = extracted(path, ocr=False)
    assert text == "words\n\n"
    assert whys(extraction) == [
        ("paper.pdf, page 2", "an image, and reading text in images is switched off"),
        ("paper.pdf, page 3", "neither text nor images on it"),
    ]


@needs_tesseract
def test_a_scanned_page_is_read_by_tesseract(path: Path) -> None:
    path.write_bytes(pdf("words", picture("scanned sentence"), picture("")))
    text, extraction = extracted(path)
    assert text.split() == ["words", "scanned", "sentence"]
    assert whys(extraction) == [("paper.pdf, page 3", "no text was found in its images")]


def test_a_file_without_any_text_is_skipped_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(lines(0, 99), encoding="utf-8")
    (folder / "scan.pdf").write_bytes(pdf(picture("one"), picture("two")))
    corpus = data.read(folder, cache=tmp_path / "cache", ocr=False)
    assert [(s.path, s.why) for s in corpus.skipped] == [
        ("scan.pdf", "none of its 2 pages has text: an image, and reading text in images is switched off")
    ]


def test_pages_beyond_the_limit_are_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_of, "PAGES", 2)
    path.write_bytes(pdf("one", "two", "three", "four"))
    text, extraction = extracted(path)
    assert text.split() == ["one", "two"]
    assert whys(extraction) == [("paper.pdf, pages 3 to 4", "only 2 pages of a file are read")]


def test_a_page_that_expands_too_far_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_of, "STREAM", 100_000)
    path.write_bytes(pdf("words", " " * 200_000, compress=True))
    text, extraction = extracted(path)
    assert text == "words\n\n"
    ((name, why),) = whys(extraction)
    assert name == "paper.pdf, page 2" and why.startswith("damaged: Limit reached")


def test_a_file_whose_pages_share_one_large_stream_is_refused(path: Path) -> None:
    count = 40
    kids = " ".join(f"{4 + i} 0 R" for i in range(count))
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 3 0 R /Resources << >> >>"
    path.write_bytes(
        file_of(
            [
                b"<< /Type /Catalog /Pages 2 0 R >>",
                f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
                stream(zlib.compress(b" " * 1_000_000, 9), "/Filter /FlateDecode"),
                *[page] * count,
            ]
        )
    )
    with pytest.raises(Unreadable, match="its pages expand to more than"):
        extracted(path, spare=5_000_000)


def test_encrypted_files_are_named(path: Path) -> None:
    path.write_bytes(pdf("secret"))
    writer = pypdf.PdfWriter(clone_from=path)
    writer.encrypt("password", algorithm="RC4-128")
    writer.write(path)
    with pytest.raises(Unreadable, match="encrypted"):
        extracted(path)


@pytest.mark.parametrize("damage", range(6))
def test_damaged_files_are_read_or_named(path: Path, damage: int) -> None:
    whole = pdf("words on page one", "words on page two")
    path.write_bytes(whole[: len(whole) * damage // 6] + b"\xff" * damage)
    try:
        text, extraction = extracted(path)
    except Unreadable as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert "words on page" in text or extraction.skipped
