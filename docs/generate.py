"""Fills what the pages show from the commands that print it: `python docs/generate.py`.

Between `<!-- ravine trace adamw -->` and `<!-- end -->` stands the command with what it prints. Other first words:

    <!-- equations adamw -->                          the lines that a rule's default settings leave, as a formula
    <!-- refused: ravine decay ... -->                what a wrong call is told
    <!-- picture zigzag.svg: What it shows: ravine landscape ... --out zigzag.svg -->
    <!-- claims 5 6 -->                                links to claims by number, with their verdicts
    <!-- commands -->, <!-- python -->, <!-- benchmarks FILE -->, <!-- tests FOLDER -->

A picture lies in the folder `images` beside its page. Sessions of Python (```pycon) are run, each by itself, and get
the answers that Python gives. tests/test_book.py holds everything current.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
WRITTEN_ELSEWHERE = ("optimizers", "claims")
KINDS = "ravine|refused:|picture|equations|claims|commands|python|benchmarks|tests"
BLOCK = re.compile(rf"^<!-- (?P<words>(?:{KINDS}) ?[^\n]*?) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
SESSION = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WIDTH = 92
WRONG_CALL = 2

sys.path.insert(0, str(DOCS))
import references  # noqa: E402


def sources() -> list[Path]:
    """The pages in which there is something to fill."""
    return [
        path
        for path in sorted(DOCS.rglob("*.md"))
        if path.relative_to(DOCS).parts[0] not in WRITTEN_ELSEWHERE
        and re.search(r"^<!-- end -->$|^```pycon$", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def filled(path: Path, draw: bool = False) -> str:
    """The text of a page with its blocks written anew; its pictures are drawn only if asked for.

    Raises:
        ValueError: for a block whose command fails, with what it says.
    """

    def block(found: re.Match[str]) -> str:
        words = found["words"]
        try:
            body = written(words, path, draw)
        except ValueError as error:
            raise ValueError(f"{path.relative_to(ROOT)}: {words}: {error}") from error
        return f"<!-- {words} -->\n{body.rstrip()}\n<!-- end -->"

    return SESSION.sub(session, BLOCK.sub(block, path.read_text(encoding="utf-8")))


def session(found: re.Match[str]) -> str:
    """A session of Python with the answers that Python gives now."""
    lines: list[str] = []
    names: dict[str, Any] = {}
    for example in doctest.DocTestParser().get_examples(found[1]):
        first, *others = example.source.rstrip("\n").split("\n")
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(example.source, "session", "single"), names)
        lines += [f">>> {first}", *(f"... {line}".rstrip() for line in others), *said.getvalue().splitlines()]
    return "```pycon\n" + "\n".join(lines) + "\n```"


def written(words: str, page: Path, draw: bool) -> str:
    """What stands in a block."""
    kind, _, rest = words.partition(" ")
    if kind == "ravine":
        return f"```console\n$ {words}\n{printed(words)}\n```"
    if kind == "refused:":
        return f"```console\n$ {rest}\n{printed(rest, refused=True)}\n```"
    if kind == "picture":
        return picture(rest, page, draw)
    make: Callable[[str, Path], str] = getattr(references, kind)
    return make(rest, page)


def printed(command: str, folder: Path | None = None, refused: bool = False) -> str:
    """What a command of ravine prints, run in a folder, or in one of its own; or how it says that it will not."""
    from typer.testing import CliRunner

    from ravine.cli import app
    from ravine.explain import terminal

    before, width = Path.cwd(), terminal.PLAIN_WIDTH
    with tempfile.TemporaryDirectory() as made:
        os.chdir(folder or made)
        terminal.PLAIN_WIDTH = WIDTH
        try:
            done = CliRunner().invoke(app, shlex.split(command)[1:])
        finally:
            terminal.PLAIN_WIDTH = width
            os.chdir(before)
    if refused and done.exit_code == WRONG_CALL:
        return "\n".join(textwrap.wrap(done.stderr.strip(), WIDTH))
    if refused:
        raise ValueError(f"it is not refused, but ends with exit code {done.exit_code}")
    if done.exit_code != 0:
        raise ValueError(done.stderr.strip() or repr(done.exception))
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())


def picture(rest: str, page: Path, draw: bool) -> str:
    """A picture, what it shows, and the command that draws it."""
    name, shown, command = (part.strip() for part in rest.split(": ", 2))
    folder = page.parent / "images"
    if draw:
        folder.mkdir(exist_ok=True)
        printed(command, folder)
    if not folder.joinpath(name).is_file():
        raise ValueError(f"there is no {folder.relative_to(ROOT) / name}; `make docs` draws it")
    return f"[![{shown}](images/{name})](images/{name})\n\n`{command}`"


def main() -> None:
    """Write all pages; `--no-pictures` leaves the pictures as they are."""
    for path in sources():
        text = filled(path, draw="--no-pictures" not in sys.argv)
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
