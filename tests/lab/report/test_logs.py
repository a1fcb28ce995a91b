"""Logs that TensorBoard and Weights & Biases read back."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from typing import Any

import pytest

from ravine.lab.report import open_log

CONFIG = {"optimizer": "adamw", "lr": 0.003}


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard is missing")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_log("tensorboard", tmp_path, "adamw:lr=0.003 1/2", CONFIG) as log:
        log.write(1, {"loss/judging": 5.5})
        log.write(2, {"loss/judging": 2.5, "loss/training": math.nan, "lr": 0.003})
    events = EventAccumulator(str(tmp_path / "adamw-lr-0.003-1-2")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/judging")] == [(1, 5.5), (2, 2.5)]
    assert sorted(events.Tags()["scalars"]) == ["loss/judging", "lr"]
    assert b"adamw" in events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]


@pytest.mark.slow
def test_wandb_writes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the package wandb is missing")
    # Nobody is logged in in an empty home; its own telemetry of errors stays off.
    for name, value in {"HOME": str(tmp_path / "home"), "WANDB_ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC", "WANDB_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    with open_log("wandb", tmp_path, "adamw", CONFIG) as log:
        log.write(1, {"loss/judging": 5.5})
        log.write(20, {"loss/judging": 2.5, "loss/training": math.inf})
        log.write(3, {"lr/late": 0.75})
    files = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 1
    content = files[0].read_bytes()
    assert b"loss/judging" in content and b"5.5" in content and b"loss/training" not in content
    assert b"lr/late" in content and b"0.75" in content, "a curve may begin again at the first step"


def test_another_kind_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"log must be one of tensorboard, wandb, got 'tensorbord'.*tensorboard"):
        open_log("tensorbord", tmp_path, "run", {})


@pytest.mark.parametrize(("kind", "package"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_says_what_to_install(
    kind: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importing = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf'--log {kind} needs .*: pip install "ravine\[log\]"'):
        open_log(kind, tmp_path, "run", {})
    assert list(tmp_path.iterdir()) == []
