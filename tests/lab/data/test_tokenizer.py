"""Tokenizers: text and back, trained on the training split alone, written as JSON that runs nothing."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.lab import data
from ravine.lab.data import write
from ravine.lab.data.deal import deal
from ravine.lab.data.tokenizer import BYTES, BytePairs, Tokenizer, from_json, load, train, wanted

from .documents import lines

TEXT = "The quick brown fox jumps over the lazy dog, and the dog sleeps; naïve façade Ελληνικά 漢字.\n"


@pytest.fixture(scope="module")
def pairs() -> BytePairs:
    return train(iter([TEXT * 20, "def function(argument):\n    return argument\n" * 20]), 320)


def test_bytes_are_tokens() -> None:
    assert BYTES.vocabulary == 256 and BYTES.name == "bytes"
    assert BYTES.encode(TEXT) == list(TEXT.encode())


def test_pairs_make_text_shorter(pairs: BytePairs) -> None:
    assert pairs.name == "bpe:320" and pairs.vocabulary == 320
    tokens = pairs.encode(TEXT)
    assert len(tokens) < 0.6 * len(TEXT.encode()) and max(tokens) < 320
    assert pairs.encode_many([TEXT, "x"]) == [tokens, pairs.encode("x")]


@pytest.mark.parametrize("text", ["", "\0", "a\r\n\tb", "  two  ", "\ufeffé", "𝔘🦊", "<|endoftext|>", "\u200b\u00a0"])
def test_every_text_comes_back(pairs: BytePairs, text: str) -> None:
    for tokenizer in (BYTES, pairs):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text(st.characters(exclude_categories=())))
def test_any_text_comes_back_but_for_half_surrogate_pairs(pairs: BytePairs, text: str) -> None:
    clean = "".join("?" if 0xD800 <= ord(c) < 0xE000 else c for c in text)
    for tokenizer in (BYTES, pairs):
        assert tokenizer.decode(tokenizer.encode(text)) == clean


@given(tokens=st.lists(st.integers(-(2**70), 2**70) | st.integers(0, 500)))
def test_decoding_never_fails(pairs: BytePairs, tokens: list[int]) -> None:
    for tokenizer in (BYTES, pairs):
        text = tokenizer.decode(tokens)
        text.encode("utf-8")
        strangers = sum(not 0 <= token < tokenizer.vocabulary for token in tokens)
        assert text.count("\ufffd") >= strangers


def test_json_and_pickle_keep_a_tokenizer(pairs: BytePairs, tmp_path: Path) -> None:
    for tokenizer in (BYTES, pairs):
        (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
        for again in (from_json(tokenizer.to_json()), load(tmp_path / "tokenizer.json"),
                      pickle.loads(pickle.dumps(tokenizer)), wanted(str(tmp_path / "tokenizer.json"))):  # fmt: skip
            assert isinstance(again, Tokenizer)
            assert again == tokenizer and again.sha256 == tokenizer.sha256 and hash(again) == hash(tokenizer)
            assert again.name == tokenizer.name and again.encode(TEXT) == tokenizer.encode(TEXT)
    assert pairs != BYTES


def test_a_hugging_face_tokenizer_file_is_read(pairs: BytePairs, tmp_path: Path) -> None:
    definition = json.loads(pairs.to_json())["definition"]
    (tmp_path / "tokenizer.json").write_text(definition, encoding="utf-8")
    (tmp_path / "text.txt").write_text(TEXT * 99, encoding="utf-8")
    corpus = data.read(tmp_path / "text.txt", tmp_path / "tokenizer.json", cache=tmp_path / "cache")
    assert corpus.tokenizer.name.startswith("file:") and corpus.vocabulary == 320
    assert from_json(corpus.tokenizer.to_json()) == corpus.tokenizer
    start = pairs.decode(corpus.splits["training"][:60].tolist())
    assert start.rstrip("\ufffd") in TEXT * 3


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("words", "tokenizer 'words' is not known; it may be bytes, bpe:N with N from 257"),
        ("bpe:256", "bpe:N with N from 257 to 1048576"),
        ("bpe:1048577", "bpe:N with N from 257 to 1048576"),
        ("bpe:-1", "is not known"),
        ("bpe:", "is not known"),
        ("missing.json", "cannot read the tokenizer missing.json: No such file"),
    ],
)
def test_names_that_will_not_do(name: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=complaint):
        data.read(tmp_path, name)


@pytest.mark.parametrize(
    "text",
    ["", "nothing", "[]", "{}", '{"tokenizer": "bpe:300"}', '{"tokenizer": "bpe:300", "definition": "{}"}',
     '{"tokenizer": 1, "definition": 2}', '{"model": {"type": "Unknown"}}', '{"tokenizer": "bytes", "x": 1}'],
)  # fmt: skip
def test_json_that_is_no_tokenizer(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        from_json(text)
    (tmp_path / "t.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"t\.json: "):
        load(tmp_path / "t.json")


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r'need the package tokenizers: pip install "ravine\[data\]"'):
        data.read(tmp_path, "bpe:4096")


def test_training_is_the_same_on_any_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text.txt"
    # Among numbers all pairs are about as frequent as each other, so that a tie is decided at every merge.
    path.write_text(TEXT * 50 + lines(0, 2000), encoding="utf-8")
    seen = set()
    for attempt, parallel in enumerate(["true", "false", "true", "false"]):
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", parallel)
        corpus = data.read(path, "bpe:512", cache=tmp_path / f"{attempt}")
        seen.add((corpus.sha256, corpus.tokenizer.sha256))
    assert len(seen) == 1


def test_pairs_are_trained_on_the_training_split_alone(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(lines(0, 10_000), encoding="utf-8")
    before = data.read(path, "bpe:300", cache=tmp_path / "cache")
    whole = bytearray(path.read_bytes())
    dealt = deal([(0, len(whole))], lambda position: position)
    for start, length in dealt["tuning"] + dealt["judging"]:
        whole[start : start + length] = (b"unseen" * length)[:length]
    path.write_bytes(whole)
    after = data.read(path, "bpe:300", cache=tmp_path / "cache")
    assert after.tokenizer == before.tokenizer
    assert np.array_equal(after.splits["training"], before.splits["training"])
    assert after.sha256 != before.sha256


def test_of_much_text_a_part_of_every_piece_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noted(texts: Iterator[str], vocabulary: int) -> BytePairs:
        seen.extend(texts)
        return train(iter(seen), vocabulary)

    monkeypatch.setattr(write, "TRAINED_ON", 36_000)
    monkeypatch.setattr(write, "train", noted)
    path = tmp_path / "text.txt"
    path.write_text(lines(0, 10_000), encoding="utf-8")
    data.read(path, "bpe:300", cache=tmp_path / "cache")
    text = "".join(seen)
    assert 0.95 * 36_000 < len(text) <= 36_000
    dealt = deal([(0, 90_000)], lambda position: position)["training"]
    assert all(path.read_text()[start : start + length // 3] in text for start, length in dealt)


@pytest.mark.parametrize(("vocabulary", "dtype"), [(300, "uint16"), (70_000, "uint32")])
def test_tokens_are_kept_in_the_smallest_type_that_holds_them(
    vocabulary: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BytePairs, "encode_many", lambda self, texts: [[vocabulary - 1] * 7 for _ in texts])
    pairs = train(iter([TEXT]), 300)
    pairs.vocabulary = vocabulary
    (tmp_path / "text.txt").write_text(TEXT * 99, encoding="utf-8")
    monkeypatch.setattr("ravine.lab.data.cache.from_json", lambda text: pairs)
    corpus = data.read(tmp_path / "text.txt", pairs, cache=tmp_path / "cache")
    assert corpus.splits["training"].dtype == dtype
    assert corpus.draw(1, 5, None).tolist() == [[vocabulary - 1] * 5]


def test_bytes_per_token_is_what_a_token_stands_for(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT * 200, encoding="utf-8")
    corpus = data.read(tmp_path / "text.txt", "bpe:400", cache=tmp_path / "cache")
    for split in data.SHARES:
        text = corpus.tokenizer.decode(corpus.splits[split].tolist())
        assert corpus.bytes_per_token(split) == pytest.approx(len(text.encode()) / len(corpus.splits[split]))
    assert corpus.bytes == len(TEXT.encode()) * 200
    with pytest.raises(ValueError, match=r"split has \d+ tokens, one window needs 100000"):
        corpus.require(100_000)


@given(st.lists(st.text(st.sampled_from("ab\né"), max_size=30), max_size=30), st.integers(1, 20))
def test_passages_are_the_text_in_order(parts: list[str], longest: int) -> None:
    text = "".join(parts)
    content, before = text.encode(), write.PASSAGE
    write.PASSAGE = longest
    try:
        passages = list(write.passages(content[i : i + 7] for i in range(0, len(content), 7)))
    finally:
        write.PASSAGE = before
    assert "".join(passages) == text
    assert all(0 < len(passage) <= longest for passage in passages)
