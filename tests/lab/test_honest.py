"""The verdict of real studies: nothing between an optimizer and itself, and a large difference in every one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravine.lab import compare


def test_an_optimizer_against_itself_is_no_difference(tmp_path: Path) -> None:
    result = compare(["adamw", "adamw"], task="quadratic", size="tiny", steps=20, trials=4, workers=1, out=tmp_path)
    assert set(result["arms"]) == {"adamw", "adamw#2"}
    assert result["verdict"]["winner"] is None
    assert result["verdict"]["text"].startswith("No significant difference between")
    values = [result["arms"][label]["final_loss"]["values"] for label in ("adamw", "adamw#2")]
    assert not set(values[0]) & set(values[1]), "twins that shared their seeds could not fail"


@pytest.mark.slow
def test_the_best_learning_rate_beats_a_hundredth_of_it_in_every_study(tmp_path: Path) -> None:
    """On digits, tuned once on all of its space; then 20 studies, each of other seeds."""
    options = {"task": "digits", "size": "tiny", "steps": 20, "workers": 1, "precision": "float32", "baseline": False}
    tuned = compare(["adamw", "sgd:lr=0.1"], out=tmp_path / "tuned", seeds=1, **options)
    lr = tuned["arms"]["adamw"]["best"]["settings"]["lr"]
    arms = [f"adamw:lr={lr}", f"adamw:lr={lr / 100}"]
    winners = [
        compare(arms, out=tmp_path / str(seed), seed=seed, **options)["verdict"]["winner"] for seed in range(1, 21)
    ]
    assert winners == [arms[0]] * 20
