"""Claims 14, 15, 16, 18 and 20: their experiments end with a number for each criterion, and their parts are right."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ravine.explain import figure
from ravine.explain.claims import Run, c15_muon, c18_sophia, lookup_claim, verdict
from ravine.explain.claims.c15_muon import HIGH, LOW, REACHED, Spectra, spectra_of
from ravine.explain.claims.c16_mismatch import help_texts
from ravine.explain.claims.c18_sophia import unclipped
from ravine.explain.claims.small_transformer import Count, Small, Text, Trained, Tuned
from ravine.lab.study.arms import Arm
from ravine.lab.study.selection import Trial

SLUGS = ("sgd-on-a-transformer", "muon", "mismatch", "sophia", "retuned-adamw")


@pytest.fixture(scope="module")
def small() -> Small:
    """Twenty steps on a text of one sentence."""
    return Small(Text.cut(b"A rule is written once, and everything else reads it. " * 40), steps=20, batch=4, width=16)


def tuned(name: str, **settings: float) -> Tuned:
    return Tuned(Arm(name, name), (Trial(settings, 1.0),))


def test_muons_updates_are_read_from_the_weights(small: Small) -> None:
    found = spectra_of(small, tuned("muon", lr=0.02, weight_decay=0.1), 1, Count(Run(), 1))
    assert found.updates.shape == found.before.shape == found.after.shape == (3 * 6, 16)
    assert np.all(found.before[:, 0] <= 1)
    assert np.all(np.diff(found.before) <= 0)
    reached = found.after[found.before >= REACHED]
    assert reached.size > 50
    assert LOW <= reached.min() <= reached.max() <= HIGH


def test_adamws_updates_are_read_from_the_weights(small: Small) -> None:
    found = spectra_of(small, tuned("adamw", lr=0.01, weight_decay=0.1), 1, Count(Run(), 1))
    assert found.before.size == 0
    # An element of AdamW's update is about one at most, so that the squares of a matrix's values sum to its elements.
    assert np.all(np.sqrt((found.updates**2).sum(1)) < 1.5 * 32)
    assert np.all(found.updates[:, 0] > 0.1)


@pytest.mark.parametrize(("rho", "low", "high"), [(1e-9, 0.0, 0.1), (1e9, 0.9, 1.0)])
def test_the_share_of_sophias_elements_that_are_not_clipped(small: Small, rho: float, low: float, high: float) -> None:
    share = unclipped(small, tuned("sophia", lr=1e-3, rho=rho, weight_decay=0.1), 1)
    assert low <= share <= high


def test_help_texts_are_english() -> None:
    pytest.importorskip("pydoc_data.topics", reason="Python's help texts are not installed")
    text = help_texts()
    words = bytes(text.training[:200_000].tolist()).decode()
    assert words.count(" the ") > 500
    assert len(text.judging) > 10_000


def test_claims_are_listed_without_torch() -> None:
    modules = ", ".join(lookup_claim(slug).function.__module__ for slug in SLUGS)
    subprocess.run([sys.executable, "-c", f"import sys, {modules}; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("slug", SLUGS)
def test_what_a_claim_says(slug: str) -> None:
    claim = lookup_claim(slug)
    assert "arXiv:" in claim.source
    assert claim.experiment


def surrogate(small: Small, arm: Arm, settings: dict[str, float], seed: int, *_: object, **__: object) -> Trained:
    """A run that is not made: its loss is lowest at lr 0.01, falls with the steps, and has a luck of its own."""
    own = np.random.default_rng([seed, small.steps, len(arm.label)]).normal(0, 0.01)
    loss = 2 + 0.1 * math.log(settings["lr"] / 0.01) ** 2 + 10 / small.steps + own
    return Trained(loss, np.full(small.steps, loss), small.new_model(seed))


def spectra(small: Small, tuned: Tuned, seed: int, count: Count) -> Spectra:
    count.one()
    values = np.sort(np.random.default_rng(seed).uniform(0.7, 1.1, (6, 16)))[:, ::-1]
    return Spectra(values, values, values)


@pytest.mark.parametrize("quick", [True, False], ids=["quick", "full"])
@pytest.mark.parametrize("slug", SLUGS)
def test_both_forms_are_whole(slug: str, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Small, "train", surrogate)
    monkeypatch.setattr(Small, "evaluate", lambda *_: 2.5)
    monkeypatch.setattr(c15_muon, "spectra_of", spectra)
    monkeypatch.setattr(c18_sophia, "unclipped", lambda *_: 0.2)
    require_whole(slug, Run(quick=quick, seeds=(1, 2, 3)))


def require_whole(slug: str, run: Run) -> None:
    claim, told = lookup_claim(slug), list[tuple[int, int]]()
    evidence = claim(replace(run, report=lambda done, total: told.append((done, total))))
    assert all(math.isfinite(value) for value in evidence.values.values())
    assert verdict(claim.criteria, evidence.values)
    assert told[-1][0] == told[-1][1] == len(told)
    assert evidence.table is not None
    assert all(len(row) == len(evidence.table[0]) for row in evidence.table[1])
    drawn = figure.new(evidence.width, evidence.height)
    evidence.draw(drawn)
    assert "<svg" in figure.svg(drawn)
