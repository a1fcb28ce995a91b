"""Zeros, infinities and NaNs as RULES have them; matrices of several rows; numbers and complaints in words."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.explain.javascript.cases import settings_of
from tests.explain.javascript.running import Case, by_node, by_numpy, differences, in_node
from tests.explain.javascript.test_rules import EQUAL, ROOTS, emitted

from ravine.explain.javascript import emit, runtime
from ravine.explain.javascript.expressions import traced
from ravine.explain.javascript.settings import interval
from ravine.explain.typeset import number
from ravine.registry import available, lookup

SPECIAL = (0.0, -0.0, 1.0, -2.5, 1e-200, 1e200, np.inf, -np.inf, np.nan)
MATRICES = ("muon", "normuon", "shampoo")
SHAPES = ((2, 2), (2, 3), (3, 1))


def special_gradients(name: str, steps: int) -> list[list[float]]:
    drawn = random.Random(name)
    return [[drawn.choice(SPECIAL[:6] if t < steps // 2 else SPECIAL) for _ in range(2)] for t in range(steps)]


def test_zeros_infinities_and_nans_go_the_same_way(tmp_path: Path) -> None:
    names = [name for name in available() if not lookup(name).steps_matrices]
    given = [
        Case(name, settings_of(lookup(name)), (0.5, -1.0), steps=12, gradients=gradients)
        for name in names
        for gradients in ([[0.0, 0.0]] * 12, special_gradients(name, 12))
    ]
    for case, result in zip(given, by_node(emitted(*names), given, tmp_path), strict=True):
        off = differences(result, by_numpy(lookup(case.rule), case))
        assert max(off.values()) <= EQUAL, (case, off)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matrices_of_several_rows_take_the_same_path(shape: tuple[int, int], tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    count = shape[0] * shape[1]
    given = []
    for name in (*MATRICES, "adafactor", "centralized(adamw)"):
        gradients = generator.normal(size=(40, count)).tolist()
        settings = settings_of(lookup(name)) | ({"eps": 0.1} if name == "shampoo" else {})
        given.append(Case(name, settings, tuple(generator.normal(size=count)), steps=40, gradients=gradients))
    made = emitted(*(case.rule for case in given), shape=shape, flags=False)
    for case, result in zip(given, by_node(made, given, tmp_path), strict=True):
        off = differences(result, by_numpy(lookup(case.rule), case, shape))
        assert max(v for k, v in off.items() if k not in ROOTS) <= EQUAL, (case.rule, off)


def test_numbers_are_written_as_python_writes_them(tmp_path: Path) -> None:
    drawn = random.Random(1)
    values = [drawn.uniform(-10, 10) * 10.0 ** drawn.randint(-12, 12) for _ in range(500)]
    values += [
        12.34375,
        1.015625,
        123456.5,
        123457.5,
        -2.5e-5,
        1e-4,
        99999.95,
        999999.5,
        0.1 + 0.2,
        1 / 3,
        1e22,
        5e-324,
    ]
    values += [0.5**k for k in range(40)] + [1.0, -1.0, 0.0, -0.0, np.inf, -np.inf, np.nan]
    script = (
        emit([]).source
        + runtime()
        + """
        const given = JSON.parse(require("fs").readFileSync(process.argv[2], "utf8"));
        require("fs").writeFileSync(process.argv[3], JSON.stringify(given.map((x) => number(Number(x)))));"""
    )
    assert in_node(script, values, tmp_path) == [number(value) for value in values]


def test_settings_that_will_not_do_are_said_in_a_sentence(tmp_path: Path) -> None:
    def wrong(name: str, **changed: Any) -> Case:
        return Case(name, settings_of(lookup(name)) | changed, (0.0, 0.0), steps=1)

    given = [
        wrong("adamw", beta1=1.0), wrong("adamw", lr=-1.0), wrong("lookahead(sgd)", **{"lookahead.k": 2.5}),
        wrong("sgd", nesterov=True), wrong("adafactor_transformers", lr=0.5), wrong("adamw", lr=np.nan),
        wrong("muon", steps=9),
    ]  # fmt: skip
    names = dict.fromkeys(case.rule for case in given)
    assert [result.get("wrong") for result in by_node(emitted(*names), given, tmp_path)] == [
        "beta1 must be at least 0 and below 1, got 1",
        "lr must be at least 0, got −1",
        "lookahead.k must be a whole number at least 1, got 2.5",
        "nesterov=True needs momentum above 0 and dampening 0",
        "lr=0.5 and relative_step=True cannot both be; leave lr out, or give relative_step=False",
        "lr must be at least 0, got NaN",
        "steps must be a whole number at least 1 and at most 8, got 9",
    ]


def test_intervals_are_read() -> None:
    assert interval("whole [1, 100)") == {"low": 1.0, "high": 100.0, "open": [False, True], "whole": True}
    assert interval("(-inf, 0]") == {"low": None, "high": 0.0, "open": [True, False], "whole": False}


def test_a_function_with_conditions_is_refused() -> None:
    with pytest.raises(ValueError, match="without conditions"):
        traced(lambda x, y: x if x > y else y, ("x", "y"))
    with pytest.raises(ValueError, match="arithmetic"):
        traced(lambda x, y: 1.0, ("x", "y"))
