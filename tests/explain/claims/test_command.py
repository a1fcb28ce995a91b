"""The command: its list, what it shows, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from explain.claims.samples import SAMPLES
from ravine.cli import app
from ravine.explain.claims import runner
from ravine.explain.claims.claim import Run, claims
from ravine.explain.claims.record import record, this_machine
from ravine.explain.claims.work import Failed, make
from ravine.lab.files import to_json


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["claims", *arguments])


def test_the_list_has_all_claims_and_their_last_verdict(tmp_path: Path) -> None:
    one = claims()["bias-correction"]
    kept = record(one, Run(quick=True), Failed("it was late", 1.0), this_machine())
    (tmp_path / "bias-correction.json").write_text(to_json(kept), encoding="utf-8")
    (tmp_path / "dying-steps.json").write_text('{"slug": "dying-steps", "verdict": "perhaps"}', encoding="utf-8")
    found = run("--out", str(tmp_path), "--json", "-")
    rows = {row["slug"]: row for row in json.loads(found.stdout)}
    assert list(rows) == list(claims())
    keys = {"number", "slug", "title", "source", "needs", "missing", "verdict", "error", "form", "date"}
    assert all(row.keys() == keys for row in rows.values())
    assert rows["bias-correction"]["error"] == "it was late" and rows["dying-steps"]["verdict"] is None
    shown = run("--out", str(tmp_path)).stdout
    assert "failed: it was late" in shown and all(slug in shown for slug in claims())


def test_a_claim_is_shown() -> None:
    shown = run("show", "adam-diverges")
    assert shown.exit_code == 0 and "Reddi" in shown.stdout and "≥ 0.95" in shown.stdout
    found = json.loads(run("show", "adam-diverges", "--json", "-").stdout)
    assert found["criteria"][0]["at_least"] == 0.95 and found["number"] == 8


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("run", "bias-corection"), "unknown claim 'bias-corection'; did you mean 'bias-correction'?"),
        (("run", "all", "adam-diverge"), "unknown claim 'adam-diverge'; did you mean 'adam-diverges'?"),
        (("show", "nonsense"), "unknown claim 'nonsense'"),
        (("run", "all", "--seeds", "0"), "--seeds must be at least 1, got 0"),
        (("run", "all", "--workers", "two"), "a whole number is wanted, got 'two'"),
        (("run",), "Missing argument"),
        (("rnu",), "No such command 'rnu'"),
        (("run", "all", "--json", "/nowhere/x.json"), "--json: there is no folder /nowhere"),
    ],
    ids=["unknown", "unknown beside all", "show", "seeds", "workers", "none", "command", "json"],
)
def test_wrong_calls_say_so_in_a_line(call: tuple[str, ...], said: str) -> None:
    found = run(*call)
    assert found.exit_code == 2
    assert said in found.stderr and "Traceback" not in found.stderr


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples in place of claims, in this process."""

    def experiments(chosen: Any, how: Run, workers: int, show: Any) -> Any:
        for i, one in enumerate(chosen):
            show(i, [])
            yield one, Failed("no luck", 0.1) if one.slug == "raising" else make(one, how)

    known = {slug: SAMPLES[slug] for slug in ("good", "limited", "raising", "needy")}
    monkeypatch.setattr(runner, "claims", lambda: known)
    monkeypatch.setattr(runner, "lookup_claim", known.__getitem__)
    monkeypatch.setattr(runner, "experiments", experiments)


@pytest.mark.usefixtures("here")
def test_a_run_prints_verdicts_and_writes_json(tmp_path: Path) -> None:
    found = run("run", "good", "limited", "--quick", "--out", str(tmp_path), "--json", str(tmp_path / "all.json"))
    assert found.exit_code == 0
    assert "✓ holds" in found.stdout and "another (asks how far the claim reaches): 3, has to be ≤ 2" in found.stdout
    assert f"pages: {tmp_path}/README.md" in found.stdout.replace("\n", "")
    result = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert [one["slug"] for one in result["claims"]] == ["good", "limited"]
    assert {"folder", "form", "seeds", "claims", "cannot_run_here"} == result.keys() and result["form"] == "quick"


@pytest.mark.usefixtures("here")
def test_a_claim_that_fails_ends_with_1_and_the_others_are_made(tmp_path: Path) -> None:
    found = run("run", "all", "--quick", "--quiet", "--out", str(tmp_path))
    assert found.exit_code == 1
    assert "failed: no luck" in found.stdout and "✓ holds" in found.stdout
    assert "cannot run here: needs a_package_that_is_not_there" in found.stdout
    assert (tmp_path / "limited.json").is_file()


@pytest.mark.usefixtures("here")
def test_what_it_needs_is_said(tmp_path: Path) -> None:
    found = run("run", "needy", "--out", str(tmp_path))
    assert found.exit_code == 2
    assert "the claim 'needy' cannot run here: it needs a_package_that_is_not_there" in found.stderr
