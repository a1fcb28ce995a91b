"""One model, trained and kept: interrupted, gone on with, and loaded again."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ravine
from ravine.lab.tasks import Task, make
from ravine.lab.training import Outcome, Recipe, evaluate, fit, load_model
from ravine.lab.training.stream import pieces

RECIPE = Recipe(steps=12, batch=4)

OWN = """
import torch

LOADED = True

class Pair(torch.nn.Module):
    context = 16

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(256, 8)
        self.head = torch.nn.Linear(8, 256)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))

def build():
    open("built", "a").close()
    return Pair()
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 60 kB."""
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    path.write_text("".join(f"{i} is {'even' if i % 2 == 0 else 'odd'}, it's naïve\n" for i in range(3000)))
    return path


@pytest.fixture(scope="module")
def task(lines: Path) -> Task:
    return make("lm", size="tiny", data=str(lines))


def run(task: Task, out: Path, rule: str = "adamw", **options: Any) -> Outcome:
    def build(model: nn.Module) -> torch.optim.Optimizer:
        return ravine.create(rule, model.parameters(), lr=0.01)

    return fit(task, build, options.pop("recipe", RECIPE), out, optimizer=f"{rule}:lr=0.01", **options)


@pytest.mark.parametrize(
    ("rule", "recipe"), [("adamw", RECIPE), ("schedule_free(adamw)", RECIPE), ("adamw", Recipe(12, 4, ema=0.9))]
)
def test_a_model_is_kept_as_it_was_evaluated(rule: str, recipe: Recipe, task: Task, tmp_path: Path) -> None:
    outcome = run(task, tmp_path / "new" / "out", rule, recipe=recipe)
    model, tokenizer = load_model(tmp_path / "new" / "out" / "checkpoint.pt")
    assert evaluate(task, model, None, "tuning") == outcome.metrics
    assert tokenizer is not None and tokenizer.name == "bytes"
    record = json.loads((tmp_path / "new" / "out" / "run.json").read_text())
    assert Outcome(**record["outcome"]) == outcome
    assert record["optimizer"] == f"{rule}:lr=0.01" and record["split"] == "tuning"
    assert Recipe(**record["recipe"]) == recipe and record["task"]["settings"]["data"]["files"] == 1


def test_ctrl_c_ends_after_a_step_and_the_same_call_goes_on(task: Task, tmp_path: Path) -> None:
    def press(step: int) -> None:
        if step == 5:
            signal.raise_signal(signal.SIGINT)

    before, steps = signal.getsignal(signal.SIGINT), list[int]()
    with pytest.raises(KeyboardInterrupt):
        run(task, tmp_path, on_step=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "run.json").exists()
    outcome = run(task, tmp_path, on_step=steps.append)
    assert steps == list(range(6, 13))
    assert outcome.curve["loss"] == run(task, tmp_path / "other").curve["loss"]


def test_ctrl_c_pressed_twice_ends_at_once(task: Task, tmp_path: Path) -> None:
    class Impatient(torch.optim.SGD):
        def step(self, *arguments: Any) -> None:  # type: ignore[override]
            if (tmp_path / "begun").exists():
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            super().step(*arguments)

    def begin(step: int, figures: dict[str, float]) -> None:
        (tmp_path / "begun").touch()

    with pytest.raises(KeyboardInterrupt):
        fit(
            task,
            lambda model: Impatient(model.parameters(), lr=0.1),
            RECIPE,
            tmp_path,
            optimizer="",
            on_evaluation=begin,
        )
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 1


def test_a_folder_of_another_run_is_refused(task: Task, tmp_path: Path) -> None:
    run(task, tmp_path)
    with pytest.raises(ValueError, match=r"is a checkpoint of another run: recipe.steps was 12, is 13"):
        run(task, tmp_path, recipe=Recipe(13, 4))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--out: .* is not a folder"):
        run(task, tmp_path / "file")


def test_ones_own_model_is_loaded_from_the_file_that_is_named(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    Path("other.py").write_text(OWN + "\n")
    task = make("lm", size="tiny", data=str(lines), model="own.py:build")
    outcome = run(task, tmp_path / "out")
    Path("built").unlink()
    file = tmp_path / "out" / "checkpoint.pt"
    with pytest.raises(ValueError, match=r"holds a model of one's own, own.py:build: say with model where it is"):
        load_model(file)
    with pytest.raises(ValueError, match=r"other.py:build is not the one that .* was trained on, own.py:build"):
        load_model(file, "other.py:build")
    assert not Path("built").exists()
    model, _ = load_model(file, "own.py:build")
    assert evaluate(task, model, None, "tuning") == outcome.metrics


def test_what_cannot_be_loaded_is_said_in_a_sentence(task: Task, tmp_path: Path) -> None:
    run(task, tmp_path / "lm")
    file = tmp_path / "lm" / "checkpoint.pt"
    with pytest.raises(ValueError, match=r"holds a model of ravine's, which needs none, got own.py:build"):
        load_model(file, "own.py:build")
    content = torch.load(file, weights_only=True)
    for damage in ({"model": {"architecture": {"width": 4}}}, {"model": {"architecture": {"depth": 4}}}, {}):
        torch.save({**content, "about": {**content["about"], **damage}, "model": {}}, tmp_path / "damaged.pt")
        with pytest.raises(ValueError, match=r"does not hold what a checkpoint of ravine train holds"):
            load_model(tmp_path / "damaged.pt")
    run(make("ridge", size="tiny"), tmp_path / "ridge")
    with pytest.raises(ValueError, match=r"holds a model of the task ridge, not of language"):
        load_model(tmp_path / "ridge" / "checkpoint.pt")


def test_the_tokenizer_is_kept(lines: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="needs the package tokenizers")
    task: Any = make("lm", size="tiny", data=str(lines), tokenizer="bpe:300")
    run(task, tmp_path)
    _, tokenizer = load_model(tmp_path / "checkpoint.pt")
    assert tokenizer == task.corpus.tokenizer
    text = "1 is odd, it's naïve 🙂\n"
    assert "".join(pieces(tokenizer.encode(text), tokenizer)) == text


def test_text_streams_letter_by_letter(task: Any) -> None:
    tokenizer = task.corpus.tokenizer
    assert list(pieces("né🙂".encode(), tokenizer)) == ["n", "é", "🙂"]
    assert list(pieces([110, 0xC3], tokenizer)) == ["n", "\ufffd"]
    assert "".join(pieces([0xFF] * 20 + [110], tokenizer)) == "\ufffd" * 20 + "n"
