"""Checkpoints from which a run goes on to the bit: one file of plain values and tensors.

format     1
settings   task, recipe, optimizer, seed, split, processes: whoever goes on must have the same
about      what the model is (`ravine.lab.models.describe`), and what else a reader needs to use it
step       optimizer steps done
model      the state dict, with the weights that are trained
evaluated  the state dict with the weights to evaluate at, where the rule owns such; else None
optimizer, schedule, scaler, average    state dicts, None for what the run has not
data       the state of the generator of the data
random     the states of torch's generators, one entry for each process
progress   curves, losses since the last of their entries, units and seconds so far
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = 1


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, so that whoever looks sees the old one or the new one, never a part.

    Raises:
        OSError: where it cannot be written; the old one is then still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save({"format": FORMAT, **content}, temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: Path) -> dict[str, Any]:
    """A checkpoint's content, tensors on the CPU. Nothing in the file is executed.

    Raises:
        ValueError: where the file cannot be read, or is no checkpoint of this format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    except (RuntimeError, EOFError, pickle.UnpicklingError, IndexError, KeyError, ValueError):
        raise ValueError(f"{path} is not a checkpoint of ravine") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or "settings" not in content:
        raise ValueError(f"{path} is not a checkpoint of ravine of format {FORMAT}")
    return content


def require_same(path: Path, was: Any, now: Any) -> None:
    """Raise ValueError where a checkpoint's settings are not those of this run, naming the differences."""
    found = list(differences(was, plain(now)))
    if found:
        shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        raise ValueError(f"{path} is a checkpoint of another run: {shown}; delete it, or choose another place")


def weights_to_evaluate(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The model's state dict to use the model with: an average where the run has one, the rule's own weights, or those
    that are trained."""
    if content["average"] is not None:
        named = ((name.partition("."), value) for name, value in content["average"].items())
        return {name: value for (first, _, name), value in named if first == "module"}
    weights: dict[str, Tensor] = content["evaluated"] or content["model"]
    return weights


def settings_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer is, as plain values: its class, and each group's settings and number of parameters.

    To be asked before the first step and before a schedule is made: both change settings.
    """
    groups = [
        {**{k: v for k, v in group.items() if k != "params"}, "params": len(group["params"])}
        for group in optimizer.param_groups
    ]
    return {"class": type(optimizer).__name__, "groups": plain(groups)}


def plain(value: Any) -> Any:
    """A value as it would come back from JSON; what JSON has not becomes text, a tensor of one number a number.

    Example:
        >>> plain({"betas": (0.9, 0.999), "lr": torch.tensor(0.5), "split": {1}})
        {'betas': [0.9, 0.999], 'lr': 0.5, 'split': '{1}'}
    """

    def other(x: Any) -> Any:
        return x.item() if isinstance(x, Tensor) and x.numel() == 1 else str(x)

    return json.loads(json.dumps(value, default=other))


def differences(was: Any, now: Any, name: str = "") -> Iterator[str]:
    """Where two plain values differ, in words.

    Example:
        >>> list(differences({"lr": 0.1, "betas": [0.9, 0.999]}, {"lr": 0.2, "betas": [0.9, 0.99]}))
        ['betas.1 was 0.999, is 0.99', 'lr was 0.1, is 0.2']
    """
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        was, now = dict(enumerate(was)), dict(enumerate(now))
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted({*was, *now}, key=str):
            yield from differences(was.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif was != now:
        yield f"{name} was {_short(was)}, is {_short(now)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
