"""The verdict's sentences, lost runs, and the page."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.lab.pretrain_finetune.conftest import ARMS, Finished

from ravine.lab.pretrain_finetune.contrast import MISMATCH, POST_TRAINING, PRETRAINING, contrast
from ravine.lab.pretrain_finetune.page import chart, html
from ravine.lab.pretrain_finetune.result import BaseRun, Stage, result_of, verdict
from ravine.lab.training import Outcome

LABELS = ("adamw", "muon")


def said(penalty: float, of_pretraining: float = 0.0) -> dict[str, Any]:
    noise = np.random.default_rng(0).standard_normal((2, 2, 3, 5))
    losses = np.array([[0.0, penalty / 2], [penalty / 2 - of_pretraining, -of_pretraining]])[..., None, None] + noise
    found = {"mismatch": MISMATCH, "pretraining": PRETRAINING, "post_training": POST_TRAINING}
    return verdict(LABELS, {name: contrast(losses, weights) for name, weights in found.items()}, 1.25, [], "nats")


def test_a_penalty_appears() -> None:
    made = said(20.0)
    assert made["appears"] is True and made["significant"]
    assert re.match(
        r"The mismatch penalty appears at this scale: the two mixed cells together end [\d.]+ nats higher than the two "
        r"that keep their optimizer \(95 % interval of the difference \+\S+ to \+\S+, p < 0\.001\)\.",
        made["text"],
    )


def test_none_appears_and_what_would_have_been_found() -> None:
    made = said(0.0, of_pretraining=20.0)
    assert made["appears"] is False and not made["significant"]
    assert "does not appear at this scale" in made["text"] and "which chance can explain" in made["text"]
    assert "A penalty of 1.25 or more would most likely have been found." in made["text"]
    assert "Pre-training with muon is better by" in made["text"]
    assert "Post-training with one or the other makes no significant difference" in made["text"]


def test_the_opposite_is_no_penalty() -> None:
    made = said(-20.0)
    assert made["appears"] is False and made["significant"] and "its opposite does" in made["text"]
    assert "nats lower than the two that keep" in made["text"]


def stages(finished: Finished) -> tuple[Stage, list[BaseRun], list[Stage]]:
    """The finished experiment's stages, to be changed."""
    out, result, _ = finished

    def stage(report: str) -> Stage:
        stored = json.loads((out / report).with_name("result.json").read_text(encoding="utf-8"))
        one = {"runs": 1, "seconds": 1.0, "optimizer_share": 0.5, "units_per_second": 9.0,
               "state_bytes_per_param": 8.0, "peak_memory_bytes": None, "joules": None}  # fmt: skip
        return Stage(stored, {arm: dict(one) for arm in ARMS}, Path(report))

    bases = [
        BaseRun(ARMS.index(b["pretrained"]), b["number"], b["seed"], b["optimizer"], Path(b["checkpoint"]), Outcome())
        for b in result["bases"]
    ]
    compared = [stage(base["post_training"]["report"]) for base in result["bases"]]
    return stage(result["pretraining"]["report"]), bases, compared


def test_a_lost_run_is_no_verdict(finished: Finished) -> None:
    pretraining, bases, compared = stages(finished)
    assert result_of(ARMS, pretraining, bases, compared)["effects"] == finished.result["effects"]
    run = compared[1].result["arms"][ARMS[0]]["runs"][1]
    run.update(final_loss=None, diverged=True)
    result = result_of(ARMS, pretraining, bases, compared)
    assert set(result["effects"].values()) == {None} and result["least_penalty_found"] is None
    assert result["verdict"] == {
        "appears": None, "significant": False,
        "text": f"No verdict: post-training was lost on some seeds, with {ARMS[0]} on {ARMS[1]} base 1.",
    }  # fmt: skip
    assert [cell["n"] for cell in result["cells"]] == [4, 4, 3, 4]
    page = html(result | {"command": "none", "size": "tiny", "versions": {}})
    assert "No verdict" in page and "not tested" in page


def test_the_luck_of_tuning_is_in_the_intervals(finished: Finished) -> None:
    pretraining, bases, compared = stages(finished)
    for stage in compared:
        stage.result["arms"][ARMS[0]]["best"]["tuning_std"] = 3.0
    before, after = finished.result["effects"], result_of(ARMS, pretraining, bases, compared)["effects"]
    assert after["mismatch"]["estimate"] == before["mismatch"]["estimate"]
    assert after["mismatch"]["error"] == pytest.approx(np.hypot(before["mismatch"]["error"], 3 * np.sqrt(2)))


def test_the_page_needs_nothing_and_says_all(finished: Finished) -> None:
    page = (finished.out / "pretrain-finetune.html").read_text(encoding="utf-8")
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "default-src &#39;none&#39;" in page
    assert finished.result["verdict"]["text"].partition(":")[0] in page
    links = re.findall(r'href="([^"#]+\.html)"', page)
    assert len(links) == 5 and all((finished.out / link).exists() for link in links)
    assert len(re.findall(r'<line class="line"', page)) == 2 * (2 + 1)


def test_the_chart_has_a_line_for_each_base_at_its_means(finished: Finished) -> None:
    made = chart(finished.result)
    assert made is not None
    bold = [line for line in made["lines"] if line["bold"]]
    assert [line["label"] for line in bold] == list(ARMS)
    for line in made["lines"]:
        assert all(made["left"] < x < made["right"] and 0 < y < made["bottom"] for x, y in line["points"])
    heights = sorted(
        (loss, y) for line in made["lines"] for loss, (_, y) in zip(line["losses"], line["points"], strict=True)
    )
    assert [y for _, y in heights] == sorted((y for _, y in heights), reverse=True)


def test_text_is_escaped(finished: Finished) -> None:
    result = deepcopy(finished.result)
    result["warnings"] = ["<img src=x onerror=alert(1)>"]
    result["command"] = "</pre><script>alert(1)</script>"
    page = html(result)
    assert "<img src=x" not in page and "<script>" not in page and "&lt;script&gt;" in page
