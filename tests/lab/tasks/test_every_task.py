"""What holds for every task, at its tiny size: it is reproducible, can be learned, and is made again from its spec."""

from __future__ import annotations

import functools
import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

import ravine
from ravine.lab.data import SHARES
from ravine.lab.tasks import TASKS, Batch, Task, make

EVERY = pytest.mark.parametrize("name", TASKS)

tiny: Callable[[str], Task] = functools.cache(lambda name: make(name, size="tiny"))


def new_model(task: Task, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return task.new_model()


def draw(task: Task, count: int, seed: int = 0, step: int = 1) -> Batch:
    return task.draw(count, torch.Generator().manual_seed(seed), step)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@EVERY
def test_settings_and_what_is_said_are_plain_values(name: str) -> None:
    task = tiny(name)
    for values in (task.settings(), task.about(), task.spec()):
        assert json.loads(json.dumps(values)) == values
    assert task.settings()["task"] == task.name == name
    assert task.unit and task.loss_name
    assert task.steps >= 20 and task.batch >= 1


@EVERY
def test_a_task_is_made_again_from_its_spec_and_from_a_pickle(name: str) -> None:
    task = tiny(name)
    for again in (make(**json.loads(json.dumps(task.spec()))), pickle.loads(pickle.dumps(task))):
        assert again == task and again is not task
        assert again.settings() == task.settings()
        assert same(draw(again, 3), draw(task, 3))


@EVERY
def test_models_and_batches_follow_their_seeds(name: str) -> None:
    task = tiny(name)
    assert same(new_model(task).state_dict(), new_model(task).state_dict())
    assert same(draw(task, 5), draw(task, 5))
    random_start = name not in ("sft", "dpo", "online")  # these begin where they begin
    assert same(new_model(task).state_dict(), new_model(task, seed=1).state_dict()) != random_start
    random_data = name not in ("rosenbrock", "online")
    assert same(draw(task, 5), draw(task, 5, seed=1)) != random_data


@EVERY
def test_drawing_and_evaluating_leave_torchs_generator_alone(name: str) -> None:
    task, model = tiny(name), new_model(tiny(name))
    before = torch.get_rng_state()
    draw(task, 2)
    with torch.inference_mode():
        task.evaluate(model, "judging")
    assert torch.equal(torch.get_rng_state(), before)


@EVERY
def test_the_loss_is_a_scalar_with_finite_gradients(name: str) -> None:
    task, model = tiny(name), new_model(tiny(name))
    loss = task.loss(model, draw(task, 4))
    assert loss.shape == () and loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad.any() for p in model.parameters())


@EVERY
def test_the_loss_is_the_mean_over_the_units_of_the_batch(name: str) -> None:
    """So that a batch may be cut into parts whose losses are weighed by their units."""
    task, model, batch = tiny(name), new_model(tiny(name)), draw(tiny(name), 6)
    assert {len(tensor) for tensor in batch.values()} == {6}
    parts = [{k: v[:2] for k, v in batch.items()}, {k: v[2:] for k, v in batch.items()}]
    whole = task.loss(model, batch).item()
    weighed = sum(task.loss(model, part).item() * task.units(part) for part in parts)
    assert task.units(batch) == sum(task.units(part) for part in parts) > 0
    assert weighed / task.units(batch) == pytest.approx(whole, rel=1e-5, abs=1e-7)


@EVERY
def test_evaluations_are_finite_numbers_and_the_same_each_time(name: str) -> None:
    task, model = tiny(name), new_model(tiny(name)).eval()
    for split in ("tuning", "judging"):
        with torch.inference_mode():
            found = task.evaluate(model, split)
            assert task.evaluate(model, split) == found
        assert next(iter(found)) == "loss"
        assert all(type(value) is float and math.isfinite(value) for value in found.values())
        assert found["loss"] < task.diverged_above


@EVERY
def test_a_task_can_be_trained_after_it_was_first_evaluated(name: str) -> None:
    """What an evaluation keeps for later must not be of inference mode: the loop evaluates between steps."""
    task = make(name, size="tiny")
    model = new_model(task)
    with torch.inference_mode():
        task.evaluate(model, "tuning")
    task.loss(model, draw(task, 2)).backward()


@EVERY
def test_twenty_steps_of_adamw_lower_the_loss(name: str) -> None:
    task, model = tiny(name), new_model(tiny(name))
    # A preference is a sum over all tokens of an answer: its gradient is as many times larger.
    optimizer = ravine.AdamW(ravine.groups.no_decay(model), lr=3e-4 if name == "dpo" else 3e-3)
    generator, fixed = torch.Generator().manual_seed(0), draw(task, 64, seed=99)
    before = task.loss(model, fixed).item()
    for step in range(1, 21):
        task.loss(model, task.draw(8, generator, step)).backward()
        optimizer.step()
        optimizer.zero_grad()
        task.after_step(model)
    assert task.loss(model, fixed).item() < before


@EVERY
def test_the_loss_needs_nothing_of_a_model_but_its_outputs(name: str) -> None:
    """So a model may be wrapped, or be a function of its parameters."""
    task, model, batch = tiny(name), new_model(tiny(name)), draw(tiny(name), 2)
    parameters = {key: p.detach() for key, p in model.named_parameters()}
    functional = task.loss(lambda *inputs: torch.func.functional_call(model, parameters, inputs), batch)
    assert torch.equal(functional, task.loss(model, batch).detach())


def lines(numbers: range) -> str:
    return "".join(f"{n:08d}\n" for n in numbers)


def examples_of_a_text(task: Task) -> dict[str, set[bytes]]:
    whole = {split: bytes(task.corpus.splits[split].tolist()) for split in SHARES}
    return {split: {line for line in text.split(b"\n")[1:-1] if len(line) == 8} for split, text in whole.items()}


def rows(kept: dict[str, torch.Tensor]) -> dict[str, set[bytes]]:
    return {split: {row.numpy().tobytes() for row in tensor} for split, tensor in kept.items()}


EXAMPLES: dict[str, Callable[[Task], dict[str, set[bytes]]]] = {
    "lm": examples_of_a_text,
    "sft": lambda task: rows({split: task.windows[split][0] for split in SHARES}),
    "dpo": lambda task: rows({split: task.preferences[split][0] for split in SHARES}),
    "digits": lambda task: rows({split: task.tensors[split][0] for split in SHARES}),
    "ridge": lambda task: rows({split: task.problem.splits[split][0] for split in SHARES}),
}
NO_DATA = {"quadratic", "rosenbrock", "online"}


@EVERY
def test_the_three_splits_share_nothing(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert EXAMPLES.keys() | NO_DATA == TASKS.keys() and not EXAMPLES.keys() & NO_DATA
    if name in NO_DATA:
        model = new_model(tiny(name))
        assert tiny(name).evaluate(model, "tuning") == tiny(name).evaluate(model, "judging")
        return
    task = tiny(name)
    if name == "lm":
        path = tmp_path_factory.mktemp("text") / "numbers.txt"
        path.write_text(lines(range(20_000)))
        task = make("lm", size="tiny", data=path)
    training, tuning, judging = (EXAMPLES[name](task)[split] for split in SHARES)
    assert min(len(training), len(tuning), len(judging)) >= 16
    assert not (training & tuning or training & judging or tuning & judging)
    if name != "lm":
        drawn = rows({"training": next(iter(draw(task, 50).values()))})["training"]
        assert drawn <= training


PRINTED = """
import json, sys, torch
from ravine.lab.tasks import make
for line in sys.stdin:
    task = make(**json.loads(line))
    batch = task.draw(2, torch.Generator().manual_seed(0), 1)
    print(json.dumps([task.settings(), [tensor.tolist() for tensor in batch.values()]]))
"""


def test_another_process_makes_the_same_tasks() -> None:
    tasks = [tiny(name) for name in ("lm", "sft", "ridge", "quadratic")]
    sent = "".join(json.dumps(task.spec()) + "\n" for task in tasks)
    done = subprocess.run(
        [sys.executable, "-c", PRINTED],
        input=sent,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for task, line in zip(tasks, done.stdout.splitlines(), strict=True):
        settings, batch = json.loads(line)
        assert settings == task.settings()
        for values, tensor in zip(batch, draw(task, 2).values(), strict=True):
            torch.testing.assert_close(torch.tensor(values), tensor)
