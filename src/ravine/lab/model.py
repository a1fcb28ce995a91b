"""The model of the task `lm`: a small decoder-only transformer that reads and predicts bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY = 256
"""One token per byte value."""


@dataclass(frozen=True)
class Architecture:
    """The shape of a transformer.

    Args:
        width: size of the residual stream, a multiple of `2 * heads`.
        layers: number of blocks.
        heads: attention heads per block.
        context: the longest sequence, in tokens.
        tied: the output head shares the embedding's matrix.
    """

    width: int
    layers: int
    heads: int
    context: int
    tied: bool = False

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads, self.context) < 1:
            raise ValueError(f"width, layers, heads and context must be at least 1, got {self}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of 2 * heads = {2 * self.heads}, got {self.width}")


SIZES = {
    "tiny": Architecture(width=32, layers=1, heads=2, context=32),
    "small": Architecture(width=128, layers=4, heads=4, context=128),
}


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864): pairs of channels turned by position × frequency.

    Args:
        x: queries or keys, (batch, heads, time, head width); channel i is paired with i + head width / 2.
        cos, sin: of the angles, (time, head width), sin negated in the first half.
    """
    a, b = x.chunk(2, dim=-1)  # (B, H, T, D/2) each
    return torch.addcmul(x * cos, torch.cat((b, a), dim=-1), sin)


class Attention(nn.Module):
    """Causal self-attention. Query, key and value are matrices of their own, so that a rule sees them as such."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, time, width = x.shape
        by_head = (batch, time, self.heads, width // self.heads)
        q, k, v = (w(x).view(by_head).transpose(1, 2) for w in (self.query, self.key, self.value))  # (B, H, T, D)
        cos, sin = cos.to(q.dtype), sin.to(q.dtype)
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        return self.output(y.transpose(1, 2).reshape(batch, time, width))  # (B, T, C)


class Block(nn.Module):
    """Attention, then a two-layer perceptron with squared ReLU; each reads a normalised copy and adds to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.RMSNorm(width)
        self.expand = nn.Linear(width, 4 * width, bias=False)
        self.contract = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.contract(F.relu(self.expand(self.mlp_norm(x))).square())


class Transformer(nn.Module):
    """Bytes in, logits of the next byte out.

    Example:
        >>> model = Transformer(SIZES["tiny"])
        >>> model(torch.zeros(2, 8, dtype=torch.long)).shape
        torch.Size([2, 8, 256])
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(VOCABULARY, shape.width)
        self.blocks = nn.ModuleList(Block(shape.width, shape.heads) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, VOCABULARY, bias=False)
        self._initialize()
        if shape.tied:
            self.head.weight = self.embedding.weight
        pairs = shape.width // shape.heads // 2
        frequency = 10_000.0 ** (-torch.arange(pairs) / pairs)
        angle = torch.outer(torch.arange(shape.context), frequency)  # (T, D/2)
        self.register_buffer("cos", angle.cos().repeat(1, 2), persistent=False)  # (T, D)
        self.register_buffer("sin", torch.cat((-angle.sin(), angle.sin()), dim=1), persistent=False)

    def _initialize(self) -> None:
        """Outputs of unit size from each matrix; the 2L that add to the stream scaled so that it stays of unit size."""
        for name, p in self.named_parameters():
            if p.ndim == 2:
                std = p.shape[1] ** -0.5
                if name.endswith(("output.weight", "contract.weight")):
                    std /= math.sqrt(2 * self.shape.layers)
                nn.init.normal_(p, std=std)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, time, 256) for tokens (batch, time), time at most the context."""
        time = tokens.shape[1]
        cos, sin = self.cos[:time], self.sin[:time]
        x = self.embedding(tokens)  # (B, T, C)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.head(self.norm(x))

    def loss(self, windows: Tensor) -> Tensor:
        """Mean cross-entropy in nats per byte, predicting each byte of windows (batch, time + 1) from those before."""
        logits = self(windows[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())

    def hidden_matrices(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The named matrices inside the blocks: what remains without embedding, output head and norms."""
        yield from ((name, p) for name, p in self.named_parameters() if name.startswith("blocks.") and p.ndim == 2)
