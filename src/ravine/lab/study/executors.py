"""Where the workers of a study run: as processes of this machine, or as tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ravine.lab.study.database import is_sqlite
from ravine.lab.study.redact import Redactor
from ravine.lab.study.worker import stopped_by_exception

STORAGE = "RAVINE_STORAGE"
"""Environment variable with the storage's URL. The command line of a process can be read by everybody."""

PARENT = "RAVINE_PARENT"
"""Environment variable with the number of the process that a worker belongs to."""

GRACE = 15.0
"""Seconds that workers have to give their slots back before they are killed."""


def threads_each(workers: int, threads: int | None = None) -> int:
    """Threads of one worker, when all together have those of the machine, or the given number.

    >>> threads_each(4, threads=10)
    2
    >>> threads_each(4, threads=2)
    1
    """
    available = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return max(1, available // workers)


def follow_parent() -> None:
    """In a worker of `run_locally`: leave, and give the slot back, when the process that started it is gone."""
    parent = os.environ.get(PARENT, "")
    if not parent.isdecimal():
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="watch for the parent's end", daemon=True).start()


def run_locally(
    command: Sequence[str],
    *,
    storage: str,
    workers: int,
    threads: int,
    take_over: Callable[[], None],
    on_message: Callable[[str], None],
    on_poll: Callable[[], None] | None = None,
    poll: float = 0.2,
) -> None:
    """Run workers as processes of this machine until they have ended; none is started again.

    Args:
        command: of one worker: it reads the storage's URL from `RAVINE_STORAGE`, and calls `follow_parent`.
        storage: the URL.
        workers: how many.
        threads: of each, for torch and whatever else computes.
        take_over: called at the end: does in this process what the workers have not done.
        on_message: called with a sentence when a worker ends that should not have.
        on_poll: called every `poll` seconds, for showing how far the study is.

    Ctrl-C and SIGTERM end the workers, which give their slots back.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    environment = {**os.environ, **_threads(threads), STORAGE: storage, PARENT: str(os.getpid())}
    running: list[_Process] = []
    with stopped_by_exception():
        try:
            for number in range(1, workers + 1):
                running.append(_Process.start(command, number, environment))
            while running:
                time.sleep(poll)
                for process in [p for p in running if p.popen.poll() is not None]:
                    running.remove(process)
                    if process.popen.returncode:
                        on_message(Redactor(storage).text(process.epitaph()))
                    process.output.close()
                if on_poll is not None:
                    on_poll()
        finally:
            _end(running)
    take_over()


def run_on_ray(
    target: Callable[..., None],
    arguments: Sequence[Any],
    *,
    storage: str,
    workers: int,
    threads: int,
    gpus: float = 0,
    take_over: Callable[[], None],
    on_message: Callable[[str], None],
    on_poll: Callable[[], None] | None = None,
    poll: float = 0.5,
) -> None:
    """Run workers as tasks of the Ray cluster that this machine belongs to, else of a Ray of this machine's own.

    Args:
        target: one worker, a function that every machine of the cluster can import.
        arguments: of `target`; a URL with a password is safe here, while Ray shows everybody a task's environment.
        storage: the URL, which is checked only.
        workers: how many.
        threads: of each: the CPUs that a task asks for.
        gpus: that a task asks for.
        take_over, on_message, on_poll: see `run_locally`.

    Raises:
        ModuleNotFoundError: where Ray is not installed.
        ValueError: for an SQLite file and a cluster of several machines.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ModuleNotFoundError('Ray is not installed: pip install "ravine[ray]"') from None
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    ours = not ray.is_initialized()
    if ours:
        _join_or_start(workers * threads)
    try:
        machines = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        if is_sqlite(storage) and len(machines) > 1:
            raise ValueError(
                f"an SQLite file cannot be shared by the {len(machines)} machines of this Ray cluster; "
                "give a PostgreSQL server with --storage postgresql://USER@HOST/DATABASE"
            )
        task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(_ray_worker)
        running = [task.remote(target, list(arguments), threads) for _ in range(workers)]
        with stopped_by_exception():
            try:
                while running:
                    ended, running = ray.wait(running, timeout=poll)
                    for reference in ended:
                        try:
                            ray.get(reference)
                        except ray.exceptions.RayError as error:
                            reason = getattr(error, "cause", None) or error
                            said = (str(reason).strip().splitlines() or [""])[0]
                            on_message(Redactor(storage).text(f"a worker ended: {type(reason).__name__}: {said}"))
                    if on_poll is not None:
                        on_poll()
            finally:
                for reference in running:
                    ray.cancel(reference)
                ray.wait(running, num_returns=len(running), timeout=GRACE) if running else None
    finally:
        if ours:
            ray.shutdown()
    take_over()


@dataclass(frozen=True)
class _Process:
    """One worker."""

    popen: subprocess.Popen[bytes]
    number: int
    output: IO[bytes]

    @classmethod
    def start(cls, command: Sequence[str], number: int, environment: Mapping[str, str]) -> _Process:
        output = tempfile.TemporaryFile()  # noqa: SIM115 - it is read and closed when the worker has ended
        # In a session of its own, so that Ctrl-C reaches it once: through us.
        popen = subprocess.Popen(
            list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        return cls(popen, number, output)

    def epitaph(self) -> str:
        """How it ended, with the last line that it wrote."""
        code = self.popen.returncode
        with contextlib.suppress(ValueError):
            if code < 0:
                return f"worker {self.number} was ended by {signal.Signals(-code).name}; the others take over its run"
        size = self.output.seek(0, os.SEEK_END)
        self.output.seek(max(0, size - 10_000))
        lines = self.output.read().decode("utf-8", errors="replace").strip().splitlines()
        return f"worker {self.number} ended with code {code}" + (f": {lines[-1].strip()}" if lines else "")


def _end(processes: Sequence[_Process]) -> None:
    """End what still runs: kindly at first."""
    for process in processes:
        process.popen.terminate()
    until = time.monotonic() + GRACE
    try:
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.0, until - time.monotonic()))
    finally:
        for process in processes:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()
            process.output.close()


def _threads(count: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    return dict.fromkeys(names, str(count))


def _join_or_start(cpus: int) -> None:
    import ray

    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    # Nothing is reported to anybody unless whoever set Ray up wants it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)


def _ray_worker(target: Callable[..., None], arguments: Sequence[Any], threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    target(*arguments)
