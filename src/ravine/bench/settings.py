"""What to measure, and how: the command's options, checked."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ravine import engine as engines
from ravine.bench.arms import MATRIX_RULES, STANDARD, Arm, parse
from ravine.bench.bounds import RATIOS, SHARES
from ravine.bench.problems import SHAPE_SETS
from ravine.registry import nearest

DTYPES = {
    "float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16
}  # fmt: skip
DEVICES = ("cpu", "cuda", "xpu", "mps")
ROUNDS = 7
QUICK_ROUNDS = 2
MOST_THREADS = 256


@dataclass(frozen=True)
class Settings:
    """A measurement.

    Attributes:
        jobs: sets of shapes with the arms that are timed on them, in order.
        rounds: rounds of alternating steps per job, each of which gives one ratio.
        steps: steps a round, or None for as many as fill a tenth of a second, and at least ten.
        engine: the engine asked for.
        dtype: the type of parameters, gradients and states, by name.
        device: where they are.
        threads: threads of torch and ravine alike.
        peers: whether other libraries are timed too.
        quick: small sizes and few steps, to see that everything runs.
    """

    jobs: tuple[tuple[str, Arm], ...]
    rounds: int
    steps: int | None
    engine: str
    dtype: str
    device: str
    threads: int
    peers: bool
    quick: bool

    @property
    def arms(self) -> list[Arm]:
        """The arms of all jobs, each once."""
        return list({arm.label: arm for _, arm in self.jobs}.values())

    @property
    def bounded(self) -> bool:
        """Whether the bounds are meant for this: full sizes in float32 on a CPU."""
        return not self.quick and self.dtype == "float32" and torch.device(self.device).type == "cpu"

    @property
    def command(self) -> str:
        """The command that repeats this measurement, with all that it was given by default."""
        names = [arm.label for arm in self.arms]
        shapes = list(dict.fromkeys(name for name, _ in self.jobs))
        words = ["ravine", "bench"]
        if len(shapes) == 1:
            words += [*names, "--shapes", shapes[0]]
        given = {
            "rounds": self.rounds, "steps": self.steps, "engine": self.engine, "dtype": self.dtype,
            "device": self.device, "threads": self.threads,
        }  # fmt: skip
        words += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
        return shlex.join([*words, "--peers" if self.peers else "--no-peers", *(["--quick"] if self.quick else [])])


def settings_of(
    names: Sequence[str] = (),
    *,
    shapes: str | None = None,
    rounds: int | None = None,
    steps: int | None = None,
    engine: str = "auto",
    dtype: str = "float32",
    device: str = "cpu",
    threads: int | None = None,
    peers: bool = True,
    quick: bool = False,
    check: bool = False,
) -> Settings:
    """Settings from what a user gives, checked before anything is measured.

    Args:
        names: optimizers, as `ravine.bench.arms.parse` reads them; default: the standard ones on the shapes `gpt`,
            those for matrices on `hidden`, and AdamW on `small` too.
        shapes: the set of shapes for all of them, `"gpt"`, `"hidden"` or `"small"`; default, for named ones, `hidden`
            for those that step matrices only, else `gpt`.
        rounds: default 7, with `quick` 2.
        steps: default None, see `Settings`.
        engine: `"auto"`, `"reference"`, `"native"` or `"triton"`.
        dtype: `"float32"`, `"float64"`, `"bfloat16"` or `"float16"`.
        device: `"cpu"`, or an accelerator such as `"cuda"` or `"cuda:1"`.
        threads: default as torch has it.
        peers: time other installed libraries too.
        quick: small sizes and few steps.
        check: whether the result will be held to the bounds, which are for full sizes in float32 on a CPU.

    Raises:
        KeyError, TypeError, ValueError: one sentence about what is wrong.
    """
    _choice("shapes", shapes, [*SHAPE_SETS], optional=True)
    _choice("dtype", dtype, [*DTYPES])
    _positive("rounds", rounds)
    _positive("steps", steps)
    _positive("threads", threads, most=MOST_THREADS)
    engines.check_name(engine)
    place = _place(device, dtype)
    try:
        chosen = engines.choose(engine, place)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    arms = parse(names or (*STANDARD, *MATRIX_RULES))
    jobs = [(shapes or ("hidden" if arm.steps_matrices else "gpt"), arm) for arm in arms]
    if not names and shapes is None:
        jobs.append(("small", arms[0]))
    for arm in arms:
        if engine == chosen.name != "reference" and arm.predicted_bytes(DTYPES[dtype]) is None:
            raise ValueError(f"engine={engine!r} cannot run {arm.label} yet; engine='reference' can")
    made = Settings(
        tuple(jobs), rounds or (QUICK_ROUNDS if quick else ROUNDS), steps, engine, dtype, device,
        threads or torch.get_num_threads(), peers, quick,
    )  # fmt: skip
    if check and not made.bounded:
        raise ValueError("check: the bounds are for full sizes in float32 on a CPU; leave out quick, dtype and device")
    if check and not any((name, arm.label) in (*RATIOS, *SHARES) for name, arm in jobs):
        bounded = ", ".join(f"{arm} on {name}" for name, arm in (*RATIOS, *SHARES))
        raise ValueError(f"check: none of these optimizers has a bound; there are bounds for {bounded}")
    return made


def require_place_for(file: str) -> None:
    """Raise ValueError unless a result can be written to this file when the measurement is over; `-` always can.

    Nothing is written yet.
    """
    path = Path(file)
    if file == "-":
        return
    if path.is_dir():
        raise ValueError(f"--json: {file} is a folder")
    if not path.parent.is_dir():
        raise ValueError(f"--json: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"--json: the folder {path.parent} is not writable")


def _choice(name: str, given: str | None, allowed: Sequence[str], optional: bool = False) -> None:
    if given not in allowed and not (optional and given is None):
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {given!r}{nearest(str(given), allowed)}")


def _positive(name: str, given: int | None, most: int | None = None) -> None:
    if given is not None and (given < 1 or (most is not None and given > most)):
        raise ValueError(f"{name} must be {'at least 1' if most is None else f'from 1 to {most}'}, got {given}")


def _place(device: str, dtype: str) -> torch.device:
    try:
        place = torch.device(device)
    except RuntimeError:
        place = None
    if place is None or place.type not in DEVICES:
        kind = device.partition(":")[0]
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {device!r}{nearest(kind, DEVICES)}")
    try:
        torch.zeros(1, dtype=DTYPES[dtype], device=place)
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(f"device {device!r} cannot be used with {dtype} here: {reason}") from None
    return place
