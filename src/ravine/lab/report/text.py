"""Figures and settings as people read them; a dash stands for what is not known."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

UNKNOWN = "–"

PREFIXES = ("", "k", "M", "G", "T", "P", "E")

NAMES = {"lr": "learning rate", "weight_decay": "weight decay", "beta1": "β₁", "beta2": "β₂", "warmup": "warm-up"}
"""Hyperparameters as axes name them; the others have their own names."""

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}
"""What Windows does not take for a file's name, whatever follows the dot."""


def number(value: float | None, form: str = ",.3g") -> str:
    """A figure in this format.

    Example:
        >>> number(0.12345), number(None)
        ('0.123', '–')
    """
    return UNKNOWN if value is None else f"{value:{form}}"


def signed(value: float | None) -> str:
    """A difference, with its sign.

    Example:
        >>> signed(-0.1234), signed(2e-7)
        ('−0.123', '+2e-07')
    """
    return UNKNOWN if value is None else f"{value:+.3g}".replace("-", "−", int(value < 0))


def mean_and_spread(mean: float | None, std: float | None) -> str:
    """A mean and its standard deviation, both to the second digit of the deviation.

    Example:
        >>> mean_and_spread(1.78431, 0.0123), mean_and_spread(2.5e-7, 1e-8), mean_and_spread(1.78431, None)
        ('1.784 ± 0.012', '2.5e-07 ± 1e-08', '1.784')
    """
    if mean is None:
        return UNKNOWN
    if not std:
        return f"{mean:.4g}"
    decimals = 1 - math.floor(math.log10(std))
    if decimals > 6 or abs(mean) >= 1e6:
        return f"{mean:.4g} ± {std:.2g}"
    decimals = max(decimals, 0)
    return f"{mean:,.{decimals}f} ± {std:,.{decimals}f}"


def quantity(value: float | None, unit: str = "") -> str:
    """A large figure with a prefix of the SI.

    Example:
        >>> quantity(5.13e9, "FLOP"), quantity(870_000), quantity(12)
        ('5.13 GFLOP', '870 k', '12')
    """
    if value is None:
        return UNKNOWN
    power = 0 if abs(value) < 1000 else min(int(math.log10(abs(value)) // 3), len(PREFIXES) - 1)
    scaled = value / 1000**power
    return f"{scaled:.{0 if scaled >= 100 else 3}{'f' if scaled >= 100 else 'g'}} {PREFIXES[power]}{unit}".rstrip()


def size(count: float | None) -> str:
    """Bytes, in the binary prefix that suits them.

    Example:
        >>> size(3 * 2**20), size(700), size(5 * 2**30)
        ('3 MiB', '700 B', '5 GiB')
    """
    if count is None:
        return UNKNOWN
    for prefix in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {prefix}" if count < 100 else f"{count:,.0f} {prefix}"
        count /= 1024
    return f"{count:,.3g} GiB"


def name_of(setting: str) -> str:
    """A hyperparameter as axes name it."""
    return NAMES.get(setting, setting.replace("_", " "))


def value_of(value: Any) -> str:
    """A hyperparameter's value as it is written on the command line.

    Example:
        >>> value_of(0.0030), value_of(True), value_of("schedule")
        ('0.003', 'true', 'schedule')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings(values: Mapping[str, Any]) -> str:
    """Settings as they are written on the command line.

    Example:
        >>> settings({"lr": 0.003, "beta2": 0.95})
        'lr=0.003, beta2=0.95'
    """
    return ", ".join(f"{name}={value_of(value)}" for name, value in values.items())


def plural(unit: str) -> str:
    """The plural of what data is counted in.

    Example:
        >>> plural("byte")
        'bytes'
    """
    return f"{unit}s"


def file_name(text: str) -> str:
    """A name that every file system takes, also that of Windows, of at most 80 characters.

    Example:
        >>> file_name("adamw:lr=0.1 × beta2"), file_name("CON"), file_name("...")
        ('adamw-lr-0.1-beta2', 'CON-', 'unnamed')
    """
    plain = unicodedata.normalize("NFKD", text.replace("β", "beta"))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._ ")[:80].rstrip("-._ ")
    if not name:
        return "unnamed"
    return f"{name}-" if name.split(".")[0].lower() in RESERVED else name
