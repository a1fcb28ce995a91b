"""Classifying small images: scikit-learn's handwritten digits, or a folder of the user's own."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ravine.lab.data import SHARES, Images, Split, image_folder
from ravine.lab.models import IMAGE_MODELS, check_loss, parse
from ravine.lab.tasks.own import Own, check, logits_of, tried
from ravine.lab.tasks.task import (
    Batch,
    Evaluated,
    Task,
    above_uniform,
    device_of,
    moved,
    require_one_of,
    require_whole,
)

CHUNK = 256
"""Images that are evaluated at a time."""

PIXELS = 32
"""Height and width that the images of a folder get."""

SHAPES: dict[str, dict[str, dict[str, int]]] = {
    "mlp": {
        "tiny": {"width": 32, "layers": 1},
        "small": {"width": 128, "layers": 2},
        "base": {"width": 512, "layers": 3},
    },
    "cnn": {
        "tiny": {"width": 8, "stages": 2},
        "small": {"width": 16, "stages": 2},
        "base": {"width": 64, "stages": 3},
    },
    "vit": {
        "tiny": {"width": 16, "layers": 1, "heads": 2},
        "small": {"width": 48, "layers": 3, "heads": 4},
        "base": {"width": 192, "layers": 6, "heads": 6},
    },
}
"""Of the laboratory's models, by name and size."""


@dataclass(frozen=True)
class Digits(Task):
    """Cross-entropy of an image's class, in nats.

    The 1797 digits of scikit-learn (8 × 8 pixels, one of ten classes) without copies; pixels go from −1 to 1.

    Args:
        size: of the model.
        data: a folder of folders of images, one a class; None for the digits.
        model: `"mlp"`, `"cnn"` or `"vit"`; or `"path.py:build"`, which gives logits (batch, classes) for images
            (batch, channels, height, width), or has a loss of its own for batches with `images` and `labels` (batch,).
        pixels: height and width that the images of a folder get, 32 if not given.

    Raises:
        ValueError: also for a folder without classes of images, for a model that does not do this, and for the digits
            without scikit-learn.
    """

    data: str | None = None
    model: str = "mlp"
    pixels: int | None = None
    own: Own | None = field(init=False, repr=False, compare=False, default=None)

    name: ClassVar[str] = "digits"
    unit: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pixels is not None:
            require_whole("pixels", self.pixels, 1)
            if self.data is None:
                raise ValueError("pixels is for images of one's own: give a folder with data, or leave it out")
        if ":" not in self.model:
            require_one_of("model", self.model, (*IMAGE_MODELS,))
            with torch.random.fork_rng(devices=[]):
                self.new_model()  # says so where it does not fit the images
            return
        model, own = tried(parse(self.model))
        object.__setattr__(self, "own", own)
        images, labels = (tensor[:2] for tensor in self.tensors["training"])
        check(own, model, {"images": images, "labels": labels}, "images", len(self.images.classes))

    @cached_property
    def images(self) -> Images:
        """What was read."""
        if self.data is not None:
            return image_folder(self.data, size=self.pixels or PIXELS)
        return _digits()

    @cached_property
    def tensors(self) -> dict[Split, tuple[Tensor, Tensor]]:
        """Images from −1 to 1, and labels, by split."""
        found = self.images
        return {s: (2 * torch.from_numpy(found.images[s]) - 1, torch.from_numpy(found.labels[s])) for s in SHARES}

    @property
    def shape(self) -> dict[str, int]:
        """Of the laboratory's model."""
        channels, height, _ = self.images.images["training"].shape[1:]
        fitting = {"size": height, "channels": channels, "classes": len(self.images.classes)}
        return {**fitting, **SHAPES[self.model][self.size]}

    @property
    def loss_name(self) -> str:
        """Nats, unless the model has a loss of its own."""
        return "loss" if self.own is not None and self.own.loss is not None else "nats per image"

    @property
    def steps(self) -> int:
        """Optimizer steps of a run, where none are asked for."""
        return {"tiny": 40, "small": 300, "base": 1500}[self.size]

    @property
    def batch(self) -> int:
        """Images of a step, where none are asked for."""
        return {"tiny": 32, "small": 64, "base": 64}[self.size]

    @property
    def diverged_above(self) -> float:
        """A nat above a uniform guess; any finite loss of the user's own will do."""
        if self.own is not None and self.own.loss is not None:
            return math.inf
        return above_uniform(len(self.images.classes))

    def settings(self) -> dict[str, Any]:
        """The images by their hash, and the model."""
        model = {"name": self.model, **self.shape} if self.own is None else self.own.source.settings()
        return {"task": self.name, "data": {"sha256": self.images.sha256, "images": self.images.size}, "model": model}

    def about(self) -> dict[str, Any]:
        """What was read and what was skipped."""
        return {"data": self.images.about(), "model": self.model if self.own is None else self.own.source.name}

    def new_model(self) -> nn.Module:
        """The laboratory's model, or the user's."""
        return IMAGE_MODELS[self.model](**self.shape) if self.own is None else self.own.new_model()

    def draw(self, count: int, generator: torch.Generator, step: int) -> Batch:
        """`images` (count, channels, height, width) and `labels` (count,), drawn with replacement."""
        images, labels = self.tensors["training"]
        drawn = torch.randint(len(labels), (count,), generator=generator)
        return {"images": images[drawn], "labels": labels[drawn]}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy, or the model's own loss."""
        if self.own is not None and self.own.loss is not None:
            return check_loss(self.own.loss(model, batch))
        return F.cross_entropy(logits_of(model(batch["images"])).float(), batch["labels"])

    def units(self, batch: Batch) -> int:
        """Images."""
        return len(batch["labels"])

    def evaluate(self, model: nn.Module, split: Evaluated) -> dict[str, float]:
        """Loss, and the share of images whose class is the likeliest; of its own loss, that alone."""
        images, labels = self.tensors[split]
        loss, right = 0.0, 0
        for some in zip(images.split(CHUNK), labels.split(CHUNK), strict=True):
            batch = moved(dict(zip(("images", "labels"), some, strict=True)), device_of(model))
            if self.own is not None and self.own.loss is not None:
                loss += check_loss(self.own.loss(model, batch)).item() * len(some[1])
                continue
            logits = logits_of(model(batch["images"])).float()
            loss += F.cross_entropy(logits, batch["labels"], reduction="sum").item()
            right += int((logits.argmax(1) == batch["labels"]).sum())
        if self.own is not None and self.own.loss is not None:
            return {"loss": loss / len(labels)}
        return {"loss": loss / len(labels), "accuracy": right / len(labels)}


def _digits() -> Images:
    """scikit-learn's digits, shuffled and cut."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError("the task digits needs scikit-learn: pip install scikit-learn") from None
    pixels, labels = load_digits(return_X_y=True)
    _, first = np.unique(pixels, axis=0, return_index=True)
    order = np.random.default_rng(0).permutation(np.sort(first))
    held = round(len(order) * SHARES["tuning"])
    parts: dict[Split, np.ndarray] = {
        "training": order[2 * held :], "tuning": order[:held], "judging": order[held : 2 * held]
    }  # fmt: skip
    images = {s: (pixels[part] / 16).astype(np.float32).reshape(-1, 1, 8, 8) for s, part in parts.items()}
    targets = {s: labels[part].astype(np.int64) for s, part in parts.items()}
    digest = hashlib.sha256(b"".join(images[s].tobytes() + targets[s].tobytes() for s in SHARES))
    return Images("scikit-learn's digits", tuple("0123456789"), images, targets, digest.hexdigest())
