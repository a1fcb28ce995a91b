"""The plan: how many runs of what, on which seeds and splits, and when each can begin."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.lab.study.arms import parse
from ravine.lab.study.plan import plan
from ravine.lab.study.settings import Settings
from ravine.lab.study.study import Study, arms_of
from ravine.lab.tasks import make

counts = st.integers(1, 6)


def study(*arms: str, **settings: Any) -> Study:
    asked = Settings(arms=arms, task="quadratic", size="tiny", **settings)
    return Study(asked, make("quadratic", size="tiny"), arms_of(asked))


@given(counts, counts, counts, counts, st.lists(st.sampled_from([0.25, 0.5, 0.75]), max_size=2, unique=True))
def test_every_arm_has_the_same_budget(
    trials: int, seeds: int, retuned: int, tuning: int, horizons: list[float]
) -> None:
    settings = Settings(
        trials=trials, seeds=seeds, retuned=retuned, tuning_seeds=tuning, horizons=tuple(horizons)
    )  # fmt: skip
    arms = parse(["adamw", "lion", "sgd:lr=1.0"])
    slots = plan(arms, settings)
    assert [slot.index for slot in slots] == list(range(len(slots)))
    for place, arm in enumerate(arms):
        mine = Counter(slot.phase for slot in slots if slot.arm == place)
        assert mine["judge"] == seeds and mine["horizon"] == seeds * len(horizons)
        assert mine["search"] == (trials if arm.space else 0)
        assert mine["retune"] == (min(retuned, trials) * (tuning - 1) if arm.space else 0)


def test_no_seed_is_shared_between_arms_nor_between_tuning_and_judging() -> None:
    slots = plan(parse(["adamw", "adamw", "lion"]), Settings(horizons=(0.5,)))
    seeds: dict[int, set[tuple[int, str]]] = {}
    for slot in slots:
        seeds.setdefault(slot.seed, set()).add((slot.arm, slot.split))
    assert all(len(users) == 1 for users in seeds.values())
    tuning = [{slot.seed for slot in slots if slot.arm == arm and slot.split == "tuning"} for arm in range(3)]
    assert all(len(each) == 3 for each in tuning)


def outcome(settings: dict[str, Any], value: float | None) -> dict[str, Any]:
    return {"settings": settings, "value": value}


def test_a_slot_waits_for_what_it_depends_on_and_for_nothing_else() -> None:
    made = study("adamw", "sgd:lr=1.0", trials=2, seeds=2)
    done: dict[int, dict[str, Any]] = {}
    phase = {slot.index: (made.arms[slot.arm].label, slot.phase) for slot in made.slots}

    def ready() -> set[tuple[str, str]]:
        return {phase[i] for i in range(made.count) if i not in done and made.ready(i, done)}

    assert ready() == {("adamw", "search"), ("sgd:lr=1.0", "judge")}
    for i in (i for i in phase if phase[i] == ("adamw", "search")):
        assert ("adamw", "retune") not in ready()
        done[i] = outcome({"lr": 0.1 * (i + 1)}, 1.0)
    assert ready() == {("adamw", "retune"), ("sgd:lr=1.0", "judge")}
    for i in (i for i in phase if phase[i] == ("adamw", "retune")):
        assert ("adamw", "judge") not in ready()
        done[i] = outcome({"lr": 0.1}, 1.0)
    assert ready() == {("adamw", "judge"), ("sgd:lr=1.0", "judge")}


def test_the_best_two_are_retuned_and_the_best_of_all_seeds_is_judged() -> None:
    import optuna

    made = study("adamw", "sgd:lr=1.0", trials=4, seeds=2, over=("lr",))
    done: dict[int, dict[str, Any]] = {}
    trial = optuna.create_study().ask
    losses = iter([2.0, 1.0, 1.5, None])
    asked: list[Any] = []
    for slot in made.slots:
        if made.arms[slot.arm].label != "adamw":
            continue
        settings = made.suggest(slot.index, trial(), done)
        asked.append((slot.phase, slot.number, settings["lr"]))
        if slot.phase == "search":
            done[slot.index] = outcome(settings, next(losses))
        elif slot.phase == "retune":
            done[slot.index] = outcome(settings, 1.2 if slot.number else 3.0)
    searched = [lr for phase, _, lr in asked if phase == "search"]
    assert [lr for phase, number, lr in asked if phase == "retune" and number == 0] == [searched[1]] * 2
    assert [lr for phase, number, lr in asked if phase == "retune" and number == 1] == [searched[2]] * 2
    assert {lr for phase, _, lr in asked if phase == "judge"} == {searched[2]}, "mean 1.3 against 2.33"


def test_a_study_has_a_tuned_adamw_unless_it_is_refused() -> None:
    def labels(*arms: str, **settings: Any) -> list[str]:
        return [arm.label for arm in arms_of(Settings(arms=arms, **settings))]

    assert labels("lion", "sgd") == ["lion", "sgd", "adamw"]
    assert labels("lion", "adamw") == ["lion", "adamw"]
    assert labels("lion", "adamw:lr=0.1") == ["lion", "adamw:lr=0.1", "adamw"]
    assert labels("lion", "sgd", baseline=False) == ["lion", "sgd"]
    assert labels("muon") == ["muon", "adamw"]
    assert labels("muon", "adamw:weight_decay=0.1", baseline=False, controls=True) == [
        "muon", "adamw:weight_decay=0.1", "muon:weight_decay=0.0",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="a comparison has two optimizers or more, got adamw; try: adamw lion sgd"):
        labels("adamw")


def test_what_it_is_called_depends_on_all_that_the_results_depend_on_and_on_nothing_else() -> None:
    plain = study("adamw", "lion").name
    assert plain == study("adamw", "lion", workers=2, target=1.0).name
    others = [
        study("adamw", "lion", steps=7), study("adamw", "lion", seeds=6), study("lion", "adamw"),
        study("adamw", "lion", warmup=0.2), study("adamw", "lion", precision="float32"),
        study("adamw", "lion", space={"lr": "1e-3..1e-1"}), study("adamw", "lion", seed=1),
        study("adamw", "lion", processes=2),
    ]  # fmt: skip
    assert len({plain, *(other.name for other in others)}) == len(others) + 1


def test_studies_of_other_seeds_share_no_run() -> None:
    one, other = (study("adamw", "lion", seed=seed) for seed in (0, 1))
    assert not {slot.seed for slot in one.slots} & {slot.seed for slot in other.slots}
    assert one.points != other.points
