"""Workers as processes: killed, paused, stopped, supervised; none of it loses a slot or counts one twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from ravine.lab.study import store as store_module
from ravine.lab.study import worker as worker_module
from ravine.lab.study.executors import PARENT, STORAGE, run_locally, threads_each
from ravine.lab.study.store import Store
from ravine.lab.study.worker import Event, work

from . import tiny
from .conftest import Workers, holder, let_leases_run_out, wait_for
from .tiny import Tiny


def values(store: Store) -> list[float | None]:
    return [outcome["value"] for outcome in store.outcomes().values()]


def test_one_worker_does_all_in_order(sqlite: str) -> None:
    events: list[Event] = []
    with Store.open(sqlite, "study", 8) as store:
        work(store, Tiny(8), on_event=events.append)
        assert values(store) == Tiny(8).expected()
        work(store, Tiny(8), on_event=events.append)
    kinds = [(event.kind, event.slot) for event in events]
    assert kinds == [(kind, slot) for slot in range(8) for kind in ("claimed", "step", "reported", "step", "done")], (
        "and nothing the second time"
    )
    assert [event.value for event in events if event.kind == "done"] == Tiny(8).expected()
    trials = optuna.load_study(study_name="study", storage=sqlite).trials
    assert [trial.intermediate_values for trial in trials] == [{1: 2.0 * slot} for slot in range(8)]
    assert [trial.params["lr"] for trial in trials] == pytest.approx([1e-4 * (slot + 1) for slot in range(8)])


def test_three_workers_one_killed(sqlite: str, start_workers: Workers, tmp_path: Path) -> None:
    with Store.open(sqlite, "study", 24, lease=3600) as store:
        (tmp_path / "hold-5").touch()
        workers = start_workers(sqlite, "study", 3)
        victim = holder(tmp_path, 5)
        wait_for(lambda: store.progress().done >= 8)
        os.kill(victim, signal.SIGKILL)
        assert sorted(process.wait() for process in workers) == [-signal.SIGKILL, 0, 0]
        assert values(store) == Tiny(24).expected()
        assert store.outcomes()[5]["process"] != victim
        assert (store.progress().done, store.progress().lost) == (24, 1)
    trials = optuna.load_study(study_name="study", storage=sqlite).trials
    counted = [trial.user_attrs["slot"] for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert sorted(counted) == list(range(24))


def test_a_worker_that_was_paused_and_comes_back(sqlite: str, start_workers: Workers, tmp_path: Path) -> None:
    with Store.open(sqlite, "study", 4, lease=3600) as store:
        (tmp_path / "hold-1").touch()
        (process,) = start_workers(sqlite, "study", 1)
        paused = holder(tmp_path, 1)
        os.kill(paused, signal.SIGSTOP)
        wait_for(lambda: psutil.Process(paused).status() == psutil.STATUS_STOPPED)
        let_leases_run_out(sqlite)
        work(store, Tiny(4))
        before = store.outcomes()
        (tmp_path / "go-1").touch()
        os.kill(paused, signal.SIGCONT)
        assert process.wait() == 0
        assert (tmp_path / f"lost-1-by-{paused}").exists()
        assert store.outcomes() == before
        assert [outcome["process"] for outcome in before.values()] == [paused, *[os.getpid()] * 3]


def test_a_lease_that_runs_out_while_the_last_worker_is_dead(
    sqlite: str, start_workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new worker is on another machine: it cannot see that the process is gone, and waits."""
    with Store.open(sqlite, "study", 4, lease=2):
        (tmp_path / "hold-2").touch()
        (process,) = start_workers(sqlite, "study", 1)
        os.kill(holder(tmp_path, 2), signal.SIGKILL)
        process.wait()
    monkeypatch.setattr(store_module, "is_gone", lambda worker: False)
    with Store.open(sqlite, "study") as store:
        work(store, Tiny(4), poll=0.05)
        assert values(store) == Tiny(4).expected()
        assert store.progress().lost == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_is_stopped_gives_its_slot_back(
    sqlite: str, start_workers: Workers, tmp_path: Path, number: signal.Signals
) -> None:
    with Store.open(sqlite, "study", 4, lease=3600) as store:
        (tmp_path / "hold-0").touch()
        (process,) = start_workers(sqlite, "study", 1)
        os.kill(holder(tmp_path, 0), number)
        assert process.wait() != 0
        assert store.progress().running == ()
        work(store, Tiny(4))
        assert values(store) == Tiny(4).expected()
        assert store.progress().lost == 0


def test_an_error_ends_the_worker_and_the_slot_is_free(sqlite: str) -> None:
    class Broken(Tiny):
        def run(self, *arguments: Any, **more: Any) -> dict[str, Any]:
            raise ImportError("no module named anything")

    events: list[Event] = []
    before = signal.getsignal(signal.SIGTERM)
    with Store.open(sqlite, "study", 4) as store:
        with pytest.raises(ImportError, match="no module named anything"):
            work(store, Broken(4), on_event=events.append)
        assert [event.kind for event in events] == ["claimed", "released"]
        assert signal.getsignal(signal.SIGTERM) == before
        work(store, Tiny(4))
        assert values(store) == Tiny(4).expected()
        assert store.progress().lost == 0


def test_a_run_learns_that_its_slot_is_lost(sqlite: str) -> None:
    class Slow(Tiny):
        def run(self, slot: int, params: Any, outcomes: Any, report: Any, on_step: Any) -> dict[str, Any]:
            if slot == 0 and not events.is_set():
                events.set()
                let_leases_run_out(sqlite)
                with Store.open(sqlite, "study") as other:
                    work(other, Tiny(4))
                report(1, 0.0)
                raise AssertionError("it went on")
            return super().run(slot, params, outcomes, report, on_step)

    events = threading.Event()
    seen: list[Event] = []
    with Store.open(sqlite, "study", 4) as store:
        work(store, Slow(4), on_event=seen.append)
        assert [event.kind for event in seen] == ["claimed", "lost"]
        assert values(store) == Tiny(4).expected()


def test_a_storage_that_is_gone_for_a_while(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([True, True, False] * 100)

    def sometimes(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if next(failures):
                raise optuna.exceptions.StorageInternalError("gone") from OSError("server closed the connection")
            return method(*arguments)

        return call

    for name in ("claim", "complete", "finished", "trial"):
        monkeypatch.setattr(Store, name, sometimes(getattr(Store, name)))
    monkeypatch.setattr(worker_module.time, "sleep", lambda seconds: None)
    events: list[Event] = []
    with Store.open(sqlite, "study", 4) as store:
        work(store, Tiny(4), on_event=events.append)
        assert values(store) == Tiny(4).expected()
        assert sum(event.kind == "waiting" for event in events) == 2 * (4 + 4 + 4 + 1 + 1)

        monkeypatch.setattr(worker_module, "PATIENCE", -1.0)
        with pytest.raises(ValueError, match=r"the storage sqlite:.* has stopped answering: server closed the conn"):
            work(store, Tiny(4))


def test_threads_are_divided() -> None:
    assert [threads_each(workers, 8) for workers in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    assert threads_each(1) >= 1


def command(name: str, folder: Path) -> list[str]:
    return [sys.executable, tiny.__file__, name, str(folder)]


def test_local_workers_and_one_that_dies(sqlite: str, tmp_path: Path) -> None:
    messages: list[str] = []
    taken_over: list[int] = []
    with Store.open(sqlite, "study", 12, lease=3600) as store:
        (tmp_path / "hold-3").touch()

        def kill_it_when_it_holds() -> None:
            for path in tmp_path.glob("held-3-by-*"):
                if not messages and store.progress().done >= 4:
                    os.kill(int(path.name.rpartition("-")[2]), signal.SIGKILL)

        run_locally(
            command("study", tmp_path), storage=sqlite, workers=2, threads=1, on_message=messages.append,
            take_over=lambda: taken_over.append(store.progress().done), on_poll=kill_it_when_it_holds, poll=0.02,
        )  # fmt: skip
        assert values(store) == Tiny(12).expected()
    assert taken_over == [12]
    assert [message[9:] for message in messages] == ["was ended by SIGKILL; the others take over its run"]


def test_where_all_workers_die_the_parent_goes_on(sqlite: str, tmp_path: Path) -> None:
    messages: list[str] = []
    code = f"import os, sys; print('not this'); print('ends with', sys.argv, os.environ['{STORAGE}']); sys.exit(3)"
    url = f"{sqlite}?password=secret"
    with Store.open(sqlite, "study", 4) as store:
        run_locally(
            [sys.executable, "-c", code], storage=url, workers=2, threads=1,
            on_message=messages.append, take_over=lambda: work(store, Tiny(4)), poll=0.02,
        )  # fmt: skip
        assert values(store) == Tiny(4).expected()
    assert sorted(messages) == [f"worker {n} ended with code 3: ends with ['-c'] {sqlite}?password=***" for n in (1, 2)]


def test_ctrl_c_ends_the_workers_and_gives_their_slots_back(sqlite: str, tmp_path: Path) -> None:
    def interrupt() -> None:
        if list(tmp_path.glob("held-0-by-*")):
            raise KeyboardInterrupt

    with Store.open(sqlite, "study", 4, lease=3600) as store:
        (tmp_path / "hold-0").touch()
        with pytest.raises(KeyboardInterrupt):
            run_locally(
                command("study", tmp_path), storage=sqlite, workers=1, threads=1, on_poll=interrupt, poll=0.02,
                on_message=pytest.fail, take_over=lambda: pytest.fail("it was to stop"),
            )  # fmt: skip
        victim = holder(tmp_path, 0)
        assert not psutil.pid_exists(victim)
        assert (store.progress().running, store.progress().lost) == ((), 0)


def test_workers_leave_with_their_parent(sqlite: str, tmp_path: Path) -> None:
    with Store.open(sqlite, "study", 4, lease=3600) as store:
        (tmp_path / "hold-0").touch()
        shell = subprocess.Popen(
            ["sh", "-c", f'{PARENT}=$$ "$@" & wait', "sh", *command("study", tmp_path)],
            env={**os.environ, STORAGE: sqlite, "OMP_NUM_THREADS": "1"},
        )
        orphan = holder(tmp_path, 0)
        shell.kill()
        shell.wait()
        wait_for(lambda: not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == psutil.STATUS_ZOMBIE)
        assert (store.progress().running, store.progress().lost) == ((), 0)


def test_the_password_is_not_on_the_command_line(sqlite: str, tmp_path: Path) -> None:
    seen: list[str] = []

    def look() -> None:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                seen.append(" ".join(child.cmdline()))

    run_locally(
        [sys.executable, "-c", f"import os, time; time.sleep(.2); assert os.environ['{STORAGE}'].endswith('secret')"],
        storage=f"{sqlite}?password=secret", workers=1, threads=1, on_message=pytest.fail, take_over=lambda: None,
        on_poll=look, poll=0.02,
    )  # fmt: skip
    assert seen and not any("secret'" not in line and "password" in line for line in seen)
