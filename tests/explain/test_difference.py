"""Differences between any two rules: each side can be read out of them, and what is marked is what differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from ravine.cli import app
from ravine.explain.difference import difference
from ravine.explain.settled import lines_at_defaults, settled_lines
from ravine.registry import available, lookup

SPECS = [
    *available(), "cautious(adamw)", "lookahead(cautious(adamw))", "schedule_free(adamw)", "schedule_free(sgd)",
    "clip_norm(schedule_free(adamw))", "ema(lion)", "rectified(adamw)", "centralized(muon)",
]  # fmt: skip


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["show", *arguments])


@given(st.sampled_from(SPECS), st.sampled_from(SPECS))
@settings(max_examples=60, deadline=None)
def test_both_sides_can_be_read_out_of_it(new: str, old: str) -> None:
    found = difference(new, old)
    assert [line.text for line in found.lines if line.kind != "removed"] == lines_at_defaults(lookup(new))
    assert [line.text for line in found.lines if line.kind != "added"] == lines_at_defaults(lookup(old))
    assert found.is_same == (lines_at_defaults(lookup(new)) == lines_at_defaults(lookup(old)))
    for line in found.lines:
        assert line.pieces and all(piece.text for piece in line.pieces)
        assert line.kind != "same" or not any(piece.changed for piece in line.pieces)
    # What is not marked in a changed line is what its counterpart on the other side has unmarked.
    unmarked = {
        kind: {"".join(p.text for p in line.pieces if not p.changed) for line in found.lines if line.kind == kind}
        for kind in ("removed", "added")
    }
    for line in found.lines:
        if any(piece.changed for piece in line.pieces):
            other = unmarked["added" if line.kind == "removed" else "removed"]
            assert "".join(piece.text for piece in line.pieces if not piece.changed) in other


@given(st.sampled_from(SPECS), st.sampled_from(SPECS))
@settings(max_examples=30, deadline=None)
def test_turned_around_it_is_the_opposite(new: str, old: str) -> None:
    there, back = difference(new, old), difference(old, new)
    assert {k: (b, a) for k, (a, b) in there.settings.items()} == back.settings
    assert there.is_same == back.is_same


def test_adam_against_adamw() -> None:
    """What decoupled weight decay takes apart: λ leaves the gradient and comes beside the update."""
    found = difference("adam", "adamw")
    assert [line.marked() for line in found.lines if line.kind != "same"] == [
        "g ← g + λ·θ",
        "θ ← θ − η·(m̂ / (√v̂ + ε)[ + λ·θ])",
        "θ ← θ − η·(m̂ / (√v̂ + ε))",
    ]
    assert found.settings == {"weight_decay": (0.01, 0.0), "decay": ("lr", "l2")}


def test_words_that_differ_are_marked_on_both_sides() -> None:
    found = difference("lion", "momentum")
    marked = [line.marked() for line in found.lines]
    assert "m ← [β]·m + (1 − [β])·g" in marked and "m ← [β₂]·m + (1 − [β₂])·g" in marked


def test_a_wrapper_puts_its_lines_before_the_rule() -> None:
    found = difference("lookahead(adamw)", "adamw")
    assert [line.section for line in found.lines if line.kind == "added"] == ["lookahead"] * 4
    assert {line.section for line in found.lines if line.kind == "same"} == {"adamw"}
    assert found.marked_lines()[0] == "# lookahead" and "# adamw" in found.marked_lines()


def test_what_a_wrapper_holds_at_zero_is_gone_from_the_rule() -> None:
    """Schedule-Free takes momentum's place: the average of gradients is the gradient, and needs no correction."""
    inner = [line.text for line in settled_lines(lookup("schedule_free(adamw)")) if line.section == "adamw"]
    assert inner[:3] == ["m ← g", "v ← β₂·v + (1 − β₂)·g²", "m̂ ← m"]


def test_the_same_rule() -> None:
    found = difference("adamw", "adamw")
    assert found.is_same and found.settings == {}
    assert "The lines are the same." in call("adamw", "--against", "adamw").stdout


def test_the_command(tmp_path: Path) -> None:
    result = call(
        "adam", "--against", "adamw", "--json", str(tmp_path / "x.json"), "--markdown", str(tmp_path / "x.md")
    )
    assert result.exit_code == 0
    assert "  + g ← g + λ·θ\n" in result.stdout and "  - θ ← θ − η·(m̂ / (√v̂ + ε) + λ·θ)\n" in result.stdout
    written = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(difference("adam", "adamw").as_dict()))
    assert written["lines"][-2]["pieces"][1] == {"text": " + λ·θ", "changed": True}
    text = (tmp_path / "x.md").read_text(encoding="utf-8")
    assert "```diff\n+ g ← g + λ·θ\n  m ←" in text and "| `weight_decay` | `0.01` | `0.0` |" in text


def test_colours_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from ravine.explain.terminal import print_difference

    console = Console(
        force_terminal=True, color_system="standard", record=True, highlight=False, width=100, quiet=False
    )
    with console.capture() as captured:
        print_difference(difference("adam", "adamw"), console)
    assert "\x1b[32m+ \x1b[0m" in captured.get() and "\x1b[31m- \x1b[0m" in captured.get()
    assert "\x1b[1;7;31m + λ·θ\x1b[0m" in captured.get()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("adam", "--against", "adamx"), "unknown optimizer 'adamx'; did you mean 'adamax'?"),
        (("adamx", "--against", "adam"), "unknown optimizer 'adamx'; did you mean 'adamax'?"),
        (("adam", "--against", "lokahead(adam)"), "unknown wrapper 'lokahead'; did you mean 'lookahead'?"),
        (("adam", "--against", "adamw", "--svg", "x.svg"), "leave --against out"),
        (("adam", "--markdown", "x.md"), "--markdown writes a difference; say from what, with --against NAME"),
        (("adam", "--svg", "/no/such/x.svg"), "--svg: /no/such/x.svg cannot be written"),
        (("adam", "--mermaid", "/no/such/x.mmd"), "--mermaid: /no/such/x.mmd cannot be written"),
        (("adam", "--against", "adamw", "--markdown", "/no/such/x.md"), "--markdown: /no/such/x.md cannot be written"),
    ],
)
def test_a_wrong_call_is_one_sentence(arguments: tuple[str, ...], says: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert says in result.stderr and result.stderr.count("\n") == 1


def test_show_draws(tmp_path: Path) -> None:
    from ravine.explain.diagram import flow, mermaid, svg

    picture, text = tmp_path / "lion.svg", tmp_path / "lion.mmd"
    result = call("lion", "--svg", str(picture), "--mermaid", str(text))
    assert result.exit_code == 0
    assert "One step: θ is the parameter" in result.stdout
    assert "A change of momentum. " + str(lookup("lion").reason) in result.stdout
    assert picture.read_text(encoding="utf-8") == svg(flow("lion"))
    assert text.read_text(encoding="utf-8") == mermaid(flow("lion"))
    assert call("lion", "--mermaid", "-").stdout == mermaid(flow("lion"))


def test_show_as_json_has_parent_reason_and_flow() -> None:
    from ravine.explain.diagram import flow

    shown = json.loads(call("adamw", "--json", "-").stdout)
    assert shown["flow"] == flow("adamw").as_dict()
    assert {"start": "n10", "end": "n2", "bond": "keeps"} in shown["flow"]["edges"]
    assert (shown["parent"], shown["reason"]) == ("adam", lookup("adamw").reason)
