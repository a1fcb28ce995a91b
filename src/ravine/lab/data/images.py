"""Folders of images, one a class, as arrays in three splits that share nothing."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ravine.lab.data.corpus import LISTED, SHARES, Skipped, Split
from ravine.lab.data.ocr import opened
from ravine.lab.data.sources import Search, Unreadable, kind_of, shown, walk

MEMORY = 4 * 2**30
"""Bytes that all images together may take."""


@dataclass(frozen=True)
class Images:
    """Images with labels, in three splits.

    Args:
        name: what was read, for people.
        classes: names; a label is the place in this tuple.
        images: float32 (n, channels, height, width) from 0 to 1, in each split.
        labels: int64 (n,), in each split.
        sha256: of images and labels of the three splits.
        skipped: what was left out, and why.
    """

    name: str
    classes: tuple[str, ...]
    images: dict[Split, np.ndarray]
    labels: dict[Split, np.ndarray]
    sha256: str = ""
    skipped: tuple[Skipped, ...] = ()

    @property
    def size(self) -> int:
        """Images in all splits together."""
        return sum(len(labels) for labels in self.labels.values())

    def about(self) -> dict[str, Any]:
        """What was read, what was skipped and why, as plain values; of many files the first are named."""
        counts = sum(np.bincount(labels, minlength=len(self.classes)) for labels in self.labels.values())
        return {
            "name": self.name,
            "images": self.size,
            "shape": list(self.images["training"].shape[1:]),
            "classes": dict(zip(self.classes, np.asarray(counts).tolist(), strict=True)),
            "skipped": [{"path": s.path, "why": s.why} for s in self.skipped[:LISTED]],
            "skipped_not_named": max(0, len(self.skipped) - LISTED),
        }


def image_folder(path: str | os.PathLike[str], size: int | tuple[int, int] = 32, channels: int = 3) -> Images:
    """The images in the folders of a folder; each folder's name is a class.

    Every image is turned as its camera says, resized and converted. Of images that are then the same one is kept.
    Each class is dealt to the splits by itself, so that every split has images of all.

    Args:
        path: the folder of folders. Hidden files and folders are left out, links to folders not followed.
        size: height and width, or both in one number.
        channels: 3 for red, green and blue; 1 for grey.

    Raises:
        ValueError: where there is no such folder, fewer than two classes, fewer than three images in one, or more
            images than memory is meant for.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size={size!r} must be at least one pixel")
    if channels not in (1, 3):
        raise ValueError(f"channels={channels!r} must be 1 (grey) or 3 (red, green, blue)")
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder" if root.exists() else f"no such folder: {root}")
    found = Search(root)
    classes: dict[str, list[np.ndarray]] = {}
    first: dict[bytes, str] = {}
    left = MEMORY // (4 * channels * height * width)
    for file in walk(found):
        name = shown(file.relative_to(root).as_posix())
        try:
            pixels = _pixels(file, name, height, width, channels)
            digest = hashlib.sha256(pixels.tobytes()).digest()
            if digest in first:
                raise Unreadable(f"the same image as {first[digest]}")
        except (Unreadable, OSError) as error:
            found.skipped.append(Skipped(name, str(error)))
            continue
        first[digest] = name
        classes.setdefault(name.split("/")[0], []).append(pixels)
        if len(first) > left:
            raise ValueError(
                f"{root} has more than {left} images, which take more than {MEMORY} bytes at {height} x {width}; "
                f"give a smaller size"
            )
    return _dealt(root, classes, found.skipped)


def _pixels(path: Path, name: str, height: int, width: int, channels: int) -> np.ndarray:
    """uint8 (channels, height, width)."""
    from PIL import Image, ImageOps

    if "/" not in name:
        raise Unreadable("not in the folder of a class")
    if kind_of(name) != ("image", False):
        raise Unreadable("not an image")
    with opened(path) as image:
        turned = ImageOps.exif_transpose(image).convert("RGB" if channels == 3 else "L")
        resized = np.asarray(turned.resize((width, height), Image.Resampling.BILINEAR))
    return resized.reshape(height, width, channels).transpose(2, 0, 1)


def _dealt(root: Path, classes: dict[str, list[np.ndarray]], skipped: list[Skipped]) -> Images:
    if len(classes) < 2:
        why = f"; {skipped[0].path} was skipped: {skipped[0].why}" if skipped else ""
        raise ValueError(f"{root} has images of {len(classes)} classes, needed are two folders of images or more{why}")
    names = tuple(sorted(classes))
    dealt: dict[Split, list[tuple[int, np.ndarray]]] = {split: [] for split in SHARES}
    for label, name in enumerate(names):
        pixels = classes[name]
        if len(pixels) < len(SHARES):
            raise ValueError(
                f"the class {name} of {root} has {len(pixels)} different images, needed are three or more: "
                f"one for each split"
            )
        order = np.random.default_rng([0, label]).permutation(len(pixels))
        held = {split: max(1, round(len(pixels) * SHARES[split])) for split in SHARES if split != "training"}
        tuning, judging = held["tuning"], held["tuning"] + held["judging"]
        parts: dict[Split, np.ndarray] = {
            "training": order[judging:], "tuning": order[:tuning], "judging": order[tuning:judging]
        }  # fmt: skip
        for split, part in parts.items():
            dealt[split] += [(label, pixels[i]) for i in part]
    images, labels, digest = {}, {}, hashlib.sha256(repr(names).encode())
    for number, split in enumerate(SHARES):
        # Classes are mixed, so that the first images of a split are of all.
        order = np.random.default_rng([1, number]).permutation(len(dealt[split]))
        labels[split] = np.array([dealt[split][i][0] for i in order], np.int64)
        stacked = np.stack([dealt[split][i][1] for i in order])
        digest.update(labels[split].tobytes() + stacked.tobytes())
        images[split] = stacked.astype(np.float32) / 255
    return Images(str(root), names, images, labels, digest.hexdigest(), tuple(skipped))
