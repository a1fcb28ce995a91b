"""A run that was interrupted anywhere and goes on ends as one that was not, to the bit."""

from __future__ import annotations

import math
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import ravine
from lab.training.small_tasks import Line, Text
from ravine.lab.models import describe
from ravine.lab.training import Outcome, Recipe, checkpoint, evaluate, train
from ravine.lab.training.run import MakeOptimizer

STEPS = 12
TASK = Text(dropout=0.2, norm=True)
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "adamw": ("adamw", {}),
    "schedule_free": ("schedule_free(adamw)", {"schedule": "constant"}),
    "muon": ("muon", {"schedule": "wsd"}),
    "accumulate": ("adamw", {"accumulate": 4, "schedule": "cosine"}),
    "ema": ("adamw", {"ema": 0.8}),
    "prodigy": ("prodigy", {"precision": "bfloat16"}),
    "torch": ("torch", {"ema": 0.5, "accumulate": 2}),
}


class Killed(BaseException):
    """Ends a run without a word, as a signal would."""


def made(name: str, models: list[nn.Module] | None = None) -> MakeOptimizer:
    """The optimizer by name; the models it is made for are kept, the last being the one that is trained."""

    def make(model: nn.Module) -> torch.optim.Optimizer:
        if models is not None:
            models.append(model)
        if name == "torch":
            return torch.optim.AdamW(model.parameters(), lr=0.02, amsgrad=True)
        return ravine.create(name, model if name == "muon" else model.parameters(), lr=0.02)

    return make


def run(kind: str, models: list[nn.Module] | None = None, **options: Any) -> Outcome:
    name, recipe = RUNS[kind]
    return train(
        TASK, made(name, models), Recipe(**{"steps": STEPS, "batch": 8, **recipe}), seed=3, split="tuning", **options
    )


def ending_at(last: int, error: type[BaseException]) -> Any:
    def on_step(step: int) -> None:
        if step == last:
            raise error

    return on_step


_whole: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = {}


def whole(kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What an uninterrupted run ends with."""
    if kind not in _whole:
        models: list[nn.Module] = []
        outcome = run(kind, models)
        _whole[kind] = results(outcome), models[-1].state_dict()
    return _whole[kind]


def results(outcome: Outcome) -> dict[str, Any]:
    """All of an outcome but what time and memory decide."""
    measured = {"seconds", "spans", "units_per_second", "optimizer_share", "peak_memory_bytes"}
    kept = {name: value for name, value in asdict(outcome).items() if name not in measured}
    for name in ("curve", "training_curve"):
        kept[name].pop("seconds")
    return kept


@pytest.mark.parametrize("kind", RUNS)
@example(ends=[3, 9], every=None, kill=False)  # between two evaluations, so that losses are waiting to be averaged
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ends=st.lists(st.integers(1, STEPS), max_size=3, unique=True),
    every=st.sampled_from([None, 1, 3]),
    kill=st.booleans(),
)
def test_an_interrupted_run_goes_on_to_the_bit(
    kind: str, ends: list[int], every: int | None, kill: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("run") / "checkpoint.pt"
    error = Killed if kill else KeyboardInterrupt
    for end in sorted(ends):
        with pytest.raises(error):
            run(kind, checkpoint=file, checkpoint_every=every, on_step=ending_at(end, error))
    models: list[nn.Module] = []
    steps: list[int] = []
    outcome = run(kind, models, checkpoint=file, checkpoint_every=every, on_step=steps.append)
    expected, weights = whole(kind)
    assert results(outcome) == expected
    assert all(torch.equal(value, weights[name]) for name, value in models[-1].state_dict().items())
    last = max(ends, default=0)
    done = last if not kill or last == STEPS else last - last % every if every else 0
    assert steps == list(range(done + 1, STEPS + 1))


def test_time_goes_on_too(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    first = run("adamw", checkpoint=file)
    again = run("adamw", checkpoint=file)
    assert again.seconds == first.seconds and again.spans == first.spans
    assert again.curve == first.curve


@pytest.mark.parametrize("kind", ["adamw", "ema", "schedule_free"])
def test_the_weights_to_use_a_model_with_are_in_it(kind: str, tmp_path: Path) -> None:
    outcome = run(kind, checkpoint=tmp_path / "checkpoint.pt", about={"tokenizer": "bytes"})
    content = checkpoint.read(tmp_path / "checkpoint.pt")
    model = TASK.new_model()
    model.load_state_dict(checkpoint.weights_to_evaluate(content))
    assert evaluate(TASK, model, None, "tuning")["loss"] == outcome.final_loss
    model.load_state_dict(content["model"])
    assert (evaluate(TASK, model, None, "tuning")["loss"] == outcome.final_loss) == (kind == "adamw")
    assert content["about"] == {"tokenizer": "bytes", "model": describe(model)} and content["step"] == STEPS


def test_a_run_that_diverges_leaves_the_checkpoint_from_before(tmp_path: Path) -> None:
    file, recipe = tmp_path / "checkpoint.pt", Recipe(steps=10, batch=4, warmup=0.0, clip=None)

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=1e4)

    def run() -> Outcome:
        return train(Line(), sgd, recipe, seed=1, split="tuning", checkpoint=file, checkpoint_every=1)

    first, again = run(), run()
    assert first.diverged_at == again.diverged_at and first.diverged_at is not None
    step = checkpoint.read(file)["step"]
    assert 0 < step < first.diverged_at
    assert all(math.isfinite(loss) for loss in again.curve["loss"]) and again.curve["loss"] == first.curve["loss"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"task": Text(dropout=0.1, norm=True)}, "task.dropout was 0.2, is 0.1"),
        ({"recipe": Recipe(steps=12, batch=8, clip=None)}, "recipe.clip was 1.0, is None"),
        ({"make_optimizer": made("adam")}, "optimizer.class was AdamW, is Adam"),
        ({"make_optimizer": lambda m: ravine.AdamW(m.parameters(), lr=0.1)}, "optimizer.groups.0.lr was 0.02, is 0.1"),
        ({"seed": 4}, "seed was 3, is 4"),
        ({"split": "judging"}, "split was tuning, is judging"),
    ],
)
def test_another_runs_checkpoint_is_refused_and_left_alone(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoint.pt"
    run("adamw", checkpoint=file)
    before = file.read_bytes()
    same = {
        "task": TASK,
        "make_optimizer": made("adamw"),
        "recipe": Recipe(steps=12, batch=8),
        "seed": 3,
        "split": "tuning",
    }
    with pytest.raises(ValueError, match=f"checkpoint.pt is a checkpoint of another run: .*{sentence}") as refused:
        train(**{**same, **change}, checkpoint=file)
    assert "\n" not in str(refused.value)
    assert file.read_bytes() == before


class Malicious:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"text", pickle.dumps({"format": 1}, protocol=2), "older", "code", "cut", "folder"]
)
def test_a_file_that_is_no_checkpoint_is_refused(
    content: bytes | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "checkpoint.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "folder":
        file.mkdir()
    elif content == "cut":
        run("adamw", checkpoint=file)
        file.write_bytes(file.read_bytes()[:-1000])
    else:
        torch.save({"format": 0, "settings": {}} if content == "older" else {"format": 1, "x": Malicious()}, file)
    with pytest.raises(ValueError, match=r"is not a checkpoint of ravine|cannot read") as refused:
        run("adamw", checkpoint=file)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "executed").exists()


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    checkpoint.write(file, {"settings": {"a": 1}})
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "plain").unlink()
    with pytest.raises(Exception, match="pickle"):
        checkpoint.write(file, {"settings": lambda: None})
    assert checkpoint.read(file)["settings"] == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]
