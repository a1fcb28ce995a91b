"""One number of a real training run through its next steps, taken from a checkpoint.

A checkpoint of `ravine train` holds all that the run goes on with, so its next batch is drawn and its gradients are
formed as the run itself would do it. Of another program's checkpoint, `{"model": ..., "optimizer": ...}`, the gradient
must be given. Nothing in a file is executed.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravine.explain import at_state_dicts
from ravine.explain.at_parameter import element_at, parameter_of, refuse_other_rule, traced_steps
from ravine.explain.trace import Place, Trace

if TYPE_CHECKING:
    from torch import nn

    from ravine.lab.tasks import Task
    from ravine.lab.training.run import Run
    from ravine.optim import Optimizer

NAMED = ("data", "model", "tokenizer", "base")
"""What a task reads from files that a checkpoint does not name."""
FINISHED = (
    "The run had taken all its steps: this is the one after its last, at the learning rate with which its schedule "
    "ends. Another is shown with --lr."
)
OTHER_LR = "The learning rate is not the run's own."
SEVERAL = "The run was in {count} processes; their parts of the batch are taken one after the other here."
COMPILED = "The run's model was compiled, and is not here: gradients are rounded otherwise."
ON_A_GPU = "The run was on a GPU, and there is none here: gradients are rounded otherwise."


def trace_checkpoint(
    file: str,
    parameter: str | None,
    element: Sequence[int] | None = None,
    steps: int = 1,
    *,
    rule: str | None = None,
    lr: float | None = None,
    gradient: str | None = None,
    **options: Any,
) -> Trace:
    """Follow one number of a training run through its next steps.

    Args:
        file: a checkpoint of `ravine train`, or one with a model's and an optimizer's state dict.
        parameter: its name in the model.
        element: the number's place; default where the first gradient is largest.
        steps: how many; one where the gradient is given.
        rule: of an optimizer that does not say it, as torch's; where it does, the same.
        lr: a learning rate in place of the run's own.
        gradient: a file with the parameter's gradient (`.pt`, `.npy` or `.safetensors`), or with those of several by
            name; only for checkpoints of other programs.
        options: of the task, as for `ravine.lab.tasks.make`: what it was trained on, where that is not its own data.

    Raises:
        ValueError: in one sentence, for a file that cannot be used, another model, a parameter or an element that is
            not there.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if lr is not None and not 0 <= lr < float("inf"):
        raise ValueError(f"lr must be in [0, inf), got {lr!r}")
    content = _read(file)
    given = {name: value for name, value in options.items() if value is not None}
    if "settings" in content and "random" in content:
        if gradient is not None:
            raise ValueError(f"--gradient: {file} is a checkpoint of ravine train, whose own gradient is computed")
        return _of_a_run(file, content, parameter, element, steps, rule, lr, given)
    unfit = [*given, *(["steps"] if steps > 1 else [])]
    if unfit:
        raise ValueError(f"--{unfit[0]} belongs to a checkpoint of ravine train, and {file} is none")
    return at_state_dicts.trace_state_dicts(file, content, parameter, element, rule, lr, gradient)


def _read(file: str) -> dict[str, Any]:
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror or error}") from None
    except (RuntimeError, EOFError, pickle.UnpicklingError, IndexError, KeyError, ValueError):
        raise ValueError(f"{file} is not a checkpoint that torch can read without running code") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, not a checkpoint")
    return content


def _of_a_run(
    file: str,
    content: Mapping[str, Any],
    parameter: str | None,
    element: Sequence[int] | None,
    steps: int,
    rule: str | None,
    lr: float | None,
    options: Mapping[str, Any],
) -> Trace:
    import torch

    from ravine.explain.at_step import followed_steps

    with torch.random.fork_rng():
        run = _run(file, content, options)
        name, target = parameter_of(file, dict(run.model.named_parameters()), parameter)
        place = element_at(name, tuple(target.shape), element)
        optimizer: Any = run.optimizer
        group = next((g for g in optimizer.param_groups if any(p is target for p in g["params"])), None)
        if group is None:
            raise ValueError(f"{name} of {file} is not trained")
        refuse_other_rule(file, name, group["rule"], rule)
        with followed_steps(optimizer, target, place) as taken:
            losses = [_step_of(run, lr) for _ in range(steps)]
    if len(taken) < steps:
        raise ValueError(f"{name} of {file} has no gradient in this step: the loss does not depend on it")
    recipe, task, first = run.recipe, run.task, run.step - steps + 1
    clipped = "" if recipe.clip is None else f", the norm of all gradients clipped to {recipe.clip:g}"
    about = (
        f"Run: task {task.name}, size {task.size}, step {first} of {recipe.steps}; batch of {recipe.batch} examples"
        f"{clipped}; loss in {task.loss_name}"
    )
    processes = content["settings"]["processes"]
    remarks = [FINISHED] if first > recipe.steps and lr is None else [OTHER_LR] if lr is not None else []
    remarks += [SEVERAL.format(count=processes)] if processes > 1 else []
    remarks += [COMPILED] if content["settings"]["recipe"]["compile"] else []
    remarks += [ON_A_GPU] if "cuda" in content["random"][0] and run.device == "cpu" else []
    arguments = [word for key, value in options.items() for word in _as_argument(key, value)]
    arguments += [] if lr is None else ["--lr", repr(lr)]
    found = Place(
        file, name, tuple(target.shape), taken[0].element, about, task.loss_name, tuple(remarks), tuple(arguments)
    )
    return traced_steps(taken, losses, "gradient of the batch's mean loss" + (", clipped" if clipped else ""), found)


def _as_argument(key: str, value: Any) -> list[str]:
    return [f"--{key}", str(value)] if key in NAMED else ["--option", f"{key}={value}"]


def _run(file: str, content: Mapping[str, Any], options: Mapping[str, Any]) -> Run:
    """The run as it was when the checkpoint was written."""
    import torch

    from ravine.lab.training import Recipe
    from ravine.lab.training.precision import require_available
    from ravine.lab.training.run import Run

    settings = content["settings"]
    task = _task(file, settings["task"], options)
    recipe = Recipe(**settings["recipe"])
    accumulate = recipe.accumulate * settings["processes"]
    recipe = Recipe(**{**recipe.settings(), "accumulate": accumulate, "compile": False})
    device = "cuda" if "cuda" in content["random"][0] and torch.cuda.is_available() else "cpu"
    require_available(device, recipe.precision)
    groups = settings["optimizer"]["groups"]
    run = Run(
        task, lambda model: _optimizer(file, model, groups), recipe, settings["seed"], settings["split"], False, device,
        None,
    )  # fmt: skip
    run.settings = settings  # it was made of them, but for what does not change a step
    run.restore(Path(file))
    return run


def _task(file: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Task:
    """The task of a checkpoint; what it reads must be the same again."""
    from ravine.lab.tasks import make
    from ravine.lab.tasks import options as options_of
    from ravine.lab.training.checkpoint import differences, plain

    name, size = settings["name"], settings["size"]
    stored = {o: settings[o] for o in options_of(name) if o in settings and o not in NAMED}
    task = make(name, size=size, **{**stored, **options})
    found = list(differences(dict(settings), plain({"name": task.name, "size": task.size, **task.settings()})))
    if found:
        named = [f"--{option}" for option in NAMED if option in options_of(name)]
        raise ValueError(
            f"{file} is of another run: {'; '.join(found[:3])}; say with {' or '.join(named or ['--option'])} what it "
            "was trained on"
        )
    return task


def _optimizer(file: str, model: nn.Module, groups: Sequence[Mapping[str, Any]]) -> Optimizer:
    """The optimizer that a checkpoint's groups describe."""
    from ravine.optim import Optimizer

    if any("rule" not in group for group in groups):
        raise ValueError(f"{file} was trained with an optimizer that is not ravine's, whose steps cannot be followed")
    named = dict(model.named_parameters())
    if len(groups) == 1 and groups[0]["params"] == len(named):
        groups = [{"param_names": list(named), **groups[0]}]
    if any("param_names" not in group for group in groups):
        raise ValueError(f"{file} does not say which parameters are in which group of the optimizer")
    made = []
    for group in groups:
        of_group = {key: tuple(x) if isinstance(x, list) else x for key, x in group.items() if key != "param_names"}
        made.append({**of_group, "params": [(name, named[name]) for name in group["param_names"]]})
    return Optimizer(made, groups[0]["rule"])


def _step_of(run: Run, lr: float | None) -> tuple[float, float]:
    """Take a step; the loss of its batch before and after it."""
    import torch

    if lr is not None:
        for group in run.optimizer.param_groups:
            group["lr"] = lr
    data, random = run.data.get_state(), torch.get_rng_state()
    run.advance()
    before = run.losses[-1].item()
    torch.set_rng_state(random)
    with torch.no_grad():
        return before, run.loss_of_batch(data).item()
