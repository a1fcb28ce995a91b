"""What came of a run, in plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

SPANS = ("data", "forward", "backward", "optimizer")
"""Parts of a step that are timed; the rest of it is clipping, the schedule and averages of the weights."""

Curve = dict[str, list[float]]


def new_curve() -> Curve:
    """A curve without points."""
    return {"step": [], "units": [], "seconds": [], "loss": []}


@dataclass
class Outcome:
    """What came of a run, in values that JSON has; times in seconds, without evaluations and checkpoints.

    A run has diverged where the loss was not finite (`final_loss` is then None, and `diverged_at` the step at which
    that was seen), or where it ended above the task's `diverged_above`. It has failed, `failed` being a sentence, where
    memory ran out; nothing else is then known.

    Args:
        final_loss: at the end, on the split.
        metrics: all figures of the evaluation at the end; None for one that is not finite.
        curve: lists `step`, `units` (of data seen), `seconds`, `loss` of the evaluations.
        training_curve: the same of the training loss, each the mean since the last entry.
        seconds: of all steps; `spans` of their parts, see `SPANS`.
        units: of data seen, in the task's unit, over all processes.
        optimizer_share: of `optimizer.step()` in the time.
        state_bytes_per_param: bytes of the optimizer's state for each trained number, `state_bytes_by_dtype` in all.
        parameters: trained numbers of the model.
        peak_memory_bytes: of tensors on the GPU, or resident in the process; of one process where there are several.
        peak_memory_reserved_bytes: held by torch on the GPU; None without one.
        notes: sentences on what was done otherwise than the recipe says.
    """

    final_loss: float | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    diverged: bool = False
    diverged_at: int | None = None
    failed: str | None = None
    curve: Curve = field(default_factory=new_curve)
    training_curve: Curve = field(default_factory=new_curve)
    seconds: float = 0.0
    spans: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPANS, 0.0))
    units: int = 0
    units_per_second: float = 0.0
    optimizer_share: float = 0.0
    state_bytes_per_param: float = 0.0
    state_bytes_by_dtype: dict[str, int] = field(default_factory=dict)
    parameters: int = 0
    peak_memory_bytes: int | None = None
    peak_memory_reserved_bytes: int | None = None
    threads: int = 1
    processes: int = 1
    notes: list[str] = field(default_factory=list)
