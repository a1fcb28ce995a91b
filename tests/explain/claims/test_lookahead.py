"""Claim 12: the formula, the rule against it, the good range of a curve, and the quick form."""

from __future__ import annotations

import math

import pytest

from explain.claims.quick import held, made_quickly
from ravine.explain.claims.c12_lookahead import (
    CURVATURE_LR,
    final_losses,
    good_range,
    lookahead,
    variance_on_quadratic,
    variance_ratio,
)


@pytest.mark.parametrize(("alpha", "ratio"), [(0.5, 0.4430), (0.8, 0.7608), (1.0, 1.0)])
def test_the_formula(alpha: float, ratio: float) -> None:
    """Zhang et al. 2019, Proposition 2, at γa = 0.1 and k = 5."""
    assert variance_ratio(alpha) == pytest.approx(ratio, abs=5e-5)


def test_sgd_has_its_known_variance() -> None:
    """γa/(2 − γa) of the noise's; 20 000 runs have a standard error of 1 %, of which four are allowed."""
    assert variance_on_quadratic("sgd", 20_000, 1) == pytest.approx(CURVATURE_LR / (2 - CURVATURE_LR), rel=0.04)


def test_lookahead_with_alpha_one_is_the_rule_inside() -> None:
    found = variance_on_quadratic("lookahead(sgd)", 1000, 1, **{"lookahead.alpha": 1.0})
    assert found == pytest.approx(variance_on_quadratic("sgd", 1000, 1), rel=1e-12)


@pytest.mark.parametrize(
    ("losses", "limit", "decades"),
    [
        ([1.0, 1.0, 1.0, 1.0], 2.0, 3.0),
        ([10.0, 1.0, 10.0, 10.0], math.sqrt(10), 1.0),
        ([10.0, 1.0, math.inf, 1.0], math.sqrt(10), 0.5),
        ([10.0, 5.0, 10.0, 10.0], 2.0, 0.0),
    ],
    ids=["everywhere", "half-way to both sides", "up to a divergence", "nowhere"],
)
def test_the_good_range(losses: list[float], limit: float, decades: float) -> None:
    assert good_range([0.001, 0.01, 0.1, 1.0], losses, limit) == pytest.approx(decades)


def test_final_losses_are_the_same_alone_and_side_by_side() -> None:
    both = final_losses("sgd:momentum=0.9", [0.03, 0.1], "linear", 5, seed=2)
    assert both[1] == pytest.approx(final_losses("sgd:momentum=0.9", [0.1], "linear", 5, seed=2)[0], rel=1e-5)


@pytest.mark.slow
def test_the_quick_form() -> None:
    assert {"half", "four_fifths"} <= held(lookahead, made_quickly(lookahead))
