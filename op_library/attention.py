"""Self-attention on tokens (ViT) and on maps with relative positions (BoTNet)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .activations import activation as make_activation
from .geometry import Size


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, C) to the same shape."""
        packed = self.project_in(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(packed[0], packed[1], packed[2])
        return cast(Tensor, self.project_out(mixed.transpose(1, 2).flatten(2)))


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer (Dosovitskiy et al. 2020): attention, then an MLP four times as wide."""

    def __init__(self, width: int, heads: int, activation: str) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), make_activation(activation), nn.Linear(4 * width, width))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, C) to the same shape."""
        x = x + cast(Tensor, self.attention(self.norm_attention(x)))
        return x + cast(Tensor, self.mlp(self.norm_mlp(x)))


class RelativeAttention(nn.Module):
    """Self-attention on a map of a fixed size, with relative position logits in two dimensions (BoTNet, figure 4)."""

    rows: Tensor
    columns: Tensor

    def __init__(self, channels: int, heads: int, size: Size) -> None:
        super().__init__()
        depth = channels // heads
        self.heads = heads
        self.scale = depth**-0.5
        self.project = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.row_positions = nn.Parameter(torch.randn(2 * size[0] - 1, depth) * self.scale)
        self.column_positions = nn.Parameter(torch.randn(2 * size[1] - 1, depth) * self.scale)
        self.register_buffer("rows", _offsets(size[0]), persistent=False)
        self.register_buffer("columns", _offsets(size[1]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        packed = self.project(x).unflatten(1, (3, self.heads, -1))
        query = packed[:, 0].permute(0, 1, 3, 4, 2) * self.scale
        key, value = packed[:, 1].flatten(3), packed[:, 2].flatten(3)
        # (H, d, H) and (W, d, W): what the query's row and column see of each key's row and column
        by_row = query @ self.row_positions[self.rows].transpose(1, 2)
        by_column = (query.transpose(2, 3) @ self.column_positions[self.columns].transpose(1, 2)).transpose(2, 3)
        positions = (by_row.unsqueeze(5) + by_column.unsqueeze(4)).flatten(4).flatten(2, 3)
        weights = (query.flatten(2, 3) @ key + positions).softmax(3)
        mixed = value @ weights.transpose(2, 3)
        return cast(Tensor, mixed.flatten(1, 2).unflatten(2, (len(self.rows), len(self.columns))))


def _offsets(size: int) -> Tensor:
    """Return, for each pair of positions, the index of their distance: (size, size)."""
    steps = torch.arange(size)
    return steps[None, :] - steps[:, None] + size - 1
