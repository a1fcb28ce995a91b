"""A study whose runs are all made, as its results want it."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Mapping
from typing import Any

import torch

from ravine.lab.cost import measure
from ravine.lab.files import to_json
from ravine.lab.models import describe
from ravine.lab.results.finished import ArmInfo, Finished, RunRecord
from ravine.lab.study import record
from ravine.lab.study.arms import Arm
from ravine.lab.study.execute import all_threads
from ravine.lab.study.settings import Settings
from ravine.lab.study.space import Choice, Range
from ravine.lab.study.study import Outcomes, Study, is_baseline


def cost_of(study: Study, outcomes: Outcomes) -> dict[str, Any]:
    """What a step of each arm costs at its best setting, by label; see `ravine.lab.cost`."""
    makers = {
        arm.label: functools.partial(_build, arm, study.best(place, outcomes)) for place, arm in enumerate(study.arms)
    }
    with all_threads():
        costs = measure(study.task, makers, study.recipe, study.device)
    return {label: cost.as_dict() for label, cost in costs.items()}


def finished(
    study: Study, outcomes: Outcomes, command: str, shown: Settings, cost: Mapping[str, Any] | None = None
) -> Finished:
    """Everything about a study whose slots are all done, as plain values.

    Args:
        study: what ran.
        outcomes: of all its slots.
        command: that repeats it.
        shown: its settings without passwords.
        cost: of `cost_of`.
    """
    with torch.random.fork_rng(devices=[]):
        model = study.task.new_model()
    recipe, settings = study.recipe, study.settings
    batch = study.task.draw(recipe.batch, torch.Generator().manual_seed(0), 1)
    runs = [
        RunRecord(
            study.arms[slot.arm].label, slot.phase, slot.seed, outcome["settings"], outcome,
            round(slot.horizon * recipe.steps) if slot.phase == "horizon" else None,
        )
        for slot in study.slots
        if not (outcome := outcomes[slot.index]).get("skipped")
    ]  # fmt: skip
    return Finished(
        task_name=study.task.name,
        loss_name=study.task.loss_name,
        unit=study.task.unit,
        about=study.task.about(),
        model={"size": study.task.size, **describe(model)},
        study=shown.as_dict(),
        command=command,
        arms=[_info(arm, model) for arm in study.arms],
        runs=runs,
        budget={
            "steps": recipe.steps,
            "batch": recipe.batch,
            "units_per_step": study.task.units(batch),
            "trials": settings.trials,
            "retuned": settings.retuned,
            "tuning_seeds": settings.tuning_seeds,
            "seeds": settings.seeds,
            "sampler": settings.sampler,
            "over": list(settings.over),
            "warmup": recipe.warmup,
            "schedule": recipe.schedule,
            "clip": recipe.clip,
        },
        machine=_machine(study, runs),
        versions={**record.versions(), "python": platform.python_version()},
        hashes={"study": _hash(study.definition()), "data": _hash(study.task.settings())},
        cost=cost,
        target=settings.target,
    )


def _build(arm: Arm, settings: Mapping[str, Any], model: torch.nn.Module) -> torch.optim.Optimizer:
    return arm.build(model, settings)


def _info(arm: Arm, model: torch.nn.Module) -> ArmInfo:
    return ArmInfo(
        arm.label, arm.optimizer, dict(arm.settings), list(arm.space),
        {name: _place(place) for name, place in arm.space.items()}, arm.routing(model), is_baseline(arm),
    )  # fmt: skip


def _place(place: Range | Choice) -> dict[str, Any]:
    if isinstance(place, Choice):
        return {"kind": "choice", "choices": list(place.values)}
    return {"kind": "log" if place.log else "linear", "low": place.low, "high": place.high}


def _machine(study: Study, runs: list[RunRecord]) -> dict[str, Any]:
    """Where the times come from; several machines if several workers joined."""
    name = torch.cuda.get_device_name() if study.device == "cuda" else platform.processor() or platform.machine()
    threads = sorted({run.outcome["threads"] for run in runs})
    return {
        "device": study.device,
        "name": name,
        "threads": threads[0] if len(threads) == 1 else threads,
        "processes": study.settings.processes,
        "workers": study.settings.workers,
        "precision": study.precision,
    }


def _hash(value: Any) -> str:
    return hashlib.sha256(to_json(value).encode()).hexdigest()[:16]
