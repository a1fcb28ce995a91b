"""One training run: a model, an optimizer, a schedule, and what came of it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from ravine.lab.data import Corpus, Split
from ravine.lab.model import VOCABULARY, Architecture, Transformer
from ravine.optim import Optimizer
from ravine.optim.evaluation import evaluating

Precision = Literal["bfloat16", "float32"]
MakeOptimizer = Callable[[Transformer], torch.optim.Optimizer]
OnStep = Callable[[int], None]

DIVERGED_LOSS = math.log(VOCABULARY) + 1
"""Nats per byte. A new model is half a nat above a uniform guess; one that ends a whole nat above it has diverged."""

CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Parts of a judged run at which it is evaluated; dense at the end, where targets are reached."""

WARM_UP_STEPS = 12
"""Optimizer steps on a scratch copy before the clock starts: a rule may have a kernel of its own every few steps."""


@dataclass(frozen=True)
class Recipe:
    """How a run is trained, the same for every arm.

    Args:
        steps: optimizer steps.
        batch: windows per step; each has as many tokens as the model's context.
        warmup: part of the steps in which the learning rate rises linearly; then it falls linearly to zero.
        clip: largest norm of the gradient over all parameters.
        evaluation_windows: windows in an evaluation, always the same ones.
    """

    steps: int
    batch: int
    warmup: float = 0.1
    clip: float = 1.0
    evaluation_windows: int = 128

    def multiplier(self, step: int) -> float:
        """What the learning rate is multiplied by at a step (from 0): a linear rise, then a linear fall to zero."""
        rise = max(1, round(self.warmup * self.steps))
        return min((step + 1) / rise, (self.steps - step) / max(1, self.steps - rise + 1), 1.0)


@dataclass
class Outcome:
    """What came of a run; losses in nats per byte, times in seconds without evaluations.

    A run has diverged where the loss was not finite (`final_loss` is then None, and `diverged_at` the step at which
    that was seen), or where it ended above `DIVERGED_LOSS`. `curve` and `training_curve` hold lists `step`, `seconds`,
    `loss`: evaluations, and mean training losses since the last entry.
    """

    final_loss: float | None = None
    diverged: bool = False
    diverged_at: int | None = None
    curve: dict[str, list[float]] = field(default_factory=lambda: {"step": [], "seconds": [], "loss": []})
    training_curve: dict[str, list[float]] = field(default_factory=lambda: {"step": [], "seconds": [], "loss": []})
    seconds: float = 0.0
    optimizer_seconds: float = 0.0
    tokens_per_second: float = 0.0
    state_bytes_per_param: float = 0.0
    peak_memory_bytes: int | None = None


def train(
    architecture: Architecture,
    corpus: Corpus,
    make_optimizer: MakeOptimizer,
    recipe: Recipe,
    *,
    seed: int,
    split: Split,
    with_curve: bool = True,
    precision: Precision = "float32",
    device: str = "cpu",
    on_step: OnStep | None = None,
) -> Outcome:
    """Train a new model and evaluate it on a split. On a CPU the same seed gives the same losses, to the bit.

    Args:
        architecture: of the model.
        corpus: the text; training windows are drawn from its training split.
        make_optimizer: builds the optimizer for a model.
        recipe: steps, batch, schedule, clipping.
        seed: of the initial weights and of the order of the data.
        split: where it is evaluated, `"tuning"` or `"judging"`.
        with_curve: evaluate on the way (at `CURVE`), not only at the end.
        precision: `"bfloat16"` for autocast of the matrix products, or `"float32"`.
        device: `"cpu"` or `"cuda"`.
        on_step: called after each step with the number of steps done.
    """
    model = _new_model(architecture, seed, device)
    length = architecture.context + 1
    draw = torch.Generator().manual_seed(seed)
    judged = corpus.windows(split, recipe.evaluation_windows, length).to(device)
    _warm_up(_new_model(architecture, seed, device), make_optimizer)
    optimizer = make_optimizer(model)
    if isinstance(optimizer, Optimizer):
        optimizer.warn_when_evaluated(model, error=True)  # a loss at the wrong weights would decide the comparison
    schedule = LambdaLR(optimizer, recipe.multiplier)
    outcome, watch, losses = Outcome(), _Watch(device), []
    marks = {max(1, round(part * recipe.steps)) for part in CURVE}
    reset_peak_memory(device)

    for step in range(1, recipe.steps + 1):
        with watch.span("training"):
            windows = corpus.batch("training", recipe.batch, length, draw).to(device)
            with autocast(device, precision):
                loss = model.loss(windows)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            with watch.span("optimizer"):
                optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(loss.detach())
        if on_step is not None:
            on_step(step)
        if step not in marks:
            continue
        reached = [torch.stack(losses).mean().item()]
        losses.clear()
        if with_curve or step == recipe.steps:
            reached.append(evaluate(model, optimizer, judged, precision))
        if not all(map(math.isfinite, reached)):
            outcome.diverged_at = step
            break
        for curve, value in zip((outcome.training_curve, outcome.curve), reached, strict=False):
            curve["step"].append(step)
            curve["seconds"].append(watch.seconds("training"))
            curve["loss"].append(value)

    if outcome.diverged_at is None:
        outcome.final_loss = outcome.curve["loss"][-1]
    outcome.diverged = outcome.final_loss is None or outcome.final_loss > DIVERGED_LOSS
    outcome.seconds, outcome.optimizer_seconds = watch.seconds("training"), watch.seconds("optimizer")
    outcome.tokens_per_second = step * recipe.batch * architecture.context / outcome.seconds
    outcome.state_bytes_per_param = state_bytes(optimizer) / sum(p.numel() for p in model.parameters())
    outcome.peak_memory_bytes = peak_memory(device)
    return outcome


def evaluate(model: Transformer, optimizer: torch.optim.Optimizer, windows: Tensor, precision: Precision) -> float:
    """Mean loss in nats per byte over windows (count, context + 1), with the weights that the rule evaluates at."""
    with evaluating(model, optimizer), torch.inference_mode(), autocast(windows.device.type, precision):
        return sum(model.loss(chunk).item() * len(chunk) for chunk in windows.split(32)) / len(windows)


def autocast(device: str, precision: Precision) -> torch.autocast:
    """bfloat16 for the matrix products, or nothing for float32."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def faster_precision(architecture: Architecture, batch: int, device: str) -> Precision:
    """The precision in which the model trains faster here, by a fifth at least, else float32.

    Measured on forward and backward passes: what a processor claims to support may be emulated.
    """
    model = _new_model(architecture, 0, device)
    windows = torch.arange(batch * (architecture.context + 1), device=device).remainder(VOCABULARY).view(batch, -1)
    best: dict[Precision, float] = {"float32": math.inf, "bfloat16": math.inf}
    for _ in range(4):
        for precision in best:
            start = time.perf_counter()
            with autocast(device, precision):
                loss = model.loss(windows)
            loss.backward()
            loss.item()
            best[precision] = min(best[precision], time.perf_counter() - start)
    return "bfloat16" if best["bfloat16"] < best["float32"] / 1.2 else "float32"


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all tensors in the optimizer's state, the step counters included."""
    return sum(x.nbytes for state in optimizer.state.values() for x in state.values() if isinstance(x, Tensor))


def reset_peak_memory(device: str) -> None:
    """Start counting peak memory anew, where the system can (CUDA, Linux); elsewhere it is the process's so far."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return


def peak_memory(device: str) -> int | None:
    """Bytes: of tensors on the GPU, or resident in the process; None where the system does not tell."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        if sys.platform == "win32":
            return None
        import resource  # exists on Unix only

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _new_model(architecture: Architecture, seed: int, device: str) -> Transformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Transformer(architecture).to(device)


def _warm_up(scratch: Transformer, make_optimizer: MakeOptimizer) -> None:
    """Compile the optimizer's kernels and wake its threads, on a scratch model, so that no run's clock pays for it."""
    optimizer = make_optimizer(scratch)
    for _ in range(WARM_UP_STEPS):
        for p in scratch.parameters():
            p.grad = torch.full_like(p, 1e-3)
        optimizer.step()


class _Watch:
    """Seconds of training and of the optimizer's part of it; on a GPU by events, so nothing waits for the clock."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._seconds = {"training": 0.0, "optimizer": 0.0}
        self._events: list[tuple[str, Any, Any]] = []

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Add the time of a block."""
        start = self._mark()
        yield
        end = self._mark()
        if self._cuda:
            self._events.append((name, start, end))
        else:
            self._seconds[name] += end - start

    def seconds(self, name: str) -> float:
        """The sum of all blocks of this name so far."""
        if self._events:
            torch.cuda.synchronize()
            for kind, start, end in self._events:
                self._seconds[kind] += start.elapsed_time(end) / 1000
            self._events.clear()
        return self._seconds[name]

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
