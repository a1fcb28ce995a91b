"""`ravine schedule`: what a learning rate schedule does, as a curve in the terminal and as a page."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import torch
from rich.console import Console
from rich.text import Text

from ravine.lab.files import write_given
from ravine.optim.schedules import named

HEIGHT, WIDTH = 12, 72
MOST_STEPS = 1_000_000
BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Drawing:
    """A schedule's learning rates.

    Args:
        name: of the schedule.
        settings: what it was made with, defaults included.
        peak: the learning rate that is multiplied.
        lr: at each step from 0; the last is what follows the run.
    """

    name: str
    settings: Mapping[str, Any]
    peak: float
    lr: tuple[float, ...]

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return len(self.lr) - 1

    @property
    def call(self) -> str:
        """The schedule as it is written in Python."""
        written = ", ".join(f"{key}={value!r}" for key, value in self.settings.items())
        return f"ravine.schedules.{self.name}(optimizer, {written})"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"schedule": self.name, "settings": dict(self.settings), "peak": self.peak, "lr": list(self.lr)}

    def marks(self) -> list[tuple[int, float]]:
        """Steps worth naming with their learning rates: the first, the ends of level stretches, the last, and after."""
        steps = self.steps
        turns = [
            step
            for step in range(1, steps)
            if (self.lr[step] == self.lr[step - 1]) != (self.lr[step + 1] == self.lr[step])
        ]
        return [(step, self.lr[step]) for step in sorted({0, *turns, steps - 1, steps})]


def draw(name: str, steps: int, lr: float = 1.0, **settings: Any) -> Drawing:
    """The learning rates of a schedule over a run.

    Args:
        name: of `ravine.schedules.SCHEDULES`.
        steps: of the run, at most `MOST_STEPS`; the schedule's `total_steps`, where it has them.
        lr: the peak, above 0.
        settings: the schedule's others; those that are None are left at their defaults.

    Raises:
        TypeError: for a setting that the schedule does not have, or of the wrong type.
        ValueError: for an unknown schedule, or a setting out of its range.

    Example:
        >>> draw("linear", 4, lr=0.5, warmup_steps=2).lr
        (0.25, 0.5, 0.5, 0.25, 0.0)
    """
    make = named(name)
    parameters = inspect.signature(make).parameters
    known = [key for key in parameters if key not in ("optimizer", "last_epoch")]
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"steps must be a whole number from 1 to {MOST_STEPS}, got {steps!r}")
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be a finite number above 0, got {lr!r}")
    given = {key: value for key, value in settings.items() if value is not None}
    if "total_steps" in known:
        given["total_steps"] = steps
    for key in given:
        if key not in known:
            takes = ", ".join(k for k in known if k != "total_steps")
            raise TypeError(f"the schedule {name!r} has no setting {key!r}; it takes {takes}")
    missing = [key for key in known if parameters[key].default is inspect.Parameter.empty and key not in given]
    if missing:
        raise TypeError(f"the schedule {name!r} needs {', '.join(missing)}")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    bound = inspect.signature(make).bind(optimizer, **given)
    bound.apply_defaults()
    schedule = make(optimizer, **given)
    shown = {key: bound.arguments[key] for key in known if bound.arguments[key] is not None}
    return Drawing(name, shown, lr, tuple(lr * schedule.shape(step) for step in range(steps + 1)))


def text(drawing: Drawing, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """The curve as lines of text, the highest first: a scale, a bar for each column of steps, and the steps below.

    Example:
        >>> print(*text(draw("linear", 8, warmup_steps=2), width=9, height=2), sep="\\n")
             1 ┤ ██▅▃
           0.5 ┤██████▅▃
             0 └─────────
                0       8
    """
    lrs = drawing.lr
    columns = min(width, len(lrs))
    shown = [lrs[round(i * drawing.steps / max(1, columns - 1))] for i in range(columns)]
    top = max(lrs)
    eighths = [round(8 * height * value / top) for value in shown]
    lines = []
    for row in range(height, 0, -1):
        bars = "".join(BLOCKS[min(8, max(0, e - 8 * (row - 1)))] for e in eighths)
        label = f"{top * row / height:.3g}" if row in (height, (height + 1) // 2) else ""
        lines.append(f"{label:>10} ┤{bars}".rstrip())
    last = str(drawing.steps)
    lines.append(f"{'0':>10} └{'─' * columns}")
    lines.append(f"{'':>12}0{last:>{max(1, columns - 1)}}".rstrip())
    return lines


def print_drawing(drawing: Drawing, console: Console) -> None:
    """The curve, and the learning rates at the steps worth naming."""
    console.print(Text(drawing.call, style="bold cyan"))
    console.print()
    for line in text(drawing):
        console.print(Text(line), soft_wrap=True)
    console.print()
    for step, lr in drawing.marks():
        after = "  (after the run)" if step == drawing.steps else ""
        console.print(Text(f"  step {step:>8}   lr {lr:.6g}{after}"))


def page(drawing: Drawing) -> str:
    """The curve as an HTML page that opens without a network."""
    figure = go.Figure(
        go.Scatter(
            x=list(range(drawing.steps + 1)), y=list(drawing.lr), mode="lines", line={"color": "#0072B2"},
            hovertemplate="step %{x}: lr %{y:.6g}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        template="plotly_white", title=drawing.call, xaxis_title="step", yaxis_title="learning rate",
        font={"family": "system-ui, sans-serif", "size": 14},
    )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    return str(figure.to_html(include_plotlyjs=True, config={"displaylogo": False, "responsive": True}))


def write_page(drawing: Drawing, file: str) -> None:
    """Write the page to a file, which appears whole or not at all.

    Raises:
        ValueError: where it cannot be written.
    """
    write_given(file, page(drawing), "--html")
