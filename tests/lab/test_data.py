"""Text: three splits that share nothing, the same everywhere, and one sentence for what is no text."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ravine.lab import data


def lines(first: int, count: int) -> str:
    """Text of which every line is unlike any other: line numbers of eight digits."""
    return "".join(f"{n:08d}\n" for n in range(first, first + count))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty text files in two folders, and what is left out: a binary, a hidden file, an empty one."""
    for i in range(40):
        path = tmp_path / "texts" / ("a" if i % 2 else "b") / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines(i * 1000, 200), encoding="utf-8")
    (tmp_path / "texts" / "image.png").write_bytes(b"\x89PNG\r\n\0\xff" * 100)
    (tmp_path / "texts" / ".hidden").write_text("secret " * 1000, encoding="utf-8")
    (tmp_path / "texts" / "empty.txt").write_text("", encoding="utf-8")
    return tmp_path / "texts"


def numbers(corpus: data.Corpus, split: data.Split) -> set[str]:
    return set(re.findall(r"\d{8}(?=\n)", bytes(corpus.splits[split].tolist()).decode()))


def test_the_standard_library_is_read_the_same_way_twice() -> None:
    one, two = data.standard_library(), data.standard_library()
    assert one.sha256 == two.sha256
    assert all(torch.equal(one.splits[s], two.splits[s]) for s in data.SHARES)
    assert one.size > 2_000_000
    text = bytes(one.splits["training"].tolist())
    assert b"def " in text and b"class " in text


def test_splits_have_their_shares_and_nothing_in_common(folder: Path) -> None:
    corpus = data.read(folder)
    assert corpus.files == 40 and corpus.skipped == 1 and not corpus.capped
    assert corpus.size == 40 * 200 * 9
    for split, share in data.SHARES.items():
        assert len(corpus.splits[split]) / corpus.size == pytest.approx(share, abs=0.05)
    training, tuning, judging = (numbers(corpus, split) for split in data.SHARES)
    assert training and tuning and judging
    assert not (training & tuning or training & judging or tuning & judging)
    assert len(training | tuning | judging) > 0.99 * 40 * 200


def test_one_large_file_reaches_every_split(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text(lines(0, 20_000), encoding="utf-8")
    corpus = data.read(path)
    training, tuning, judging = (numbers(corpus, split) for split in data.SHARES)
    assert not (training & tuning or training & judging or tuning & judging)
    for found in (training, tuning, judging):
        assert min(map(int, found)) < 6_000 and max(map(int, found)) > 14_000


def test_copies_of_a_text_are_read_once(folder: Path) -> None:
    before = data.read(folder)
    (folder / "copy.txt").write_bytes((folder / "a" / "1.txt").read_bytes())
    assert data.read(folder).sha256 == before.sha256


def test_the_hash_tells_one_changed_byte(folder: Path) -> None:
    before = data.read(folder)
    path = folder / "a" / "1.txt"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert data.read(folder).sha256 != before.sha256


def test_text_beyond_the_limit_is_left_out_and_said_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "LARGEST", 10_000)
    corpus = data.read(folder)
    assert corpus.capped and corpus.size == 10_000


def test_a_character_cut_by_the_limit_is_still_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "greek.txt"
    path.write_text("αβγδ" * 5_000, encoding="utf-8")
    monkeypatch.setattr(data, "LARGEST", 10_001)
    assert data.read(path).size == 10_001


def test_windows_are_text_in_order_and_do_not_overlap(folder: Path) -> None:
    corpus = data.read(folder)
    text = corpus.splits["judging"]
    windows = corpus.windows("judging", 20, 33)
    assert windows.shape == (20, 33) and windows.dtype == torch.int64
    places = [int(i) for i in torch.arange(20) * (len(text) // 20)]
    assert all(torch.equal(w, text[i : i + 33].long()) for w, i in zip(windows, places, strict=True))
    assert min(b - a for a, b in itertools.pairwise(places)) >= 33


def test_batches_follow_their_generator_and_reach_both_ends(folder: Path) -> None:
    corpus = data.read(folder)
    draws = [corpus.batch("tuning", 500, 33, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    whole = len(corpus.splits["tuning"])
    exact = corpus.batch("tuning", 3, whole, torch.Generator())
    assert exact.shape == (3, whole)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "is empty"), (b"\0\1\2" * 999, "not UTF-8 text"), (b"\xff\xfe" * 999, "not UTF-8"), (b"ab", "too short")],
)
def test_a_file_that_will_not_do(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as error:
        data.read(path)
    assert str(path) in str(error.value)


def test_paths_that_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        data.read(tmp_path / "missing")
    with pytest.raises(ValueError, match="is empty"):
        data.read(tmp_path)
    (tmp_path / "binary").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="its 1 files are binary"):
        data.read(tmp_path)


def test_a_split_too_short_for_a_window_is_named(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text(lines(0, 30), encoding="utf-8")
    with pytest.raises(ValueError, match="its tuning split has 27 bytes, one window needs 129"):
        data.read(path).require(129)


@given(st.binary(max_size=400))
def test_any_bytes_give_three_splits_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "file"
    path.write_bytes(content)
    try:
        corpus = data.read(path)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    content.decode("utf-8")
    pieces = [bytes(corpus.splits[split].tolist()) for split in data.SHARES]
    assert all(pieces) and sorted(b"".join(pieces)) == sorted(content)
