"""Digits and other small images: each of the laboratory's models, one's own, and folders of images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ravine
from ravine.lab.data import SHARES
from ravine.lab.tasks import TASK_SIZES, make
from ravine.lab.tasks.digits import SHAPES


def test_digits_are_scikit_learns() -> None:
    task = make("digits", size="tiny")
    images, labels = (torch.cat([task.tensors[split][i] for split in SHARES]) for i in (0, 1))
    assert images.shape[1:] == (1, 8, 8) and images.dtype == torch.float32
    assert images.min() == -1 and images.max() == 1
    assert 1700 < len(images) <= 1797
    assert labels.bincount().tolist() == pytest.approx([len(labels) / 10] * 10, rel=0.05)
    for split, share in SHARES.items():
        assert len(task.tensors[split][1]) / len(labels) == pytest.approx(share, abs=0.01)
        assert task.tensors[split][1].unique().numel() == 10
    assert task.units(task.draw(7, torch.Generator(), 1)) == 7


@pytest.mark.parametrize("model", SHAPES)
def test_each_model_learns_the_digits(model: str) -> None:
    task = make("digits", size="tiny", model=model)
    assert task.settings()["model"]["name"] == model
    torch.manual_seed(0)
    net, generator = task.new_model(), torch.Generator().manual_seed(0)
    optimizer = ravine.AdamW(net.parameters(), lr=1e-2)
    for step in range(1, 81):
        task.loss(net, task.draw(32, generator, step)).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        assert task.evaluate(net.eval(), "judging")["accuracy"] > 0.5


def test_models_grow_with_the_size() -> None:
    for model in SHAPES:
        sizes = [
            sum(p.numel() for p in make("digits", size=s, model=model).new_model().parameters()) for s in TASK_SIZES
        ]
        assert sizes == sorted(set(sizes))


def test_evaluation_is_the_mean_over_all_images_of_the_split() -> None:
    task = make("digits", size="tiny")
    model = task.new_model().eval()
    images, labels = task.tensors["judging"]
    with torch.inference_mode():
        found, logits = task.evaluate(model, "judging"), model(images)
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of twenty noisy images: each with its own channel bright."""
    image = pytest.importorskip("PIL.Image", reason="the package pillow is not installed")
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (tmp_path / name).mkdir()
        for i in range(20):
            pixels = rng.integers(0, 60, (12, 10, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_a_folder_of_ones_own_images(folder: Path) -> None:
    task = make("digits", size="tiny", data=folder, pixels=8, model="cnn")
    assert task.images.classes == ("blue", "green", "red")
    assert {split: len(task.tensors[split][1]) for split in SHARES} == {"training": 48, "tuning": 6, "judging": 6}
    torch.manual_seed(0)
    model, generator = task.new_model(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(1, 41):
        task.loss(model, task.draw(16, generator, step)).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        assert task.evaluate(model.eval(), "tuning")["accuracy"] == 1
    assert make("digits", size="tiny", data=folder).draw(2, torch.Generator(), 1)["images"].shape == (2, 3, 32, 32)
    with pytest.raises(ValueError, match="size must be a multiple of"):
        make("digits", size="tiny", data=folder, pixels=7, model="cnn")


MODEL = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def with_loss():
    return build(), lambda model, batch: nn.functional.multi_margin_loss(model(batch["images"]), batch["labels"])

def too_few():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9))

def wrong_shape():
    return nn.Linear(8, 10)
"""


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(MODEL)
    task = make("digits", size="tiny", model=f"{file}:build")
    model, batch = task.new_model(), task.draw(4, torch.Generator(), 1)
    assert task.loss(model, batch).item() == pytest.approx(
        F.cross_entropy(model(batch["images"]), batch["labels"]).item()
    )
    assert make(**task.spec()) == task
    own = make("digits", size="tiny", model=f"{file}:with_loss")
    assert own.loss(model, batch).item() == pytest.approx(
        F.multi_margin_loss(model(batch["images"]), batch["labels"]).item()
    )
    assert own.loss_name == "loss" and own.diverged_above == math.inf
    with torch.inference_mode():
        assert list(own.evaluate(model, "tuning")) == ["loss"]
    with pytest.raises(ValueError, match="too_few gives 9 logits, 10 are needed"):
        make("digits", model=f"{file}:too_few")
    with pytest.raises(ValueError, match=r"must return logits of shape \(2, 10\) for images of shape \(2, 1, 8, 8\)"):
        make("digits", model=f"{file}:wrong_shape")
