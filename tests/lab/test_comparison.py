"""Comparisons: equal budgets, fresh seeds, nothing lost by an interruption, and figures that follow from the runs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ravine.lab import compare, load, prepare
from ravine.lab.comparison import Comparison
from ravine.lab.study.join import join
from ravine.lab.study.store import Store

SMALL: dict[str, Any] = {
    "size": "tiny", "steps": 20, "batch": 4, "trials": 4, "seeds": 4, "workers": 1, "precision": "float32",
    "baseline": False,
}  # fmt: skip
SHORT: dict[str, Any] = {**SMALL, "task": "digits", "trials": 2, "seeds": 2}
ARMS = ["lion", "adamw", "adamw", "sgd:lr=1e30"]


@pytest.fixture(scope="module")
def finished(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A finished comparison of four arms, its result and its folder."""
    out = tmp_path_factory.mktemp("studies") / "first"
    return compare(ARMS, data=text, out=out, **SMALL), out


def outcomes(made: Comparison) -> dict[int, dict[str, Any]]:
    with Store.open(made.storage, made.study.name) as store:
        return store.outcomes()


def losses(result: Mapping[str, Any]) -> dict[str, list[float]]:
    return {label: arm["final_loss"]["values"] for label, arm in result["arms"].items()}


def test_every_arm_has_the_same_trials_and_its_own_seeds(finished: tuple[dict[str, Any], Path]) -> None:
    result, _ = finished
    for label, arm in result["arms"].items():
        phases = Counter(trial["phase"] for trial in arm["trials"])
        assert phases == ({} if label.startswith("sgd") else {"search": 4, "retune": 4}), label
        assert len(arm["runs"]) == 4
    judged = [run["seed"] for arm in result["arms"].values() for run in arm["runs"]]
    tuned = {trial["seed"] for arm in result["arms"].values() for trial in arm["trials"]}
    assert len(set(judged)) == 16 and not set(judged) & tuned


def test_the_best_mean_over_the_tuning_seeds_is_what_is_judged(finished: tuple[dict[str, Any], Path]) -> None:
    result, _ = finished
    for label in ("lion", "adamw", "adamw#2"):
        by_setting: dict[str, list[float]] = {}
        for trial in result["arms"][label]["trials"]:
            by_setting.setdefault(json.dumps(trial["settings"]), []).append(trial["loss"])
        most = {setting: values for setting, values in by_setting.items() if len(values) == 3}
        assert len(most) == 2
        best = min(most, key=lambda setting: statistics.mean(most[setting]))
        assert result["arms"][label]["best"]["settings"] == json.loads(best)


def test_twins_share_their_points_and_nothing_else(finished: tuple[dict[str, Any], Path]) -> None:
    one, other = (finished[0]["arms"][label] for label in ("adamw", "adamw#2"))
    points = [[t["settings"] for t in arm["trials"] if t["phase"] == "search"] for arm in (one, other)]
    assert points[0] == points[1]
    assert not {t["loss"] for t in one["trials"]} & {t["loss"] for t in other["trials"]}
    assert not set(one["final_loss"]["values"]) & set(other["final_loss"]["values"])


def test_figures_follow_from_the_runs(finished: tuple[dict[str, Any], Path]) -> None:
    result, _ = finished
    for label in ("lion", "adamw", "adamw#2"):
        arm = result["arms"][label]
        final = arm["final_loss"]
        assert final["values"] == [run["final_loss"] for run in arm["runs"]] and final["n"] == 4
        assert final["mean"] == pytest.approx(statistics.mean(final["values"]))
        assert final["std"] == pytest.approx(statistics.stdev(final["values"]))
        assert 0 < arm["optimizer_share"] < 1 and arm["tokens_per_second"] > 0 and arm["peak_memory_bytes"] > 1e7
    assert result["arms"]["lion"]["state_bytes_per_param"] == pytest.approx(4, abs=0.01)
    assert result["arms"]["adamw"]["state_bytes_per_param"] == pytest.approx(8, abs=0.01)
    assert result["baseline"] == "adamw"
    reference = result["arms"]["adamw"]["final_loss"]
    assert result["target"]["loss"] == pytest.approx(reference["mean"] + reference["std"])


def test_a_step_of_every_arm_was_measured_side_by_side(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    assert set(result["cost"]) == set(result["arms"])
    for cost in result["cost"].values():
        parts = cost["milliseconds"]
        assert 0 < sum(parts[name] for name in ("data", "forward", "backward", "optimizer")) < 2 * parts["step"]
        assert cost["flops_per_unit"] > 0 and cost["mfu"] > 0
    assert json.loads((out / "cost.json").read_text())["arms"] == result["cost"]


def test_a_run_that_diverged_is_reported(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    arm = result["arms"]["sgd:lr=1e+30"]
    assert arm["diverged_seeds"] == 4 and arm["final_loss"]["n"] == 0 and arm["final_loss"]["mean"] is None
    assert arm["steps_to_target"] is None and arm["reached_target"] == 0
    assert "sgd:lr=1e+30 diverged in 4 of 4 seeds" in result["verdict"]["text"]
    assert all(pair["p"] is None for pair in result["pairs"] if "sgd:lr=1e+30" in (pair["a"], pair["b"]))
    assert "sgd:lr=1e+30" in (out / "report.html").read_text(encoding="utf-8")


def test_the_same_call_again_makes_no_run_again(finished: tuple[dict[str, Any], Path], text: Path) -> None:
    result, out = finished
    made = prepare(ARMS, data=text, out=out, **SMALL)
    before = outcomes(made)
    assert compare(ARMS, data=text, out=out, **SMALL) == result
    assert outcomes(made) == before


def test_its_frames_hold_every_run(finished: tuple[dict[str, Any], Path]) -> None:
    pytest.importorskip("pandas")
    frame = load(finished[1]).frame()
    assert len(frame) == 16


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of a short comparison that nothing interrupted."""
    return compare(["adamw", "sgd"], out=tmp_path_factory.mktemp("whole"), **SHORT)


@pytest.mark.parametrize("number", [0, 5, 9])
def test_an_interrupted_comparison_goes_on_where_it_stopped(number: int, tmp_path: Path, whole: dict[str, Any]) -> None:
    made = prepare(["adamw", "sgd"], out=tmp_path / "out", **SHORT)

    def stop(done: int, total: int, running: Any = (), best: Any = None) -> None:
        if done == number and running and running[0].step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.run(stop)
    kept = outcomes(made)
    assert len(kept) == number and not made.report.exists()
    assert f"{number} of {made.study.count} runs are kept" in made.interrupted()
    result = made.run()
    assert kept.items() <= outcomes(made).items() and len(outcomes(made)) == made.study.count
    assert losses(result) == losses(whole)


def test_workers_in_other_processes_give_the_same_losses(tmp_path: Path, whole: dict[str, Any]) -> None:
    result = compare(["adamw", "sgd"], out=tmp_path, **{**SHORT, "workers": 2})
    assert losses(result) == losses(whole)


def test_a_study_file_is_the_same_study(finished: tuple[dict[str, Any], Path], text: Path) -> None:
    result, out = finished
    again = prepare([str(out / "study.toml")], out=out, workers=1)
    assert again.study.name == prepare(ARMS, data=text, out=out, **SMALL).study.name
    assert again.run() == {**result, "command": again.command, "study": again.study.settings.as_dict()}


def test_the_command_in_the_result_is_the_same_study(tmp_path: Path, text: Path) -> None:
    from ravine.cli.lab import _plain

    options: dict[str, Any] = {
        **SMALL, "data": str(text), "over": ("lr",), "horizons": (0.5,), "warmup": 0.2,
        "space": {"lr": "1e-4..1e-2", "adamw": {"beta2": "0.9|0.99"}},
    }  # fmt: skip
    made = prepare(["adamw", "sgd:momentum=0.5"], out=tmp_path / "a b", **options)
    program = (
        "import sys, json; import ravine.lab.comparison as c; from ravine.cli import app\n"
        "real = c.prepare\n"
        "def shown(arms, **options):\n"
        "    print(real(arms, **options).study.name); raise SystemExit(0)\n"
        "c.prepare = shown; sys.argv = ['ravine', *json.loads(sys.argv[1])]; app()"
    )
    import shlex

    words = shlex.split(made.command)[1:]
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(words)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == made.study.name
    assert _plain({"horizons": "0.5,0.75"}) == {"horizons": (0.5, 0.75)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 21}, "budget.steps was 20, is 21"),
        ({"trials": 5}, "budget.trials was 4, is 5"),
        ({"seeds": 5}, "budget.seeds was 4, is 5"),
        ({"size": "small"}, "learned.context was 32, is 128"),
        ({"data": None}, "learned."),
        ({"arms": ["lion", "adamw"]}, "arms was lion, adamw, adamw#2, sgd:lr=1e+30, is lion, adamw"),
    ],
)
def test_other_settings_are_refused_by_name(
    change: dict[str, Any], named: str, finished: tuple[dict[str, Any], Path], text: Path
) -> None:
    _, out = finished
    before = {path: path.stat().st_size for path in out.iterdir() if path.suffix != ".db"}
    call = {"arms": ARMS, "data": text, "out": out, **SMALL, **change}
    with pytest.raises(ValueError, match="holds a study with other settings") as error:
        prepare(call.pop("arms"), **call)
    assert named in str(error.value)
    assert {path: path.stat().st_size for path in out.iterdir() if path.name in {p.name for p in before}} == before


def test_another_target_needs_no_other_runs(finished: tuple[dict[str, Any], Path], text: Path) -> None:
    _, out = finished
    made = prepare(ARMS, data=text, out=out, target=1e3, **SMALL)
    before = outcomes(made)
    result = made.run()
    assert result["target"] == {"loss": 1e3, "source": "given"}
    assert result["arms"]["lion"]["steps_to_target"] == 2 and result["arms"]["lion"]["reached_target"] == 4
    assert outcomes(made) == before


def test_shorter_horizons_are_whole_runs_and_give_the_steps_to_the_target(tmp_path: Path) -> None:
    options = {**SHORT, "trials": 1, "steps": 40}
    result = compare(["adamw", "sgd:lr=1e-6"], out=tmp_path, horizons=(0.25, 0.5), **options)
    arm = result["arms"]["adamw"]
    assert arm["to_target_kind"] == "annealed horizon"
    assert {h["steps"] for h in arm["horizons"]} == {10, 20}
    assert result["arms"]["sgd:lr=1e-06"]["steps_to_target"] is None


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_other_samplers(sampler: str, tmp_path: Path) -> None:
    result = compare(
        ["adamw", "sgd:lr=0.1"], out=tmp_path, **{**SHORT, "sampler": sampler, "trials": 4, "steps": 5, "retuned": 1}
    )
    searched = [t["settings"] for t in result["arms"]["adamw"]["trials"] if t["phase"] == "search"]
    assert len({tuple(s.items()) for s in searched}) == 4 and {s["beta2"] for s in searched} <= {0.95, 0.999}
    if sampler == "grid":
        assert sorted((s["lr"], s["beta2"]) for s in searched) == [
            (0.0003, 0.95), (0.0003, 0.999), (0.03, 0.95), (0.03, 0.999)
        ]  # fmt: skip


def test_a_model_in_a_file_is_executed_only_where_it_was_given(tmp_path: Path) -> None:
    """Neither the study file nor the storage makes a worker execute it."""
    file, trace = tmp_path / "mine.py", tmp_path / "executed"
    file.write_text(
        f"from torch import nn\nopen({str(trace)!r}, 'a').write('x')\n"
        "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    out = tmp_path / "out"
    made = prepare(["adamw", "sgd:lr=0.1"], out=out, model=f"{file}:build", **{**SHORT, "trials": 1, "steps": 2})
    made.run()
    trace.unlink()
    with pytest.raises(ValueError, match=r"trains .*mine\.py:build: give your copy of that file with --model"):
        join(str(out))
    assert not trace.exists()
    assert join(str(out), model=f"{file}:build").study.name == made.study.name
    file.write_text(file.read_text().replace("nn.Linear(64, 10)", "nn.Linear(64, 10, bias=False)"))
    trace.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"trains another .*mine\.py:build: its hash is"):
        join(str(out), model=f"{file}:build")
    assert not trace.exists()


@pytest.mark.slow
def test_a_run_of_two_processes_has_the_losses_of_one(tmp_path: Path, whole: dict[str, Any]) -> None:
    options = {**SHORT, "trials": 1, "seeds": 1, "steps": 5, "retuned": 1, "tuning_seeds": 1}
    arms = ["adamw:lr=0.01", "sgd:lr=0.1"]
    one, two = (compare(arms, out=tmp_path / str(n), processes=n, **options) for n in (1, 2))
    for label in one["arms"]:
        assert losses(two)[label] == pytest.approx(losses(one)[label], abs=1e-5)


def test_a_folder_within_the_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("all work and no play " * 1000)
    with pytest.raises(ValueError, match="lies in the data"):
        prepare(["adamw", "sgd"], data=tmp_path, out=tmp_path / "out", **SMALL)


def test_a_worker_finds_its_study_or_says_which_there_are(
    finished: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    _, out = finished
    joined = join(str(out))
    joined.work(quiet=True)
    with pytest.raises(ValueError, match="there is no study in"):
        join(str(tmp_path))
    with pytest.raises(ValueError, match=r"the storage has no study 'other': it has lm-"):
        join("other", joined.storage)


def test_few_seeds_give_no_verdict(tmp_path: Path) -> None:
    result = compare(["adamw:lr=0.01", "sgd:lr=1e-6"], out=tmp_path, **{**SHORT, "steps": 3, "seeds": 3})
    assert result["verdict"]["winner"] is None and "Not enough seeds: 3 per arm" in result["verdict"]["text"]


def test_a_matrix_rule_and_its_control_log_their_routing(tmp_path: Path) -> None:
    result = compare(
        ["muon:lr=0.01", "adamw:lr=0.01"], out=tmp_path, controls=True, **{**SHORT, "steps": 2, "seeds": 1}
    )
    assert set(result["arms"]) == {
        "muon:lr=0.01", "adamw:lr=0.01", "muon:lr=0.01,weight_decay=0.0", "adamw:lr=0.01,weight_decay=0.0"
    }  # fmt: skip
    assert {row["rule"] for row in result["arms"]["muon:lr=0.01"]["routing"]} == {"muon", "adamw"}
    assert result["arms"]["adamw:lr=0.01"]["routing"] is None


@pytest.mark.parametrize("name", ["steps", "batch", "trials", "seeds"])
@pytest.mark.parametrize("value", [0, -3, 2.5, True, "7"])
def test_a_budget_below_one_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be (at least 1|a whole number), got {value!r}"):
        prepare(["adamw", "sgd"], **{**SHORT, name: value})


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="device is cuda, and torch finds no GPU here"):
        prepare(["adamw", "sgd"], device="cuda", **SHORT)
    with pytest.raises(
        ValueError, match=r"the storage postgresql://ada:\*\*\*@127\.0\.0\.1:1/x does not answer"
    ) as error:
        prepare(["adamw", "sgd"], storage="postgresql://ada:secret@127.0.0.1:1/x", **SHORT)
    assert "secret" not in str(error.value)
    with pytest.raises(ValueError, match=r"arm 'muon': .* has no hidden matrix"):
        prepare(["adamw", "muon"], **{**SHORT, "task": "quadratic"})
