"""Makes experiments in processes of their own: one thread each, so that the same seeds give the same numbers.

A process that dies takes its experiment with it and no other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, cast

from ravine.explain import figure
from ravine.explain.claims.claim import Claim, Run
from ravine.registry import resolve

if TYPE_CHECKING:
    from ravine.lab.study.execute import Running

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Show = Callable[[int, Sequence["Running"]], None]


@dataclass(frozen=True)
class Made:
    """What an experiment gave: `values` under the criteria's names, and `picture` as SVG."""

    values: Mapping[str, float]
    table: tuple[list[str], list[list[Any]]] | None
    remarks: tuple[str, ...]
    picture: str
    seconds: float


@dataclass(frozen=True)
class Failed:
    """Why an experiment gave nothing, in one line."""

    error: str
    seconds: float


def make(claim: Claim, run: Run) -> Made:
    """Make an experiment and draw its figure, in this process."""
    import torch

    began = time.perf_counter()
    # Draws of those that bring no generator of their own do not depend on what ran before.
    torch.manual_seed(0)
    evidence = claim(run)
    canvas = figure.new(evidence.width, evidence.height)
    evidence.draw(canvas)
    table = None
    if evidence.table is not None:
        head, rows = evidence.table
        table = (list(head), [[_plain(x) for x in row] for row in rows])
    values = {name: float(value) for name, value in evidence.values.items()}
    return Made(values, table, tuple(evidence.remarks), figure.svg(canvas), time.perf_counter() - began)


def experiments(claims: Sequence[Claim], run: Run, workers: int, show: Show) -> Iterator[tuple[Claim, Made | Failed]]:
    """Make experiments in processes, and give each result when it is there.

    Args:
        claims: begun in this order.
        run: for all of them.
        workers: how many at the same time.
        show: is called with how many are done and those at work, whenever that changes.
    """
    waiting, done = deque(claims), 0
    idle: list[_Worker] = []
    at_work: dict[Connection, _Worker] = {}
    try:
        while waiting or at_work:
            while waiting and len(at_work) < workers:
                worker = idle.pop() if idle else _Worker()
                worker.begin(waiting.popleft(), run)
                at_work[worker.pipe] = worker
            show(done, [worker.running for worker in at_work.values()])
            for pipe in cast(list[Connection], connection.wait(list(at_work))):
                worker = at_work[pipe]
                result = worker.receive()
                if result is None:
                    continue
                del at_work[pipe]
                if worker.alive:
                    idle.append(worker)
                done += 1
                yield worker.claim, result
        show(done, [])
    finally:
        for worker in (*idle, *at_work.values()):
            worker.stop()


class _Worker:
    """A process, as the one that started it sees it."""

    claim: Claim
    parts: tuple[int, int]

    def __init__(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _environment(ONE_THREAD):
            self.process.start()
        theirs.close()
        self.alive = True

    def begin(self, claim: Claim, run: Run) -> None:
        self.claim, self.parts, self.began = claim, (0, 0), time.perf_counter()
        function = claim.function
        self.pipe.send((function.__module__, function.__qualname__, run.quick, run.seeds))

    def receive(self) -> Made | Failed | None:
        """The next word from the process: a result, or None for progress."""
        try:
            said = self.pipe.recv()
        except (EOFError, OSError):
            self.stop()
            code = self.process.exitcode
            return Failed(f"its process ended with exit code {code}", time.perf_counter() - self.began)
        if isinstance(said, (Made, Failed)):
            return said
        self.parts = said
        return None

    @property
    def running(self) -> Running:
        """What it is at, and how much of it is done."""
        # Here, since the processes, which import this module too, can do without it and what it brings.
        from ravine.lab.study.execute import Running

        return Running(self.claim.slug, *self.parts)

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()
        self.pipe.close()
        self.alive = False


def _serve(pipe: Connection) -> None:
    """What a process does until nobody asks any more: experiments, one after the other."""
    import torch

    # Ctrl-C reaches all processes of a terminal; the one that was called answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    while True:
        try:
            module, qualname, quick, seeds = pipe.recv()
        except EOFError:
            return
        began = time.perf_counter()
        claim = None
        try:
            claim = resolve(module, qualname)
            result: Made | Failed = make(claim, Run(quick, seeds, lambda done, total: pipe.send((done, total))))
        except Exception as error:
            result = Failed(_one_line(error, claim), time.perf_counter() - began)
        pipe.send(result)


def _one_line(error: Exception, claim: Claim | None) -> str:
    """The error, and the line of the claim's file that led to it, or where there is none the last line."""
    lines = traceback.extract_tb(error.__traceback__)
    own = [line for line in lines if claim is not None and line.filename == str(claim.file)]
    place = (own or lines)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({os.path.basename(place.filename)}, line {place.lineno})"


def _plain(value: Any) -> Any:
    """A number of NumPy or torch as Python's own."""
    return value.item() if hasattr(value, "item") else value


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
