"""What a study shows in a terminal, and without one."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from tests.lab.report import samples

from ravine.lab.terminal import Estimate, Running, print_result, progress_bar


class Clock:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def screen(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=160, highlight=False, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_time_left_counts_only_what_was_seen() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    assert estimate.left(10, 20) is None, "these ten are of an earlier call"
    clock.now = 30.0
    assert estimate.left(10, 20) is None
    assert estimate.left(11.5, 20) == 170.0


def test_without_a_terminal_each_new_run_has_a_line() -> None:
    clock, out = Clock(), screen(terminal=False)
    with progress_bar(screen=out, clock=clock) as show:
        show(0, 4, [Running("search adamw lr=0.003"), Running("search muon lr=0.006")])
        show(0, 4, [Running("search adamw lr=0.003", 50, 100, 2.5), Running("search muon lr=0.006", 50, 100, 2.2)])
        clock.now = 60.0
        show(2, 4, [Running("judge muon")], {"muon": 1.93, "adamw": 2.01, "sgd": None})
        clock.now = 90.0
        show(4, 4)
        show(4, 4)
    assert written(out).splitlines() == [
        "  0%  0/4 runs; started search adamw lr=0.003, search muon lr=0.006",
        " 50%  2/4 runs; 1:00 left; started judge muon; best so far: muon 1.93, adamw 2.01",
        "100%  4/4 runs",
    ]


def test_a_terminal_shows_what_runs_with_losses_and_time() -> None:
    clock, out = Clock(), screen(terminal=True)
    with progress_bar(screen=out, clock=clock) as show:
        show(0, 20)
        clock.now = 100.0
        show(10, 20, [Running(f"search sgd[{i}]", 30, 120, 2.345) for i in range(10)], {"adamw": 1.9})
    text = written(out)
    assert "10/20 runs" in text and "10 to go, 1:00 left" in text
    assert "search sgd[0]" in text and "step 30/120" in text and "loss 2.345" in text
    assert "and 2 more" in text and "search sgd[9]" not in text
    assert "best so far: adamw 1.9" in text


def test_quiet_is_quiet() -> None:
    for terminal in (True, False):
        out = screen(terminal)
        with progress_bar(quiet=True, screen=out) as show:
            show(1, 2, [Running("search adamw")], {"adamw": 1.0})
        assert written(out) == ""


def test_the_result_in_short() -> None:
    out = screen(terminal=False)
    print_result(samples.full(), Path("out/report.html"), out)
    lines = written(out).splitlines()
    assert lines[0].startswith("muon trained best")
    assert any(line.startswith("Warning: The best lr of muon") for line in lines)
    heading = next(line for line in lines if "adamw" in line and "muon" in line and "trained" not in line)
    assert heading.split() == ["muon", "adamw", "sgd:momentum=0.9", "lion:lr=10"]
    assert next(line for line in lines if line.startswith("bytes/s")).split()[-1] == "21,333"
    assert lines[-2:] == [
        "target: loss 1.975, mean + 1 standard deviation of adamw; first crossing",
        "report: out/report.html",
    ]


def test_the_least_result_in_short() -> None:
    out = screen(terminal=False)
    print_result(samples.minimal(), Path("report.html"), out)
    assert written(out).startswith("Not enough seeds.\n")
    assert "target:" not in written(out)
