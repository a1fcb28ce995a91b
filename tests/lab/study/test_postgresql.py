"""A study on a PostgreSQL server: many workers, one of them killed; and what is said where no server answers."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import optuna
import pytest

from ravine.lab.study.database import connect
from ravine.lab.study.store import Store

from .conftest import PASSWORD, Workers, holder, wait_for
from .tiny import Tiny


def test_200_slots_4_workers_one_killed(postgresql: str, start_workers: Workers, tmp_path: Path) -> None:
    with Store.open(postgresql, "killed", 200, lease=3600) as store:
        (tmp_path / "hold-40").touch()
        workers = start_workers(postgresql, "killed", 4)
        victim = holder(tmp_path, 40)
        wait_for(lambda: store.progress().done >= 60)
        os.kill(victim, signal.SIGKILL)
        assert sorted(process.wait() for process in workers) == [-signal.SIGKILL, 0, 0, 0]

        outcomes = store.outcomes()
        assert [outcomes[slot]["value"] for slot in range(200)] == Tiny(200).expected()
        assert outcomes[40]["process"] != victim
        assert len({outcome["process"] for outcome in outcomes.values()}) == 4, "some worker had nothing to do"
        progress = store.progress()
        assert (progress.done, progress.failed, progress.running, progress.lost) == (200, 15, (), 1)
    trials = optuna.load_study(study_name="killed", storage=connect(postgresql)).trials
    counted = Counter(trial.user_attrs["slot"] for trial in trials if trial.state.name in ("COMPLETE", "PRUNED"))
    assert counted == Counter(range(200))
    assert not list(tmp_path.glob("lost-*"))


def test_the_time_zone_of_a_worker_does_not_matter(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's is Asia/Kolkata; a heartbeat written elsewhere would be hours old, or in the future."""
    runner = Tiny(4)
    monkeypatch.setenv("PGTZ", "Pacific/Honolulu")
    with Store.open(postgresql, "zones", 4) as west:
        assert west.claim(runner) is not None
        monkeypatch.setenv("PGTZ", "Pacific/Auckland")
        with Store.open(postgresql, "zones") as east:
            assert east.claim(runner) is not None
            assert east.claim(runner).slot == 2  # type: ignore[union-attr]
            assert east.progress().lost == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((quote(PASSWORD, safe=""), "wr%40ng"), 'password authentication failed for user "ada"'),
        (("/postgres", "/nowhere"), 'database "nowhere" does not exist'),
    ],
    ids=["password", "database"],
)
def test_a_server_that_refuses(postgresql: str, change: tuple[str, str], said: str) -> None:
    head, _, tail = postgresql.rpartition(change[0])
    with pytest.raises(ValueError, match=said) as caught:
        Store.open(head + change[1] + tail, "any")
    assert str(caught.value).startswith("the storage postgresql://ada:***@127.0.0.1:")
    assert "wr" not in str(caught.value).replace("wrong", "").replace("write", "")
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_nobody_listens() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        with pytest.raises(ValueError, match="does not answer") as caught:
            Store.open(f"postgresql://ada:secret@127.0.0.1:{port}/studies", "any")
    assert str(caught.value).startswith(f"the storage postgresql://ada:***@127.0.0.1:{port}/studies does not answer: ")
    assert "refused" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_somebody_listens_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ValueError, match=r"does not answer: .*timeout"):
            Store.open(f"postgresql://ada:secret@127.0.0.1:{port}/studies?connect_timeout=2", "any")
