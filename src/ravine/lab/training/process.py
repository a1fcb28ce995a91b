"""One of the processes that `ravine.lab.training.launch` has `torchrun` start: `python -m ravine.lab.training.process`.

The folder that it is given holds `run.json`, the call. The first process writes what happens to `events` as lines of
JSON, and `outcome.json` at the end; whichever process fails first writes `error.json`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

import torch.distributed as dist

from ravine.lab.files import read_json, to_json, write_atomically
from ravine.lab.training.distributed import joined
from ravine.lab.training.memory import out_of_memory, ran_out_of_memory


def main(folder: Path) -> None:
    """Do this process's part of the run."""
    threading.Thread(target=_end_with_who_started_it, daemon=True).start()
    call = read_json(folder / "run.json")
    with joined(call["device"]) as processes, (folder / "events").open("a", encoding="utf-8", buffering=1) as events:

        def tell(step: int, figures: dict[str, float] | None = None) -> None:
            if processes.first:
                events.write(json.dumps([step, figures]) + "\n")

        try:
            module, name = call["work"]
            work: Any = reduce(getattr, name.split("."), importlib.import_module(module))
            outcome = work(**call["arguments"], on_step=tell, on_evaluation=tell)
            if processes.first:
                write_atomically(folder / "outcome.json", to_json(asdict(outcome)))
        except Exception as error:
            if not _lost_another(error):
                # Before the connection is closed, which the others would fail of.
                _write_first(folder / "error.json", _told(error, call["device"]))
            raise


def _lost_another(error: Exception) -> bool:
    """Whether it says only that another process is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _told(error: Exception, device: str) -> dict[str, Any]:
    no_memory = ran_out_of_memory(error)
    message = out_of_memory(error, device) if no_memory else str(error)
    return {"type": type(error).__name__, "message": message, "out_of_memory": no_memory}


def _write_first(path: Path, content: Any) -> None:
    """Write a file unless another process has: the others fail because the first one did."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(to_json(content))


def _end_with_who_started_it() -> None:
    """End this process when the program that wants its outcome is gone, also if that was killed."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
