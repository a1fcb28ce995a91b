"""A study's settings: one list of names for file and command line, each checked."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.lab.study.settings import Settings, read_toml, values_of

numbers = st.integers(1, 1000)
parts = st.floats(0.01, 0.99)


@given(
    st.builds(
        Settings,
        arms=st.lists(st.sampled_from(["adamw", "lion:beta1=0.8", 'odd "name"\n']), max_size=3).map(tuple),
        steps=st.none() | numbers, trials=numbers, horizons=st.lists(parts, max_size=2).map(tuple),
        data=st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=9),
        baseline=st.booleans(), warmup=parts, target=st.none() | parts,
        space=st.sampled_from(
            [{}, {"lr": "1e-4..1e-2", "muon": {"lr": {"low": 1e-3, "high": 0.1}, "beta2": [0.9, 0.99]}}]
        ),
    )
)  # fmt: skip
def test_a_file_gives_back_what_was_written(settings: Settings) -> None:
    assert Settings(**values_of(tomllib.loads(settings.to_toml()), "the study")) == settings


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"budgett": {}}, "the study has an unknown section [budgett]; did you mean 'budget'?"),
        ({"budget": {"step": 1}}, "the study has an unknown key 'step' in [budget]; did you mean 'steps'?"),
        ({"task": {"steps": 1}}, "the study has an unknown key 'steps' in [task]; it belongs into [budget]"),
        ({"budget": 3}, "[budget] must be a section, got 3"),
        ({"budget": {"steps": 0}}, "steps must be at least 1, got 0"),
        ({"budget": {"steps": 1.5}}, "steps must be a whole number, got 1.5"),
        ({"budget": {"steps": True}}, "steps must be a whole number, got True"),
        ({"budget": {"horizons": [1.5]}}, "horizons are parts of the steps between 0 and 1, got 1.5"),
        ({"budget": {"horizons": ["a"]}}, "horizons must be a list of numbers, got ('a',)"),
        ({"training": {"warmup": -1}}, "warmup must be at least 0, got -1"),
        ({"training": {"warmup": float("nan")}}, "warmup must be at least 0, got nan"),
        ({"search": {"sampler": "tpee"}}, "sampler must be one of quasi-random, grid, tpe, got 'tpee'; did"),
        ({"study": {"baseline": 1}}, "baseline must be true or false, got 1"),
        ({"machine": {"device": "gpu"}}, "device must be one of auto, cpu, cuda, got 'gpu'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_sentence(sections: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError) as error:
        Settings(**values_of(sections, "the study"))
    assert complaint in str(error.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*missing\.toml: No such file"):
        read_toml(tmp_path / "missing.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[budget\nsteps = 1")
    with pytest.raises(ValueError, match=r"broken\.toml is not a study file: "):
        read_toml(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"cannot read .*broken\.toml"):
        read_toml(broken)


def test_every_setting_says_what_it_is() -> None:
    for setting in fields(Settings):
        assert setting.metadata["about"] and setting.metadata["section"]
