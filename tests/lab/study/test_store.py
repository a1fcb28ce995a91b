"""Slots: each done once, whoever is killed, whoever comes back, and whoever creates the study."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ravine.lab.study import store as module
from ravine.lab.study.database import sqlite_url
from ravine.lab.study.processes import identity, is_gone
from ravine.lab.study.store import DEATHS, Claim, LostClaim, Store, fix

from .conftest import let_leases_run_out
from .tiny import Tiny


class Free:
    """A plan without dependencies."""

    def __init__(self, count: int) -> None:
        self.count = count

    def ready(self, slot: int, outcomes: Any) -> bool:
        return True


@pytest.fixture
def store(sqlite: str) -> Iterator[Store]:
    with Store.open(sqlite, "study", 4, '{"what": "it is"}') as opened:
        yield opened


def states(url: str, name: str = "study") -> list[tuple[int, str]]:
    trials = optuna.load_study(study_name=name, storage=url).trials
    return [(trial.user_attrs["slot"], trial.state.name) for trial in trials]


def a_dead_process() -> dict[str, Any]:
    """The identity of a process of this machine that has ended."""
    code = "import json; from ravine.lab.study.processes import identity; print(json.dumps(identity()))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)


def test_all_slots_wait_from_the_start(store: Store, sqlite: str) -> None:
    assert states(sqlite) == [(slot, "WAITING") for slot in range(4)]
    assert store.outcomes() == {}
    assert not store.finished()


def test_a_study_is_found_by_its_name(store: Store, sqlite: str) -> None:
    with Store.open(sqlite, "study") as other:
        assert (other.count, other.definition, other.lease) == (4, '{"what": "it is"}', store.lease)
    with Store.open(sqlite, "study", 4, "another", lease=7) as other:
        assert (other.definition, other.lease) == ('{"what": "it is"}', store.lease)
    assert len(states(sqlite)) == 4


def test_outcomes_come_back_as_they_were(store: Store, sqlite: str) -> None:
    outcome = {"value": 0.1 + 0.2, "curve": [1, 2.5, None], "text": "é\x00'\"\\", "nested": {"diverged": False}}
    claim = store.claim(Free(4))
    assert claim is not None and claim.slot == 0
    assert store.complete(claim, outcome)
    assert store.outcomes() == {0: outcome}
    assert optuna.load_study(study_name="study", storage=sqlite).best_value == 0.1 + 0.2


def test_an_outcome_without_a_value_is_done_too(store: Store, sqlite: str) -> None:
    claim = store.claim(Free(4))
    assert claim is not None
    assert store.complete(claim, {"value": None, "failed": "out of memory"})
    assert states(sqlite)[0] == (0, "PRUNED")
    progress = store.progress()
    assert (progress.done, progress.failed, progress.lost) == (1, 1, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_an_outcome_that_json_cannot_hold_is_refused(store: Store, value: Any) -> None:
    claim = store.claim(Free(4))
    assert claim is not None
    with pytest.raises(ValueError, match="the outcome of slot 0 must be plain values of JSON"):
        store.complete(claim, {"value": value})
    assert store.complete(claim, {"value": 1.0})


def test_nobody_holds_a_slot_that_is_not_ready(store: Store) -> None:
    runner = Tiny(4)
    claims = [store.claim(runner) for _ in range(4)]
    assert [None if claim is None else claim.slot for claim in claims] == [0, 1, 2, None]
    for claim in claims[:3]:
        assert claim is not None and store.complete(claim, {"value": 0.0})
    last = store.claim(runner)
    assert last is not None and last.slot == 3
    assert set(last.outcomes) == {0, 1, 2}


def test_a_plan_that_cannot_go_on_is_said(store: Store) -> None:
    class Never(Free):
        def ready(self, slot: int, outcomes: Any) -> bool:
            return slot == 0

    claim = store.claim(Never(4))
    assert claim is not None and store.claim(Never(4)) is None
    store.complete(claim, {"value": 1.0})
    with pytest.raises(RuntimeError, match="no slot is ready though nobody is at work: 1, 2, 3"):
        store.claim(Never(4))


def test_many_at_once_never_take_the_same_slot(sqlite: str) -> None:
    Store.open(sqlite, "study", 16).close()
    together = threading.Barrier(4)

    def take(_: int) -> list[int]:
        with Store.open(sqlite, "study") as mine:
            together.wait()
            return [claim.slot for claim in iter(lambda: mine.claim(Free(16)), None)]

    with ThreadPoolExecutor(4) as pool:
        taken = [slot for slots in pool.map(take, range(4)) for slot in slots]
    assert sorted(taken) == list(range(16))


def test_many_create_the_same_study_at_once(tmp_path: Path) -> None:
    sqlite = sqlite_url(tmp_path / "new.db")
    together = threading.Barrier(4)

    def create(_: int) -> None:
        together.wait()
        Store.open(sqlite, "study", 10, "{}").close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(4)))
    assert sorted(states(sqlite)) == [(slot, "WAITING") for slot in range(10)]


@pytest.mark.parametrize("made", [0, 3])
def test_a_creator_that_dies_over_it(sqlite: str, made: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as dying:
        whole = Store._enqueue

        def enqueue(self: Store, slots: Any) -> None:
            whole(self, list(slots)[:made])
            raise KeyboardInterrupt

        dying.setattr(Store, "_enqueue", enqueue)
        with pytest.raises(KeyboardInterrupt):
            Store.open(sqlite, "study", 10)
    monkeypatch.setattr(module, "_ENQUEUES_WITHIN", -1.0)
    with Store.open(sqlite, "study", 10) as store:
        assert store.claim(Free(10)) is not None
    assert sorted(slot for slot, _ in states(sqlite)) == list(range(10))


def test_a_slot_that_was_enqueued_twice_is_done_once(store: Store, sqlite: str) -> None:
    store._enqueue([0, 2])
    done = [claim.slot for claim in iter(lambda: store.claim(Free(4)), None)]
    assert done == [0, 1, 2, 3]
    assert sorted(states(sqlite))[:2] == [(0, "FAIL"), (0, "RUNNING")]
    assert store.progress().lost == 0


def test_a_lease_that_runs_out(store: Store, sqlite: str) -> None:
    claim = store.claim(Free(4))
    assert claim is not None
    let_leases_run_out(sqlite)
    with Store.open(sqlite, "study") as other:
        again = other.claim(Free(4))
        assert again is not None and again.slot == 0
        with pytest.raises(LostClaim):
            store.heartbeat(claim, {"step": 1, "steps": 2})
        with pytest.raises(LostClaim):
            store.heartbeat(claim)
        with pytest.raises(LostClaim):
            store.report(claim, 1, 0.5)
        assert not store.complete(claim, {"value": 1.0})
        assert store.outcomes() == {}
        assert other.complete(again, {"value": 2.0})
        assert not store.complete(claim, {"value": 3.0})
        assert store.outcomes() == {0: {"value": 2.0}}
    assert store.progress().lost == 1


def test_a_worker_that_is_killed_in_the_moment_of_its_claim(store: Store, sqlite: str, monkeypatch: Any) -> None:
    def die(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with Store.open(sqlite, "study") as dying:
        monkeypatch.setattr(dying._database, "set_trial_user_attr", die)
        with pytest.raises(KeyboardInterrupt):
            dying.claim(Free(4))
    assert states(sqlite)[0] == (0, "RUNNING")
    let_leases_run_out(sqlite)
    again = store.claim(Free(4))
    assert again is not None and again.slot == 0


def test_a_heartbeat_keeps_the_slot(store: Store, sqlite: str) -> None:
    claim = store.claim(Free(4))
    assert claim is not None
    let_leases_run_out(sqlite)
    store.heartbeat(claim, {"step": 7, "steps": 9, "value": 0.5})
    with Store.open(sqlite, "study") as other:
        assert other.claim(Free(4)).slot == 1  # type: ignore[union-attr]
        first, second = other.progress().running
    assert (first.slot, first.process, first.step, first.steps, first.value) == (0, os.getpid(), 7, 9, 0.5)
    assert (second.slot, second.step, second.value) == (1, 0, None)


def test_a_worker_of_this_machine_that_is_gone_is_seen_at_once(
    store: Store, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = a_dead_process()
    assert is_gone(dead)
    monkeypatch.setattr(module, "identity", lambda: dead)
    with Store.open(sqlite, "study") as gone:
        assert gone.claim(Free(4)) is not None
    again = store.claim(Free(4))
    assert again is not None and again.slot == 0


def test_a_worker_that_cannot_be_known_keeps_its_lease(store: Store, sqlite: str, monkeypatch: Any) -> None:
    for stranger in ({**identity(), "host": "elsewhere"}, {**identity(), "boot": "before"}, {}, "?", {"process": "x"}):
        assert not is_gone(stranger)
    monkeypatch.setattr(module, "identity", lambda: {**a_dead_process(), "host": "elsewhere"})
    with Store.open(sqlite, "study") as far:
        assert far.claim(Free(4)) is not None
    again = store.claim(Free(4))
    assert again is not None and again.slot == 1


def test_a_later_process_of_the_same_number_is_another() -> None:
    assert not is_gone(identity())
    assert is_gone({**identity(), "started": identity()["started"] - 1.0})


def test_a_slot_that_kills_its_workers_is_given_up(store: Store, sqlite: str) -> None:
    for _ in range(DEATHS):
        claim = store.claim(Free(4))
        assert claim is not None and claim.slot == 0
        let_leases_run_out(sqlite)
    claim = store.claim(Free(4))
    assert claim is not None and claim.slot == 1
    assert store.outcomes() == {0: {"failed": "its worker died 3 times", "value": None}}


def test_a_slot_that_was_given_back_may_be_so_any_number_of_times(store: Store) -> None:
    for _ in range(DEATHS + 1):
        claim = store.claim(Free(4))
        assert claim is not None and claim.slot == 0
        store.release(claim, "KeyboardInterrupt")
    assert store.progress().lost == 0


def test_parameters_that_are_known_and_sampled(store: Store, sqlite: str) -> None:
    claim = store.claim(Free(4))
    assert claim is not None
    trial = store.trial(claim)
    fix(trial, {"lr": 0.01, "beta2": 0.999})
    assert trial.suggest_float("lr", 1e-5, 1.0, log=True) == 0.01
    assert trial.suggest_categorical("beta2", [0.95, 0.999]) == 0.999
    assert store.trial(claim).suggest_float("lr", 1e-5, 1.0, log=True) == 0.01, "a second call says the same"
    other = store.claim(Free(4))
    assert other is not None
    sampled = store.trial(other)
    sampled.study.sampler = optuna.samplers.TPESampler(seed=1)
    assert 1e-5 <= sampled.suggest_float("lr", 1e-5, 1.0, log=True) <= 1.0
    trials = optuna.load_study(study_name="study", storage=sqlite).trials
    assert trials[0].params == {"lr": 0.01, "beta2": 0.999}
    assert set(trials[1].params) == {"lr"}


def test_what_others_put_there_is_left_alone(store: Store, sqlite: str) -> None:
    study = optuna.load_study(study_name="study", storage=sqlite)
    study.enqueue_trial({"lr": 1.0})
    for slot in (99, -1, "0", None, True):
        study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.WAITING, user_attrs={"slot": slot}))
    study.add_trial(optuna.create_trial(value=0.0, user_attrs={"slot": 0}))
    assert store.outcomes() == {}
    assert [claim.slot for claim in iter(lambda: store.claim(Free(4)), None)] == [0, 1, 2, 3]


def test_calls_that_are_wrong(store: Store, sqlite: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no study 'other'; it holds study$"):
        Store.open(sqlite, "other")
    with pytest.raises(ValueError, match=r"the study 'study' in the storage .* has 4 runs, not 5"):
        Store.open(sqlite, "study", 5)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        Store.open(sqlite, "new", 0)
    with pytest.raises(ValueError, match="lease must be at least 2 seconds, got 1"):
        Store.open(sqlite, "new", 1, lease=1)
    optuna.create_study(study_name="foreign", storage=sqlite).optimize(lambda trial: 0.0, n_trials=1)
    with pytest.raises(ValueError, match=r"'foreign' in the storage .* is not a study of ravine"):
        Store.open(sqlite, "foreign", 1)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://ada:secret@host/db", r"storage must be sqlite:///FILE or postgresql://.*, got 'mysql://ada:\*\*\*@"),
        ("trials.db", "storage must be sqlite:///FILE or postgresql://"),
        ("postgresql://ada:secret@host:port/db", r"storage must be a URL, got 'postgresql://ada:\*\*\*@host:port/db'"),
        ("sqlite://", "storage must be a file that other workers can open"),
        ("sqlite:///:memory:", "storage must be a file that other workers can open"),
        ("sqlite:////nowhere/at/all/trials.db", "does not answer: unable to open database file"),
    ],
)
def test_storages_that_are_none(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Store.open(url, "any", 1)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path, sqlite: str) -> None:
    (tmp_path / "trials.db").write_text("something else that is long enough to be looked at" * 100)
    with pytest.raises(ValueError, match="does not answer: file is not a database"):
        Store.open(sqlite, "any", 1)


class Workers(RuleBasedStateMachine):
    """Three workers that take slots, finish, vanish, come back too late, and give up, in any order."""

    url = ""
    studies = 0
    count = 3

    def __init__(self) -> None:
        super().__init__()
        type(self).studies += 1
        name = f"study {self.studies}"
        self.stores = [Store.open(self.url, name, self.count) for _ in range(3)]
        self.claims: list[tuple[Store, Claim]] = []
        self.counted: dict[int, dict[str, Any]] = {}
        self.results = 0

    def teardown(self) -> None:
        for store in self.stores:
            store.close()

    @rule(worker=st.integers(0, 2))
    def take(self, worker: int) -> None:
        claim = self.stores[worker].claim(Free(self.count))
        if claim is not None:
            self.claims.append((self.stores[worker], claim))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), known=st.booleans())
    def finish(self, data: Any, known: bool) -> None:
        # A claim stays in the list: whoever was believed dead may come back, and a result may be sent twice.
        store, claim = data.draw(st.sampled_from(self.claims), label="claim")
        self.results += 1
        outcome = {"value": float(self.results) if known else None, "result": self.results}
        before = self.counted.get(claim.slot)
        if store.complete(claim, outcome) and before is None:
            self.counted[claim.slot] = outcome

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def give_back(self, data: Any) -> None:
        store, claim = data.draw(st.sampled_from(self.claims), label="claim")
        store.release(claim, "Ctrl-C")

    @rule()
    def leases_run_out(self) -> None:
        let_leases_run_out(self.url)

    @rule(slots=st.lists(st.integers(0, 2), max_size=3))
    def somebody_enqueues_again(self, slots: list[int]) -> None:
        self.stores[0]._enqueue(slots)

    @invariant()
    def what_counts_is_what_was_told_first_and_never_changes(self) -> None:
        for store in self.stores:
            given_up = {s: o for s, o in store.outcomes().items() if "result" not in o}
            assert store.outcomes() == {**given_up, **self.counted}
            assert not set(given_up) & set(self.counted)


def test_each_slot_counts_once_whatever_happens(sqlite: str) -> None:
    Workers.url = sqlite
    run_state_machine_as_test(
        Workers,
        settings=settings(
            max_examples=10, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
