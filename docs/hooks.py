"""What MkDocs does besides: mathematics as MathML, links to files outside docs/, folders in the navigation.

The pages are Markdown as GitHub shows it. GitHub typesets ```math blocks and $`…`$, and its links reach the whole
repository; here the formulas become MathML when the site is built, and every file that a page links to becomes a page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from ravine.explain.mathml import CSS, mathml
from ravine.explain.playground import page as playground

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PROJECT = "project"
ALWAYS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml", ".cpp": "cpp", ".yml": "yaml"}
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
OPENING_COMMENT = re.compile(r"\A\s*<!--.*?-->\s*", re.DOTALL)  # a title is one only at the very beginning
MATH_STYLE = "assets/math.css"
PLAYGROUND = "playground/index.html"
BUTTON = f'<a class="md-button md-button--primary" href="{PLAYGROUND}">Open the playground</a>'


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Mathematics in blocks and in lines; the navigation's folders."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "equation", "format": _block})
    config.markdown_extensions.append(_Inline())
    config.extra_css.append(MATH_STYLE)
    config.nav = _expanded(config.nav)
    return config


def _block(source: str, *_: Any, **__: Any) -> str:
    rows = source.replace("{aligned}", "{align*}")  # GitHub takes both, the converter the second alone
    return f'<div class="equation">{mathml(rows, display=True)}</div>'


class _Inline(Extension):
    """$`…`$, as on GitHub."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.inlinePatterns.register(_Formula(r"\$`([^`]+)`\$", md), "formula", 200)


class _Formula(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:
        return self.md.htmlStash.store(mathml(m.group(1))), m.start(0), m.end(0)


def _expanded(nav: Any) -> Any:
    """The navigation with the pages of each folder in its place; a folder without pages is left out."""
    if isinstance(nav, list):
        return [entry for entry in map(_expanded, nav) if entry not in ([], {})]
    if isinstance(nav, dict):
        return {title: entry for title, entry in ((t, _expanded(e)) for t, e in nav.items()) if entry}
    if not nav.endswith("/*"):
        return nav
    return [f"{nav[:-2]}/{path.name}" for path in sorted(DOCS.joinpath(nav[:-2]).glob("*.md"), key=_place)]


def _place(path: Path) -> tuple[bool, int, str]:
    """README.md first, then pages by the number in their title if they have one, then by name."""
    number = re.match(r"# (\d+)\.", OPENING_COMMENT.sub("", path.read_text(encoding="utf-8")))
    return path.name != "README.md", int(number[1]) if number else 0, path.name


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside docs/ that a page links to, the style of formulas, and the playground."""
    waiting = [ROOT / name for name in ALWAYS]
    for file in files.documentation_pages():
        waiting += _outside(Path(str(file.abs_src_path)))
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        files.append(File.generated(config, _address(path), content=_text(path)))
        if path.is_dir():
            waiting += [child for child in path.iterdir() if child.suffix in LANGUAGES]
        elif path.suffix == ".md":
            waiting += _outside(path)
    files.append(File.generated(config, MATH_STYLE, content=CSS))
    files.append(File.generated(config, PLAYGROUND, content=playground()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links out of docs/ lead to the pages that were added for them."""
    uri = page.file.src_uri
    source = _source_of(uri)
    markdown = OPENING_COMMENT.sub("", markdown).replace("<!-- the playground -->", BUTTON)

    def moved(link: re.Match[str]) -> str:
        before, target, anchor, after = link.groups()
        path = _target(source, target)
        if path is None or (_inside(path) and _inside(source)):
            return link[0]
        to = os.path.relpath(_address(path), PurePosixPath(uri).parent)
        return f"{before}{to}{anchor or ''}{after}"

    return _between_fences(markdown, lambda text: LINK.sub(moved, text))


def _outside(path: Path) -> Iterator[Path]:
    """The files outside docs/ that a page links to."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for link in LINK.finditer(text):
        target = _target(path, link[2])
        if target is not None and not _inside(target):
            yield target


def _target(source: Path, link: str) -> Path | None:
    """The file of the repository that a link leads to; a folder's README.md stands for the folder."""
    if re.match(r"[a-z]+:", link):
        return None
    path = Path(os.path.normpath(source.parent / link))
    return path / "README.md" if path.joinpath("README.md").is_file() else path


def _inside(path: Path) -> bool:
    return path.is_relative_to(DOCS)


def _address(path: Path) -> str:
    """Where a file of the repository stands in the site's sources."""
    if _inside(path):
        return path.relative_to(DOCS).as_posix()
    place = f"{PROJECT}/{path.relative_to(ROOT).as_posix()}"
    return place if path.suffix == ".md" else f"{place}/index.md" if path.is_dir() else f"{place}.md"


def _source_of(uri: str) -> Path:
    """The file of the repository that a page was made from."""
    if not uri.startswith(f"{PROJECT}/"):
        return DOCS / uri
    name = uri.removeprefix(f"{PROJECT}/")
    path = ROOT / name
    return path if path.exists() else ROOT / name.removesuffix(".md")


def _text(path: Path) -> str:
    """The page of a file: Markdown as it is, a folder as a list, anything else as its text."""
    name = path.relative_to(ROOT).as_posix()
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    hidden = "---\nsearch:\n  exclude: true\n---\n\n"
    if path.is_dir():
        rows = [f"- [{child.name}]({child.name}.md)" for child in sorted(path.iterdir()) if child.suffix in LANGUAGES]
        return f"{hidden}# {name}\n\n" + "\n".join(rows) + "\n"
    text = path.read_text(encoding="utf-8")
    fence = "`" * (max(map(len, re.findall("`+", text)), default=2) + 3)
    return f"{hidden}# {name}\n\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n{text}\n{fence}\n"


def _between_fences(text: str, change: Any) -> str:
    """The text with everything but its fenced blocks changed."""
    done, end = [], 0
    for fence in FENCE.finditer(text):
        done += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*done, change(text[end:])])
