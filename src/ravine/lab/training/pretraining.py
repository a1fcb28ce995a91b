"""Train one model and keep it: what `ravine train` does, and how its checkpoint becomes a model again."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from ravine.lab.data import Tokenizer
from ravine.lab.data.tokenizer import from_json
from ravine.lab.files import require_writable_folder, to_json, write_atomically
from ravine.lab.models import Architecture, ModelSource, Transformer, parse
from ravine.lab.tasks.lm import LanguageModelling
from ravine.lab.tasks.post_training import PostTraining
from ravine.lab.tasks.task import Evaluated, Task
from ravine.lab.training import checkpoint as checkpoints
from ravine.lab.training.distributed import processes
from ravine.lab.training.loop import train
from ravine.lab.training.outcome import Outcome
from ravine.lab.training.recipe import Precision, Recipe
from ravine.lab.training.run import MakeOptimizer, OnEvaluation, OnStep

SPLIT: Evaluated = "tuning"
"""What the model is evaluated on; the split for judging stays unseen."""


def fit(
    task: Task,
    make_optimizer: MakeOptimizer,
    recipe: Recipe,
    out: Path,
    *,
    optimizer: str,
    seed: int = 1,
    device: str = "cpu",
    checkpoint_every: int | None = None,
    on_step: OnStep | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> Outcome:
    """Train a task's model and keep it in `OUT/checkpoint.pt`; what came of it is in `OUT/run.json`.

    The same call goes on from the checkpoint where there is one. Ctrl-C ends the run after the step that is under way
    and its checkpoint; pressed once more, at once.

    Args:
        task: model, loss and data.
        make_optimizer: builds the optimizer for the model.
        recipe: steps, batch, schedule and so on.
        out: the folder; it is made.
        optimizer: as it is written, `"adamw:lr=0.003"`; for the record.
        seed: of the weights and of the order of the data.
        device: `"cpu"` or `"cuda"`.
        checkpoint_every: steps between checkpoints; default a tenth of the run.
        on_step, on_evaluation: called as by `train`, in the first of several processes alone.

    Raises:
        ValueError: for a folder that cannot be written to, or one that holds another run.
        KeyboardInterrupt: after Ctrl-C.
    """
    require_writable_folder(out, "--out")
    first = processes().first
    every = max(1, recipe.steps // 10) if checkpoint_every is None else checkpoint_every
    with _after_a_step() as interrupted:

        def stepped(step: int) -> None:
            if on_step is not None and first:
                on_step(step)
            if interrupted():
                raise KeyboardInterrupt

        outcome = train(
            task, make_optimizer, recipe, seed=seed, split=SPLIT, device=device, on_step=stepped,
            on_evaluation=on_evaluation, checkpoint=out / "checkpoint.pt", checkpoint_every=every, about=_about(task),
        )  # fmt: skip
    if first:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "run.json", to_json(record(task, optimizer, recipe, seed, outcome)))
    return outcome


def record(task: Task, optimizer: str, recipe: Recipe, seed: int, outcome: Outcome) -> dict[str, Any]:
    """What `OUT/run.json` holds: task, optimizer, recipe, seed and outcome, in values that JSON has."""
    what = {"name": task.name, "size": task.size, "unit": task.unit, "loss_name": task.loss_name}
    return checkpoints.plain(
        {
            "task": {**what, "settings": task.settings(), "about": task.about()}, "optimizer": optimizer,
            "recipe": recipe.settings(), "seed": seed, "split": SPLIT, "outcome": asdict(outcome),
        }
    )  # fmt: skip


def stored_precision(out: Path) -> Precision | None:
    """The precision of the run that the folder holds, None where there is none: a new measurement might differ.

    Raises:
        ValueError: where the file is no checkpoint.
    """
    path = out / "checkpoint.pt"
    return checkpoints.read(path)["settings"]["recipe"]["precision"] if path.exists() else None


def load_model(path: Path, model: str | ModelSource | None = None) -> tuple[nn.Module, Tokenizer | None]:
    """The model in a checkpoint, with the weights to evaluate at, and the tokenizer of its tokens if it has any.

    Args:
        path: the checkpoint.
        model: where the user's own model comes from, `"path.py:build"` or `"hf:DIR"`, if it was trained on one: a
            checkpoint makes nobody run a file that he has not named.

    Raises:
        ValueError: where it is no checkpoint, or `model` is missing, not wanted, or another one.
    """
    content = checkpoints.read(path)
    about = content["about"]
    shape, source = about.get("model", {}).get("architecture"), about.get("source")
    if model is not None and source is None:
        raise ValueError(f"model: {path} holds a model of ravine's, which needs none, got {model}")
    if source is not None and model is None:
        raise ValueError(f"{path} holds a model of one's own, {source['name']}: say with model where it is")
    try:
        if source is not None:
            named = model if isinstance(model, ModelSource) else parse(str(model))
            if named.sha256 != source["sha256"]:
                raise ValueError(f"model: {named.name} is not the one that {path} was trained on, {source['name']}")
            made = named.build().model
        elif shape is None:
            raise ValueError(f"{path} holds a model of the task {content['settings']['task']['name']}, not of language")
        else:
            made = Transformer(Architecture(**shape))
        made.load_state_dict(checkpoints.weights_to_evaluate(content))
        tokenizer = about.get("tokenizer")
        return made, None if tokenizer is None else from_json(tokenizer)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold what a checkpoint of ravine train holds: {error}") from error


def _about(task: Task) -> dict[str, Any]:
    """What `load_model` has to know of a task's model, besides what the model says of itself."""
    own: Any = getattr(task, "own", None)
    about: dict[str, Any] = {"source": None if own is None else own.source.settings(), "tokenizer": None}
    if isinstance(task, LanguageModelling):
        about["tokenizer"] = task.corpus.tokenizer.to_json()
    elif isinstance(task, PostTraining):
        about["tokenizer"] = task.start.tokenizer.to_json()
    return json.loads(json.dumps(about))


@contextmanager
def _after_a_step() -> Iterator[Callable[[], bool]]:
    """Within this block, Ctrl-C is noted rather than raised, the first time; the function says whether it was."""
    pressed = False

    def note(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
