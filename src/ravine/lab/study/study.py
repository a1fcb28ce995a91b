"""A study: a task, its arms and the plan of runs; what each run does once those before it are done."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ravine.lab.files import to_json
from ravine.lab.study.arms import Arm, parse
from ravine.lab.study.plan import Slot, plan
from ravine.lab.study.points import grid, quasi_random, settings_at
from ravine.lab.study.selection import Trial, chosen, shortlist
from ravine.lab.study.settings import Settings
from ravine.lab.study.space import Choice, Value
from ravine.lab.study.store import fix
from ravine.lab.tasks import make
from ravine.lab.tasks.task import Task
from ravine.lab.training import Outcome, Precision, Recipe, train, train_distributed

if TYPE_CHECKING:
    import optuna

Outcomes = Mapping[int, Mapping[str, Any]]
"""What came of the slots that are done."""


@dataclass(frozen=True)
class Study:
    """What is compared on what, with which budget.

    Args:
        settings: all that was asked for.
        task: what is learned.
        arms: as parsed, with the baseline and the controls.
        device: `"cpu"` or `"cuda"`.
        precision: of the runs.
    """

    settings: Settings
    task: Task
    arms: tuple[Arm, ...]
    device: str = "cpu"
    precision: Precision = "float32"

    @functools.cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The plan."""
        return plan(self.arms, self.settings)

    @property
    def count(self) -> int:
        """How many slots the plan has."""
        return len(self.slots)

    @functools.cached_property
    def recipe(self) -> Recipe:
        """Of every run, but for what is tuned."""
        given = self.settings
        return Recipe(
            steps=given.steps or self.task.steps, batch=given.batch or self.task.batch, accumulate=given.accumulate,
            schedule=given.schedule, warmup=given.warmup, floor=given.floor, clip=clip_of(given, self.task),
            precision=self.precision, ema=given.ema, compile=given.compile,
        )  # fmt: skip

    @functools.cached_property
    def points(self) -> list[list[dict[str, Value]]]:
        """For each arm the settings of its search; empty where they are sampled as it goes."""
        shared = quasi_random(self.settings.trials, self.settings.seed)
        return [self._points(arm, shared) if arm.space else [] for arm in self.arms]

    def _points(self, arm: Arm, shared: list[dict[str, float]]) -> list[dict[str, Value]]:
        if self.settings.sampler == "tpe":
            return []
        if self.settings.sampler == "grid":
            return grid(arm, self.settings.trials)
        return [settings_at(arm, point) for point in shared]

    def definition(self) -> dict[str, Any]:
        """All that the results depend on, as plain values: where two studies agree in it their runs can be mixed."""
        asked = self.settings.as_dict()
        for name in ("data", "model", "base"):
            asked["task"].pop(name, None)
        recipe = asdict(self.recipe)
        recipe.pop("precision")
        return {
            **{name: asked[name] for name in ("task", "budget", "search")},
            "seed": self.settings.seed,
            "precision": self.settings.precision,
            "arms": [
                {"label": arm.label, "settings": dict(arm.settings), "space": _plain_space(arm)} for arm in self.arms
            ],
            "learned": self.task.settings(),
            "recipe": recipe,
            "device": self.device,
            "processes": self.settings.processes,
        }

    @functools.cached_property
    def name(self) -> str:
        """Of the study in its storage and of its folder: the arms, and a hash of the definition."""
        digest = hashlib.sha256(to_json(self.definition()).encode()).hexdigest()[:8]
        arms = re.sub(r"[^A-Za-z0-9.=_-]+", "-", "-".join(arm.label for arm in self.arms)).strip("-")
        return f"{self.task.name}-{arms[:60]}-{digest}"

    # What a worker asks, slot by slot

    def ready(self, index: int, outcomes: Outcomes) -> bool:
        """Whether all that this slot depends on is done."""
        slot = self.slots[index]
        before = {"search": (), "retune": ("search",)}.get(slot.phase, ("search", "retune"))
        return all(other.index in outcomes for other in self.slots if other.arm == slot.arm and other.phase in before)

    def suggest(self, index: int, trial: optuna.Trial, outcomes: Outcomes) -> dict[str, Any]:
        """The tuned settings of a slot, told to Optuna as the trial's parameters.

        Empty for a setting that retuning asks for and the search does not have: fewer were tried.
        """
        from optuna.samplers import TPESampler

        slot = self.slots[index]
        arm = self.arms[slot.arm]
        if slot.phase == "search":
            if self.settings.sampler == "tpe":
                trial.study.sampler = TPESampler(
                    seed=slot.seed + slot.number, n_startup_trials=max(3, self.settings.trials // 3)
                )
                return {name: _sampled(trial, f"{arm.label} {name}", place) for name, place in arm.space.items()}
            settings = dict(self.points[slot.arm][slot.number])
        elif slot.phase == "retune":
            ranked = shortlist(self._trials(slot.arm, outcomes, ("search",)), self.settings.retuned)
            settings = dict(ranked[slot.number]) if slot.number < len(ranked) else {}
        else:
            settings = dict(self.best(slot.arm, outcomes))
        fix(trial, {f"{arm.label} {name}": value for name, value in settings.items()})
        for name in settings:
            _sampled(trial, f"{arm.label} {name}", arm.space[name])
        return settings

    def run(
        self,
        index: int,
        params: Mapping[str, Any],
        outcomes: Outcomes,
        report: Callable[[int, float], None],
        on_step: Callable[[int, int], None],
    ) -> dict[str, Any]:
        """Make the run of a slot; its `value` is the final loss, None where there is none."""
        slot = self.slots[index]
        arm = self.arms[slot.arm]
        if slot.phase == "retune" and not params:
            return {"settings": {}, "skipped": "fewer settings were tried", "value": None}
        recipe = replace(
            self.recipe,
            steps=max(1, round(slot.horizon * self.recipe.steps)),
            warmup=float(params.get("warmup", self.recipe.warmup)),
        )
        called: dict[str, Any] = {
            "seed": slot.seed, "split": slot.split, "with_curve": slot.phase == "judge", "device": self.device,
        }  # fmt: skip
        told: dict[str, Any] = {
            "on_step": lambda step: on_step(step, recipe.steps),
            "on_evaluation": lambda step, figures: report(step, figures["loss"]),
        }
        if self.settings.processes == 1:
            outcome = train(self.task, functools.partial(_build, arm, params), recipe, **called, **told)
        else:
            described = {
                "task": self.task.spec(), "arm": {"optimizer": arm.optimizer, "settings": dict(arm.settings)},
                "params": dict(params), "recipe": recipe.settings(), "called": called,
            }  # fmt: skip
            outcome = train_distributed(
                _train_described, described, processes=self.settings.processes, device=self.device, **told
            )
        lost = outcome.diverged or outcome.failed is not None
        return {**asdict(outcome), "settings": dict(params), "value": None if lost else outcome.final_loss}

    def best(self, arm: int, outcomes: Outcomes) -> Mapping[str, Any]:
        """The arm's setting that is judged; empty where nothing is tuned."""
        if not self.arms[arm].space:
            return {}
        return chosen(self._trials(arm, outcomes, ("search", "retune")))

    def _trials(self, arm: int, outcomes: Outcomes, phases: tuple[str, ...]) -> list[Trial]:
        return [
            Trial(outcomes[slot.index]["settings"], outcomes[slot.index]["value"], slot.seed)
            for slot in self.slots
            if slot.arm == arm and slot.phase in phases and not outcomes[slot.index].get("skipped")
        ]


def arms_of(settings: Settings) -> tuple[Arm, ...]:
    """The arms that were asked for, with the baseline and the controls.

    A study without a tuned AdamW gets one, unless it is refused: most claimed wins were against a poorly tuned one.
    Controls are the arms that decay weights, without.

    Raises:
        ValueError: for fewer than two arms, or one that cannot be.
    """
    texts = list(settings.arms)
    if settings.controls:
        texts += [
            f"{text}{',' if ':' in text else ':'}weight_decay=0"
            for text, arm in zip(texts, parse(texts), strict=True)
            if arm.rule.defaults.get("weight_decay") and "weight_decay" not in arm.settings
        ]
    if settings.baseline and not any(is_baseline(arm) for arm in parse(texts)):
        texts.append("adamw")
    if len(texts) < 2:
        given = ", ".join(texts) or "none"
        raise ValueError(f"a comparison has two optimizers or more, got {given}; try: adamw lion sgd")
    return parse(texts, settings.over, settings.spaces)


def device_of(settings: Settings) -> str:
    """The device that the settings ask for.

    Raises:
        ValueError: for a GPU that torch does not find.
    """
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise ValueError("device is cuda, and torch finds no GPU here; use device cpu, or auto for what there is")
    return "cuda" if there and settings.device != "cpu" else "cpu"


def clip_of(settings: Settings, task: Task) -> float | None:
    """The largest norm of the gradient: as given, 0 being any, else the task's own."""
    return task.clip if settings.clip is None else settings.clip or None


def is_baseline(arm: Arm) -> bool:
    """Whether the arm is a tuned AdamW without settings of its own."""
    return arm.optimizer == "adamw" and not arm.settings


def _train_described(
    task: dict[str, Any],
    arm: dict[str, Any],
    params: dict[str, Any],
    recipe: dict[str, Any],
    called: dict[str, Any],
    **told: Any,
) -> Outcome:
    """One process of a run that several make: everything comes in plain values."""
    made = Arm(arm["optimizer"], arm["optimizer"], arm["settings"])
    return train(make(**task), functools.partial(_build, made, params), Recipe(**recipe), **called, **told)


def _build(arm: Arm, params: Mapping[str, Any], model: Any) -> Any:
    return arm.build(model, params)


def _plain_space(arm: Arm) -> dict[str, Any]:
    return {name: place.as_dict() for name, place in arm.space.items()}


def _sampled(trial: optuna.Trial, name: str, place: Any) -> Any:
    if isinstance(place, Choice):
        return trial.suggest_categorical(name, place.values)
    return trial.suggest_float(name, place.low, place.high, log=place.log)
