"""Folders of images: arrays with labels, every class in every split, damaged files named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravine.lab import data
from ravine.lab.data import images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 20 and 30 images; the red channel tells the class, the others the image."""
    for name, red, count in (("cats", 0, 20), ("dogs", 255, 30)):
        for i in range(count):
            path = tmp_path / "animals" / name / ("more" if i % 2 else ".") / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (10 + i, 20), (red, 5 * i, i)).save(path)
    return tmp_path / "animals"


def test_images_are_arrays_with_labels(folder: Path) -> None:
    found = data.image_folder(folder, size=(8, 6))
    assert found.classes == ("cats", "dogs") and found.size == 50 and not found.skipped
    seen = set()
    for split, counts in {"training": (16, 24), "tuning": (2, 3), "judging": (2, 3)}.items():
        pixels, labels = found.images[split], found.labels[split]
        assert pixels.shape == (sum(counts), 3, 8, 6) and pixels.dtype == np.float32
        assert labels.shape == (sum(counts),) and labels.dtype == np.int64
        assert tuple(np.bincount(labels)) == counts
        assert np.array_equal(pixels[:, 0, 0, 0], labels.astype(np.float32))
        assert (pixels == pixels[:, :, :1, :1]).all()
        seen |= {
            (int(label), *(pixel * 255).round().astype(int))
            for label, pixel in zip(labels, pixels[:, 1:, 0, 0], strict=True)
        }
    assert seen == {(0, 5 * i, i) for i in range(20)} | {(1, 5 * i, i) for i in range(30)}
    assert set(found.labels["training"][:16].tolist()) == {0, 1}


def test_grey_images_have_one_channel_and_turn_as_the_camera_says(folder: Path) -> None:
    image = Image.new("L", (40, 20))
    image.paste(255, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(3):
        image.putpixel((39, i), 9)
        (folder / "turned").mkdir(exist_ok=True)
        image.save(folder / "turned" / f"{i}.tif", exif=exif)
    found = data.image_folder(folder, size=20, channels=1)
    assert found.images["tuning"].shape[1:] == (1, 20, 20)
    (turned,) = found.images["tuning"][found.labels["tuning"] == found.classes.index("turned")]
    assert (turned[0, :9] == 1).all() and (turned[0, 11:, :10] == 0).all()


def test_the_same_folder_gives_the_same_arrays(folder: Path) -> None:
    one, two = data.image_folder(folder), data.image_folder(folder)
    assert one.sha256 == two.sha256
    assert all(np.array_equal(one.images[s], two.images[s]) for s in data.SHARES)
    Image.new("RGB", (9, 9), (7, 7, 7)).save(folder / "cats" / "0.png")
    assert data.image_folder(folder).sha256 != one.sha256


def test_what_is_no_image_is_named(folder: Path) -> None:
    whole = (folder / "cats" / "0.png").read_bytes()
    (folder / "cats" / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "cats" / "notes.txt").write_text("words", encoding="utf-8")
    (folder / "cats" / "packed.png.gz").write_bytes(b"words")
    (folder / "dogs" / "cat.png").write_bytes(whole)
    (folder / "top.png").write_bytes(whole)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "0.png").write_bytes(whole)
    found = data.image_folder(folder)
    whys = {s.path: s.why for s in found.skipped}
    assert "damaged" in whys.pop("cats/half.png")
    assert whys == {
        "cats/notes.txt": "not an image",
        "cats/packed.png.gz": "not an image",
        "dogs/cat.png": "the same image as cats/0.png",
        "top.png": "not in the folder of a class",
    }
    about = found.about()
    assert json.loads(json.dumps(about)) == about
    assert about["classes"] == {"cats": 20, "dogs": 30} and about["shape"] == [3, 32, 32]


def test_folders_that_will_not_do(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        data.image_folder(tmp_path / "missing")
    with pytest.raises(ValueError, match="is not a folder"):
        data.image_folder(folder / "cats" / "0.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has images of 0 classes, needed are two"):
        data.image_folder(tmp_path / "empty")
    with pytest.raises(
        ValueError, match=r"has images of 1 classes.*; 0\.png was skipped: not in the folder of a class"
    ):
        data.image_folder(folder / "cats")
    with pytest.raises(ValueError, match="size=0"):
        data.image_folder(folder, size=0)
    with pytest.raises(ValueError, match="channels=4 must be 1"):
        data.image_folder(folder, channels=4)
    (folder / "birds").mkdir()
    for i in range(2):
        Image.new("RGB", (9, 9), (1, 2, 200 + i)).save(folder / "birds" / f"{i}.png")
    with pytest.raises(ValueError, match=r"the class birds of .* has 2 different images, needed are three"):
        data.image_folder(folder)
    monkeypatch.setattr(images, "MEMORY", 4 * 3 * 32 * 32 * 10)
    with pytest.raises(ValueError, match=r"more than 10 images, .* at 32 x 32; give a smaller size"):
        data.image_folder(folder)
