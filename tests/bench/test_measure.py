"""The measurement: the arithmetic of its rows, its bounds, its JSON, and one small run from end to end."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ravine import engine
from ravine.bench import measure
from ravine.bench.arms import Arm, parse
from ravine.bench.bounds import COLD_SECONDS, RATIOS, SHARES, WARM_SECONDS, checks
from ravine.bench.first_step import FirstStep, measure_first_step
from ravine.bench.measure import Measured, Measurement, Row
from ravine.bench.settings import settings_of
from ravine.bench.timing import Round, Spread

NAMES = ("adamw", "ravine", "native", "gpt")


def test_a_row_on_known_times() -> None:
    rounds = [Round(0.040, 0.036), Round(0.040, 0.030), Round(0.050, 0.060)]
    row = Row.of(NAMES, rounds, elements=1_000_000, bytes_per_param=28, ceiling=2e9)
    assert row.ratio == Spread(median=pytest.approx(0.9), min=pytest.approx(0.75), max=pytest.approx(1.2))
    assert (row.milliseconds, row.baseline_milliseconds) == (pytest.approx(36), pytest.approx(40))
    assert row.ceiling_share == pytest.approx(28e6 / 0.036 / 2e9)
    assert (row.optimizer, row.library, row.engine, row.shapes) == NAMES


@pytest.mark.parametrize(("planned", "ceiling"), [(None, 1e9), (28, None), (None, None)])
def test_without_a_plan_or_a_ceiling_there_is_no_share(planned: float | None, ceiling: float | None) -> None:
    assert Row.of(NAMES, [Round(1.0, 1.0)], 100, planned, ceiling).ceiling_share is None


@given(st.floats(1e-6, 10), st.floats(1, 100), st.integers(1, 10**9))
def test_a_rule_at_the_ceiling_has_all_of_it(seconds: float, planned: float, elements: int) -> None:
    row = Row.of(NAMES, [Round(1.0, seconds)], elements, planned, ceiling=planned * elements / seconds)
    assert row.ceiling_share == pytest.approx(1.0)


def test_bounds_hold_for_medians_of_ravines_own_rows() -> None:
    measurement = Measurement(settings_of(["adamw", "lion", "amsgrad"]))
    measurement._bytes = {"adamw": 28.0, "lion": 20.0, "amsgrad": 36.0}
    measurement._measured = [
        Measured(0, "torch", "fused", [Round(1.0, 9.0)]),
        Measured(0, "ravine", "native", [Round(1.0, 0.9), Round(1.0, 1.0), Round(1.0, 9.0)]),
        Measured(1, "ravine", "native", [Round(1.0, 0.76)]),
        Measured(2, "ravine", "native", [Round(1.0, 9.0)]),
    ]
    measurement.first_steps = [FirstStep("adamw", COLD_SECONDS, 2 * WARM_SECONDS)]
    found = {check.what: (check.measured, check.bound, check.met) for check in measurement.checks}
    assert found == {
        "adamw on gpt": (1.0, 1.00, True),
        "lion on gpt": (0.76, 0.75, False),
        "first step of adamw, cold cache (s)": (1.5, 1.5, True),
        "first step of adamw, warm cache (s)": (0.2, 0.1, False),
    }
    assert [row.library for row in measurement.rows[:2]] == ["torch", "ravine"]


def test_every_bound_is_for_an_arm_that_a_plain_run_measures_or_the_textbook_momentum() -> None:
    plain = {(shapes, arm.label) for shapes, arm in settings_of().jobs}
    bounded = {*RATIOS, *SHARES}
    assert bounded - plain == {("gpt", "momentum")}
    assert plain - bounded == {("gpt", "clip_norm(adamw)"), ("hidden", "normuon")}
    assert [arm.label for arm in parse(label for _, label in bounded)]


def test_muon_is_held_to_the_fastest_other_library() -> None:
    shares = [("hidden", "muon", 0.6), ("hidden", "muon", 0.8), ("gpt", "muon", 1.0), ("hidden", "soap", 2.0)]
    (check,) = checks([("hidden", "muon", 6.0)], [], shares)
    assert (check.measured, check.bound, check.met) == (0.8, 0.75, False)
    assert checks([("hidden", "muon", 6.0)], []) == []


@pytest.mark.slow
def test_a_peer_that_ravine_is_held_to_is_timed_against_it() -> None:
    measurement = Measurement(settings_of(["muon"], engine="reference", quick=True, rounds=2, steps=1))
    measurement.run()
    own_shares = {row.library: row.own_share for row in measurement.rows}
    assert own_shares["ravine"] is None
    assert own_shares["torch"] is not None and own_shares["torch"].min > 0


def test_shapes_have_bounds_of_their_own() -> None:
    (small,) = checks([("small", "adamw", 0.31), ("small", "lion", 9.0)], [])
    assert (small.what, small.bound, small.met) == ("adamw on small", 0.3, False)


@pytest.mark.parametrize("options", [{"quick": True}, {"dtype": "bfloat16"}])
def test_there_are_no_bounds_for_other_measurements(options: dict[str, Any]) -> None:
    measurement = Measurement(settings_of(["adamw"], **options))
    measurement.first_steps = [FirstStep("adamw", 99.0, 99.0)]
    assert measurement.checks == []


@pytest.mark.slow
def test_the_first_step_is_timed_in_processes_that_share_one_new_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    caches = []
    real = measure_first_step.__globals__["_in_fresh_process"]

    def watched(request: dict[str, Any], cache: Any) -> float:
        caches.append((cache, len(list(cache.rglob("*.so")))))
        return float(real(request, cache))

    monkeypatch.setitem(measure_first_step.__globals__, "_in_fresh_process", watched)
    (arm,) = parse(["lion:lr=0.5"])
    step = measure_first_step(arm, "native", "float32", "cpu", threads=2)
    (cold_cache, before), (warm_cache, after) = caches
    assert cold_cache == warm_cache
    assert not cold_cache.exists()
    assert (before, after) == (0, 2)  # the rule's kernel and the worker pool
    assert step.optimizer == "lion:lr=0.5"
    assert step.cold_seconds > 0 < step.warm_seconds


def test_a_first_step_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"first step of mine failed: ValueError: unknown optimizer 'mine'"):
        measure_first_step(Arm("mine", "mine"), "native", "float32", "cpu", threads=1)


@pytest.fixture
def no_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "measure_first_step", lambda arm, *rest: FirstStep(arm.label, 1.0, 0.5))


@pytest.mark.usefixtures("no_first_steps")
def test_a_quick_run_from_end_to_end() -> None:
    threads = torch.get_num_threads()
    measurement = Measurement(
        settings_of(["lion", "lookahead(sgd)", "sgd"], engine="native", quick=True, rounds=2, steps=1, threads=1)
    )
    said: list[str] = []
    measurement.run(said.append)
    assert torch.get_num_threads() == threads
    assert len(said) == measurement.units
    assert said[:3] == ["first step of lion", "lion on gpt", "lookahead(sgd) on gpt"]

    result = json.loads(json.dumps(measurement.as_dict(), allow_nan=False))
    assert set(result) == {
        "command", "date", "machine", "settings", "ceiling_gb_per_s", "rows", "first_step", "checks", "peers", "notes"
    }  # fmt: skip
    assert result["ceiling_gb_per_s"] > 0
    assert result["machine"]["threads"] == 1
    assert result["first_step"] == [{"optimizer": "lion", "cold_seconds": 1.0, "warm_seconds": 0.5}]
    assert result["command"] == (
        "ravine bench lion 'lookahead(sgd)' sgd --shapes gpt --rounds 2 --steps 1 --engine native --dtype float32 "
        "--device cpu --threads 1 --peers --quick"
    )
    rows = {(row["optimizer"], row["library"]): row for row in result["rows"]}
    assert {key for key in rows if key[1] in ("ravine", "torch")} == {
        ("lion", "ravine"), ("lookahead(sgd)", "ravine"), ("sgd", "ravine"), ("sgd", "torch")
    }  # fmt: skip
    for row in result["rows"]:
        assert set(row) == {
            "optimizer", "library", "engine", "shapes", "ratio", "milliseconds", "baseline_milliseconds",
            "bytes_per_param", "ceiling_share", "own_share",
        }  # fmt: skip
        assert set(row["ratio"]) == {"median", "min", "max"}
        assert 0 < row["ratio"]["min"] <= row["ratio"]["median"] <= row["ratio"]["max"]
        assert row["milliseconds"] > 0 < row["ceiling_share"]
    assert rows["lookahead(sgd)", "ravine"]["bytes_per_param"] == pytest.approx((4 * 12 + 20) / 5)
    assert rows["lion", "ravine"]["engine"] == "native"
    assert (rows["sgd", "torch"]["engine"], rows["sgd", "torch"]["bytes_per_param"]) == ("fused", 12)


@pytest.mark.usefixtures("no_first_steps")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_types_run(dtype: str) -> None:
    measurement = Measurement(settings_of(["adamw"], dtype=dtype, shapes="small", quick=True, rounds=1, steps=1))
    measurement.run()
    assert measurement.rows[0].bytes_per_param == {"bfloat16": 14, "float16": 14, "float64": 56}[dtype]


@pytest.mark.usefixtures("no_first_steps")
def test_without_a_compiler_the_reference_engine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    engine._warn_once.cache_clear()  # another test may have been warned
    monkeypatch.setattr("ravine.engine.find_compiler", lambda: None)
    monkeypatch.setattr("ravine.engine.compiler.find_compiler", lambda: None)
    with pytest.warns(RuntimeWarning, match="slow reference engine"):
        measurement = Measurement(settings_of(["sgd"], shapes="small", quick=True, rounds=1, steps=1, peers=False))
        measurement.run()
    (row,) = measurement.rows
    assert (row.engine, row.bytes_per_param, row.ceiling_share) == ("reference", 12, None)
    assert measurement.as_dict()["ceiling_gb_per_s"] is None
    assert any("no C++ compiler" in note for note in measurement.notes)


@pytest.mark.usefixtures("no_first_steps")
def test_what_is_finished_can_be_looked_at_after_an_interruption() -> None:
    measurement = Measurement(
        settings_of(["sgd", "lion"], engine="reference", shapes="small", quick=True, rounds=1, steps=1, peers=False)
    )

    def interrupt(what: str) -> None:
        if what == "lion on small":
            raise KeyboardInterrupt

    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        measurement.run(interrupt)
    assert [row.optimizer for row in measurement.rows] == ["sgd"]
    assert torch.get_num_threads() == threads
