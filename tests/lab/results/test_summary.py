"""result.json: every figure from runs whose losses are known."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from typing import Any

import pytest
from tests.lab.results.made import LR, arm, finished, outcome, runs, searched, usual

from ravine.lab.files import to_json
from ravine.lab.results import summarize
from ravine.lab.results.edge import at_edge
from ravine.lab.results.summary import evidence
from ravine.lab.study.selection import Trial


def text_of(result: dict[str, Any]) -> str:
    return " ".join([*result["warnings"], *result["notes"]])


def test_the_keys_are_those_of_the_design() -> None:
    result = summarize(usual())
    assert set(result) == {
        "format", "task", "loss_name", "unit", "baseline", "study", "command", "budget", "target", "about", "model",
        "machine", "versions", "hashes", "arms", "cost", "pairs", "minimum_detectable_difference", "verdict",
        "warnings", "notes",
    }  # fmt: skip
    assert set(result["arms"]["muon"]) == {
        "optimizer", "settings", "final_loss", "metrics", "best", "trials", "runs", "horizons", "steps_to_target",
        "tokens_to_target", "seconds_to_target", "reached_target", "to_target_kind", "tokens_per_second",
        "seconds_per_run", "optimizer_share", "spans", "state_bytes_per_param", "state_bytes_by_dtype",
        "peak_memory_bytes", "flops_per_unit", "mfu", "joules_per_run", "diverged_trials", "failed_trials",
        "diverged_seeds", "failed_seeds", "routing",
    }  # fmt: skip
    assert set(result["verdict"]) == {"winner", "significant", "text", "tuning_probability"}
    assert set(result["pairs"][0]) == {"a", "b", "difference", "interval", "p", "p_corrected", "p_settings"}


def test_it_is_json_and_comes_back_as_it_was() -> None:
    result = summarize(usual())
    again = json.loads(to_json(result))
    assert again["arms"]["adamw"]["final_loss"] == result["arms"]["adamw"]["final_loss"]
    # What the verdict rests on is all in the file.
    assert evidence(again["arms"]["muon"]) == evidence(result["arms"]["muon"])


def test_the_figures_of_an_arm() -> None:
    result = summarize(usual())
    muon = result["arms"]["muon"]
    losses = [1.48, 1.49, 1.5, 1.51, 1.52]
    assert muon["final_loss"]["values"] == pytest.approx(losses)
    assert (muon["final_loss"]["mean"], muon["final_loss"]["n"]) == (pytest.approx(1.5), 5)
    assert muon["final_loss"]["std"] == pytest.approx(statistics.stdev(losses))
    assert muon["metrics"]["accuracy"]["mean"] == pytest.approx(statistics.fmean(1 / (1 + x) for x in losses))
    assert muon["best"]["settings"] == {"lr": 0.01}
    assert muon["best"]["tuning_loss"] == {"mean": pytest.approx(1.5), "n": 3}
    assert muon["best"]["tuning_std"] == 0.0
    assert muon["best"]["at_edge"] == []
    assert [t["phase"] for t in muon["trials"]] == ["search"] * 3 + ["retune"] * 4
    assert [run["seed"] for run in muon["runs"]] == [200, 201, 202, 203, 204]
    assert muon["runs"][0]["curve"]["step"] == [10, 20, 30, 40]
    assert (muon["seconds_per_run"], muon["tokens_per_second"], muon["optimizer_share"]) == (4.0, 100.0, 0.2)
    assert muon["spans"] == pytest.approx({"data": 0.0, "forward": 0.25, "backward": 0.5, "optimizer": 0.2})
    assert (muon["state_bytes_per_param"], muon["peak_memory_bytes"]) == (8.0, 1000)


def test_the_verdict_and_the_target() -> None:
    result = summarize(usual())
    assert result["verdict"]["winner"] == "muon"
    assert result["verdict"]["tuning_probability"] == {"adamw": 0.0, "muon": 1.0}
    assert (result["pairs"][0]["a"], result["pairs"][0]["b"]) == ("adamw", "muon")
    assert result["pairs"][0]["difference"] == pytest.approx(0.5)
    assert result["baseline"] == "adamw"
    assert result["target"]["source"] == "mean + 1 standard deviation of adamw"
    assert result["target"]["loss"] == pytest.approx(2.0 + statistics.stdev([1.98, 1.99, 2.0, 2.01, 2.02]))
    # Muon goes from 5 to 1.5 in 40 steps: at 30 it is at 2.375, at 40 below the target of 2.016.
    assert result["arms"]["muon"]["steps_to_target"] == 40
    assert summarize(usual(target=2.5))["arms"]["muon"]["steps_to_target"] == 30
    assert summarize(usual(target=2.5))["target"] == {"loss": 2.5, "source": "given"}


def test_horizons_decide_about_steps_where_there_are_any() -> None:
    study = usual()
    shorter = [replace(run, outcome=outcome(2.0, 20), steps=20) for run in runs("muon", "horizon", [2.0], {"lr": 0.01})]
    result = summarize(replace(study, runs=[*study.runs, *shorter]))
    assert result["arms"]["muon"]["steps_to_target"] == 20
    assert result["arms"]["muon"]["to_target_kind"] == "annealed horizon"
    assert result["arms"]["adamw"]["to_target_kind"] == "first crossing"
    assert "shortest whole run" in text_of(result)


def test_cost_is_told_of_each_arm() -> None:
    cost = {"muon": {"milliseconds": {"step": 3.0}, "flops_per_unit": 60.0, "mfu": 0.4, "joules_per_step": 7.0}}
    result = summarize(usual(cost=cost))
    assert result["cost"] == cost
    assert [result["arms"]["muon"][key] for key in ("flops_per_unit", "mfu", "joules_per_run")] == [60.0, 0.4, 280.0]
    assert result["arms"]["adamw"]["flops_per_unit"] is result["arms"]["adamw"]["joules_per_run"] is None


def test_lost_runs_are_counted_and_not_ranked() -> None:
    made = [
        *searched("adamw", {0.01: 2.0, 0.03: None, 0.05: None}),
        *runs("adamw", "judge", [2.0, 2.1, 2.0, None, "out of memory: 3 GB asked for."], {"lr": 0.01}),
        *searched("muon", {0.01: "out of memory", 0.03: 2.0}),
        *runs("muon", "judge", [2.0] * 5, {"lr": 0.03}),
    ]
    result = summarize(finished([arm("adamw"), arm("muon")], made))
    adamw, muon = result["arms"]["adamw"], result["arms"]["muon"]
    assert (adamw["diverged_trials"], adamw["diverged_seeds"], adamw["failed_seeds"]) == (2, 1, 1)
    assert (muon["diverged_trials"], muon["failed_trials"], muon["diverged_seeds"]) == (0, 1, 0)
    assert adamw["final_loss"]["n"] == 3
    assert adamw["metrics"]["accuracy"]["mean"] == pytest.approx(statistics.fmean([1 / 3, 1 / 3.1, 1 / 3]))
    assert result["pairs"][0]["p"] is None and result["verdict"]["winner"] is None
    assert "1 run of adamw failed: out of memory: 3 GB asked for." in result["warnings"]
    assert "1 run of muon failed: out of memory." in result["warnings"]
    assert "2 of 3 trials of adamw diverged: its space reaches too far." in result["warnings"]


def test_an_arm_whose_runs_all_failed_has_no_figures_and_the_rest_has() -> None:
    made = [
        *runs("adamw", "judge", ["out of memory"] * 5, {}),
        *runs("muon", "judge", [1.0, 1.1, 1.2, 1.1, 1.0], {}),
        *runs("lion", "judge", [2.0, 2.1, 2.2, 2.1, 2.0], {}),
    ]
    result = summarize(finished([arm(name, tuned=False) for name in ("adamw", "muon", "lion")], made))
    to_json(result)
    failed = result["arms"]["adamw"]
    assert failed["final_loss"] == {"mean": None, "std": None, "n": 0, "values": [], "interval": None}
    assert failed["seconds_per_run"] is failed["state_bytes_per_param"] is failed["peak_memory_bytes"] is None
    assert result["target"] == {"loss": None, "source": "none: no run of adamw has a final loss"}
    assert result["arms"]["muon"]["steps_to_target"] is None
    assert result["verdict"]["winner"] == "muon"


def test_a_metric_that_is_not_finite_in_one_run_has_no_mean() -> None:
    made = runs("adamw", "judge", [2.0, 2.1, 2.2, 2.3], {})
    made[1] = replace(made[1], outcome=outcome(2.1, metrics={"loss": 2.1, "accuracy": None}))
    result = summarize(
        finished([arm("adamw", tuned=False), arm("lion", tuned=False)], [*made, *runs("lion", "judge", [2.0], {})])
    )
    assert result["arms"]["adamw"]["metrics"]["accuracy"] == {"mean": None, "std": None}
    assert result["arms"]["adamw"]["metrics"]["loss"]["mean"] == pytest.approx(2.15)


@pytest.mark.parametrize(
    ("arms", "baseline"),
    [
        (["lion", "adamw"], "adamw"),
        (["adamw:weight_decay=0.1", "adamw"], "adamw"),
        (["lion", "lookahead(adamw)"], "lookahead(adamw)"),
        (["lookahead(adamw)", "adamw:beta2=0.95"], "adamw:beta2=0.95"),
        (["muon", "lion"], "muon"),
    ],
)
def test_the_baseline(arms: list[str], baseline: str) -> None:
    made = [run for label in arms for run in runs(label, "judge", [2.0] * 5, {"lr": 0.01})]
    assert summarize(finished([arm(label) for label in arms], made))["baseline"] == baseline


def test_settings_given_and_tuned_are_shown_together() -> None:
    made = [
        *searched("adamw", {0.01: 2.0, 0.02: 2.1}),
        *runs("adamw", "judge", [2.0] * 5, {"lr": 0.01}),
        *runs("lion", "judge", [2.1] * 5, {}),
    ]
    arms = [replace(arm("adamw"), settings={"weight_decay": 0.1}), replace(arm("lion", False), settings={"lr": 0.001})]
    result = summarize(finished(arms, made))
    assert result["arms"]["adamw"]["best"]["settings"] == {"weight_decay": 0.1, "lr": 0.01}
    assert result["arms"]["lion"]["best"]["settings"] == {"lr": 0.001}
    assert result["arms"]["lion"]["best"]["tuning_loss"] == {"mean": None, "n": 0}
    assert result["arms"]["lion"]["best"]["tuning_std"] is None
    assert any(text.startswith("lion ran with given settings") for text in result["warnings"])


def test_a_good_study_has_no_warning() -> None:
    assert summarize(usual())["warnings"] == []


@pytest.mark.parametrize(
    ("changed", "warned"),
    [
        ({"budget": {"seeds": 4}}, "4 seeds per arm; 5 are the least for a claim."),
        ({"budget": {"seeds": 1}}, "1 seed per arm; 5 are the least for a claim."),
        ({"budget": {"pruner": "median"}}, "A pruner stopped trials early"),
        ({"budget": {"sampler": "tpe"}}, "not tried at shared points"),
        ({"budget": {"tuning_seeds": 1}}, "chosen on a single seed"),
        ({"machine": {"workers": 4}}, "4 workers shared the machine"),
    ],
)
def test_what_weakens_a_study_is_warned_of(changed: dict[str, Any], warned: str) -> None:
    (only,) = summarize(usual(**changed))["warnings"]
    assert warned in only


def test_costs_measured_alone_make_shared_workers_harmless() -> None:
    assert summarize(usual(machine={"workers": 4}, cost={}))["warnings"] == []


def test_a_study_without_a_tuned_adamw_is_warned_of() -> None:
    study = usual()
    assert "No arm is a tuned AdamW" in text_of(summarize(replace(study, arms=[arm("adamw", False), arm("muon")])))


def test_what_a_reader_should_know() -> None:
    study = usual(about={"skipped": [{"path": "a", "why": "b"}], "skipped_not_named": 2, "capped": True})
    assert "3 files or parts of files could not be read" in text_of(summarize(study))
    assert "its end was left out" in text_of(summarize(study))
    assert "adamw was tuned with one β₂ only" in text_of(summarize(study))
    noted = [replace(run, outcome={**run.outcome, "notes": ["batches were halved"]}) for run in study.runs]
    assert summarize(replace(study, runs=noted))["notes"].count("batches were halved") == 1
    free = [replace(a, optimizer=a.optimizer.replace("muon", "schedule_free(adamw)")) for a in study.arms]
    assert "muon is Schedule-Free" in text_of(summarize(replace(study, arms=free)))


def test_an_edge_is_warned_of() -> None:
    made = [
        *searched("adamw", {0.002: 2.0, 0.01: 2.1, 0.05: 2.2}),
        *runs("adamw", "judge", [2.0] * 5, {"lr": 0.002}),
        *searched("muon", {0.002: 2.1, 0.01: 2.0, 0.05: 2.2}),
        *runs("muon", "judge", [2.0] * 5, {"lr": 0.01}),
    ]
    result = summarize(finished([arm("adamw"), arm("muon")], made))
    assert result["arms"]["adamw"]["best"]["at_edge"] == ["lr"]
    (warned,) = result["warnings"]
    assert warned.startswith("The best lr of adamw is at the edge of what was tried")


@pytest.mark.parametrize(
    ("losses", "best", "expected"),
    [
        ({0.002: 1.0, 0.01: 2.0, 0.05: 3.0}, 0.002, True),
        ({0.002: 3.0, 0.01: 2.0, 0.05: 1.0}, 0.05, True),
        ({0.002: 2.0, 0.01: 1.0, 0.05: 3.0}, 0.01, False),
        # The best by chance, of a hyperparameter that matters little: its neighbour is the worst.
        ({0.002: 1.0, 0.01: 3.0, 0.05: 2.0}, 0.002, False),
        ({0.002: 1.0, 0.01: None, 0.05: None}, 0.002, True),
        ({0.002: None, 0.01: None, 0.05: 1.0}, 0.05, True),
        # Too few to tell, but for the ends of the range.
        ({0.002: 1.0, 0.01: 2.0}, 0.002, False),
        ({0.001: 1.0, 0.01: 2.0}, 0.001, True),
        ({0.01: 2.0, 0.1: 1.0}, 0.1, True),
        ({0.02: 1.0}, 0.02, False),
    ],
)
def test_edges(losses: dict[float, float | None], best: float, expected: bool) -> None:
    trials = [Trial({"lr": lr}, loss) for lr, loss in losses.items()]
    assert at_edge(trials, {"lr": best}, LR) == (["lr"] if expected else [])


def test_the_spread_of_further_seeds_does_not_blur_an_edge() -> None:
    losses = {0.05: [1.0, 2.0, 2.5], 0.03: [1.2, 3.0, 3.5], 0.01: [1.5], 0.002: [1.9]}
    trials = [Trial({"lr": lr}, loss, seed) for lr, group in losses.items() for seed, loss in enumerate(group)]
    assert at_edge(trials, {"lr": 0.05}, LR) == ["lr"]


def test_choices_have_no_edge() -> None:
    space = {"beta2": {"kind": "choice", "choices": [0.9, 0.95, 0.999]}}
    trials = [Trial({"beta2": b}, loss) for b, loss in ((0.9, 1.0), (0.95, 2.0), (0.999, 3.0))]
    assert at_edge(trials, {"beta2": 0.9}, space) == []


def test_on_a_grid_each_value_counts_by_its_best() -> None:
    space = {**LR, "weight_decay": {"kind": "log", "low": 1e-3, "high": 1.0}}
    trials = [
        Trial({"lr": lr, "weight_decay": decay}, loss)
        for (lr, decay), loss in {
            (0.002, 0.01): 1.0, (0.002, 0.1): 9.0, (0.01, 0.01): 1.5, (0.01, 0.1): 1.2, (0.05, 0.1): 1.4,
        }.items()
    ]  # fmt: skip
    assert at_edge(trials, {"lr": 0.002, "weight_decay": 0.01}, space) == ["lr"]


def test_an_arm_without_judged_runs_is_no_result() -> None:
    with pytest.raises(ValueError, match="the arm 'muon' has no judged runs"):
        summarize(finished([arm("adamw"), arm("muon")], runs("adamw", "judge", [2.0], {})))
