"""The measurement: each optimizer in turn against torch's fused AdamW, and the machine's ceiling beside them."""

from __future__ import annotations

import contextlib
import datetime
import gc
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.nn import Parameter

from ravine import engine as engines
from ravine.bench import peers
from ravine.bench.arms import Arm
from ravine.bench.bounds import SHARES, Check, checks
from ravine.bench.ceiling import ELEMENTS, QUICK_ELEMENTS, Ceiling
from ravine.bench.first_step import FirstStep, measure_first_step
from ravine.bench.machine import Machine, describe
from ravine.bench.problems import Problem, elements_of, make_problem
from ravine.bench.settings import DTYPES, Settings
from ravine.bench.timing import Round, Spread, interleave, steps_for, whole_periods
from ravine.engine.compiler import CompilerError

WARM_UP = 10
"""Steps before the first that is timed: memory is touched, kernels are compiled, early special steps are over."""
QUICK_STEPS = 5
LEAST, FEWEST, SLOW = 10, 3, 0.1
"""At least so many steps a round; fewer where a step takes longer than so many seconds."""

Progress = Callable[[str], None]
Build = Callable[[list[Parameter]], peers.Steps]


@dataclass(frozen=True)
class Row:
    """One optimizer of one library, against torch's fused AdamW on the same shapes.

    Attributes:
        bytes_per_param: what the planner expects the algorithm to move over memory, whoever runs it; the mean over
            steps where they differ. None where the compiled engines cannot run the rule.
        ratio: time of a step, in steps of torch's fused AdamW.
        milliseconds: of a step, the median over the rounds; `baseline_milliseconds` are torch's in the same rounds.
        ceiling_share: `bytes_per_param` over the time, as a share of the streaming ceiling just before and after the
            rounds, since a machine's bandwidth may change from minute to minute.
        own_share: of another library's optimizer that ravine's is held to: the time of ravine's step in steps of this
            one, the two in turn in rounds of their own; else None.
    """

    optimizer: str
    library: str
    engine: str
    shapes: str
    ratio: Spread
    milliseconds: float
    baseline_milliseconds: float
    bytes_per_param: float | None
    ceiling_share: float | None
    own_share: Spread | None = None

    @classmethod
    def of(
        cls,
        names: tuple[str, str, str, str],
        rounds: list[Round],
        elements: int,
        bytes_per_param: float | None,
        ceiling: float | None,
        own: Sequence[Round] = (),
    ) -> Row:
        """The row that these rounds make.

        Args:
            names: optimizer, library, engine and shapes.
            rounds: at least one.
            elements: how many the parameters have, all together.
            bytes_per_param: see `Row`.
            ceiling: the machine's, in bytes per second, where it is known.
            own: rounds of ravine's optimizer against this one.
        """
        seconds, baseline = Spread.of(r.other for r in rounds).median, Spread.of(r.baseline for r in rounds).median
        share = None
        if bytes_per_param is not None and ceiling is not None:
            share = bytes_per_param * elements / seconds / ceiling
        ratio = Spread.of(r.ratio for r in rounds)
        own_share = Spread.of(r.ratio for r in own) if own else None
        return cls(*names, ratio, 1e3 * seconds, 1e3 * baseline, bytes_per_param, share, own_share)


@dataclass(eq=False)
class Measured:
    """Rounds of one row, and the machine's ceiling around them."""

    job: int
    library: str
    engine: str
    rounds: list[Round]
    ceiling: float | None = None
    own: list[Round] = field(default_factory=list)


@dataclass(eq=False)
class Measurement:
    """A run with these settings; whatever is finished can be looked at, also when it was interrupted.

    Example:
        >>> from ravine.bench.settings import settings_of
        >>> measurement = Measurement(settings_of(["sgd"], quick=True, peers=False, engine="reference"))
        >>> [measurement.units, measurement.rows]
        [2, []]
    """

    settings: Settings
    first_steps: list[FirstStep] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: Machine | None = None
    ceiling: Ceiling | None = None
    date: str = ""
    _measured: list[Measured] = field(default_factory=list, init=False)
    _problems: dict[str, Problem] = field(default_factory=dict, init=False)
    _bytes: dict[str, float | None] = field(default_factory=dict, init=False)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return torch.device(self.settings.device)

    @property
    def dtype(self) -> torch.dtype:
        """The type of parameters, gradients and states."""
        return DTYPES[self.settings.dtype]

    @property
    def peer_jobs(self) -> list[tuple[int, peers.Peer]]:
        """The peers to time, each with the job it belongs to; only those whose library is installed."""
        if not self.settings.peers:
            return []
        return [
            (job, peer)
            for job, (_, arm) in enumerate(self.settings.jobs)
            for peer in peers.PEERS.get(arm.label, ())
            if peers.version_of(peer.library) is not None
        ]

    @property
    def first_step_arms(self) -> list[Arm]:
        """The arms whose first step is timed: all of them, or the first in a quick run."""
        return self.settings.arms[: 1 if self.settings.quick else None]

    @property
    def units(self) -> int:
        """How many times `run` will call its progress function."""
        return len(self.first_step_arms) + len(self.settings.jobs) + len(self.peer_jobs)

    def run(self, progress: Progress = lambda what: None) -> None:
        """Measure everything; `progress` is told what begins.

        Raises:
            RuntimeError: if an optimizer of ravine's own cannot run here.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(self.settings.threads)
        try:
            self._run(progress)
        finally:
            torch.set_num_threads(threads)

    def _run(self, progress: Progress) -> None:
        settings = self.settings
        self.date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.machine = describe(self.device, settings.threads)
        if self.machine.busy:
            self.notes.append(
                f"others used {self.machine.busy_percent:.0f} % of the processor before the measurement began, so its "
                "times mean little; repeat it on a quiet machine"
            )
        for arm in self.first_step_arms:
            progress(f"first step of {arm.label}")
            self.first_steps.append(
                measure_first_step(arm, settings.engine, settings.dtype, settings.device, settings.threads)
            )
        try:
            self.ceiling = Ceiling(self.device, QUICK_ELEMENTS if settings.quick else ELEMENTS)
        except (CompilerError, ImportError) as error:
            self.notes.append(f"the streaming ceiling could not be measured: {error}")
        for job, (shapes, arm) in enumerate(settings.jobs):
            progress(f"{arm.label} on {shapes}")
            self._time_own(job, arm)
        for job, peer in self.peer_jobs:
            progress(f"{settings.jobs[job][1].label} of {peer.library} on {settings.jobs[job][0]}")
            self._time_peer(job, peer)

    def _time_own(self, job: int, arm: Arm) -> None:
        engine = self.settings.engine
        self._bytes[arm.label] = planned = arm.predicted_bytes(self.dtype)
        chosen = engines.choose(engine, self.device).name
        if engine == "auto" and (planned is None or self.ceiling is None):
            chosen = "reference"  # what "auto" falls back to where a rule or a compiler does not do
        rounds, ceiling = self._time(job, lambda parameters: arm.build(parameters, engine), arm.period)
        self._measured.append(Measured(job, "ravine", chosen, rounds, ceiling))

    def _time_peer(self, job: int, peer: peers.Peer) -> None:
        shapes, arm = self.settings.jobs[job]
        own: list[Round] = []

        def build(parameters: list[Parameter]) -> peers.Steps:
            return peers.make(peer, parameters)

        try:
            with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rounds, ceiling = self._time(job, build, arm.period)
                if (shapes, arm.label) in SHARES:
                    own, _ = self._time(job, lambda p: arm.build(p, self.settings.engine), arm.period, build)
        except Exception as error:  # another library's failure is its result, whatever it is
            reason = (str(error) or type(error).__name__).strip().splitlines()[0]
            self.notes.append(f"{arm.label} of {peer.library} ({peer.engine}) does not run here: {reason}")
            return
        self._measured.append(Measured(job, peer.library, peer.engine, rounds, ceiling, own))

    def _time(
        self, job: int, build: Build, period: int, against: Build = lambda p: torch.optim.AdamW(p, fused=True)
    ) -> tuple[list[Round], float | None]:
        """The rounds of a job, against torch's fused AdamW or another, and the ceiling sampled before and after."""
        settings = self.settings
        problem = self._problem(settings.jobs[job][0])
        ceiling = None if self.ceiling is None else self.ceiling.sample()
        baseline = against(problem.parameters())
        other = build(problem.parameters())
        synchronize = torch.accelerator.synchronize if self.device.type != "cpu" else lambda: None
        (warm_up,) = interleave(baseline.step, other.step, 1, whole_periods(WARM_UP, period), synchronize)
        if settings.steps is not None:
            steps = whole_periods(settings.steps, period)
        elif settings.quick:
            steps = whole_periods(QUICK_STEPS, period)
        else:
            slow = max(warm_up.baseline, warm_up.other) > SLOW
            steps = steps_for(warm_up.baseline, period, least=FEWEST if slow else LEAST)
        rounds = interleave(baseline.step, other.step, settings.rounds, steps, synchronize)
        del baseline, other
        gc.collect()
        if self.ceiling is not None and ceiling is not None:
            ceiling = max(ceiling, self.ceiling.sample())
        return rounds, ceiling

    def _problem(self, name: str) -> Problem:
        if name not in self._problems:
            self._problems = {name: make_problem(name, self.dtype, self.device, self.settings.quick)}
        return self._problems[name]

    @property
    def rows(self) -> list[Row]:
        """A row for all that is finished: job by job, ravine first."""
        rows = []
        for m in sorted(self._measured, key=lambda m: m.job):
            shapes, arm = self.settings.jobs[m.job]
            names = (arm.label, m.library, m.engine, shapes)
            elements = elements_of(shapes, self.settings.quick)
            rows.append(Row.of(names, m.rounds, elements, self._bytes[arm.label], m.ceiling, m.own))
        return rows

    @property
    def checks(self) -> list[Check]:
        """What has a bound, against it; nothing where the bounds are not meant for the settings."""
        if not self.settings.bounded:
            return []
        own = [(r.shapes, r.optimizer, r.ratio.median) for r in self.rows if r.library == "ravine"]
        shares = [(r.shapes, r.optimizer, r.own_share.median) for r in self.rows if r.own_share is not None]
        return checks(own, [(s.optimizer, s.cold_seconds, s.warm_seconds) for s in self.first_steps], shares)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON; times are in the units of their names, the ceiling in 10⁹ bytes per second."""
        settings = self.settings
        return {
            "command": settings.command,
            "date": self.date,
            "machine": None if self.machine is None else asdict(self.machine),
            "settings": {
                "rounds": settings.rounds, "steps": settings.steps, "engine": settings.engine, "dtype": settings.dtype,
                "device": settings.device, "quick": settings.quick,
            },
            "ceiling_gb_per_s": self.ceiling.best / 1e9 if self.ceiling is not None else None,
            "rows": [asdict(row) for row in self.rows],
            "first_step": [asdict(step) for step in self.first_steps],
            "checks": [{**asdict(check), "met": check.met} for check in self.checks],
            "peers": [{"library": name, "version": peers.version_of(name)} for name in peers.LIBRARIES],
            "notes": self.notes,
        }  # fmt: skip
