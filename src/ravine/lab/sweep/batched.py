"""Many small training runs at once: one run axis in front of every tensor.

Small models leave most of a machine idle; side by side they do not. Loss and gradient of all runs are one call under
`torch.vmap`. One optimizer holds them all, a run being a parameter group of its own with its own settings, and an
engine steps all groups in one pass: a kernel takes hyperparameters as a table with a row for each run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ravine import engine as engines
from ravine.lab.study.arms import Arm
from ravine.lab.tasks.task import Batch, Evaluated, Task
from ravine.lab.training import Recipe
from ravine.lab.training.run import Loss, evaluate
from ravine.math.sweep import Totals, sweeping
from ravine.optim import Optimizer, create
from ravine.optim.layout import GroupLayout
from ravine.optim.settings import given_to_rule
from ravine.rule import Rule
from ravine.wrapper import rehearse

Settings = Mapping[str, Any]


class Unbatched(ValueError):
    """These runs cannot share a run axis; they have to be made one after the other. The message says why."""


class BatchedRuns:
    """The runs of one arm at several settings, all from the same weights and on the same data, on the CPU.

    In float64 they equal separate runs to 1e-10. The smaller the model, the more is won: 64 runs of AdamW on `digits`
    were 6.3 to 6.9 times as fast on 2 cores as one after the other with 2 400 parameters each (7 ms a step of all in
    place of 46), and 5.2 to 5.5 times with 26 000 (16 ms in place of 87), where matrix products are most of the time.

    Args:
        task: what is learned; its loss must be a function that `torch.vmap` can follow.
        arm: the optimizer.
        cells: settings of each run, besides the arm's own; `warmup` cannot be one.
        recipe: steps, batch, schedule and clipping; in float32, or in the type of the model.
        seed: of weights and data.
        dtype: of the weights; default the model's.

    Raises:
        Unbatched: for a rule with totals over all parameters, shared states or inputs from outside; a task that
            changes weights itself, or whose model `torch.vmap` cannot follow; a recipe with an average of the weights,
            micro-batches or a lower precision.
    """

    def __init__(
        self,
        task: Task,
        arm: Arm,
        cells: Sequence[Settings],
        recipe: Recipe,
        seed: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        _require_plain(task, recipe, cells)
        self.task, self.recipe, self.count = task, recipe, len(cells)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = task.new_model()
        self.model = model if dtype is None else model.to(dtype)
        self._loss = Loss(task, self.model)
        self._draw = torch.Generator().manual_seed(seed)
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self._dtype = next(iter(trained.values())).dtype
        self.values = {name: p.detach().expand(self.count, *p.shape).clone() for name, p in trained.items()}
        self._require_followed(seed)
        self._places: list[tuple[int, list[str]]] = []
        self.optimizer = self._one_optimizer(arm, cells)
        for group in self.optimizer.param_groups:
            _require_alone(self.optimizer.rule_of(group))
        self._layouts: list[GroupLayout] = []
        self._schedule = recipe.new_schedule(self.optimizer)
        self.done = 0

    def _one_optimizer(self, arm: Arm, cells: Sequence[Settings]) -> Optimizer:
        """A group for each run and each group of the arm, with all settings that it has in a run of its own."""
        each = {name: [nn.Parameter(one) for one in value.unbind(0)] for name, value in self.values.items()}
        groups: list[dict[str, Any]] = []
        for i, cell in enumerate(cells):
            for group in arm.build(self.model, cell).param_groups:
                names = [name for name in group["param_names"] if name in each]
                if names:
                    settings = {name: value for name, value in group.items() if name not in ("params", "param_names")}
                    groups.append({**settings, "params": [(f"{name} {i}", each[name][i]) for name in names]})
                    self._places.append((i, names))
        return create(arm.optimizer, groups, engine=arm.settings.get("engine", "auto"))

    def step(self) -> Tensor:
        """One step of every run; their training losses, (runs,)."""
        self.done += 1
        gradients, losses = self._gradients(self._drawn(self._draw, self.done))
        with torch.no_grad():
            if self.recipe.clip is not None:
                _clip(gradients, self.recipe.clip)
            self._update(gradients)
        self._schedule.step()
        return losses

    def run(self, on_step: Callable[[int], None] | None = None) -> Tensor:
        """All steps; the last training losses, (runs,). `on_step` is called with the number of steps done."""
        while self.done < self.recipe.steps:
            losses = self.step()
            if on_step is not None:
                on_step(self.done)
        return losses

    def evaluate(self, split: Evaluated) -> list[dict[str, float]]:
        """The figures of each run, at the weights that its rule evaluates at."""
        figures = []
        with self.optimizer.evaluation_weights():
            for i in range(self.count):
                with torch.no_grad():
                    for name, value in self.values.items():
                        self.model.get_parameter(name).copy_(value[i])
                figures.append(evaluate(self.task, self.model, None, split))
        return figures

    def _drawn(self, generator: torch.Generator, step: int) -> Batch:
        batch = self.task.draw(self.recipe.batch, generator, step)
        return {name: x.to(self._dtype) if x.is_floating_point() else x for name, x in batch.items()}

    def _gradients(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Of all runs, each gradient in the order of its parameter's elements; and the losses."""

        def loss(values: dict[str, Tensor]) -> Tensor:
            named = {f"model.{name}": value for name, value in values.items()}
            made: Tensor = torch.func.functional_call(self._loss, named, (batch,))
            return made

        with sdpa_kernel(SDPBackend.MATH):  # torch's fused attention goes through runs one by one, and warns of it
            gradients, losses = torch.vmap(torch.func.grad_and_value(loss))(self.values)
        return {name: gradient.contiguous() for name, gradient in gradients.items()}, losses

    def _update(self, gradients: Mapping[str, Tensor]) -> None:
        """A step of the optimizer. From the second on, without its look at what may have changed: nothing has."""
        each = {name: gradient.unbind(0) for name, gradient in gradients.items()}
        live = [[each[name][i] for name in names] for i, names in self._places]
        groups = self.optimizer.param_groups
        if not self._layouts:
            for group, own in zip(groups, live, strict=True):
                for p, gradient in zip(group["params"], own, strict=True):
                    p.grad = gradient
            self.optimizer.step()
            rules = [(group, self.optimizer.rule_of(group)) for group in groups]
            self._layouts = [
                GroupLayout(group, rule, given_to_rule(rule, group), self.optimizer.state, {}) for group, rule in rules
            ]
            self.optimizer.zero_grad()
            return
        batches = []
        for group, layout, own in zip(groups, self._layouts, live, strict=True):
            batches += layout.begin(given_to_rule(layout.rule, group), own)
        engines.run(self.optimizer.engine, batches)
        for layout in self._layouts:
            layout.end()

    def _require_followed(self, seed: int) -> None:
        try:
            self._gradients(self._drawn(torch.Generator().manual_seed(seed), 1))
        except RuntimeError as error:
            raise Unbatched(f"torch.vmap cannot follow the model: {str(error).splitlines()[0]}") from None


def _require_plain(task: Task, recipe: Recipe, cells: Sequence[Settings]) -> None:
    if recipe.ema is not None or recipe.accumulate > 1 or recipe.precision != "float32":
        raise Unbatched("averages of the weights, micro-batches and lower precisions are for single runs")
    if any("warmup" in cell for cell in cells):
        raise Unbatched("runs that differ in their warm-up differ in their schedule")
    if type(task).after_step is not Task.after_step:
        raise Unbatched(f"the task {task.name} changes the weights itself after each step")


def _require_alone(rule: Rule) -> None:
    """Refuse a rule that would mix the runs, or needs more than gradients."""
    if rule.inputs:
        raise Unbatched(f"{rule.spec} needs {', '.join(rule.inputs)} from outside")
    with sweeping(Totals({})) as asked:
        shared = any(state.kind == "shared" for state in rule.state.values())
        if not shared:
            rehearse(rule, {})
    if shared or asked.unanswered:
        raise Unbatched(f"{rule.spec} looks at all parameters of an optimizer together")


def _clip(gradients: dict[str, Tensor], clip: float) -> None:
    """Shorten each run's gradients to a norm of at most `clip`, as `torch.nn.utils.clip_grad_norm_` does."""
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients.values()])
    scale = (clip / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
    if bool((scale < 1).any()):
        for g in gradients.values():
            g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))
