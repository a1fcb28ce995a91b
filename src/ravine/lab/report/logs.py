"""Curves for the tools that people already watch: TensorBoard, and Weights & Biases."""

from __future__ import annotations

import importlib.util
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ravine.registry import nearest


class Log(ABC):
    """Where the figures of one run go while it is made. A context manager that closes itself."""

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures at a step; one curve may be written after another. What is not finite is left out.

        Args:
            step: of the optimizer, from 1.
            values: by name; `"loss/judging"` is shown in the group `loss`.
        """

    @abstractmethod
    def close(self) -> None:
        """Write out what is left. May be called again."""

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_log(kind: str, folder: str | os.PathLike[str], name: str, config: Mapping[str, Any]) -> Log:
    """A log of one run.

    Args:
        kind: `"tensorboard"`, or `"wandb"`: offline, unless one is logged in to it or `WANDB_MODE` says otherwise.
        folder: for the files; TensorBoard's are in a folder of the run's name below it.
        name: of the run.
        config: plain values, shown beside the curves. What must stay secret has to be taken out before.

    Raises:
        ValueError: for another kind.
        ImportError: where its package is missing; the message says what to install.
    """
    require(kind)
    return KINDS[kind](Path(folder), name, config)


def require(kind: str) -> None:
    """Raise where there is no such log, or its package is missing: see `open_log`."""
    if kind not in KINDS:
        raise ValueError(f"log must be one of {', '.join(KINDS)}, got {kind!r}{nearest(kind, tuple(KINDS))}")
    if importlib.util.find_spec(kind) is None:
        raise ImportError(f'--log {kind} needs a package that is not installed: pip install "ravine[log]"')


class _TensorBoard(Log):
    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ImportError('--log tensorboard needs TensorBoard: pip install "ravine[log]"') from None
        from ravine.lab.report.text import file_name

        self._writer: Any = SummaryWriter(str(folder / file_name(name)))
        self._writer.add_text("settings", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in _finite(values).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases(Log):
    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise ImportError('--log wandb needs Weights & Biases: pip install "ravine[log]"') from None
        folder.mkdir(parents=True, exist_ok=True)
        logged_in = os.environ.get("WANDB_API_KEY") or wandb.api.api_key
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if logged_in else "offline")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "ravine"), name=name, dir=str(folder), config=dict(config),
            mode=mode, reinit="create_new", settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip

        # Its own count of steps only goes up, and would drop the curve that is written second.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **_finite(values)})

    def close(self) -> None:
        self._run.finish()


KINDS: dict[str, Any] = {"tensorboard": _TensorBoard, "wandb": _WeightsAndBiases}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}
