"""The documents: what they show is what the commands print, what they tell to type works, and the site builds."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.browser import opened
from typer.testing import CliRunner

from ravine.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE_ELSEWHERE = ("optimizers", "claims")
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
CHAPTERS = sorted((DOCS / "course").glob("[0-9]*.md"))
# These train, measure or wait for others, so that they are only checked against their options (tests/test_house.py).
LONG = {
    "bench",
    "claims",
    "compare",
    "generate",
    "landscape",
    "playground",
    "study",
    "sweep",
    "train",
    "watch",
    "worker",
}
# Pages whose sessions of Python train small models.
SLOW = {"13-width.md", "mup.md", "02-stochastic-gradients.md"}


def module(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


GENERATE = module("generate")
SOURCES = [pytest.param(p, id=name_of(p), marks=[pytest.mark.slow] * (p.name in SLOW)) for p in GENERATE.sources()]


@pytest.mark.parametrize("path", SOURCES)
def test_the_documents_show_what_the_commands_print(path: Path) -> None:
    assert GENERATE.filled(path) == path.read_text(encoding="utf-8"), "the page lags behind; `make docs` writes it anew"


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in GENERATE.sources() if p.name.startswith("03-")], ids=name_of)
def test_pictures_are_drawn_by_their_commands(path: Path, tmp_path: Path) -> None:
    (words,) = re.findall(r"^<!-- picture (.*?) -->$", path.read_text(encoding="utf-8"), re.MULTILINE)
    copy = tmp_path / path.name
    text = GENERATE.picture(words, copy, draw=True)
    (picture,) = (tmp_path / "images").glob("*.svg")
    assert picture.read_text(encoding="utf-8").count("<path") > 20
    assert f"(images/{picture.name})" in text


def test_the_picture_of_the_readme_is_what_the_command_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = module("pictures")
    committed = (DOCS / "images" / "trace.svg").read_text(encoding="utf-8")
    monkeypatch.setattr(pictures, "IMAGES", tmp_path)
    pictures.main()
    assert (tmp_path / "trace.svg").read_text(encoding="utf-8") == committed, "`make docs` draws it anew"


def test_a_block_of_an_unknown_claim_or_command_is_refused(tmp_path: Path) -> None:
    page = DOCS / "made-up.md"
    for words, sentence in (
        ("ravine trace admw", "did you mean 'adamw'"),
        ("commands trase", "no command trase"),
        ("refused: ravine list", "it is not refused"),
        ("picture none.svg: Nothing: ravine list", "there is no docs/images/none.svg"),
    ):
        with pytest.raises(ValueError, match=sentence):
            GENERATE.written(words, page, draw=False)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^(`{3,}).*?^\1$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        found.add(re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """As GitHub reads them; MkDocs checks those of the site when it builds it."""
    text = re.sub(r"^(`{3,}).*?^\1$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        place, _, anchor = target.partition("#")
        to = (path.parent / place).resolve() if place else path
        assert to.exists(), target
        if anchor:
            assert anchor in anchors(to), target


def commands_of(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The commands of ravine in a page's `sh` blocks, each with the comment that stands before the block."""
    block = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for comment, text in block.findall(path.read_text(encoding="utf-8")):
        for line in text.splitlines():
            if line.startswith("ravine "):
                yield comment, shlex.split(line, comments=True)[1:]


def quick_commands() -> list[Any]:
    found = []
    for path in DOCUMENTS:
        for i, (comment, arguments) in enumerate(commands_of(path)):
            if arguments[0] not in LONG and not comment.startswith("not run: "):
                found.append(pytest.param(arguments, id=f"{name_of(path)}-{i}-{arguments[0]}"))
    return found


@pytest.mark.parametrize("arguments", quick_commands())
def test_commands_run_as_they_are_written(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr or done.exception


@pytest.mark.parametrize("path", [p for p in PAGES if p.relative_to(DOCS).parts[0] not in MADE_ELSEWHERE], ids=name_of)
def test_commands_that_are_not_run_say_why(path: Path) -> None:
    for comment, arguments in commands_of(path):
        if arguments[0] in LONG:
            assert comment == "slow" or re.match(r"not run: \w", comment), arguments


def test_the_course_uses_every_claim_and_ends_every_chapter_alike() -> None:
    from ravine.explain.claims.claim import claims

    used: set[int] = set()
    for path in CHAPTERS:
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE)[-2:] == ["Exercise", "Claims that test it"], path.name
        for numbers in re.findall(r"^<!-- claims ([\d ]+) -->$", text, re.MULTILINE):
            used |= set(map(int, numbers.split()))
    assert used == {claim.number for claim in claims().values()}
    assert len(CHAPTERS) == 14


def test_the_navigation_has_every_page() -> None:
    pytest.importorskip("mkdocs")
    hooks = module("hooks")
    written = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    entries = re.findall(r"^\s+- (?:[^:\n]+: )?([\w./*-]+)$", written.split("\nnav:\n")[1], re.MULTILINE)
    places = [place for entry in entries for place in ([entry] if "*" not in entry else hooks._expanded(entry))]
    inside = {place for place in places if not place.startswith("project/")}
    assert inside == {path.relative_to(DOCS).as_posix() for path in PAGES}
    for folder in {place.split("/")[0] for entry in entries if (place := entry).endswith("/*")}:
        if list((DOCS / folder).glob("*.md")):
            assert hooks._expanded(f"{folder}/*")[0] == f"{folder}/README.md"


def test_links_out_of_the_documents_become_pages() -> None:
    pytest.importorskip("mkdocs")
    hooks = module("hooks")
    assert hooks._address(ROOT / "docs" / "how-to" / "mup.md") == "how-to/mup.md"
    assert hooks._address(ROOT / "CHANGELOG.md") == "project/CHANGELOG.md"
    assert hooks._address(ROOT / "src" / "ravine" / "rules") == "project/src/ravine/rules/index.md"
    assert hooks._address(ROOT / "pyproject.toml") == "project/pyproject.toml.md"
    for path in ("docs/index.md", "CHANGELOG.md", "src/ravine/rules/lion.py", "README.md"):
        assert hooks._source_of(hooks._address(ROOT / path)) == ROOT / path
    page = hooks._text(ROOT / "src" / "ravine" / "rules" / "lion.py")
    assert "# src/ravine/rules/lion.py" in page and "```python\n" in page and "exclude: true" in page
    assert "(lion.py.md)" in hooks._text(ROOT / "src" / "ravine" / "rules")


def test_formulas_become_mathml() -> None:
    markdown = pytest.importorskip("markdown")
    pytest.importorskip("mkdocs")
    hooks = module("hooks")
    inline = markdown.markdown(r"so $`\frac{a}{b}`$ and `$x$`", extensions=[hooks._Inline()])
    assert inline.count("<math") == 1 and "<mfrac>" in inline and "<code>$x$</code>" in inline
    block = hooks._block("\\begin{aligned}\n&a \\leftarrow b \\\\\n&c \\leftarrow d\n\\end{aligned}")
    assert block.count("<mtr>") == 2 and "&amp;" not in block


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` builds it, with warnings as errors."""
    pytest.importorskip("material", reason="the site needs mkdocs-material")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_needs_no_network_and_no_link_is_dead(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 80
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if page.parent.name == "playground":
            continue
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)\"|<link[^>]*\shref=\"([^\"]+)\"", text)
        links = re.findall(r"<a [^>]*href=\"([^\"#]+)[^\"]*\"", text)
        for target in [a or b for a, b in loaded]:
            assert not re.match(r"(https?:)?//", target), f"{page.name} loads {target}"
        for target in [*(a or b for a, b in loaded), *links]:
            if not re.match(r"[a-z]+:", target) and page.name != "404.html":
                assert (page.parent / target.split("?")[0]).resolve().exists(), f"{page.relative_to(site)}: {target}"
        words = re.sub(r"<(code|pre|style|script)\b.*?</\1>", "", text, flags=re.DOTALL)
        assert "$`" not in words and "\\begin{" not in words, page.relative_to(site)
    assert (site / "course" / "05-adam.html").read_text(encoding="utf-8").count("<math") >= 1
    assert (site / "playground" / "index.html").stat().st_size > 10_000
    assert 'href="playground/index.html"' in (site / "playground.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_site_opens_from_disk_and_finds_what_is_searched_for(site: Path, browser: Any) -> None:
    with opened(browser) as shown:
        page = shown.page
        for name in ("index.html", "course/05-adam.html", "optimizers/muon.html", "architecture.html"):
            page.goto((site / name).as_uri())
            assert page.locator("h1").count() == 1
        page.locator(".md-search__input").click()
        page.keyboard.type("bias correction")
        page.locator(".md-search-result__link").first.wait_for(timeout=20_000)
        assert "Adam" in page.locator(".md-search-result__list").inner_text()


@pytest.mark.slow
def test_the_newcomers_first_try(tmp_path: Path) -> None:
    """The first page, word for word: its model, some texts, and its command for half a minute."""
    start = DOCS / "index.md"
    text = start.read_text(encoding="utf-8")
    (name, model) = re.findall(r"^<!-- file (\S+) -->\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / name).write_text(model, encoding="utf-8")
    texts = tmp_path / "my_texts"
    texts.mkdir()
    for path in [*PAGES[:20], *(ROOT / "src" / "ravine" / "rules").glob("*.py")]:
        (texts / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    first = next(arguments for comment, arguments in commands_of(start) if comment == "slow")
    done = subprocess.run(
        [sys.executable, "-m", "ravine", *first, "--quiet"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "final loss" in done.stdout and "report: my_try/report.html" in done.stdout
    assert (tmp_path / "my_try" / "report.html").stat().st_size > 10_000
