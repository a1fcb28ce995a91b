"""Studies: equal budgets, fresh seeds, nothing lost by an interruption, and figures that follow from the runs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ravine.lab import compare, prepare
from ravine.lab.arms import parse
from ravine.lab.results import baseline_of, first_crossing, median_of_all
from ravine.lab.study import Study
from ravine.lab.training import CURVE

SMALL: dict[str, Any] = {"size": "tiny", "steps": 20, "batch": 4, "trials": 4, "seeds": 4}
SHORT: dict[str, Any] = {**SMALL, "trials": 2, "seeds": 2}


@pytest.fixture(scope="module")
def finished(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A finished study of four arms, its result and its folder."""
    out = tmp_path_factory.mktemp("studies") / "first"
    return compare(["lion", "adamw", "adamw", "sgd:lr=1e30"], data=text, out=out, **SMALL), out


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "runs").iterdir())}


def runs_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(content) for content in files(out).values()]


def stop_in_run(number: int, steps: int) -> Callable[[str, int, int], None]:
    """Ctrl-C in the middle of a run."""

    def on_progress(what: str, done: int, total: int) -> None:
        if done == number * steps + steps // 2:
            raise KeyboardInterrupt

    return on_progress


def test_every_arm_has_the_same_trials_and_its_own_seeds(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    assert {label: len(arm["best"]["trials"]) for label, arm in result["arms"].items()} == {
        "lion": 4, "adamw": 4, "adamw#2": 4, "sgd:lr=1e+30": 0
    }  # fmt: skip
    runs = runs_of(out)
    assert len(runs) == 3 * 4 + 4 * 4
    judged = [run["seed"] for run in runs if run["phase"] == "judging"]
    assert len(set(judged)) == 16 and not set(judged) & {run["seed"] for run in runs if run["phase"] == "tuning"}


def test_the_best_trial_is_what_is_judged(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    for label in ("lion", "adamw", "adamw#2"):
        best = result["arms"][label]["best"]
        assert best["lr"] == min(best["trials"], key=lambda t: t["loss"])["lr"]
        assert {r["lr"] for r in runs_of(out) if r["arm"] == label and r["phase"] == "judging"} == {best["lr"]}
        rates = [t["lr"] for t in best["trials"]]
        assert best["at_edge"] == (best["lr"] in (min(rates), max(rates)))


def test_twins_share_their_trials_and_differ_in_their_seeds(finished: tuple[dict[str, Any], Path]) -> None:
    one, other = (finished[0]["arms"][label] for label in ("adamw", "adamw#2"))
    assert one["best"] == other["best"]
    assert not set(one["final_loss"]["values"]) & set(other["final_loss"]["values"])


def test_figures_follow_from_the_runs(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    for label in ("lion", "adamw", "adamw#2"):
        arm = result["arms"][label]
        runs = [run for run in runs_of(out) if run["arm"] == label and run["phase"] == "judging"]
        losses = [run["outcome"]["final_loss"] for run in runs]
        final = arm["final_loss"]
        assert final["values"] == losses and final["n"] == 4
        assert final["mean"] == pytest.approx(statistics.mean(losses))
        assert final["std"] == pytest.approx(statistics.stdev(losses))
        goal = result["target"]["loss"]
        reached = [
            next((s for s, loss in zip(c["step"], c["loss"], strict=True) if loss <= goal), None)
            for c in (run["outcome"]["curve"] for run in runs)
        ]
        assert arm["reached_target"] == sum(step is not None for step in reached)
        assert arm["steps_to_target"] == median_of_all(reached)
        if arm["steps_to_target"] is not None:
            assert arm["tokens_to_target"] == arm["steps_to_target"] * 4 * 32
            assert 0 < arm["seconds_to_target"] <= max(run["outcome"]["seconds"] for run in runs)
        assert 0 < arm["optimizer_share"] < 1 and arm["tokens_per_second"] > 0 and arm["peak_memory_bytes"] > 1e7
    assert result["arms"]["lion"]["state_bytes_per_param"] == pytest.approx(4, abs=0.01)
    assert result["arms"]["adamw"]["state_bytes_per_param"] == pytest.approx(8, abs=0.01)


def test_the_target_is_the_baselines_mean_and_one_deviation(finished: tuple[dict[str, Any], Path]) -> None:
    result, _ = finished
    assert result["baseline"] == "adamw"
    final = result["arms"]["adamw"]["final_loss"]
    assert result["target"]["loss"] == pytest.approx(final["mean"] + final["std"])
    assert result["arms"]["adamw"]["reached_target"] >= 1


def test_a_run_that_diverged_is_reported(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    arm = result["arms"]["sgd:lr=1e+30"]
    assert arm["diverged_seeds"] == 4 and arm["final_loss"]["n"] == 0 and arm["final_loss"]["mean"] is None
    assert arm["steps_to_target"] is None and arm["reached_target"] == 0
    assert "sgd:lr=1e+30 diverged in 4 of 4 seeds and is not ranked." in result["verdict"]["text"]
    assert sum(run["arm"] == "sgd:lr=1e+30" for run in runs_of(out)) == 4
    assert all(pair["p"] is None for pair in result["pairs"] if "sgd:lr=1e+30" in (pair["a"], pair["b"]))
    assert "sgd:lr=1e+30" in (out / "report.html").read_text(encoding="utf-8")


def test_every_run_is_a_whole_schedule_evaluated_on_the_way(finished: tuple[dict[str, Any], Path]) -> None:
    for run in runs_of(finished[1]):
        if not run["outcome"]["diverged"]:
            steps = run["outcome"]["curve"]["step"]
            assert steps == ([20] if run["phase"] == "tuning" else [round(20 * part) for part in CURVE])


def test_the_same_call_again_makes_no_run_again(finished: tuple[dict[str, Any], Path], text: Path) -> None:
    result, out = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
    again = compare(["lion", "adamw", "adamw", "sgd:lr=1e30"], data=text, out=out, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").iterdir()} == before
    assert again == result


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of a short study that nothing interrupted."""
    return compare(["adamw", "sgd"], data=text, out=tmp_path_factory.mktemp("whole"), **SHORT)


@pytest.mark.parametrize("number", [0, 3, 6])
def test_an_interrupted_study_goes_on_where_it_stopped(
    number: int, text: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    options = {**SHORT, "data": text}
    with pytest.raises(KeyboardInterrupt):
        compare(["adamw", "sgd"], out=tmp_path / "out", on_progress=stop_in_run(number, 20), **options)
    kept = files(tmp_path / "out")
    assert len(kept) == number and not (tmp_path / "out" / "report.html").exists()
    result = compare(["adamw", "sgd"], out=tmp_path / "out", **options)
    after = files(tmp_path / "out")
    assert len(after) == 8 and kept.items() <= after.items()
    losses = [{label: arm["final_loss"]["values"] for label, arm in r["arms"].items()} for r in (result, whole)]
    assert losses[0] == losses[1]


def test_progress_counts_every_step_once(text: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    options = {**SMALL, "trials": 1, "seeds": 1}
    compare(
        ["adamw", "sgd"],
        data=text,
        out=tmp_path,
        on_progress=lambda _, done, total: seen.append((done, total)),
        **options,
    )
    assert {total for _, total in seen} == {4 * 20}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {done for done, _ in seen} == set(range(81))


def test_few_seeds_give_no_verdict(text: Path, tmp_path: Path) -> None:
    result = compare(["adamw", "sgd:lr=1e-6"], data=text, out=tmp_path, **{**SMALL, "trials": 1, "seeds": 3})
    assert result["verdict"]["winner"] is None and "Not enough seeds: 3 per arm" in result["verdict"]["text"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 21}, "recipe.steps was 20, is 21"),
        ({"trials": 5}, "trials was 4, is 5"),
        ({"seeds": 5}, "seeds was 4, is 5"),
        ({"batch": 5}, "recipe.batch was 4, is 5"),
        ({"size": "small"}, "size was tiny, is small"),
        ({"data": None}, "text.bytes was 200"),
        ({"arms": ["lion", "adamw"]}, "arms was lion, adamw, adamw#2, sgd:lr=1e+30, is lion, adamw"),
    ],
)
def test_other_settings_are_refused_by_name(
    change: dict[str, Any], named: str, finished: tuple[dict[str, Any], Path], text: Path
) -> None:
    _, out = finished
    before = sorted(out.rglob("*"))
    call = {"arms": ["lion", "adamw", "adamw", "sgd:lr=1e30"], "data": text, "out": out, **SMALL, **change}
    with pytest.raises(ValueError, match="holds a study with other settings") as error:
        prepare(call.pop("arms"), **call)
    assert named in str(error.value)
    assert sorted(out.rglob("*")) == before


def test_another_target_needs_no_other_runs(finished: tuple[dict[str, Any], Path], text: Path) -> None:
    _, out = finished
    before = files(out)
    result = compare(["lion", "adamw", "adamw", "sgd:lr=1e30"], data=text, out=out, target=1e3, **SMALL)
    assert result["target"] == {"loss": 1e3, "source": "given"}
    assert result["arms"]["lion"]["steps_to_target"] == 2 and result["arms"]["lion"]["reached_target"] == 4
    assert files(out) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"settings": {}, "precision": "float8"}'])
def test_a_folder_of_something_else_is_refused(content: str, text: Path, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"study\.json"):
        prepare(["adamw", "sgd"], data=text, out=tmp_path, **SMALL)


def test_a_damaged_run_is_named_and_refused(text: Path, tmp_path: Path) -> None:
    options = {**SMALL, "trials": 1, "seeds": 1, "data": text, "out": tmp_path}
    compare(["adamw", "sgd"], **options)
    first, second, *_ = sorted((tmp_path / "runs").iterdir())
    whole = first.read_text(encoding="utf-8")
    for damaged in ("", "{}", whole[:50], second.read_text(encoding="utf-8"), whole.replace("final_loss", "loss")):
        first.write_text(damaged, encoding="utf-8")
        with pytest.raises(ValueError) as error:
            prepare(["adamw", "sgd"], **options)
        assert str(first) in str(error.value)
    first.unlink()
    compare(["adamw", "sgd"], **options)
    again, before = json.loads(first.read_text(encoding="utf-8")), json.loads(whole)
    assert again["outcome"]["final_loss"] == before["outcome"]["final_loss"]


def test_each_setting_has_a_folder_of_its_own(text: Path) -> None:
    folders = {
        str(prepare(arms, data=text, **{**SMALL, **change}).out)
        for arms, change in ((["adamw", "sgd"], {}), (["adamw", "sgd"], {"steps": 21}), (["sgd", "adamw"], {}))
    }
    assert len(folders) == 3
    assert str(prepare(["adamw", "sgd"], data=text, **SMALL).out) in folders
    assert all(Path(folder).parent == Path("ravine-compare") for folder in folders)


def test_a_study_leaves_torchs_threads_alone(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr("ravine.lab.study.MOST_THREADS", 1)
    compare(["adamw", "sgd"], data=text, out=tmp_path, **{**SMALL, "trials": 1, "seeds": 1})
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["steps", "batch", "trials", "seeds"])
@pytest.mark.parametrize("value", [0, -3, 2.5, True, "7"])
def test_a_budget_below_one_is_refused(name: str, value: Any, text: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got {value!r}"):
        prepare(["adamw", "sgd"], data=text, **{**SMALL, name: value})


@pytest.mark.parametrize("target", [0.0, -1.0, float("nan"), float("inf")])
def test_a_target_is_a_loss(target: float, text: Path) -> None:
    with pytest.raises(ValueError, match="target must be a loss above 0"):
        prepare(["adamw", "sgd"], data=text, target=target)


def test_the_baseline_is_adamw_where_there_is_one() -> None:
    assert baseline_of(parse(["sgd", "adamw:beta2=0.95", "adamw"])) == "adamw"
    assert baseline_of(parse(["sgd", "adamw:beta2=0.95"])) == "adamw:beta2=0.95"
    assert baseline_of(parse(["sgd", "lookahead(adamw)"])) == "sgd"


def test_a_crossing_is_the_first_evaluation_at_or_below_the_target() -> None:
    curve = {"loss": [3.0, 2.0, 2.5, 1.0]}
    assert [first_crossing(curve, goal) for goal in (3.5, 2.0, 1.9, 0.5)] == [0, 1, 3, None]


def test_the_median_counts_those_that_did_not_get_there() -> None:
    assert median_of_all([10, 30, 20]) == 20
    assert median_of_all([10, None, 20]) == 20
    assert median_of_all([10, None, None]) is None
    assert median_of_all([10, 20, None, None]) is None


def test_judging_seeds_are_disjoint_for_any_number_of_arms(corpus: Any) -> None:
    study = Study(tuple(parse(["adamw"] * 12)), corpus, size="tiny", seeds=50)
    seeds = [seed for arm in study.arms for seed in study.judging_seeds(arm)]
    assert len(set(seeds)) == 600
