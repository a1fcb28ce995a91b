"""Samples of a watched optimizer as TensorBoard's scalars and histograms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ravine.explain.watch.measures import PER_DECADE, Spread

SCALARS = ("weight_norm", "gradient_rms", "update_rms", "relative_update", "step_size")


class Board:
    """Writes samples to TensorBoard.

    Args:
        where: a `SummaryWriter`, which stays open, or a folder to write events to.

    Raises:
        ImportError: where TensorBoard is not installed.
    """

    def __init__(self, where: Any) -> None:
        self._ours = isinstance(where, (str, Path))
        if not self._ours:
            self._writer = where
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError('tensorboard is needed: pip install "ravine[log]"') from error
        self._writer = SummaryWriter(str(where))

    def add(self, sample: Mapping[str, Any]) -> None:
        """Write one sample: scalars by parameter, histograms of log₁₀ of magnitudes by rule."""
        step = sample["step"]
        for rule, lr in sample["lr"].items():
            self._writer.add_scalar(f"lr/{rule}", lr, step)
        for name, values in sample["parameters"].items():
            for key in SCALARS:
                if values[key] is not None:
                    self._writer.add_scalar(f"{key}/{name}", values[key], step)
        for rule, spreads in sample["spreads"].items():
            for kind, values in spreads.items():
                self._add_spread(f"log10 of {kind}/{rule}", Spread.from_dict(values), step)

    def _add_spread(self, tag: str, spread: Spread, step: int) -> None:
        if not spread.counts:
            return
        places = range(min(spread.counts), max(spread.counts) + 1)
        counts = [spread.counts.get(place, 0) for place in places]
        middles = [(place + 0.5) / PER_DECADE for place in places]
        self._writer.add_histogram_raw(
            tag, min=places[0] / PER_DECADE, max=(places[-1] + 1) / PER_DECADE, num=sum(counts),
            sum=sum(c * m for c, m in zip(counts, middles, strict=True)),
            sum_squares=sum(c * m * m for c, m in zip(counts, middles, strict=True)),
            bucket_limits=[(place + 1) / PER_DECADE for place in places], bucket_counts=counts, global_step=step,
        )  # fmt: skip

    def close(self) -> None:
        """Write what is left; a writer that was given stays open."""
        if self._ours:
            self._writer.close()
        else:
            self._writer.flush()
