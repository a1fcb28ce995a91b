"""Drawings of schedules: the numbers are the schedule's, the curve shows them, the page stands alone."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from ravine.explain.schedules import draw, print_drawing, text, write_page
from ravine.optim import schedules

SETTINGS: dict[str, dict[str, Any]] = {
    "constant": {}, "linear": {"floor": 0.2}, "cosine": {}, "wsd": {"tail": "linear"}, "inverse_sqrt": {},
    "inverse": {"timescale": 20},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_the_numbers_are_those_an_optimizer_gets(name: str) -> None:
    drawing = draw(name, 100, lr=0.3, warmup_steps=10, **SETTINGS[name])
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    schedule = eval(drawing.call, {"ravine": type("ravine", (), {"schedules": schedules}), "optimizer": optimizer})
    found = []
    for _ in range(101):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert list(drawing.lr) == found
    assert json.loads(json.dumps(drawing.as_dict()))["lr"] == found


def test_the_curve_has_a_bar_as_high_as_each_learning_rate() -> None:
    drawing = draw("cosine", 70, warmup_steps=10)
    *rows, axis, steps = text(drawing, width=71, height=10)
    assert len(rows) == 10 and axis.endswith("└" + "─" * 71) and steps.split() == ["0", "70"]
    columns = [row.split("┤")[1].ljust(71) for row in rows]
    heights = [sum(" ▁▂▃▄▅▆▇█".index(column[i]) for column in columns) / 80 for i in range(71)]
    assert heights == pytest.approx(drawing.lr, abs=1 / 160 + 1e-9)
    assert rows[0].split()[0] == "1" and rows[5].split()[0] == "0.5"


def test_marks_are_where_it_turns() -> None:
    assert [step for step, _ in draw("wsd", 100, warmup_steps=10).marks()] == [0, 9, 80, 99, 100]


def test_it_is_printed_without_colour_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    print_drawing(draw("linear", 4, lr=0.5, warmup_steps=2), Console(file=stream, width=200))
    printed = stream.getvalue()
    assert "ravine.schedules.linear(optimizer, total_steps=4, warmup_steps=2, floor=0.0)" in printed
    assert "step        0   lr 0.25" in printed and "step        4   lr 0  (after the run)" in printed


def test_the_page_stands_alone(tmp_path: Path) -> None:
    drawing = draw("cosine", 50, lr=0.3)
    write_page(drawing, str(tmp_path / "curve.html"))
    written = (tmp_path / "curve.html").read_text(encoding="utf-8")
    assert 'src="http' not in written and "<html" in written and "total_steps=50" in written


@pytest.mark.parametrize(
    ("error", "message", "arguments", "settings"),
    [
        (ValueError, "unknown schedule 'cosin'; did you mean 'cosine'?", ("cosin", 10), {}),
        (ValueError, "steps must be a whole number from 1 to 1000000, got 0", ("cosine", 0), {}),
        (ValueError, "lr must be a finite number above 0, got nan", ("cosine", 9, math.nan), {}),
        (TypeError, "'constant' has no setting 'floor'; it takes warmup_steps", ("constant", 9), {"floor": 0.1}),
        (ValueError, "warmup_steps must be at most total_steps = 9, got 10", ("linear", 9), {"warmup_steps": 10}),
        (TypeError, "the schedule 'inverse' needs timescale", ("inverse", 9), {}),
    ],
)  # fmt: skip
def test_wrong_calls_are_refused(error: type[Exception], message: str, arguments: Any, settings: Any) -> None:
    with pytest.raises(error, match=message.replace("?", r"\?")):
        draw(*arguments, **settings)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--html: .* cannot be written"):
        write_page(draw("constant", 3), str(tmp_path / "missing" / "curve.html"))
