"""What the tests of studies share: a PostgreSQL server of their own, and worker processes of a tiny study."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy

from ravine.lab.study.database import connect, sqlite_url
from ravine.lab.study.executors import STORAGE

from . import tiny

PASSWORD = "s@cret/with:every%thing?&=#{} é"
"""Of the server's user: whatever may go wrong with a password in a URL goes wrong with this one."""

LONG_ENOUGH = 240.0
"""Seconds after which something that should happen has not; nothing waits for as long as that otherwise."""


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with Optuna's tables, which take longer to make than most tests."""
    path = tmp_path_factory.mktemp("database") / "trials.db"
    connect(sqlite_url(path)).engine.dispose()
    return path


@pytest.fixture
def sqlite(empty_database: Path, tmp_path: Path) -> str:
    """URL of an SQLite file without a study."""
    shutil.copy(empty_database, tmp_path / "trials.db")
    return sqlite_url(tmp_path / "trials.db")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a database of a PostgreSQL server that runs for these tests, as a user of its own."""
    binaries = _postgresql_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server is missing (Debian: apt install postgresql)")
    # PostgreSQL refuses to run as the superuser. Its folder is not among pytest's, where nobody else may look in.
    user = _another_user() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = None
    try:
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        if user is not None:
            for path in (folder, folder / "password"):
                os.chown(path, user.pw_uid, user.pw_gid)
        as_user: dict[str, Any] = (
            {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        )
        options = ("--auth=scram-sha-256", "--username=ada", "--encoding=UTF8", "--locale=C", "--no-sync")
        data = ("-D", folder / "data", f"--pwfile={folder / 'password'}")
        made = subprocess.run(
            [binaries / "initdb", *data, *options], cwd="/", capture_output=True, text=True, **as_user
        )
        assert made.returncode == 0, made.stderr
        url = ""
        for _ in range(5):
            # Another process may take the port that was free a moment ago.
            port = _free_port()
            settings = ("-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "timezone=Asia/Kolkata")
            place = ("-D", folder / "data", "-k", folder, "-p", str(port))
            server = subprocess.Popen(
                [binaries / "postgres", *place, *settings], cwd="/", stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **as_user,
            )  # fmt: skip
            url = f"postgresql://ada:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
            if _answers(url, server):
                break
        assert server is not None and server.poll() is None, "the server does not start"
        yield url
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGQUIT)
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


Workers = Callable[..., list[subprocess.Popen[bytes]]]


@pytest.fixture
def start_workers(tmp_path: Path) -> Iterator[Workers]:
    """Starts worker processes of the tiny study: `start_workers(url, name, 4)`."""
    started: list[subprocess.Popen[bytes]] = []

    def start(url: str, name: str, count: int) -> list[subprocess.Popen[bytes]]:
        new = [
            subprocess.Popen(
                [sys.executable, tiny.__file__, name, str(tmp_path)],
                env={**os.environ, STORAGE: url, "OMP_NUM_THREADS": "1"},
            )
            for _ in range(count)
        ]
        started.extend(new)
        return new

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def wait_for(what: Callable[[], Any]) -> Any:
    """What the call returns, once it returns something."""
    until = time.monotonic() + LONG_ENOUGH
    while time.monotonic() < until:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"it has not happened in {LONG_ENOUGH:.0f} seconds")


def holder(folder: Path, slot: int) -> int:
    """Number of the process that is held in a slot."""
    (path,) = wait_for(lambda: list(folder.glob(f"held-{slot}-by-*")))
    return int(path.name.rpartition("-")[2])


def let_leases_run_out(url: str) -> None:
    """As if nobody had given a sign of life for years."""
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        long_ago = {"then": datetime(2000, 1, 1)}
        connection.execute(sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = :then"), long_ago)
    engine.dispose()


def _postgresql_binaries() -> Path | None:
    # Debian keeps them where no search path leads.
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which("initdb")
    folders += [Path(found).parent] if found else []
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def _another_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.skip("PostgreSQL refuses to run as the superuser, and there is no user postgres or nobody")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    psycopg = pytest.importorskip("psycopg", reason="psycopg is missing (pip install psycopg[binary])")
    until = time.monotonic() + LONG_ENOUGH
    while server.poll() is None and time.monotonic() < until:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return True
        time.sleep(0.05)
    return False
