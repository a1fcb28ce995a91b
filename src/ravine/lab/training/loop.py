"""One training run: a task, an optimizer, a recipe, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ravine.lab.tasks.task import Evaluated, Task
from ravine.lab.training.distributed import processes
from ravine.lab.training.memory import out_of_memory, ran_out_of_memory
from ravine.lab.training.outcome import Outcome
from ravine.lab.training.precision import autocast, require_available
from ravine.lab.training.recipe import Recipe
from ravine.lab.training.run import Loss, MakeOptimizer, OnEvaluation, OnStep, Run, cut, new_model

WARM_UP_STEPS = 12
"""Optimizer steps on a scratch copy before the clock starts: a rule may have a kernel of its own every few steps."""


def train(
    task: Task,
    make_optimizer: MakeOptimizer,
    recipe: Recipe,
    *,
    seed: int,
    split: Evaluated,
    with_curve: bool = True,
    device: str = "cpu",
    on_step: OnStep | None = None,
    on_evaluation: OnEvaluation | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int | None = None,
    about: Mapping[str, Any] | None = None,
) -> Outcome:
    """Train a new model and evaluate it on a split. On a CPU the same seed gives the same losses, to the bit.

    Under `torchrun`, call it in every process, within `ravine.lab.training.distributed.joined`: all return the same
    losses. Every example counts the same then, as it does for micro-batches: their losses are weighed by their units.

    Args:
        task: model, loss and data.
        make_optimizer: builds the optimizer for a model.
        recipe: steps, batch, schedule, precision and so on.
        seed: of the initial weights, of the order of the data, and of what the model draws.
        split: where it is evaluated, `"tuning"` or `"judging"`.
        with_curve: evaluate on the way (at `CURVE`), not only at the end.
        device: `"cpu"` or `"cuda"`.
        on_step: called after each step, its evaluation included, with the number of steps done. If it raises
            KeyboardInterrupt, the checkpoint is written first.
        on_evaluation: called with the step and all figures at each evaluation.
        checkpoint: file from which the run goes on where it exists, and which is written at the end.
        checkpoint_every: steps after which it is also written.
        about: plain values that are kept in the checkpoint for its readers, besides what the model is.

    Returns:
        The outcome; `Outcome.failed` says so where memory ran out.

    Raises:
        ValueError: for a device that is not there, a batch that cannot be divided among the processes, a checkpoint of
            another run, a model whose loss is not a tensor of one number.
    """
    require_available(device, recipe.precision)
    if recipe.batch % (recipe.accumulate * processes().count):
        raise ValueError(
            f"batch must be a multiple of accumulate * processes = {recipe.accumulate} * {processes().count}, "
            f"got {recipe.batch}"
        )
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every must be at least 1, got {checkpoint_every}")
    try:
        with _generators_kept(device):
            _warm_up(task, make_optimizer, recipe, seed, device)
            run = Run(task, make_optimizer, recipe, seed, split, with_curve, device, about)
            if checkpoint is not None and checkpoint.exists():
                run.restore(checkpoint)
            run.go(on_step, on_evaluation, checkpoint, checkpoint_every)
            return run.finished()
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error) or processes().count > 1:  # one process may not leave the others waiting
            raise
        failure = out_of_memory(error, device)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Outcome(failed=failure)


def _warm_up(task: Task, make_optimizer: MakeOptimizer, recipe: Recipe, seed: int, device: str) -> None:
    """Compile kernels and wake threads on a scratch model, before the clock starts and the model takes memory."""
    scratch = new_model(task, seed, device)
    optimizer = make_optimizer(scratch)
    if recipe.compile:
        scratch.compile()
    if recipe.compile or torch.device(device).type == "cuda":
        batch = task.draw(recipe.batch, torch.Generator().manual_seed(seed), 1)
        part = cut(batch, recipe.accumulate * processes().count, task)[0]
        with autocast(device, recipe.precision):
            loss = Loss(task, scratch)({name: value.to(device) for name, value in part.items()})
        loss.backward()
    for _ in range(WARM_UP_STEPS):
        for p in scratch.parameters():
            if p.requires_grad:
                p.grad = torch.full_like(p, 1e-3)
        optimizer.step()


@contextmanager
def _generators_kept(device: str) -> Iterator[None]:
    """Leave torch's generators afterwards as they were before."""
    gpus = [torch.cuda.current_device()] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        yield
