"""The model that post-training begins with: from a checkpoint, or pre-trained on the spot for a few steps."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ravine.engine.compiler import CompilerError, cache_folder
from ravine.lab.data import Tokenizer
from ravine.lab.data.tokenizer import Bytes
from ravine.lab.models import SIZES, Transformer, describe, parse
from ravine.lab.tasks.own import Own

CONTEXT = 128
"""Tokens: room for a short function and a sentence."""

STEPS = {"tiny": 100, "small": 300}
"""Optimizer steps of a base that is pre-trained on the spot; a larger one takes too long for that."""

BATCH = 8
LR = 3e-3


@dataclass(frozen=True)
class Base:
    """A model to begin with. It is shared: whoever trains it copies it first.

    Args:
        model: in evaluation mode, on the CPU; tokens in, logits out.
        tokenizer: of its tokens.
        sha256: of its weights.
        origin: where it comes from, for people.
        own: the model's source, where it is the user's own.
    """

    model: nn.Module
    tokenizer: Tokenizer
    sha256: str
    origin: str
    own: Own | None = None

    def settings(self) -> dict[str, Any]:
        """What results depend on: the weights by their hash, and what the model is."""
        source = None if self.own is None else self.own.source.settings()
        return {
            "sha256": self.sha256, "tokenizer": self.tokenizer.name, "model": describe(self.model), "source": source
        }  # fmt: skip


def from_checkpoint(path: str, model: str | None = None) -> Base:
    """The model in a checkpoint of `ravine train --task lm`, or of an earlier post-training.

    Args:
        path: of the checkpoint.
        model: where the user's own model comes from, if it was trained on one.

    Raises:
        ValueError: where it cannot be read, or holds no language model.
    """
    # Training knows the tasks; that a task may begin where a training ended is the one exception.
    from ravine.lab.training import load_model

    found, tokenizer = load_model(Path(path), model)
    if tokenizer is None:
        raise ValueError(f"base must be the checkpoint of a language model, {path} has no tokenizer")
    own = None if model is None else Own(parse(model))
    return Base(found.eval(), tokenizer, digest(found), f"the checkpoint {Path(path).name}", own)


def require_quick(size: str) -> None:
    """Raise ValueError for a size whose transformer is too large to be pre-trained on the spot."""
    if size not in STEPS:
        raise ValueError(
            f"the size {size} is not pre-trained on the spot: give a base, the checkpoint of "
            f"`ravine train --task lm --size {size}`"
        )


def pre_trained(size: str, text: bytes) -> Base:
    """The laboratory's transformer of this size, pre-trained on a text of bytes; kept on disk for the next time.

    Args:
        size: one of `STEPS`.
        text: what to predict.

    Raises:
        ValueError: for too short a text.
    """
    shape = replace(SIZES[size], context=CONTEXT)
    if len(text) <= shape.context:
        raise ValueError(f"pre-training needs at least {shape.context + 1} bytes of text, got {len(text)}")
    recipe = {"architecture": asdict(shape), "steps": STEPS[size], "batch": BATCH, "lr": LR, "torch": torch.__version__}
    key = json.dumps({**recipe, "text": hashlib.sha256(text).hexdigest()})
    try:
        place = cache_folder() / "bases"
        place.mkdir(mode=0o700, exist_ok=True)
        weights = _kept(place / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.pt", lambda: _pre_train(size, text))
    except (CompilerError, OSError) as error:
        raise ValueError(f"no place for the pre-trained base: {error}") from None
    model = Transformer(shape)
    model.load_state_dict(weights)
    origin = f"a transformer pre-trained for {STEPS[size]} steps on {len(text)} bytes"
    return Base(model.eval(), Bytes(), digest(model), origin)


def digest(model: nn.Module) -> str:
    """The sha256 of a model's weights: of their names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _kept(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The weights in a file; made and written by one process, while others that want them wait."""
    from filelock import FileLock

    with FileLock(path.with_suffix(".lock")):
        if path.exists():
            try:
                return torch.load(path, weights_only=True)
            except Exception:  # whatever is wrong with a file of ours, it is made anew
                path.unlink()
        weights = make()
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(weights, file)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return weights


def _pre_train(size: str, text: bytes) -> dict[str, Tensor]:
    """Weights after some steps of AdamW with a linear warm-up and decay; the same on a machine each time."""
    shape = replace(SIZES[size], context=CONTEXT)
    tokens, generator = torch.frombuffer(bytearray(text), dtype=torch.uint8), torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Transformer(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.1)
    steps = STEPS[size]
    for step in range(1, steps + 1):
        start = torch.randint(len(tokens) - shape.context, (BATCH,), generator=generator)
        windows = tokens[start[:, None] + torch.arange(shape.context + 1)].long()
        optimizer.param_groups[0]["lr"] = LR * min(step / (steps // 10), (steps + 1 - step) / steps)
        F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()
