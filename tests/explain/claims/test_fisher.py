"""Claim 19: the diagonals against loops over examples and labels, and against the Hessian, and the quick form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explain.claims.quick import held, made_quickly
from ravine.explain.claims.c19_fisher import fisher, fisher_diagonals, ratio, spearman, train
from ravine.lab.tasks.digits import Digits


@pytest.fixture
def few() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.randn(7, 1, 2, 2), torch.randint(3, (7,))


def test_diagonals_against_a_loop(few: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, images, labels = few
    true, empirical = (torch.zeros(15, dtype=torch.float64) for _ in range(2))
    for image, label in zip(images, labels, strict=True):
        logs = model(image[None])[0].log_softmax(0)
        for y in range(3):
            gradients = torch.autograd.grad(logs[y], list(model.parameters()), retain_graph=True)
            squares = torch.cat([g.flatten() for g in gradients]).double().square()
            true += logs[y].exp().item() * squares / 7
            empirical += squares / 7 if y == label else 0
    found = fisher_diagonals(model, images, labels)
    np.testing.assert_allclose(found[0], true.numpy(), rtol=1e-5)
    np.testing.assert_allclose(found[1], empirical.numpy(), rtol=1e-5)


def test_of_a_linear_model_the_true_diagonal_is_the_hessians(few: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Softmax regression: the Fisher information is the Hessian of the mean loss, whatever the labels."""
    model, images, labels = few
    linear = model[1]

    def loss(weight: Tensor, bias: Tensor) -> Tensor:
        return nn.functional.cross_entropy(images.flatten(1) @ weight.T + bias, labels)

    values = (linear.weight.detach(), linear.bias.detach())
    blocks = torch.autograd.functional.hessian(loss, values)
    diagonal = torch.cat([blocks[i][i].reshape(n, n).diagonal() for i, n in ((0, 12), (1, 3))])
    np.testing.assert_allclose(fisher_diagonals(model, images, labels)[0], diagonal.numpy(), rtol=1e-4)


def test_weights_without_information_are_left_out() -> None:
    values, true = np.array([1.0, 2.0, 9.0, 4.0]), np.array([1.0, 4.0, 0.0, 16.0])
    assert spearman(values, true) == pytest.approx(1.0)
    assert ratio(values, true) == 0.5
    assert np.isnan(ratio(values, np.zeros(4)))


def test_the_second_moment_is_that_of_the_gradients_seen() -> None:
    task = Digits("tiny")
    found = train(task, None, [1], seed=1)[1]
    torch.manual_seed(1)
    model = task.new_model()
    images, labels = task.tensors["training"]
    task.loss(model, {"images": images, "labels": labels}).backward()
    squares = torch.cat([p.grad.flatten() for p in model.parameters()]).square().numpy()
    np.testing.assert_allclose(found.second_moment, squares, rtol=1e-3, atol=1e-12)


@pytest.mark.slow
def test_the_quick_form() -> None:
    found = held(fisher, made_quickly(fisher))
    assert {"rank", "start", "size"} <= found
    assert "all_examples" not in found
