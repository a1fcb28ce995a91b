"""The report: one file that needs nothing else, verdict first, with all that the result holds."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ravine.lab import compare
from ravine.lab.report import COLUMNS, html, table

SMALL: dict[str, Any] = {"size": "tiny", "steps": 20, "batch": 4, "trials": 3, "seeds": 4}


@pytest.fixture(scope="module")
def result(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compare(["adamw", "sgd", "sgd:lr=1e30"], data=text, out=tmp_path_factory.mktemp("report"), **SMALL)


class Page(HTMLParser):
    """What a page loads, its tables and its text outside scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self._open:
            self.scripts[-1] += data
        elif "style" not in self._open:
            self.text += data
            if {"td", "th"} & set(self._open):
                self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def page(result: dict[str, Any]) -> Page:
    return Page(html(result, "ravine compare adamw sgd"))


def test_the_page_loads_nothing(result: dict[str, Any], page: Page) -> None:
    assert [load for load in page.loads if not load.startswith("data:")] == []
    style = re.findall(r"<style>(.*?)</style>", html(result, ""), re.DOTALL)[0]
    assert "url(" not in style and "@import" not in style


def test_plotly_is_inside_once_and_draws_four_charts(page: Page) -> None:
    libraries = [script for script in page.scripts if len(script) > 1_000_000]
    assert len(libraries) == 1 and page.scripts[0] is libraries[0]
    drawn = [script for script in page.scripts if "Plotly.newPlot" in script and len(script) < 1_000_000]
    assert len(drawn) == 4
    assert all("https://" not in script.replace("https://plot.ly", "") for script in drawn)


def test_the_verdict_comes_first(result: dict[str, Any], page: Page) -> None:
    text = page.text
    assert result["verdict"]["text"] in text
    assert text.index(result["verdict"]["text"]) < text.index("final loss") < text.index("Loss by step")


def test_the_table_has_a_row_for_each_arm_best_first(result: dict[str, Any], page: Page) -> None:
    rows = {row[0].removesuffix(" (baseline)"): row[1:] for row in page.rows if len(row) == len(COLUMNS) + 1}
    cells = table(result)
    assert list(cells) == ["adamw", "sgd", "sgd:lr=1e+30"]
    assert all(rows[label] == cells[label] for label in cells)
    final = result["arms"]["adamw"]["final_loss"]
    assert cells["adamw"][0] == f"{final['mean']:.3f} ± {final['std']:.3f} (4)"
    assert cells["sgd:lr=1e+30"][0] == "–" and cells["sgd:lr=1e+30"][-1] == "0 / 4"
    assert cells["sgd:lr=1e+30"][1] == "1e+30 (given)"


def test_every_pair_has_a_row(result: dict[str, Any], page: Page) -> None:
    rows = [row for row in page.rows if row and " − " in row[0]]
    assert [row[0] for row in rows] == ["adamw − sgd", "adamw − sgd:lr=1e+30", "sgd − sgd:lr=1e+30"]
    assert [row[-1] for row in rows[1:]] == ["not tested"] * 2


def test_how_it_was_done_can_be_repeated(result: dict[str, Any], page: Page) -> None:
    assert "ravine compare adamw sgd" in page.text
    assert result["text"]["sha256"] in page.text
    assert all(note in page.text for note in result["notes"])


def test_names_are_not_taken_for_html(result: dict[str, Any]) -> None:
    hostile = "<img src=x onerror=alert(1)></script><b>"
    changed = json.loads(json.dumps(copy.deepcopy(result)).replace("sgd:lr=1e+30", json.dumps(hostile)[1:-1]))
    changed["text"]["name"] = hostile
    page = Page(html(changed, hostile))
    assert [load for load in page.loads if not load.startswith("data:")] == []
    assert hostile in page.text


def test_arms_beyond_the_colours_differ_by_dash(result: dict[str, Any]) -> None:
    many = copy.deepcopy(result)
    many["arms"] = {f"arm{i}": result["arms"]["adamw"] for i in range(25)}
    many["baseline"] = "arm0"
    scripts = Page(html(many, "")).scripts[1]
    looks = set(re.findall(r'"line":\{"color":"(#\w+)","dash":"(\w+)"\}', scripts))
    assert len(looks) == 25
