"""Running claims: what is kept, what is made again, and what becomes of those that fail, die or are interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from explain.claims.samples import MARKER, SAMPLES
from ravine.explain.claims import record as records
from ravine.explain.claims import runner
from ravine.explain.claims.claim import Run
from ravine.explain.claims.record import KEYS, read
from ravine.explain.claims.runner import Prepared, prepare

RUN = ("good", "limited", "wrong", "raising", "dying", "incomplete")


def prepared(folder: Path, *slugs: str, again: bool = False, **run: Any) -> Prepared:
    chosen = [SAMPLES[slug] for slug in slugs]
    return Prepared(chosen, {"needy": SAMPLES["needy"].missing}, Run(True, **run), 1, folder, again)


@pytest.fixture(autouse=True)
def samples_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "claims", lambda: SAMPLES)
    monkeypatch.setattr(runner, "lookup_claim", SAMPLES.__getitem__)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[Any]]:
    folder = tmp_path_factory.mktemp("claims") / "new" / "folder"
    told: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "claims", lambda: SAMPLES)
        patch.setattr(runner, "lookup_claim", SAMPLES.__getitem__)
        result = prepared(folder, *RUN).make(lambda done, total, running: told.append((done, total, [*running])))
    return folder, result, told


def test_each_has_its_verdict_or_its_error(made: tuple[Path, dict[str, Any], list[Any]]) -> None:
    found = {one["slug"]: (one["verdict"], one["error"]) for one in made[1]["claims"]}
    assert list(found) == list(RUN)
    assert found["good"] == ("holds", None)
    assert found["limited"] == ("holds here with limits", None)
    assert found["wrong"] == ("does not hold at this scale", None)
    assert re.fullmatch(r"LinAlgError: Singular matrix \(samples.py, line \d+\)", found["raising"][1])
    assert found["dying"] == (None, "its process ended with exit code 7")
    assert found["incomplete"][1].startswith("ValueError: claim 'incomplete' has the criteria x, y, and values for x")
    (needy,) = made[1]["cannot_run_here"]
    assert (needy["number"], needy["slug"], needy["needs"][0]) == (908, "needy", "a_package_that_is_not_there")


def test_progress_is_told(made: tuple[Path, dict[str, Any], list[Any]]) -> None:
    told = made[2]
    assert told[0][:2] == (0, len(RUN)) and told[-1] == (len(RUN), len(RUN), [])
    assert any(run.what == "good" and (run.step, run.steps) == (1, 2) for _, _, running in told for run in running)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_files_are_there_and_json_has_the_documented_keys(made: tuple[Path, dict[str, Any], list[Any]]) -> None:
    folder, result, _ = made
    pictures = {f"{slug}.svg" for slug in RUN[:3]}
    texts = {f"{slug}{ending}" for slug in RUN for ending in (".json", ".md")}
    assert {path.name for path in folder.iterdir()} == pictures | texts | {"README.md"}
    for one in result["claims"]:
        kept = json.loads((folder / f"{one['slug']}.json").read_text(encoding="utf-8"))
        assert kept.keys() == KEYS and {**kept, "kept": False} == one
    documented = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", str(records.__doc__)))))
    assert documented >= KEYS | records.MACHINE | set(result["claims"][0]["criteria"][0])


def test_json_has_neither_nan_nor_numbers_of_libraries(made: tuple[Path, dict[str, Any], list[Any]]) -> None:
    wrong, good = (read(made[0], slug) for slug in ("wrong", "good"))
    assert wrong is not None and wrong["criteria"][0]["value"] is None and wrong["criteria"][0]["holds"] is False
    assert good is not None and good["table"]["rows"][0] == [1, 0.5, "a|b", None]
    assert good["table"]["rows"][1][3] == 1.0, "one thread each"
    json.dumps(made[1], allow_nan=False)


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))


def test_links_of_the_pages_lead_somewhere(made: tuple[Path, dict[str, Any], list[Any]]) -> None:
    folder = made[0]
    inside = [(page, link) for page in folder.glob("*.md") for link in links(page) if "://" not in link]
    assert {link for page, link in inside if page.name == "README.md"} == {f"{slug}.md" for slug in RUN}
    assert {link for page, link in inside if page.name == "good.md"} == {"good.svg", "good.json", "README.md"}
    assert [(page.name, link) for page, link in inside if not (folder / link).is_file()] == []
    assert "https://arxiv.org/abs/2001.00001" in links(folder / "good.md")


def test_pages_say_what_came_out(made: tuple[Path, dict[str, Any], list[Any]]) -> None:
    folder = made[0]
    good, raising = ((folder / f"{slug}.md").read_text(encoding="utf-8") for slug in ("good", "raising"))
    assert "**Verdict: ✓ holds**" in good and "| a number | ≥ 1 | 1 | yes |" in good
    assert "a\\|b" in good and "- A limit." in good and "ravine claims run good --quick" in good
    assert "none, the experiment failed: LinAlgError" in raising and "raising.svg" not in raising
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert "| 907 | Sample \\| endless | not run yet |" in index
    assert "cannot run here: needs a_package_that_is_not_there" in index
    assert "Of 6 claims: holds, 1; holds here with limits, 1; does not hold at this scale, 1; failed, 3." in index


@pytest.mark.slow
def test_a_site_of_them_builds_strictly(made: tuple[Path, dict[str, Any], list[Any]], tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs mkdocs")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = tmp_path / "mkdocs.yml"
    config.write_text("site_name: claims\nvalidation:\n  links:\n    anchors: warn\n", encoding="utf-8")
    settings = {"docs_dir": str(made[0]), "site_dir": str(tmp_path / "site"), "strict": True}
    build(load_config(str(config), **settings))
    assert "<table>" in (tmp_path / "site" / "good" / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_is_finished_is_kept_and_what_failed_is_tried_again(
    made: tuple[Path, dict[str, Any], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before, _ = made
    again: list[str] = []

    def nothing(claims: Any, *rest: Any) -> Any:
        again.extend(one.slug for one in claims)
        return iter(())

    monkeypatch.setattr(runner, "experiments", nothing)
    result = prepared(folder, *RUN[:3]).make()
    assert again == [] and [one["kept"] for one in result["claims"]] == [True] * 3
    assert [{**one, "kept": False} for one in result["claims"]] == before["claims"][:3]
    for changes in ({"seeds": (1,)}, {}):
        again.clear()
        with pytest.raises(KeyError):  # nothing was made, so there is nothing to report
            prepared(folder, *RUN, **changes).make()
        assert again == (list(RUN) if changes else list(RUN[3:]))


@pytest.mark.parametrize("what", ["version", "form", "ravine", "picture", "whole"])
def test_what_is_no_longer_true_is_not_kept(
    what: str, made: tuple[Path, dict[str, Any], list[Any]], tmp_path: Path
) -> None:
    for ending in (".json", ".svg", ".md"):
        (tmp_path / f"good{ending}").write_bytes((made[0] / f"good{ending}").read_bytes())
    good, run = SAMPLES["good"], Run(quick=True)
    assert records.kept(tmp_path, good, run) is not None
    found = json.loads((tmp_path / "good.json").read_text(encoding="utf-8"))
    if what == "picture":
        (tmp_path / "good.svg").unlink()
    elif what == "whole":
        (tmp_path / "good.json").write_text((tmp_path / "good.json").read_text(encoding="utf-8")[:-20])
    else:
        found["version" if what == "version" else "form"] = "another"
        if what == "ravine":
            found["form"], found["machine"]["ravine"] = "quick", "0.0.1"
        (tmp_path / "good.json").write_text(json.dumps(found))
    assert records.kept(tmp_path, good, run) is None


@pytest.mark.slow
def test_the_same_run_gives_the_same_bits(made: tuple[Path, dict[str, Any], list[Any]], tmp_path: Path) -> None:
    prepared(tmp_path, "good", again=True).make()
    assert (tmp_path / "good.svg").read_bytes() == (made[0] / "good.svg").read_bytes()
    first, second = (read(folder, "good") for folder in (made[0], tmp_path))
    assert first is not None and second is not None
    volatile = {"seconds", "date"}
    assert {k: v for k, v in first.items() if k not in volatile} == {
        k: v for k, v in second.items() if k not in volatile
    }


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    marker = tmp_path / "at work"
    command = [sys.executable, str(Path(__file__).with_name("samples.py")), "claims", "run", "good", "endless"]
    process = subprocess.Popen(
        [*command, "--workers", "1", "--quick", "--quiet", "--out", str(tmp_path / "out")],
        env={**os.environ, MARKER: str(marker), "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE, text=True,
        # A shell that put the tests into the background has them ignore Ctrl-C, and their children with them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        while not marker.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "interrupted; 1 of 2 claims are done and kept" in said
    assert read(tmp_path / "out", "good") is not None and read(tmp_path / "out", "endless") is None
    assert "holds" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ({"slugs": ["all"], "seed_count": 0}, "--seeds must be at least 1, got 0"),
        ({"slugs": ["all"], "workers": -1}, "--workers must be at least 1, got -1"),
        ({"slugs": ["needy"]}, "'needy' cannot run here: it needs a_package_that_is_not_there"),
        ({"slugs": ["good"], "out": __file__}, "--out: .* is not a folder"),
    ],
    ids=["seeds", "workers", "needs", "out"],
)
def test_wrong_calls(call: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        prepare(**{"out": "ravine-claims", **call})


def test_all_leaves_out_what_cannot_run(tmp_path: Path) -> None:
    found = prepare(["all", "good"], out=tmp_path, quick=True, seed_count=2, workers=3)
    assert [one.slug for one in found.chosen] == [slug for slug in SAMPLES if slug != "needy"]
    assert list(found.missing) == ["needy"] and found.run.seeds == (1, 2) and found.workers == 3
