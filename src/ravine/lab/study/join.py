"""`ravine worker` as a function: one more process for a study that somebody has begun."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from ravine.lab.study import record
from ravine.lab.study.execute import described
from ravine.lab.study.executors import follow_parent
from ravine.lab.study.redact import Redactor
from ravine.lab.study.store import Store
from ravine.lab.study.study import Study
from ravine.lab.study.worker import Event, work


@dataclass(frozen=True)
class Joined:
    """A worker that may start.

    Args:
        study: as it is on this machine.
        store: its trials.
        storage: their URL.
        threads: of torch; None leaves them.
    """

    study: Study
    store: Store
    storage: str
    threads: int | None

    @property
    def redactor(self) -> Redactor:
        """Takes the storage's password out of texts."""
        return Redactor(self.storage)

    def work(self, quiet: bool = False) -> None:
        """Make runs until every planned run is made, by whomever."""
        threads = self.threads or os.environ.get("OMP_NUM_THREADS")
        if threads is not None:
            torch.set_num_threads(int(threads))
        follow_parent()
        with self.store:
            work(self.store, self.study, on_event=None if quiet else self._say)

    def _say(self, event: Event) -> None:
        if event.slot is not None and event.kind in ("claimed", "done", "lost", "released"):
            figure = "" if event.value is None else f", loss {event.value:.4g}"
            print(f"{event.kind}: {described(self.study, event.slot)}{figure}", flush=True)


def join(
    study: str,
    storage: str | None = None,
    *,
    data: str | None = None,
    model: str | None = None,
    base: str | None = None,
    threads: int | None = None,
) -> Joined:
    """Check that a worker can join a study, and change nothing.

    Args:
        study: its folder, or its name in the storage.
        storage: URL of the trials; default the file in the folder.
        data, model, base: as they are on this machine. A model in a file of Python comes only from here: a storage
            never says what is executed.
        threads: of torch in this process.

    Raises:
        ValueError: where there is no such study, or this machine has other data, another model or other versions.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    folder = Path(study)
    if storage is None:
        if not (folder / "trials.db").exists():
            raise ValueError(f"there is no study in {study}; give its folder, or its name and --storage URL")
        storage = f"sqlite:///{(folder / 'trials.db').absolute()}"
    names = record.names(storage)
    name = study if study in names else folder.name if folder.name in names else names[0] if len(names) == 1 else None
    if name is None or (name != study and not folder.exists()):
        known = f": it has {', '.join(names)}" if names else ""
        raise ValueError(f"the storage has no study {study!r}{known}")
    store = Store.open(storage, name)
    made = record.rebuilt(record.read(store.definition, name), name, data=data, model=model, base=base)
    if made.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"the study {name} runs on a GPU, and torch finds none on {os.uname().nodename}")
    return Joined(made, store, storage, threads)


def work_from_ray(name: str, storage: str, data: str | None, model: str | None, base: str | None, folder: str) -> None:
    """A worker as a task of a Ray cluster; paths are those of whoever began the study, where they can be reached."""
    if os.path.isdir(folder):
        os.chdir(folder)
    join(name, storage, data=data, model=model, base=base).work(quiet=True)
