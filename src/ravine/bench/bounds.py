"""The bounds that `ravine bench --check` holds the measurements to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RATIOS = {
    ("gpt", "adamw"): 1.00,
    ("gpt", "adam"): 1.00,
    ("gpt", "lion"): 0.75,
    ("gpt", "sgd:momentum=0.9"): 0.75,
    ("gpt", "momentum"): 0.75,
    ("gpt", "adagrad"): 0.75,
    ("gpt", "rmsprop"): 0.75,
    ("gpt", "sgd"): 0.5,
    ("gpt", "lamb"): 1.6,
    ("gpt", "cautious(adamw)"): 1.75,
    ("gpt", "cautious(adamw):cautious.rescale=false"): 1.05,
    ("gpt", "lookahead(adamw)"): 1.15,
    ("gpt", "radam"): 1.05,
    ("gpt", "nadamw"): 1.05,
    ("gpt", "adopt"): 1.05,
    ("gpt", "ademamix"): 1.4,
    ("gpt", "mars"): 1.7,
    ("gpt", "adan"): 1.7,
    ("gpt", "prodigy"): 2.1,
    ("gpt", "adafactor"): 0.95,
    ("gpt", "adafactor_paper"): 0.95,
    ("gpt", "schedule_free(adamw)"): 1.2,
    ("gpt", "stableadamw"): 1.45,
    ("small", "adamw"): 0.3,
}
"""At most how long a step may take in steps of torch's fused AdamW, by shapes and optimizer: float32 on a CPU."""

SHARES = {("hidden", "muon"): 0.75}
"""At most how long a step may take in steps of the fastest other library, where one was measured."""

COLD_SECONDS = 1.5
WARM_SECONDS = 0.1
"""At most how long the first step of a rule may take, with no kernel cached and with its kernel cached."""


@dataclass(frozen=True)
class Check:
    """One measurement against its bound."""

    what: str
    measured: float
    bound: float

    @property
    def met(self) -> bool:
        """Whether the measurement is no greater than the bound."""
        return self.measured <= self.bound


def checks(
    ratios: Sequence[tuple[str, str, float]],
    first_steps: Sequence[tuple[str, float, float]],
    shares: Sequence[tuple[str, str, float]] = (),
) -> list[Check]:
    """Every measurement that has a bound, against it.

    Args:
        ratios: shapes, optimizer and the median of its ratio, for ravine's own rows.
        first_steps: optimizer and the seconds of its first step, cold and warm.
        shares: as `ratios`, the time of ravine's step in steps of another library's, for each that was measured.
    """
    found = [
        Check(f"{optimizer} on {shapes}", ratio, RATIOS[shapes, optimizer])
        for shapes, optimizer, ratio in ratios
        if (shapes, optimizer) in RATIOS
    ]
    for (shapes, optimizer), bound in SHARES.items():
        of_fastest = max((share for s, o, share in shares if (s, o) == (shapes, optimizer)), default=None)
        if of_fastest is not None:
            found.append(Check(f"{optimizer} on {shapes}, against the fastest other library", of_fastest, bound))
    for optimizer, cold, warm in first_steps:
        found.append(Check(f"first step of {optimizer}, cold cache (s)", cold, COLD_SECONDS))
        found.append(Check(f"first step of {optimizer}, warm cache (s)", warm, WARM_SECONDS))
    return found
