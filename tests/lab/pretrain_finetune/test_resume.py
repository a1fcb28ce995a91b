"""Interrupted in any stage, the experiment goes on from there; nothing that is done is done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.lab.pretrain_finetune.conftest import ARMS, BUDGET, Finished, call, untimed

import ravine.lab.study.study
from ravine.lab.pretrain_finetune import prepare


def test_interrupted_in_every_stage_it_goes_on(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, made = ravine.lab.study.study.train, []

    def counted(*arguments: Any, **options: Any) -> Any:
        outcome = train(*arguments, **options)
        made.append(options["seed"])
        return outcome

    monkeypatch.setattr(ravine.lab.study.study, "train", counted)
    measured = iter(["float32"])
    monkeypatch.setattr("ravine.lab.comparison.faster_precision", lambda *arguments: next(measured))
    budget = {**BUDGET, "precision": "auto"}
    for stage in (
        f"pre-training: judge {ARMS[1]}",
        f"pre-train {ARMS[1]} base 1",
        f"post-training on {ARMS[0]} base 2: judge {ARMS[1]}",
    ):

        def stop(done: int, total: int, running: Any = (), best: Any = None, stage: str = stage) -> None:
            if any(one.what == stage and one.step == 1 for one in running):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare(ARMS, out=tmp_path, **budget).run(stop)
        assert not (tmp_path / "pretrain-finetune.json").exists()
    again = prepare(ARMS, out=tmp_path, **budget).run()
    assert len(made) == 20, "a comparison's run that was finished has been made again"
    assert untimed(again) == untimed(finished.result)


def test_an_interruption_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(ravine.lab.study.study, "train", interrupted)
    stopped = call(*ARMS, "--size", "tiny", "--steps", "4", "--seeds", "2", "--workers", "1", "--out", tmp_path)
    assert stopped.exit_code == 130
    assert f"interrupted; what is done is kept in {tmp_path}, the same command goes on" in stopped.stderr
