"""What a run is made of, and how far it has come: steps, evaluations, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ravine.lab.models import describe
from ravine.lab.tasks.task import Batch, Evaluated, Task
from ravine.lab.training import checkpoint as checkpoints
from ravine.lab.training.distributed import processes
from ravine.lab.training.memory import peak_memory, peak_memory_reserved, reset_peak_memory, state_bytes
from ravine.lab.training.outcome import SPANS, Outcome
from ravine.lab.training.precision import autocast
from ravine.lab.training.recipe import Precision, Recipe, at_weights_of_its_own
from ravine.lab.training.watch import Watch
from ravine.optim import Optimizer
from ravine.optim.evaluation import evaluating

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]
OnStep = Callable[[int], None]
OnEvaluation = Callable[[int, dict[str, float]], None]

CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Parts of a run at which it is evaluated; dense at the end, where targets are reached."""

RESUMED = ("units", "curve", "training_curve", "metrics", "peak_memory_bytes", "peak_memory_reserved_bytes")
"""What of an outcome grows along the way, and is kept in checkpoints."""


def evaluate(
    task: Task,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    split: Evaluated,
    *,
    precision: Precision = "float32",
    device: str = "cpu",
) -> dict[str, float]:
    """The task's figures on a split, with the weights that the rule evaluates at."""
    optimizers = () if optimizer is None else (optimizer,)
    with evaluating(model, *optimizers), torch.inference_mode(), autocast(device, precision):
        return task.evaluate(model, split)


class Loss(nn.Module):
    """The task's loss as a module's forward pass, so that DistributedDataParallel sees the pass begin and end."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch: Batch) -> Tensor:
        loss: Any = self.task.loss(self.model, batch)
        if not isinstance(loss, Tensor) or loss.ndim:
            got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            raise ValueError(f"the loss of the task {self.task.name!r} must be a tensor without dimensions, got {got}")
        return loss


class Run:
    """What a run is made of, and how far it has come."""

    def __init__(
        self,
        task: Task,
        make_optimizer: MakeOptimizer,
        recipe: Recipe,
        seed: int,
        split: Evaluated,
        with_curve: bool,
        device: str,
        about: Mapping[str, Any] | None,
    ) -> None:
        self.task, self.recipe, self.split, self.with_curve, self.device = task, recipe, split, with_curve, device
        self.processes = processes()
        self.model = new_model(task, seed, device)
        self.about = {"model": describe(self.model), **(about or {})}
        optimizer = make_optimizer(self.model)
        self.settings = {
            "task": {"name": task.name, "size": task.size, **task.settings()}, "recipe": recipe.settings(),
            "optimizer": checkpoints.settings_of(optimizer), "seed": seed, "split": split, "with_curve": with_curve,
            "processes": self.processes.count,
        }  # fmt: skip
        self.outcome = Outcome(notes=recipe.notes(optimizer), processes=self.processes.count)
        self.outcome.threads = torch.get_num_threads()
        self.owns_weights = at_weights_of_its_own(optimizer) is not None
        self.average: AveragedModel | None = None
        if recipe.ema is not None and not self.owns_weights:
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        if isinstance(optimizer, Optimizer):
            optimizer.warn_when_evaluated(
                self.model, error=True
            )  # a loss at the wrong weights would decide a comparison
        if recipe.compile:
            self.model.compile()
        self.optimizer, self.schedule = optimizer, recipe.new_schedule(optimizer)
        self.scaler = torch.amp.GradScaler() if recipe.precision == "float16" else None
        self.loss: nn.Module = Loss(task, self.model)
        if self.processes.count > 1:
            self.loss = DistributedDataParallel(self.loss)
        self.data = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed + self.processes.rank)
        self.step, self.losses, self.watch = 0, list[Tensor](), Watch(device)
        reset_peak_memory(device)

    def go(
        self,
        on_step: OnStep | None,
        on_evaluation: OnEvaluation | None,
        checkpoint: Path | None,
        checkpoint_every: int | None,
    ) -> None:
        """Take the steps that are left."""
        marks = {max(1, round(part * self.recipe.steps)) for part in CURVE}
        while self.step < self.recipe.steps and self.outcome.diverged_at is None:
            self.advance()
            if self.step in marks:
                self._mark(on_evaluation)
            due = self.step == self.recipe.steps or (checkpoint_every and self.step % checkpoint_every == 0)
            if checkpoint is not None and due and self.outcome.diverged_at is None:
                self.save(checkpoint)
            if on_step is not None:
                try:
                    on_step(self.step)
                except KeyboardInterrupt:
                    # Of several processes, each may be at another step; they go on from the last checkpoint.
                    if checkpoint is not None and self.processes.count == 1:
                        self.save(checkpoint)
                    raise

    def advance(self) -> None:
        """Take one step."""
        self.step += 1
        with self.watch.span("training"):
            self._one_step()

    def loss_of_batch(self, data: Tensor) -> Tensor:
        """The loss that is trained on, of the batch of the last step, which is drawn with this state of the data."""
        task, recipe = self.task, self.recipe
        whole = task.draw(recipe.batch, torch.Generator().set_state(data), self.step)
        units, losses = task.units(whole), []
        for part in cut(whole, recipe.accumulate, task):
            with autocast(self.device, recipe.precision):
                loss = self.loss({name: value.to(self.device) for name, value in part.items()})
            losses.append(loss * (task.units(part) / units))
        return torch.stack(losses).sum()

    def _one_step(self) -> None:
        task, recipe, watch, count = self.task, self.recipe, self.watch, self.processes.count
        with watch.span("data"):
            whole = task.draw(recipe.batch, self.data, self.step)
            units = task.units(whole)
            parts = cut(whole, recipe.accumulate * count, task)
        mine = parts[self.processes.rank * recipe.accumulate :][: recipe.accumulate]
        losses = []
        for number, part in enumerate(mine, start=1):
            weight = task.units(part) / units * count  # DistributedDataParallel takes the mean over the processes
            with watch.span("data"):
                batch = {name: value.to(self.device) for name, value in part.items()}
            with self._gradients_apart() if number < len(mine) else nullcontext():
                with watch.span("forward"), autocast(self.device, recipe.precision):
                    loss = self.loss(batch) * weight
                with watch.span("backward"):
                    (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            losses.append(loss.detach())
        self.losses.append(torch.stack(losses).sum())
        self.outcome.units += units
        self._update()

    def _gradients_apart(self) -> Any:
        """A context in which the processes do not exchange gradients, because more are to be added to them."""
        return self.loss.no_sync() if isinstance(self.loss, DistributedDataParallel) else nullcontext()

    def _update(self) -> None:
        """Step the optimizer by the gradients, and all that follows it."""
        if self.recipe.clip is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        with self.watch.span("optimizer"):
            if self.scaler is None:
                self.optimizer.step()
            else:
                self.scaler.step(self.optimizer)
                self.scaler.update()
        self.task.after_step(self.model)
        self.schedule.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _mark(self, on_evaluation: OnEvaluation | None) -> None:
        """Note the training loss, evaluate where that is wanted, and see whether the run has diverged."""
        outcome = self.outcome
        reached = [self.processes.mean(torch.stack(self.losses).mean()).item()]
        self.losses.clear()
        figures: dict[str, float] = {}
        if self.with_curve or self.step == self.recipe.steps:
            figures = self.processes.from_first(self._evaluate() if self.processes.first else {})
            reached.append(figures["loss"])
        seconds = self.watch.seconds("training")
        if figures and on_evaluation is not None and self.processes.first:
            more = {"training_loss": reached[0], "units": float(outcome.units), "seconds": seconds}
            on_evaluation(self.step, {**figures, **more})
        if not all(map(math.isfinite, reached)):
            outcome.diverged_at = self.step
            return
        for curve, loss in zip((outcome.training_curve, outcome.curve), reached, strict=False):
            point = {"step": self.step, "units": outcome.units, "seconds": seconds, "loss": loss}
            for name, value in point.items():
                curve[name].append(value)
        outcome.metrics = {name: value if math.isfinite(value) else None for name, value in figures.items()}

    def _evaluate(self) -> dict[str, float]:
        averaged = None if self.average is None else self.average.module
        model, optimizer = (self.model, self.optimizer) if averaged is None else (averaged, None)
        return evaluate(self.task, model, optimizer, self.split, precision=self.recipe.precision, device=self.device)

    def finished(self) -> Outcome:
        """The outcome of a run that has taken all its steps, or diverged."""
        outcome, seconds = self.outcome, self.watch.all()
        if outcome.diverged_at is None:
            outcome.final_loss = outcome.curve["loss"][-1]
        outcome.diverged = outcome.final_loss is None or outcome.final_loss > self.task.diverged_above
        outcome.seconds, outcome.spans = seconds["training"], {name: seconds[name] for name in SPANS}
        outcome.units_per_second = outcome.units / outcome.seconds
        outcome.optimizer_share = seconds["optimizer"] / outcome.seconds
        outcome.parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        outcome.state_bytes_by_dtype = state_bytes(self.optimizer)
        outcome.state_bytes_per_param = sum(outcome.state_bytes_by_dtype.values()) / outcome.parameters
        self._note_peak_memory()
        return outcome

    def _note_peak_memory(self) -> None:
        """The highest so far, also of the processes that made the run before this one."""
        outcome = self.outcome
        for name, now in (
            ("peak_memory_bytes", peak_memory(self.device)),
            ("peak_memory_reserved_bytes", peak_memory_reserved(self.device)),
        ):
            before = getattr(outcome, name)
            setattr(outcome, name, before if now is None else max(now, before or 0))

    def save(self, path: Path) -> None:
        """Write a checkpoint; every process takes part, the first writes."""
        random = self.processes.gathered(_random_state(self.device))
        if not self.processes.first:
            return
        evaluated = None
        if self.owns_weights:
            with evaluating(self.model, self.optimizer):
                evaluated = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._note_peak_memory()
        progress = {
            "losses": torch.stack(self.losses) if self.losses else torch.empty(0), "seconds": dict(self.watch.all()),
            **{name: getattr(self.outcome, name) for name in RESUMED},
        }  # fmt: skip
        checkpoints.write(
            path,
            {
                "settings": checkpoints.plain(self.settings), "about": self.about, "step": self.step,
                "model": self.model.state_dict(), "evaluated": evaluated, "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(), "scaler": self.scaler and self.scaler.state_dict(),
                "average": self.average and self.average.state_dict(), "data": self.data.get_state(),
                "random": random, "progress": progress,
            },
        )  # fmt: skip

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: where it is none, or of a run with other settings; nothing is changed then.
        """
        stored = checkpoints.read(path)
        checkpoints.require_same(path, stored["settings"], self.settings)
        self.model.load_state_dict(stored["model"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.schedule.load_state_dict(stored["schedule"])
        if self.scaler is not None:
            self.scaler.load_state_dict(stored["scaler"])
        if self.average is not None:
            self.average.load_state_dict(stored["average"])
        self.data.set_state(stored["data"])
        _set_random_state(stored["random"][self.processes.rank], self.device)
        self.step, progress, outcome = stored["step"], stored["progress"], self.outcome
        self.losses = list(progress["losses"].to(self.device))
        self.watch = Watch(self.device, progress["seconds"])
        for name in RESUMED:
            setattr(outcome, name, progress[name])


def cut(batch: Batch, parts: int, task: Task) -> list[Batch]:
    """A batch in parts of equally many examples, in order."""
    if parts == 1:
        return [batch]
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    counts = {shape[:1] for shape in shapes.values()}
    if len(counts) != 1 or () in counts or counts.pop()[0] % parts:
        raise ValueError(f"a batch of the task {task.name!r} cannot be divided into {parts} parts, it has {shapes}")
    cut = {name: value.chunk(parts) for name, value in batch.items()}
    return [{name: pieces[i] for name, pieces in cut.items()} for i in range(parts)]


def new_model(task: Task, seed: int, device: str) -> nn.Module:
    """The task's model with the weights of a seed, on a device; torch's generator is left as it is then."""
    torch.manual_seed(seed)
    return task.new_model().to(device)


def _random_state(device: str) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_state(states: dict[str, Tensor], device: str) -> None:
    torch.set_rng_state(states["cpu"])
    if torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(states["cuda"])
