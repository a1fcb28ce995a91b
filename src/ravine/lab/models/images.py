"""Small models of images, for 8 × 8 digits and their like: a perceptron, a convolutional network, a transformer."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """A multilayer perceptron on the pixels.

    Args:
        size: height and width of an image, in pixels.
        channels: of an image.
        classes: number of logits.
        width: of each hidden layer.
        layers: hidden layers.

    Example:
        >>> MLP()(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(self, size: int = 8, channels: int = 1, classes: int = 10, width: int = 128, layers: int = 2) -> None:
        super().__init__()
        _require(size=size, channels=channels, classes=classes, width=width, layers=layers)
        widths = [channels * size * size] + [width] * layers
        self.hidden = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(widths))
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, size, size)."""
        x = images.flatten(1)  # (B, C·S·S)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.head(x)


class CNN(nn.Module):
    """A convolutional network: stages of two 3 × 3 convolutions, each at half the size and twice the channels before.

    Its norms are over groups of channels, so that an image's logits do not depend on the others in its batch.

    Args:
        size: height and width of an image, in pixels, a multiple of `2 ** (stages - 1)`.
        channels: of an image.
        classes: number of logits.
        width: channels of the first stage, a multiple of 4.
        stages: number of stages.

    Example:
        >>> CNN()(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(self, size: int = 8, channels: int = 1, classes: int = 10, width: int = 16, stages: int = 2) -> None:
        super().__init__()
        _require(size=size, channels=channels, classes=classes, width=width, stages=stages)
        if size % 2 ** (stages - 1):
            raise ValueError(f"size must be a multiple of 2 ** (stages - 1) = {2 ** (stages - 1)}, got {size}")
        if width % 4:
            raise ValueError(f"width must be a multiple of 4, got {width}")
        widths = [channels] + [width * 2**i for i in range(stages)]
        self.stages = nn.ModuleList(_Stage(n, m) for n, m in pairwise(widths))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, size, size)."""
        x = images  # (B, C, S, S)
        for i, stage in enumerate(self.stages):
            x = stage(F.max_pool2d(x, 2) if i else x)  # (B, 2ⁱ·W, S/2ⁱ, S/2ⁱ)
        return self.head(x.mean((2, 3)))


class _Stage(nn.Module):
    """Two convolutions, each followed by a norm and a ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(4, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(x)))


class ViT(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), its patches averaged for the class.

    Args:
        size: height and width of an image, in pixels, a multiple of `patch`.
        channels: of an image.
        classes: number of logits.
        patch: height and width of a patch, in pixels.
        width: of the residual stream, a multiple of `heads`.
        layers: number of blocks.
        heads: attention heads per block.

    Example:
        >>> ViT()(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        size: int = 8,
        channels: int = 1,
        classes: int = 10,
        patch: int = 2,
        width: int = 48,
        layers: int = 3,
        heads: int = 4,
    ) -> None:
        super().__init__()
        _require(size=size, channels=channels, classes=classes, patch=patch, width=width, layers=layers, heads=heads)
        if size % patch:
            raise ValueError(f"size must be a multiple of patch = {patch}, got {size}")
        if width % heads:
            raise ValueError(f"width must be a multiple of heads = {heads}, got {width}")
        self.embedding = nn.Conv2d(channels, width, patch, stride=patch)
        # As large as what patches give: drawn at the paper's 0.02, places take thousands of steps to be told apart.
        self.position = nn.Parameter(0.5 * torch.randn((size // patch) ** 2, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, size, size)."""
        x = self.embedding(images).flatten(2).transpose(1, 2) + self.position  # (B, T, W), T patches
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class _Block(nn.Module):
    """Attention of all patches to all, then a perceptron; each reads a normalised copy and adds to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention_norm(x)
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        # Written out: torch's own attention cannot be batched over models by `torch.func` on a CPU.
        weights = (q @ k.mT / k.shape[-1] ** 0.5).softmax(-1)  # (B, H, T, T)
        x = x + self.output((weights @ v).transpose(1, 2).flatten(2))
        return x + self.contract(F.gelu(self.expand(self.mlp_norm(x))))


def _require(**numbers: int) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


IMAGE_MODELS: dict[str, type[MLP] | type[CNN] | type[ViT]] = {"mlp": MLP, "cnn": CNN, "vit": ViT}
"""By the names that they have on the command line."""
