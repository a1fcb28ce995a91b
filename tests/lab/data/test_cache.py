"""Token files: made once, keyed by content, whole or not at all, by however many processes at the same time."""

from __future__ import annotations

import multiprocessing
import os
import stat
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest

from ravine.lab import data
from ravine.lab.data import cache as caching

from .documents import lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(lines(0, 3000), encoding="utf-8")
    return path


def folders(cache: Path) -> set[str]:
    return {p.name for p in cache.iterdir() if p.is_dir()}


def test_what_is_there_is_not_made_again(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data.read(path, cache=tmp_path / "cache")
    assert all(isinstance(tokens, np.memmap) and not tokens.flags.writeable for tokens in first.splits.values())
    monkeypatch.setattr(caching, "_make", lambda *_: pytest.fail("made again"))
    again = data.read(path, cache=tmp_path / "cache")
    assert again.folder == first.folder and again.sha256 == first.sha256
    assert again.sources == first.sources and again.about() == first.about()


def test_the_key_is_the_content_and_what_reads_it(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    one = data.read(path, cache=cache)
    moved = tmp_path / "elsewhere" / "text.txt"
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    assert data.read(moved, cache=cache).folder == one.folder
    others = [data.read(path, "bpe:300", cache=cache), data.read(path, cache=cache, largest=9999)]
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    others.append(data.read(path, cache=cache))
    path.rename(tmp_path / "page.html")
    others.append(data.read(tmp_path / "page.html", cache=cache))
    monkeypatch.setattr(caching, "FORMAT", 0)
    others.append(data.read(moved, cache=cache))
    assert len({one.folder, *(other.folder for other in others)}) == 6


def test_damaged_token_files_are_made_again(path: Path, tmp_path: Path) -> None:
    whole = data.read(path, cache=tmp_path / "cache")
    for damage in ("training.tokens", "corpus.json"):
        file = whole.folder / damage
        file.write_bytes(file.read_bytes()[:-5])
        assert data.read(path, cache=tmp_path / "cache").sha256 == whole.sha256
    (whole.folder / "judging.tokens").unlink()
    again = data.read(path, cache=tmp_path / "cache")
    assert all(
        np.array_equal(again.splits[s], data.read(path, cache=tmp_path / "other").splits[s]) for s in data.SHARES
    )


def test_what_a_killed_process_left_is_cleared_away(path: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    key = data.read(path, cache=cache).folder.name
    (cache / key / "corpus.json").unlink()
    (cache / f".{key}.left").mkdir()
    (cache / f".{key}.left" / "text").write_bytes(b"left")
    data.read(path, cache=cache)
    assert folders(cache) == {key}


def test_failing_leaves_nothing_behind(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching, "write_split", full)
    with pytest.raises(ValueError, match=r"cannot write the token files of .*text\.txt to .*cache: No space left"):
        data.read(path, cache=tmp_path / "cache")
    assert not folders(tmp_path / "cache")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes cannot be forked here")
def test_processes_that_make_the_same_at_once(path: Path, tmp_path: Path) -> None:
    path.write_text(lines(0, 200_000), encoding="utf-8")
    context = multiprocessing.get_context("fork")
    together, seen, cache = context.Barrier(4), context.Queue(), tmp_path / "cache"
    running = [context.Process(target=_read_together, args=(together, seen, path, cache)) for _ in range(4)]
    for process in running:
        process.start()
    found = [seen.get(timeout=60) for _ in running]
    for process in running:
        process.join(timeout=60)
    assert [process.exitcode for process in running] == [0] * 4
    assert len(set(found)) == 1 and len(folders(tmp_path / "cache")) == 1
    # Whoever came first made them: the files are the ones that all have mapped.
    assert found[0] == _seen(data.read(path, cache=tmp_path / "cache"))


def _read_together(together: Barrier, seen: Queue, path: Path, cache: Path) -> None:
    together.wait(timeout=60)
    seen.put(_seen(data.read(path, cache=cache)))


def _seen(corpus: data.Corpus) -> tuple[str, int, int]:
    file = (corpus.folder / "training.tokens").stat()
    return corpus.sha256, file.st_ino, file.st_mtime_ns


def test_the_users_own_cache_is_private(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    corpus = data.read(path)
    assert corpus.folder.parent == tmp_path / "home" / "ravine" / "tokens"
    assert stat.S_IMODE(corpus.folder.parent.stat().st_mode) == 0o700
    os.chmod(tmp_path / "home" / "ravine", 0o777)
    with pytest.raises(ValueError, match=r"no place for token files: .* can be written by others"):
        data.read(path)


def test_a_cache_that_cannot_be_made(path: Path) -> None:
    with pytest.raises(ValueError, match="no place for token files: "):
        data.read(path, cache=path / "below")
