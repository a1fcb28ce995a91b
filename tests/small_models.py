"""Small models for tests of roles, routing and groups; those of other libraries are rebuilt by structure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Transformer(nn.Module):
    """Embedding, positions, two encoder blocks of torch, and an output head, tied or not."""

    def __init__(self, tied: bool = False, width: int = 8, words: int = 50) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 6, width))
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, words, bias=False)
        if tied:
            self.out.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.norm(self.body(self.embedding(words) + self.positions)))


class Recurrent(nn.Module):
    """An LSTM or GRU between an embedding and a linear layer."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, **settings: Any) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 6)
        self.recurrent = kind(6, 5, batch_first=True, **settings)
        self.out = nn.Linear(settings.get("proj_size") or 5, 20)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.recurrent(self.words(words))[0])


class Residual(nn.Module):
    """Two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.norm(self.first(x)).relu())


class Convolutional(nn.Module):
    """A convolution, three residual blocks, a depthwise and a transposed convolution, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(Residual(4), Residual(4), Residual(4))
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4, padding=1)
        self.up = nn.ConvTranspose2d(4, 6, 2)
        self.classifier = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.up(self.depthwise(self.blocks(self.stem(x)))).mean((2, 3)))


class Conv1D(nn.Module):
    """transformers' layer of this name: linear, with a weight of (inputs, outputs)."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.nf, self.nx = outputs, inputs
        self.weight = nn.Parameter(0.02 * torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class GPT2Attention(nn.Module):
    """Fused attention with a transposed weight."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.num_heads, self.head_dim = 2, width // 2
        self.c_attn, self.c_proj = Conv1D(3 * width, width), Conv1D(width, width)


class GPT2(nn.Module):
    """GPT-2's build, whose head is told by a method."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.lm_head = nn.Linear(width, 50, bias=False)
        self.wte = nn.Embedding(50, width)
        self.h = nn.ModuleList(
            nn.ModuleDict({"attn": GPT2Attention(width), "c_fc": Conv1D(2 * width, width)}) for _ in range(2)
        )
        self.lm_head.weight = self.wte.weight

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head


class GroupedAttention(nn.Module):
    """Query, key and value in one layer, with fewer keys than queries, and the numbers partly in a config."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {"num_attention_heads": 4})()
        self.num_key_value_heads, self.head_dim = 2, 3
        self.qkv_proj = nn.Linear(8, (4 + 2 * 2) * 3)
        self.o_proj = nn.Linear(12, 8)


class GatedMLP(nn.Module):
    """A feed-forward layer that has the attention's config, and outputs as many as fused attention would."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 3})()
        self.gate_up = nn.Linear(8, 24)


class Experts(nn.Module):
    """Stacks of matrices, one of each expert, and biases of each."""

    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        self.num_experts, self.is_transposed = 3, transposed
        self.gate_up = nn.Parameter(torch.randn(3, 16, 8))
        self.down = nn.Parameter(torch.randn(3, 8, 16))
        self.down_offset = nn.Parameter(torch.randn(3, 8))


class VisionAttention(nn.Module):
    """timm's attention."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.num_heads = 2
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)


class VisionTransformer(nn.Module):
    """timm's vision transformer: tokens and positions of its own, the head told by a method."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, 8))
        self.patch_embed = nn.Sequential(nn.Conv2d(3, 8, 4, 4))
        self.head = nn.Linear(8, classes) if classes else nn.Identity()
        self.blocks = nn.Sequential(VisionAttention(), VisionAttention(), VisionAttention())
        self.norm = nn.LayerNorm(8)

    def get_classifier(self) -> nn.Module:
        return self.head
