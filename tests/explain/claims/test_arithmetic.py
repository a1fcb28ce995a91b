"""Claims 1, 2, 3 and 8, which are arithmetic: their numbers against those of the papers, computed independently."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.explain import figure
from ravine.explain.claims.c01_bias_correction import bias_correction, uncorrected
from ravine.explain.claims.c02_dying_steps import dying_steps
from ravine.explain.claims.c03_momentum_and_the_ravine import momentum_and_the_ravine
from ravine.explain.claims.c08_adam_diverges import adam_diverges
from ravine.explain.claims.claim import Claim, Evidence, Run, verdict
from ravine.explain.claims.walk import Walk
from ravine.rules.adagrad import adagrad
from ravine.rules.adam import adam, amsgrad


def looked_at(one: Claim, run: Run) -> Evidence:
    """What it found; its figure can be drawn, and twice the same."""
    evidence = one(run)
    pictures = []
    for _ in range(2):
        canvas = figure.new(evidence.width, evidence.height)
        evidence.draw(canvas)
        pictures.append(figure.svg(canvas))
    assert pictures[0] == pictures[1]
    return evidence


def column(evidence: Evidence, name: str) -> dict[Any, Any]:
    assert evidence.table is not None
    head, rows = evidence.table
    return {row[0]: row[list(head).index(name)] for row in rows}


@pytest.mark.slow
def test_bias_correction() -> None:
    evidence = looked_at(bias_correction, Run(quick=True))
    assert verdict(bias_correction.criteria, evidence.values) == "holds"
    measured = column(evidence, "measured")
    assert measured[1] == pytest.approx(0.1 / math.sqrt(0.001), rel=1e-12)
    assert measured[20] == pytest.approx((1 - 0.9**20) / math.sqrt(1 - 0.999**20), rel=1e-12)


@given(st.floats(1e-3, 1e3), st.floats(0, 0.99), st.floats(0.5, 0.9999))
def test_the_uncorrected_rule_is_adam_with_other_settings(g: float, beta1: float, beta2: float) -> None:
    """The ratio of two steps from the same averages, whatever gradient and settings."""
    steps = [rule(0.0, g, 0.3, 0.2, t=5, lr=1.0, beta1=beta1, beta2=beta2, eps=0.0)[0] for rule in (uncorrected, adam)]
    assert steps[0] / steps[1] == pytest.approx((1 - beta1**5) / math.sqrt(1 - beta2**5), rel=1e-12)


@pytest.mark.slow
def test_dying_steps() -> None:
    evidence = looked_at(dying_steps, Run(quick=True))
    assert verdict(dying_steps.criteria, evidence.values) == "holds"
    way = column(evidence, "Adagrad: way / lr")
    assert way[100] == pytest.approx(sum(1 / math.sqrt(s) for s in range(1, 101)), rel=1e-8)


@pytest.mark.slow
def test_momentum_and_the_ravine() -> None:
    evidence = looked_at(momentum_and_the_ravine, Run(quick=True))
    assert verdict(momentum_and_the_ravine.criteria, evidence.values) == "holds here with limits"
    # x is 10·(49/51)ᵗ and y (−49/51)ᵗ: the loss falls to a thousandth when (49/51)²ᵗ does.
    assert column(evidence, "steps to 0.1 %")["none"] == math.ceil(math.log(1e-3) / (2 * math.log(49 / 51)))


@pytest.mark.slow
def test_adam_diverges() -> None:
    evidence = looked_at(adam_diverges, Run(quick=True))
    assert verdict(adam_diverges.criteria, evidence.values) == "holds here with limits"
    ends = column(evidence, "x at the end, cycle")
    assert ends["Adam"] > 0.99 and ends["AMSGrad"] < -0.99 and ends["ADOPT"] < -0.99
    assert ends["Adam, β = (0.9, 0.999)"] < -0.99


@pytest.mark.slow
def test_without_seeds_in_common_the_drawn_gradients_differ() -> None:
    first, second = (adam_diverges(Run(quick=True, seeds=(seed,))).values for seed in (1, 2))
    assert first["adam_drawn"] != second["adam_drawn"]
    assert first["adam_cycle"] == second["adam_cycle"]


def test_a_walk_has_the_states_that_exist_and_their_initial_values() -> None:
    assert set(Walk(adam, np.zeros(2)).states) == {"m", "v"}
    assert set(Walk(amsgrad, np.zeros(2)).states) == {"m", "v", "v_max"}
    assert Walk(adagrad, np.zeros(2), initial_accumulator_value=0.5).states["v"].tolist() == [0.5, 0.5]
    walk = Walk(adam, np.zeros(3), lr=1.0)
    by_hand = adam(walk.p, np.full(3, 2.0), np.zeros(3), np.zeros(3), t=1, lr=0.5)
    assert walk.step(2.0, lr=0.5).tolist() == by_hand[0].tolist() and walk.t == 1
