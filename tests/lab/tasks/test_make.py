"""Tasks by name: what is not known is refused in one sentence, with what was probably meant."""

from __future__ import annotations

from typing import Any

import pytest

from ravine.lab.tasks import TASKS, make, options


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("quadratics", {}, r"unknown task 'quadratics'; did you mean 'quadratic'\? \(there are lm, sft, dpo, digits, "),
        ("ridge", {"size": "tinny"}, r"size must be one of tiny, small, base, got 'tinny'; did you mean 'tiny'\?"),
        ("ridge", {"size": None}, r"size must be one of tiny, small, base, got None"),
        ("ridge", {"penalti": 0.1}, r"takes no penalti; did you mean 'penalty'\? \(it takes size, points, dimension, "),
        ("ridge", {"data": "x"}, r"the task ridge takes no data \(it takes size, points, "),
        ("quadratic", {"model": "x.py:build"}, "the task quadratic takes no model"),
        ("digits", {"tokenizer": "bytes"}, "the task digits takes no tokenizer"),
        ("lm", {"base": "x.pt"}, "the task lm takes no base"),
        ("lm", {"data": 3}, "data must be a text, got 3"),
        ("lm", {"context": 0}, "context must be a whole number of at least 1, got 0"),
        ("quadratic", {"dimension": 2.5}, "dimension must be a whole number of at least 1, got 2.5"),
        ("quadratic", {"dimension": True}, "dimension must be a whole number of at least 1, got True"),
        ("quadratic", {"condition": 0.5}, "condition must be a number of at least 1, got 0.5"),
        ("quadratic", {"condition": float("inf")}, "condition must be a number of at least 1, got inf"),
        ("quadratic", {"variance": -1}, "variance must be a number of at least 0, got -1"),
        ("quadratic", {"variance": "1"}, "variance must be a number of at least 0, got '1'"),
        ("rosenbrock", {"dimension": 7}, "dimension must be even for rosenbrock, got 7"),
        ("online", {"c": 2}, "c must be a number above 2, got 2"),
        ("ridge", {"points": 5, "dimension": 6}, "points must be at least the dimension, 6, got 5"),
        ("digits", {"model": "cmn"}, r"model must be one of mlp, cnn, vit, got 'cmn'; did you mean 'cnn'\?"),
        ("digits", {"pixels": 16}, "pixels is for images of one's own: give a folder with data, or leave it out"),
        ("sft", {"model": "x.py:build"}, "the task sft needs a base with it"),
        ("dpo", {"size": "tiny", "beta": 0}, "beta must be a number above 0, got 0"),
        ("dpo", {"rejected": "word"}, r"rejected must be one of words, functions, got 'word'; did you mean 'words'\?"),
        ("sft", {"size": "base"}, "give a base, the checkpoint of `ravine train --task lm --size base`"),
    ],
)
def test_what_will_not_do_is_refused_in_one_sentence(name: str, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refused:
        make(name, **given)
    assert "\n" not in str(refused.value)


def test_options_that_are_none_are_the_tasks_own() -> None:
    assert make("online", data=None, model=None, tokenizer=None, base=None, c=None) == make("online")


def test_every_task_lists_its_options() -> None:
    assert {name: options(name) for name in TASKS} == {
        "lm": ["data", "tokenizer", "model", "context"],
        "sft": ["data", "base", "model"],
        "dpo": ["data", "base", "model", "beta", "rejected"],
        "digits": ["data", "model", "pixels"],
        "ridge": ["points", "dimension", "condition", "penalty", "noise"],
        "quadratic": ["dimension", "variance", "condition"],
        "rosenbrock": ["dimension", "variance"],
        "online": ["c"],
    }


def test_settings_tell_tasks_apart_but_not_where_their_files_are() -> None:
    assert make("quadratic").settings() != make("quadratic", condition=7).settings()
    assert make("quadratic", condition=100).settings() == make("quadratic").settings()
    assert make("ridge").settings() != make("ridge", noise=0.2).settings()
