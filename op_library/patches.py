"""Transformers between tensors of a block: a map cut into patches, or tokens as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn

from .geometry import Geometry, Size
from .layers import Crop


@dataclass(frozen=True)
class PatchGrid:
    """How a map is cut: ``size`` patches, each of ``patch`` x ``patch`` positions of the output."""

    size: Size
    patch: int

    @classmethod
    def smallest(cls, geometry: Geometry, most: int) -> Self:
        """Return the grid of the smallest patches with at most ``most`` of them."""
        patch = 1
        while True:
            rows, columns = (-(-size // patch) for size in geometry.out_size)
            if rows * columns <= most:
                return cls((rows, columns), patch)
            patch += 1


class MapTransformer(nn.Module):
    """Patches of the input, embedded; layers on them; patches of the output."""

    def __init__(self, geometry: Geometry, grid: PatchGrid, width: int, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.grid = grid.size
        step = (grid.patch * geometry.stride[0], grid.patch * geometry.stride[1])
        covered = (grid.size[0] * grid.patch, grid.size[1] * grid.patch)
        self.pad = _pad(geometry, covered)
        self.embed = nn.Conv2d(geometry.in_channels, width, step, step)
        self.positions = nn.Parameter(torch.randn(1, grid.size[0] * grid.size[1], width) * 0.02)
        self.layers = nn.Sequential(*layers, nn.LayerNorm(width))
        self.project = nn.Linear(width, geometry.out_channels * grid.patch**2)
        assemble: list[nn.Module] = [] if grid.patch == 1 else [nn.PixelShuffle(grid.patch)]
        if covered != geometry.out_size:
            assemble.append(Crop(covered, geometry.out_size))
        self.assemble = nn.Sequential(*assemble)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        tokens = self.embed(self.pad(x)).flatten(2).transpose(1, 2) + self.positions
        patches = self.project(self.layers(tokens)).transpose(1, 2).unflatten(2, self.grid)
        return cast(Tensor, self.assemble(patches))


class TokenTransformer(nn.Module):
    """Layers of another width on tokens."""

    def __init__(
        self, in_channels: int, out_channels: int, length: int, width: int, layers: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(in_channels, width)
        self.positions = nn.Parameter(torch.randn(1, length, width) * 0.02)
        self.layers = nn.Sequential(*layers, nn.LayerNorm(width))
        self.project = nn.Linear(width, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, C) to (N, L, C')."""
        return cast(Tensor, self.project(self.layers(self.embed(x) + self.positions)))


def _pad(geometry: Geometry, covered: Size) -> nn.Module:
    """Return a module that pads the input so that its patches lie where the output's do after the centred crop."""
    margins: list[int] = []
    # ZeroPad2d wants (left, right, top, bottom)
    for axis in (1, 0):
        stride, before = geometry.stride[axis], geometry.cropped[axis]
        first = (covered[axis] - geometry.out_size[axis]) // 2 * stride
        margins += [first, covered[axis] * stride - before - first]
    left, right, top, bottom = margins
    return nn.ZeroPad2d((left, right, top, bottom)) if any(margins) else nn.Identity()
