"""Workers as tasks of a Ray of two workers on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravine.lab.study.executors import run_on_ray
from ravine.lab.study.store import Store
from ravine.lab.study.worker import work

from . import tiny
from .tiny import Tiny

ray = pytest.importorskip("ray", reason='Ray is missing (pip install "ravine[ray]")')


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's workers know what is installed, and not the tests.
    ray.cloudpickle.register_pickle_by_value(tiny)
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(tiny)


def test_two_workers(cluster: None, sqlite: str, tmp_path: Path) -> None:
    taken_over: list[bool] = []
    messages: list[str] = []
    with Store.open(sqlite, "study", 16, lease=3600) as store:
        for slot in (0, 1):
            (tmp_path / f"hold-{slot}").touch()

        def go_when_both_are_at_work() -> None:
            if len(store.progress().running) == 2:
                for slot in (0, 1):
                    (tmp_path / f"go-{slot}").touch()

        run_on_ray(
            tiny.worker, (sqlite, "study", str(tmp_path)), storage=sqlite, workers=2, threads=1,
            take_over=lambda: taken_over.append(store.finished()), on_message=messages.append,
            on_poll=go_when_both_are_at_work, poll=0.05,
        )  # fmt: skip
        outcomes = store.outcomes()
        assert [outcome["value"] for outcome in outcomes.values()] == Tiny(16).expected()
        assert len({outcome["process"] for outcome in outcomes.values()} - {os.getpid()}) == 2
        assert (store.progress().done, store.progress().lost) == (16, 0)
    assert (taken_over, messages) == ([True], [])


def test_a_worker_that_dies(cluster: None, sqlite: str, tmp_path: Path) -> None:
    messages: list[str] = []
    url = f"{sqlite}?password=secret"
    with Store.open(sqlite, "study", 4) as store:
        run_on_ray(
            tiny.worker, (url, "no such study", str(tmp_path)), storage=url, workers=1, threads=1,
            take_over=lambda: work(store, Tiny(4)), on_message=messages.append,
        )  # fmt: skip
        assert store.finished()
    (message,) = messages
    assert message.startswith("a worker ended: ValueError: ")
    assert "secret" not in message


def test_a_file_is_not_shared_by_machines(cluster: None, sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True, "NodeManagerHostname": name} for name in ("one", "two")]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    with pytest.raises(ValueError, match="an SQLite file cannot be shared by the 2 machines of this Ray cluster"):
        run_on_ray(
            tiny.worker, (), storage=sqlite, workers=2, threads=1, take_over=lambda: None, on_message=pytest.fail
        )
