"""The database that a study's trials live in: an SQLite file, or PostgreSQL by URL."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravine.lab.study.redact import Redactor, redacted

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import URL

ANSWER_WITHIN = 8
"""Seconds in which a server answers, where the URL does not say `connect_timeout`."""

LOCKED_FOR = 60
"""Seconds for which a process waits for the others to leave the SQLite file."""

_ABOUT = "ravine"
_ATTEMPTS = 10


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file.

    >>> sqlite_url(Path("/tmp/study/trials.db"))
    'sqlite:////tmp/study/trials.db'
    """
    return f"sqlite:///{path.absolute()}"


def is_sqlite(url: str) -> bool:
    """Whether the trials live in a file, which only the processes of one machine can share."""
    return url.partition(":")[0].partition("+")[0] == "sqlite"


def connect(url: str) -> RDBStorage:
    """Optuna's storage, with its tables made if there were none.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/DATABASE`.

    Raises:
        ValueError: for another kind of URL, and where nothing answers; the password is not in the message.
        ModuleNotFoundError: where what talks to PostgreSQL is not installed.
    """
    import sqlalchemy
    from optuna.storages import RDBStorage

    parsed = _parse(url)
    options: dict[str, Any] = {"connect_args": {"timeout": LOCKED_FOR}}
    if not is_sqlite(url):
        # A worker uses one connection for its trials and one for its heartbeat.
        answer = {} if "connect_timeout" in parsed.query else {"connect_timeout": ANSWER_WITHIN}
        options = {"connect_args": answer, "pool_pre_ping": True, "pool_size": 2}
    try:
        engine = sqlalchemy.create_engine(parsed, **options)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{error.name} is not installed, which {parsed.drivername} needs: pip install "ravine[postgresql]"'
        ) from None
    try:
        with engine.connect() as connection:
            # With a log that is written ahead, a transaction does not wait for the disk. A loss of power may take the
            # last ones back, whose slots are then done again.
            connection.exec_driver_sql("PRAGMA journal_mode = WAL" if is_sqlite(url) else "SELECT 1")
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise ValueError(f"the storage {redacted(url)} does not answer: {_reason(error, url)}") from None
    finally:
        engine.dispose()

    # Braces would be filled in by Optuna.
    text = parsed.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    with quiet():
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                storage = RDBStorage(text, engine_kwargs=options)
                break
            except (sqlalchemy.exc.SQLAlchemyError, AssertionError) as error:
                # Another process makes the same tables at this moment.
                if attempt == _ATTEMPTS:
                    raise ValueError(
                        f"the storage {redacted(url)} cannot hold a study: {_reason(error, url)}"
                    ) from None
                time.sleep(random.uniform(0.05, 0.3))
            except RuntimeError as error:
                raise ValueError(
                    f"the storage {redacted(url)} is of another version of Optuna: {_reason(error, url)}"
                ) from None
    _listen(storage.engine)
    return storage


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within this block Optuna logs warnings only."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def find_or_create(
    storage: RDBStorage, url: str, name: str, count: int | None, definition: str | None, lease: float
) -> tuple[dict[str, Any], bool]:
    """What the study of a name says of itself, and whether it was created here. See `Store.open`."""
    from optuna.exceptions import DuplicatedStudyError
    from optuna.study import StudyDirection

    created = False
    try:
        study_id = storage.get_study_id_from_name(name)
    except KeyError:
        if count is None:
            names = ", ".join(study.study_name for study in storage.get_all_studies()[:10])
            raise ValueError(
                f"the storage {redacted(url)} holds no study {name!r}" + (f"; it holds {names}" if names else "")
            ) from None
        try:
            with quiet():
                study_id = storage.create_new_study([StudyDirection.MINIMIZE], name)
            created = True
        except DuplicatedStudyError:
            study_id = storage.get_study_id_from_name(name)
    about = storage.get_study_user_attrs(study_id).get(_ABOUT)
    if about is None and count is not None and not storage.get_all_trials(study_id, deepcopy=False):
        # Also where the process that created it has been killed before it came to this.
        storage.set_study_user_attr(study_id, _ABOUT, {"count": count, "definition": definition, "lease": lease})
        about = storage.get_study_user_attrs(study_id).get(_ABOUT)
    if not (isinstance(about, dict) and isinstance(about.get("count"), int) and {"definition", "lease"} <= set(about)):
        raise ValueError(f"{name!r} in the storage {redacted(url)} is not a study of ravine")
    if count is not None and about["count"] != count:
        raise ValueError(f"the study {name!r} in the storage {redacted(url)} has {about['count']} runs, not {count}")
    return about, created


def _parse(url: str) -> URL:
    import sqlalchemy
    from sqlalchemy.engine import make_url

    scheme = url.partition(":")[0]
    if scheme.partition("+")[0] not in ("sqlite", "postgresql", "postgres") or "://" not in url:
        raise ValueError(f"storage must be sqlite:///FILE or postgresql://USER@HOST/DATABASE, got {redacted(url)!r}")
    try:
        parsed = make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise ValueError(f"storage must be a URL, got {redacted(url)!r}") from None
    if scheme == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError(f"storage must be a file that other workers can open, got {redacted(url)!r}")
    return parsed.set(drivername="postgresql+psycopg") if scheme in ("postgresql", "postgres") else parsed


def _listen(engine: Any) -> None:
    """What every connection needs: one writer at a time in SQLite, and one time zone in PostgreSQL."""
    import sqlalchemy

    if engine.name == "sqlite":
        # Optuna locks a row before it looks at a trial's state and changes it, which SQLite does not have: without
        # this, two processes that look at the same time both take the trial.
        @sqlalchemy.event.listens_for(engine, "connect")
        def leave_transactions_to_us(connection: Any, _: Any) -> None:
            connection.isolation_level = None
            connection.execute("PRAGMA synchronous = NORMAL")

        @sqlalchemy.event.listens_for(engine, "begin")
        def lock(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        # Heartbeats are kept in the time zone of whoever wrote them, without saying which.
        @sqlalchemy.event.listens_for(engine, "connect")
        def use_universal_time(connection: Any, _: Any) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SET TIME ZONE 'UTC'")
            connection.commit()

    engine.dispose()


def _reason(error: BaseException, url: str) -> str:
    """The first line of what the database said."""
    said = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    return Redactor(url).text(said.splitlines()[0])
