"""Models of images: any size, channels and classes; every image for itself; learning digits' likes in seconds."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from ravine.lab.models import CNN, IMAGE_MODELS, MLP, ViT, describe
from ravine.optim.roles import roles

MODELS = pytest.mark.parametrize("name", IMAGE_MODELS)


def model_of(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return IMAGE_MODELS[name](**options)


@MODELS
@pytest.mark.parametrize(("size", "channels", "classes"), [(8, 1, 10), (8, 3, 2), (16, 1, 1), (32, 3, 100)])
def test_every_size_of_image_gives_logits(name: str, size: int, channels: int, classes: int) -> None:
    model = model_of(name, size=size, channels=channels, classes=classes)
    assert model(torch.randn(3, channels, size, size)).shape == (3, classes)


def test_they_are_small() -> None:
    counts = {name: describe(model_of(name))["parameters"] for name in IMAGE_MODELS}
    assert counts == {"mlp": 26_122, "cnn": 16_794, "vit": 86_410}


@MODELS
def test_an_image_does_not_depend_on_the_others_in_its_batch(name: str) -> None:
    model, images = model_of(name), torch.randn(6, 1, 8, 8)
    for mode in (True, False):
        model.train(mode)
        apart = torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(model(images), apart, rtol=1e-4, atol=1e-5)


@MODELS
def test_it_learns_where_a_bright_square_is(name: str) -> None:
    """Four places, noise elsewhere: a model that does not see places, or does not train, stays at a quarter."""
    generator = torch.Generator().manual_seed(0)
    model = model_of(name, classes=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(4, (count,), generator=generator)
        images = torch.randn(count, 1, 8, 8, generator=generator)
        for image, label in zip(images, labels.tolist(), strict=True):
            row, column = 4 * (label // 2), 4 * (label % 2)
            image[:, row : row + 4, column : column + 4] += 1
        return images, labels

    for _ in range(60):
        images, labels = batch(64)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    images, labels = batch(256)
    assert (model(images).argmax(1) == labels).float().mean() > 0.9


@MODELS
def test_many_train_at_once(name: str) -> None:
    """As the heat maps do it: one call for several models, by `torch.func`."""
    models = [model_of(name) for _ in range(3)]
    for i, model in enumerate(models):
        for p in model.parameters():
            p.data.add_(0.01 * i)
    parameters, buffers = stack_module_state(models)
    assert buffers == {}
    images, labels = torch.randn(4, 1, 8, 8), torch.arange(4)

    def loss(p: dict[str, torch.Tensor]) -> torch.Tensor:
        return F.cross_entropy(functional_call(models[0], p, (images,)), labels)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning says that an operation runs once for each model instead
        together = vmap(grad(loss))(parameters)
    for i, model in enumerate(models):
        F.cross_entropy(model(images), labels).backward()
        for key, p in model.named_parameters():
            torch.testing.assert_close(together[key][i], p.grad, rtol=1e-4, atol=1e-5)


@MODELS
def test_the_roles_of_its_parameters_are_found(name: str) -> None:
    found = {role.name: role.kind for role in roles(model_of(name))}
    assert found["head.weight"] == "head"
    assert {kind for kind in found.values()} <= {"matrix", "head", "norm", "bias", "free"}
    assert [n for n, kind in found.items() if kind == "free"] == (["position"] if name == "vit" else [])


@MODELS
def test_it_can_be_pickled(name: str) -> None:
    model, images = model_of(name), torch.randn(2, 1, 8, 8)
    assert torch.equal(pickle.loads(pickle.dumps(model))(images), model(images))


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (MLP, {"classes": 0}, "classes must be a whole number of at least 1, got 0"),
        (MLP, {"layers": 1.5}, "layers must be a whole number of at least 1, got 1.5"),
        (CNN, {"size": 9}, "size must be a multiple of 2 ** (stages - 1) = 2, got 9"),
        (CNN, {"width": 6}, "width must be a multiple of 4, got 6"),
        (ViT, {"size": 9}, "size must be a multiple of patch = 2, got 9"),
        (ViT, {"width": 50}, "width must be a multiple of heads = 4, got 50"),
        (ViT, {"heads": True}, "heads must be a whole number of at least 1, got True"),
    ],
)
def test_an_impossible_shape_is_refused(build: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        build(**options)
    assert str(error.value) == message
