"""The command `ravine watch` and its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.browser import opened
from torch import nn
from typer.testing import CliRunner

import ravine
from ravine.cli import app
from ravine.explain.watch import read
from ravine.explain.watch.charts import charts
from ravine.explain.watch.page import html


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Recordings of two short runs, the first of one with two rules."""
    folder, files = tmp_path_factory.mktemp("watch"), []
    for name in ("muon", "adamw"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))
        optimizer = ravine.create(name, model if name == "muon" else model.parameters(), lr=0.01)
        files.append(folder / f"{name} <run>.jsonl")
        with ravine.watch(optimizer, files[-1], model=model, every=5):
            for _ in range(15):
                optimizer.zero_grad()
                model(torch.randn(32, 6)).square().mean().backward()
                optimizer.step()
    return files


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["watch", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_last_sample_as_a_table(recordings: list[Path]) -> None:
    code, out, _ = run(str(recordings[1]))
    assert code == 0
    assert "4 samples to step 15; lr adamw 0.01" in out
    last = read(recordings[1]).samples[-1]["parameters"]
    assert all(name in out for name in last)


def test_json_holds_every_sample(recordings: list[Path]) -> None:
    code, out, _ = run(str(recordings[0]), "--json", "-")
    assert code == 0
    [one] = json.loads(out)
    assert one["samples"] == list(read(recordings[0]).samples)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.jsonl"], "missing.jsonl cannot be read: No such file or directory"),
        (["{0}", "--html", "/no/such/folder/page.html"], "--html: /no/such/folder/page.html cannot be written"),
    ],
)
def test_bad_calls_end_with_2_and_a_sentence(arguments: list[str], said: str, recordings: list[Path]) -> None:
    code, _, err = run(*(a.format(recordings[0]) for a in arguments))
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_recording_without_a_sample_has_no_page(tmp_path: Path) -> None:
    ravine.watch(ravine.SGD([nn.Parameter(torch.ones(1))], lr=0.1), tmp_path / "run.jsonl").close()
    with pytest.raises(ValueError, match="no sample"):
        html([read(tmp_path / "run.jsonl")])
    code, out, _ = run(str(tmp_path / "run.jsonl"))
    assert (code, "no sample yet" in out) == (0, True)


def test_shares_of_elements_add_up(recordings: list[Path]) -> None:
    chart = next(c for c in charts([read(recordings[1])]) if c.id.startswith("spreads"))
    for view in chart.views:
        columns = zip(*view.figure["data"][0]["z"], strict=True)
        assert all(0.9 < sum(column) <= 1 + 1e-9 for column in columns)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_draws_every_view_without_error_or_request(
    scheme: str, recordings: list[Path], browser: Any, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(html([read(f) for f in recordings]), encoding="utf-8")
    with opened(browser, color_scheme=scheme, viewport={"width": 390, "height": 800}) as shown:
        page = shown.page
        page.goto(file.as_uri())
        assert "<run>" in page.inner_text("body")
        for button in page.query_selector_all("button[data-view]"):
            button.click()
            assert button.get_attribute("aria-pressed") == "true"
        expected = len(charts([read(f) for f in recordings]))
        assert page.locator(".main-svg").count() >= expected
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
