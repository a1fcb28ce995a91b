"""Text: three splits that share nothing, the same everywhere, and windows of them."""

from __future__ import annotations

import itertools
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ravine.lab import data
from ravine.lab.data.deal import deal

from .documents import lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty text files in two folders, and what is left out: a binary, a hidden file, an empty one."""
    for i in range(40):
        path = tmp_path / "texts" / ("a" if i % 2 else "b") / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines(i * 1000, 200), encoding="utf-8")
    (tmp_path / "texts" / "weights.bin").write_bytes(b"\x89\r\n\0\xff" * 100)
    (tmp_path / "texts" / ".hidden").write_text("secret " * 1000, encoding="utf-8")
    (tmp_path / "texts" / "empty.txt").write_text("", encoding="utf-8")
    return tmp_path / "texts"


def numbers(corpus: data.Corpus, split: data.Split) -> set[str]:
    return set(re.findall(r"\d{8}(?=\n)", corpus.tokenizer.decode(corpus.splits[split].tolist())))


def require_disjoint(corpus: data.Corpus) -> list[set[str]]:
    parts = [numbers(corpus, split) for split in data.SHARES]
    assert all(parts)
    assert all(not one & other for one, other in itertools.combinations(parts, 2))
    return parts


def test_the_standard_library_is_read_the_same_way_twice() -> None:
    one, two = data.standard_library(), data.standard_library()
    assert one.sha256 == two.sha256
    assert all(np.array_equal(one.splits[s], two.splits[s]) for s in data.SHARES)
    assert one.size == one.bytes > 2_000_000
    text = one.splits["training"].tobytes()
    assert b"def " in text and b"class " in text
    assert {source.kind for source in one.sources} == {"code"}


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_splits_have_their_shares_and_nothing_in_common(folder: Path, tokenizer: str) -> None:
    corpus = data.read(folder, tokenizer, cache=folder.parent / "cache")
    assert corpus.files == 40 and not corpus.capped
    assert {(s.path, s.why) for s in corpus.skipped} == {
        ("weights.bin", "not text: it has zero bytes"),
        ("empty.txt", "empty"),
    }
    assert corpus.bytes == 40 * 200 * 9
    for split, share in data.SHARES.items():
        assert len(corpus.splits[split]) / corpus.size == pytest.approx(share, abs=0.05)
    assert len(set.union(*require_disjoint(corpus))) > 0.99 * 40 * 200


def test_one_large_file_reaches_every_split(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text(lines(0, 20_000), encoding="utf-8")
    for found in require_disjoint(data.read(path, cache=tmp_path / "cache")):
        assert min(map(int, found)) < 6_000 and max(map(int, found)) > 14_000


def test_copies_of_a_text_are_read_once(folder: Path) -> None:
    cache = folder.parent / "cache"
    before = data.read(folder, cache=cache)
    (folder / "b" / "copy.txt").write_bytes((folder / "a" / "1.txt").read_bytes())
    after = data.read(folder, cache=cache)
    assert after.sha256 == before.sha256
    assert data.Skipped("b/copy.txt", "the same text as a/1.txt") in after.skipped


def test_the_hash_tells_one_changed_byte(folder: Path) -> None:
    cache = folder.parent / "cache"
    before = data.read(folder, cache=cache)
    path = folder / "a" / "1.txt"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert data.read(folder, cache=cache).sha256 != before.sha256


def test_text_beyond_the_largest_size_is_left_out_and_said_so(folder: Path) -> None:
    cache = folder.parent / "cache"
    corpus = data.read(folder, cache=cache, largest=10_000)
    assert corpus.capped and corpus.size == 10_000
    whole = data.read(folder, cache=cache, largest=40 * 200 * 9)
    assert not whole.capped and whole.sha256 == data.read(folder, cache=cache).sha256
    with pytest.raises(ValueError, match="largest=0 must be at least one byte"):
        data.read(folder, cache=cache, largest=0)


def test_the_largest_size_cuts_no_character(tmp_path: Path) -> None:
    path = tmp_path / "greek.txt"
    path.write_text("αβγδ" * 5_000, encoding="utf-8")
    corpus = data.read(path, cache=tmp_path / "cache", largest=10_001)
    assert corpus.size == 10_000 and corpus.capped
    for split in data.SHARES:
        corpus.splits[split].tobytes().decode("utf-8")


def test_windows_are_text_in_order_and_do_not_overlap(folder: Path) -> None:
    corpus = data.read(folder, cache=folder.parent / "cache")
    text = corpus.splits["judging"]
    windows = corpus.windows("judging", 20, 33)
    assert windows.shape == (20, 33) and windows.dtype == torch.int64
    places = [i * (len(text) // 20) for i in range(20)]
    assert all(w.tolist() == text[i : i + 33].tolist() for w, i in zip(windows, places, strict=True))
    assert min(b - a for a, b in itertools.pairwise(places)) >= 33
    assert corpus.windows("judging", 10**9, 33).shape == (len(text) // 33, 33)


def test_draws_follow_their_generator_and_reach_both_ends(folder: Path) -> None:
    corpus = data.read(folder, cache=folder.parent / "cache")
    draws = [corpus.draw(500, 33, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert draws[0].shape == (500, 33) and draws[0].dtype == torch.int64
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    text = corpus.splits["training"]
    ends = corpus.draw(200, len(text) - 1, torch.Generator().manual_seed(0))
    assert {tuple(window[:9].tolist()) for window in ends} == {tuple(text[i : i + 9].tolist()) for i in (0, 1)}


def test_a_split_too_short_for_a_window_is_named(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text(lines(0, 30), encoding="utf-8")
    corpus = data.read(path, cache=tmp_path / "cache")
    with pytest.raises(ValueError, match="its tuning split has 27 bytes, one window needs 129") as error:
        corpus.require(129)
    wanted = int(re.findall(r"give some (\d+) bytes", str(error.value))[0])
    path.write_text(lines(0, wanted // 9 + 1), encoding="utf-8")
    data.read(path, cache=tmp_path / "cache").require(129)


def test_a_corpus_is_pickled_without_its_text(folder: Path) -> None:
    for tokenizer in ("bytes", "bpe:300"):
        corpus = data.read(folder, tokenizer, cache=folder.parent / "cache")
        pickled = pickle.dumps(corpus)
        assert len(pickled) < corpus.size / 2
        again = pickle.loads(pickled)
        assert again.tokenizer == corpus.tokenizer and again.sha256 == corpus.sha256
        assert all(np.array_equal(again.splits[s], corpus.splits[s]) for s in data.SHARES)


def test_a_corpus_in_memory_is_pickled_with_its_text() -> None:
    corpus = data.Corpus("ten", {split: np.arange(10, dtype=np.uint8) for split in data.SHARES})
    again = pickle.loads(pickle.dumps(corpus))
    assert all(np.array_equal(again.splits[s], corpus.splits[s]) for s in data.SHARES)
    assert again.bytes == 30 and again.bytes_per_token("training") == 1.0


def test_a_listing_names_what_was_read_and_what_not(folder: Path) -> None:
    for i in range(120):
        (folder / f"{i}.dat").write_bytes(b"\0")
    corpus = data.read(folder, cache=folder.parent / "cache")
    about = corpus.about()
    assert json.loads(json.dumps(about)) == about
    assert about["kinds"] == {"text": {"files": 40, "bytes": 72_000}}
    assert {"path": "a/1.txt", "kind": "text", "bytes": 1800} in about["read"]
    assert len(about["skipped"]) == 100 and about["skipped_not_named"] == 22
    assert all(entry["why"] for entry in about["skipped"])


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=30))
def test_every_byte_is_dealt_once_and_shares_are_kept(lengths: list[int]) -> None:
    starts = [0, *itertools.accumulate(lengths)]
    dealt = deal(list(zip(starts[:-1], lengths, strict=True)), lambda position: position)
    pieces = sorted(piece for part in dealt.values() for piece in part)
    assert pieces[0][0] == 0 and sum(pieces[-1]) == starts[-1]
    assert all(sum(one) == other[0] for one, other in itertools.pairwise(pieces))
    for split, share in data.SHARES.items():
        assert abs(sum(n for _, n in dealt[split]) - share * starts[-1]) <= 2 * max(n for _, n in pieces)
