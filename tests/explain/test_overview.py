"""What there is: optimizers, engines, and the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import ravine.engine
from ravine.explain.overview import doctor, engines_of, listing
from ravine.math import norm, row_mean
from ravine.optim.written import parse_settings
from ravine.registry import available, lookup
from ravine.rule import State, rule


def test_the_list_is_complete() -> None:
    rows = listing()
    assert [row["name"] for row in rows] == available()
    for row in rows:
        assert set(row) == {"name", "paper", "state_bytes_per_param", "engines"}
        assert row["paper"] == lookup(row["name"]).paper
        assert set(row["engines"]) <= set(ravine.engine.NAMES) - {"auto"}
    assert {row["name"]: row["engines"] for row in rows}["adamw"] == ["reference", "native", "triton"]


@rule(paper="made for this test", view="matrix", state={"q": State("q", kind="left")})
def late_square(p, g, q, *, t, lr=0.1):
    """LateSquare: an ordinary rule at first, which adds the means of rows to a square matrix afterwards."""
    if t > 1:
        q = q + row_mean(g)
    return p - lr * g, q


@rule(paper="made for this test")
def late_norm(p, g, *, t, lr=0.1):
    """LateNorm: takes the norm of a single number from the second step on."""
    if t > 1:
        g = g / norm(norm(g))
    return (p - lr * g,)


@pytest.mark.parametrize("made", [late_square, late_norm], ids=lambda r: r.name)
def test_what_compiled_engines_cannot_run_is_said(made: ravine.Rule) -> None:
    assert engines_of(made) == ["reference"]


def test_the_doctor_tells_what_is_here() -> None:
    facts = doctor()
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["threads"] == torch.get_num_threads()
    assert facts["cache"]["kernels"] >= 0
    taken = facts["devices"]["cpu"]
    assert taken["engine"] == ravine.engine.choose("auto", torch.device("cpu")).name
    assert "ms" in taken["why"]
    assert ("cuda" in facts["devices"]) == torch.cuda.is_available()


def test_the_doctor_says_why_the_reference_engine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravine.engine.find_compiler", lambda: None)
    monkeypatch.setattr("ravine.engine.compiler.find_compiler", lambda: None)
    facts = doctor()
    assert facts["compiler"] is None
    assert facts["devices"]["cpu"]["engine"] == "reference"
    assert "no C++ compiler was found; install g++ or clang++" in facts["devices"]["cpu"]["why"]


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("raise RuntimeError('the kernel is broken')", "its test step failed: the kernel is broken"),
        ("pass", "its test step gave a wrong result"),
    ],
)
def test_the_doctor_reports_an_engine_that_fails(step: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    exec(f"class Broken:\n    name = 'native'\n    def step(self):\n        {step}", made)
    monkeypatch.setattr("ravine.engine.choose", lambda *_: made["Broken"])
    monkeypatch.setattr("ravine.optim.create", lambda *_, **__: made["Broken"]())
    taken = doctor()["devices"]["cpu"]
    assert taken["engine"] == "native"
    assert taken["why"].endswith(says)


def test_the_doctor_reports_a_cache_that_is_not_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "ravine").mkdir(mode=0o777)
    (tmp_path / "ravine").chmod(0o777)
    assert "can be written by others" in doctor()["cache"]["problem"]


def test_settings_take_the_type_of_their_defaults() -> None:
    parsed = parse_settings(
        lookup("lookahead(adamw)"), ["lookahead.k=10", "amsgrad=true", "eps_form=hat", "lr=1", "lookahead.alpha = 0.25"]
    )
    assert parsed == {"lookahead.k": 10, "amsgrad": True, "eps_form": "hat", "lr": 1.0, "lookahead.alpha": 0.25}
    assert [type(value) for value in parsed.values()] == [int, bool, str, float, float]


@pytest.mark.parametrize(
    ("written", "error", "says"),
    [
        (["lr"], ValueError, "key=value, got 'lr'"),
        (["=1"], ValueError, "key=value"),
        (["lr="], ValueError, "key=value"),
        (["lr=1", "lr=2"], ValueError, "given twice"),
        (["lr=fast"], ValueError, "lr must be a number, got 'fast'"),
        (["lookahead.k=1.5"], ValueError, "lookahead.k must be a whole number, got '1.5'"),
        (["amsgrad=1"], ValueError, "amsgrad must be true or false, got '1'"),
        (["lokahead.k=1"], TypeError, "did you mean 'lookahead.k'"),
    ],
)
def test_settings_that_cannot_be_read(written: list[str], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        parse_settings(lookup("lookahead(adamw)"), written)
    assert says in str(caught.value)
