"""The transformer from scratch: decoder-only, it reads tokens and predicts the next one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ravine.lab.models.cache import KeyValueCache, LayerCache

VOCABULARY = 256
"""One token per byte value: the vocabulary where none is given."""

Perceptron = Literal["relu2", "gelu", "swiglu"]


@dataclass(frozen=True)
class Architecture:
    """The shape of a transformer.

    Args:
        width: size of the residual stream, a multiple of `2 * heads`.
        layers: number of blocks.
        heads: attention heads per block, each `width / heads` wide.
        context: the longest sequence, in tokens.
        vocabulary: number of different tokens.
        kv_heads: heads of keys and values, a divisor of `heads`; queries share them in groups (grouped-query
            attention, Ainslie et al. 2023, arXiv:2305.13245). None: as many as `heads`.
        mlp: the perceptron of a block. `"relu2"`: squared ReLU (So et al. 2021, arXiv:2109.08668); `"gelu"`; both
            4 · width wide; `"swiglu"`: gated (Shazeer 2020, arXiv:2002.05202), 8/3 · width wide for as many parameters.
        tied: the output head shares the embedding's matrix.

    Raises:
        ValueError: for a shape that cannot be built.
    """

    width: int
    layers: int
    heads: int
    context: int
    vocabulary: int = VOCABULARY
    kv_heads: int | None = None
    mlp: Perceptron = "relu2"
    tied: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "context", "vocabulary", "kv_heads"):
            value = getattr(self, name)
            if name == "kv_heads" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of 2 * heads = {2 * self.heads}, got {self.width}")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide heads = {self.heads}, got {self.kv_heads}")
        if self.mlp not in get_args(Perceptron):
            raise ValueError(f"mlp must be one of {', '.join(get_args(Perceptron))}, got {self.mlp!r}")
        if not isinstance(self.tied, bool):
            raise ValueError(f"tied must be true or false, got {self.tied!r}")


SIZES = {
    "tiny": Architecture(width=32, layers=1, heads=2, context=32),
    "small": Architecture(width=128, layers=4, heads=4, context=128),
    "base": Architecture(width=512, layers=8, heads=8, context=512),
}
"""With 256 tokens: 29 thousand, 0.85 million and 25 million parameters."""


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

    def __init__(self, width: int, heads: int, kv_heads: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.kv_heads = kv_heads or heads
        kv_width = width // heads * self.kv_heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, kv_width, bias=False)
        self.value = nn.Linear(width, kv_width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache | None = None) -> Tensor:
        """What each position reads from those up to it, (B, T, C).

        Args:
            x: (B, T, C).
            cos, sin: of the angles of these T positions, (T, D).
            cache: keys and values of the positions before, to which these are added.
        """
        batch, time, width = x.shape
        q, k, v = (
            layer(x).view(batch, time, heads, width // self.heads).transpose(1, 2)  # (B, H or K, T, D)
            for layer, heads in ((self.query, self.heads), (self.key, self.kv_heads), (self.value, self.kv_heads))
        )
        cos, sin = cos.to(q.dtype), sin.to(q.dtype)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        before = 0
        if cache is not None:
            before = cache.length
            k, v = cache.append(k, v)  # (B, K, before + T, D)
        # A single position sees all others; several that follow on cached ones need a mask that starts further right.
        mask = x.new_ones(time, before + time, dtype=torch.bool).tril(before) if before and time > 1 else None
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=not before, enable_gqa=self.kv_heads != self.heads
        )
        return self.output(y.transpose(1, 2).reshape(batch, time, width))  # (B, T, C)


class Block(nn.Module):
    """Attention, then a two-layer perceptron; each reads a normalised copy and adds to the stream."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        width, self.mlp = shape.width, shape.mlp
        # Gated, three matrices instead of two: two thirds as wide, in multiples of 16 for the sake of GPUs.
        hidden = 4 * width if self.mlp != "swiglu" else 16 * math.ceil(8 * width / 48)
        self.attention_norm = nn.RMSNorm(width)
        self.attention = Attention(width, shape.heads, shape.kv_heads)
        self.mlp_norm = nn.RMSNorm(width)
        if self.mlp == "swiglu":
            self.gate = nn.Linear(width, hidden, bias=False)
        self.expand = nn.Linear(width, hidden, bias=False)
        self.contract = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache | None = None) -> Tensor:
        """The stream (B, T, C) after this block; arguments as of `Attention`."""
        x = x + self.attention(self.attention_norm(x), cos, sin, cache)
        y = self.mlp_norm(x)
        if self.mlp == "relu2":
            hidden = F.relu(self.expand(y)).square()  # (B, T, 4 C)
        elif self.mlp == "gelu":
            hidden = F.gelu(self.expand(y))
        else:
            hidden = F.silu(self.gate(y)) * self.expand(y)
        return x + self.contract(hidden)


class Transformer(nn.Module):
    """Tokens in, logits of the next token out.

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
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
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

    @property
    def context(self) -> int:
        """The longest sequence, in tokens."""
        return self.shape.context

    @property
    def vocabulary(self) -> int:
        """Number of different tokens."""
        return self.shape.vocabulary

    def new_cache(self) -> KeyValueCache:
        """An empty cache with room for the whole context."""
        return KeyValueCache(self.shape.layers, self.shape.context)

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Logits of the token after each of `tokens`.

        Args:
            tokens: (batch, time).
            cache: of the tokens before these, from `new_cache()`; these are added to it.

        Returns:
            (batch, time, vocabulary).

        Raises:
            ValueError: if the tokens, with those in the cache, are more than the context.
        """
        before = 0 if cache is None else cache.length
        end = before + tokens.shape[1]
        if end > self.shape.context:
            raise ValueError(f"the model's context is {self.shape.context} tokens, got {end}")
        cos, sin = self.cos[before:end], self.sin[before:end]  # (T, D)
        x = self.embedding(tokens)  # (B, T, C)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, None if cache is None else cache.layers[i])
        return self.head(self.norm(x))  # (B, T, V)

    def loss(self, windows: Tensor) -> Tensor:
        """Mean cross-entropy in nats per token, each token of windows (batch, time + 1) predicted from those before."""
        logits = self(windows[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())

    def hidden_matrices(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The named matrices inside the blocks: what remains without embedding, output head and norms."""
        yield from ((name, p) for name, p in self.named_parameters() if name.startswith("blocks.") and p.ndim == 2)
