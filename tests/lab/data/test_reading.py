"""Folders of mixed files: what has text is read, what has none is skipped and named, never a traceback."""

from __future__ import annotations

import gzip
import os
import random
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ravine.lab import data
from ravine.lab.data import extract, reading, sources
from ravine.lab.data.extract import Extraction, expanded

from .documents import lines, needs_tesseract, pdf, picture


def compressed(content: bytes) -> bytes:
    """The same bytes whenever it is called: gzip notes the time otherwise, and tests are named after them."""
    return gzip.compress(content, mtime=0)


def text_of(corpus: data.Corpus) -> str:
    return "".join(corpus.splits[split].tobytes().decode() for split in data.SHARES)


def why(corpus: data.Corpus) -> dict[str, str]:
    return {skipped.path: skipped.why for skipped in corpus.skipped}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with 9 kB of text in it."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "main.txt").write_text(lines(0, 1000), encoding="utf-8")
    return tmp_path / "texts"


def test_a_mixed_folder(folder: Path) -> None:
    (folder / "notes.md").write_text("# Heading\n\nmarkdown words\n", encoding="utf-8")
    (folder / "code.py").write_text("print('python words')\n", encoding="utf-8")
    (folder / "page.html").write_text("<p>hyper&shy;text <b>words</b><script>var unseen</script>", encoding="utf-8")
    (folder / "log.txt.gz").write_bytes(compressed(b"compressed words\n"))
    (folder / "page.htm.gz").write_bytes(compressed(b"<i>compressed hypertext</i>"))
    (folder / "paper.pdf").write_bytes(pdf("portable words", "second page"))
    (folder / "paper2.pdf.gz").write_bytes(compressed(pdf("compressed paper")))
    (folder / "blob").write_bytes(b"\0\1\2")
    (folder / "latin.txt").write_bytes("déjà vu".encode("latin-1"))
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("hidden words", encoding="utf-8")
    corpus = data.read(folder, cache=folder.parent / "cache", ocr=False)
    assert {s.path: s.kind for s in corpus.sources} == {
        "main.txt": "text", "notes.md": "Markdown", "code.py": "code", "page.html": "HTML", "log.txt.gz": "text",
        "page.htm.gz": "HTML", "paper.pdf": "PDF", "paper2.pdf.gz": "PDF",
    }  # fmt: skip
    assert why(corpus) == {"blob": "not text: it has zero bytes", "latin.txt": "not UTF-8 text"}
    text = text_of(corpus)
    for words in ("markdown words", "python words", "compressed words", "compressed hypertext", "portable words",
                  "second page", "compressed paper", "hyper\u00adtext words"):  # fmt: skip
        assert words in text
    assert "unseen" not in text and "hidden" not in text and "<" not in text
    assert sum(s.bytes for s in corpus.sources) == corpus.bytes == len(text.encode())


@needs_tesseract
def test_images_are_read_by_tesseract(folder: Path) -> None:
    picture("ravine reads this").save(folder / "scan.png")
    picture("").save(folder / "blank.png")
    corpus = data.read(folder, cache=folder.parent / "cache")
    assert "ravine reads this" in text_of(corpus)
    assert why(corpus) == {"blank.png": "no text was found in the image"}


def test_without_tesseract_images_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture("words").save(folder / "scan.png")
    off = data.read(folder, cache=folder.parent / "cache", ocr=False)
    assert why(off) == {"scan.png": "an image, and reading text in images is switched off"}
    monkeypatch.setenv("PATH", str(folder))
    missing = data.read(folder, cache=folder.parent / "cache")
    assert "tesseract, which reads text in them, is not installed" in why(missing)["scan.png"]


@needs_tesseract
def test_damaged_and_enormous_images_are_named(folder: Path) -> None:
    picture("words").save(folder / "whole.png")
    content = (folder / "whole.png").read_bytes()
    (folder / "half.png").write_bytes(content[: len(content) // 2])
    (folder / "none.png").write_bytes(b"no image at all")
    (folder / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name, side in (("large.png", 11_000), ("huge.png", 60_000)):
        header = b"IHDR" + side.to_bytes(4, "big") * 2 + b"\1\0\0\0\0"
        chunk = b"\0\0\0\r" + header + zlib.crc32(header).to_bytes(4, "big")
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" + bytes(4))
    found = why(data.read(folder, cache=folder.parent / "cache"))
    assert "damaged image" in found["half.png"]
    assert found["none.png"] == found["script.png"] == "not an image, or damaged"
    assert found["large.png"] == "an image of 11000 x 11000 pixels, more than 100000000"
    assert found["huge.png"] == "an image of more than 100000000 pixels"
    assert "whole.png" not in found


def test_links_to_folders_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.txt").write_text("elsewhere\n" * 99, encoding="utf-8")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    (folder / "dangling.txt").symlink_to(tmp_path / "nothing")
    (folder / "file.txt").symlink_to(tmp_path / "elsewhere" / "more.txt")
    corpus = data.read(folder, cache=tmp_path / "cache")
    assert [s.path for s in corpus.sources] == ["file.txt", "main.txt"] and not corpus.skipped


def test_names_that_are_not_text(folder: Path) -> None:
    for name in (b"a\xff.txt", b"two\nlines.txt"):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(lines(len(name), 9).encode())
    corpus = data.read(folder, cache=folder.parent / "cache")
    assert [s.path for s in corpus.sources] == ["a\ufffd.txt", "main.txt", "two\ufffdlines.txt"]


def test_an_unreadable_file_is_named_and_an_unreadable_root_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "closed.txt").write_text("closed", encoding="utf-8")
    whole = Path.open

    def refuse(self: Path, *args: object, **options: object) -> object:
        if self.name == "closed.txt":
            raise PermissionError(13, "Permission denied", str(self))
        return whole(self, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    corpus = data.read(folder, cache=folder.parent / "cache")
    assert why(corpus) == {"closed.txt": "cannot be read: Permission denied"}
    with pytest.raises(ValueError, match=r"closed\.txt has no text to train on: cannot be read: Permission denied"):
        data.read(folder / "closed.txt", cache=folder.parent / "cache")


def test_an_unreadable_folder_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "closed").mkdir()
    whole = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert why(data.read(folder, cache=folder.parent / "cache")) == {"closed": "Permission denied"}
    with pytest.raises(ValueError, match=r"cannot read .*closed: Permission denied"):
        data.read(folder / "closed", cache=folder.parent / "cache")


def test_a_file_that_changes_while_it_is_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = extract.chunks

    def growing(path: Path) -> object:
        yield from whole(path)
        path.write_text(lines(0, 2000), encoding="utf-8")

    monkeypatch.setattr(extract, "chunks", growing)
    with pytest.raises(ValueError, match=r"main\.txt has changed while it was read"):
        data.read(folder, cache=folder.parent / "cache")
    assert not list((folder.parent / "cache").glob("*/corpus.json"))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("file", b"", "empty"),
        ("file", b"\0\1\2" * 999, "zero bytes"),
        ("file", b"\xff\xfe" * 999, "not UTF-8"),
        ("file", b"ab", "too short to be cut into three splits: 2 bytes"),
        ("file.gz", compressed(lines(0, 999).encode())[:-9], "damaged gzip: its end is missing"),
        ("file.gz", b"not gzip", "damaged gzip"),
        ("file.gz", b"", "empty"),
        ("file.txt.gz.gz", compressed(compressed(b"words")), "compressed more than once"),
        ("file.gz", compressed(b"\0" * 99), "zero bytes"),
        ("file.pdf", b"%PDF-1.4 and nothing more", "a damaged PDF"),
        ("file.pdf", b"", "a damaged PDF"),
        ("file.html", b"<p>caf\xe9", "not in the encoding utf-8"),
        ("file.html", b"<meta charset=ebcdic><p>words", "an encoding that is not known here, ebcdic"),
        ("file.html", b"<script>only</script>", "empty"),
    ],
)
def test_a_file_that_will_not_do(name: str, content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as error:
        data.read(path, cache=tmp_path / "cache")
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "cache").glob("*/*"))


def test_paths_that_will_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="no such file or folder"):
        data.read(tmp_path / "missing")
    with pytest.raises(ValueError, match="folder is empty"):
        data.read(tmp_path / "folder")
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        data.read("/dev/null")
    (tmp_path / "folder" / "a").write_bytes(b"\0" * 100)
    (tmp_path / "folder" / "b").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"everything in it was skipped, 2 in all, the first one, a, because: not text: it"
    ):
        data.read(tmp_path / "folder", cache=tmp_path / "cache")
    (tmp_path / "folder" / "b").unlink()
    with pytest.raises(
        ValueError, match=r"everything in it was skipped, 1 in all, the first one, a, because: not text: it"
    ):
        data.read(tmp_path / "folder", cache=tmp_path / "cache")
    monkeypatch.setattr(reading.sysconfig, "get_path", lambda name: str(tmp_path / "folder"))
    with pytest.raises(ValueError, match=r"no Python sources in .*folder; give a file or folder of text with --data"):
        data.standard_library()


def test_gzip_in_several_members_and_with_zeros_behind(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(compressed(lines(0, 600).encode()) + compressed(lines(600, 600).encode()) + b"\0" * 512)
    corpus = data.read(path, cache=tmp_path / "cache")
    assert corpus.bytes == 1200 * 9
    assert set(text_of(corpus).split()) == {f"{n:08d}" for n in range(1200)}


def test_a_bomb_is_not_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bomb.gz").write_bytes(compressed(b"a" * 20_000_000))
    monkeypatch.setattr(extract, "SPARE", 1_000_000)
    corpus = data.read(folder, cache=folder.parent / "cache")
    size = (folder / "bomb.gz").stat().st_size
    assert why(corpus) == {"bomb.gz": f"expands to more than {100 * size + 1_000_000} bytes, from {size}"}
    assert sum(p.stat().st_size for p in (folder.parent / "cache").rglob("*") if p.is_file()) < 100_000


def test_many_small_bombs_share_what_they_may_become(tmp_path: Path) -> None:
    extraction = Extraction(tmp_path, spare=3_000_000)
    for i in range(4):
        (tmp_path / f"{i}.gz").write_bytes(compressed(bytes([97 + i]) * 2_000_000))
    whys = []
    for found in sources.search(tmp_path).found:
        try:
            with expanded(found, extraction) as inner:
                assert inner.size == 2_000_000
        except sources.Unreadable as error:
            whys.append(str(error))
    # Each is 2 kB, so that 1.8 MB of its 2 MB are beyond a ratio of 100.
    assert len(whys) == 3 and extraction.spare >= 0
    assert not (tmp_path / "expanded").exists()


def test_one_file_has_a_largest_size_whatever_its_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "noise.txt.gz"
    path.write_bytes(compressed(random.Random(0).randbytes(50_000).hex().encode()))
    monkeypatch.setattr(extract, "EXPANDED", 99_999)
    with pytest.raises(ValueError, match="expands to more than 99999 bytes"):
        data.read(path, cache=tmp_path / "cache")
    monkeypatch.setattr(extract, "EXPANDED", 100_000)
    assert data.read(path, cache=tmp_path / "cache").bytes == 100_000


NAMES = st.sampled_from(["a.txt", "b.html", "c.pdf", "d.gz", "e.html.gz", "f.pdf.gz", "g.py", "h.md", "i.png", "j"])
WHOLE = [
    b"",
    lines(0, 99).encode(),
    "αβγ\n".encode() * 99,
    b"<p>one<p>two",
    pdf("words"),
    compressed(b"words\n" * 99),
]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(NAMES, st.sampled_from(WHOLE) | st.binary(max_size=400), max_size=5), cut=st.integers(0, 300)
)
def test_any_mixture_gives_three_splits_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("mixture")
    for number, (name, content) in enumerate(files.items()):
        (folder / name).write_bytes(content if number else content[: len(content) - cut] if cut else content)
    try:
        corpus = data.read(folder, cache=folder.parent / f"{folder.name}-cache", ocr=False)
    except ValueError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
        return
    assert all(len(corpus.splits[split]) for split in data.SHARES)
    named = {s.path.split(",")[0] for s in (*corpus.sources, *corpus.skipped)}
    assert named == set(files)
    pieces = "".join(sorted(text_of(corpus)))
    plain = [s for s in corpus.sources if s.kind in ("text", "code", "Markdown") and not s.path.endswith(".gz")]
    assert len(pieces.encode()) == corpus.bytes
    assert all(s.bytes == (folder / s.path).stat().st_size for s in plain)
