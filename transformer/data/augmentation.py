"""Augmentation of whole batches, for fine-tuning. Each is a function of a batch (N, C, H, W) and a generator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class CropFlip:
    """Pad by ``padding`` pixels, cut the original size out at a random place, mirror half of the images."""

    padding: int = 4
    flip: bool = True
    fill: tuple[float, ...] = (0.0,)
    """Value of each channel outside of the image."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return augmented images (N, C, H, W)."""
        count, _, height, width = images.shape
        fill = torch.tensor(self.fill, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
        padded = F.pad(images - fill, [self.padding] * 4) + fill
        reach = 2 * self.padding + 1
        top, left = (torch.randint(reach, (count, 1), generator=generator) for _ in range(2))
        rows = top + torch.arange(height)
        columns = left + torch.arange(width)
        if self.flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        return picked.permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Affine:
    """Turn, scale and shift each image a little, as a hand would."""

    degrees: float = 10.0
    scale: float = 0.1
    """Largest relative change of size."""
    shift: float = 0.08
    """Largest shift, as a share of the image's side."""
    fill: float = 0.0
    """Value outside of the image."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return augmented images (N, C, H, W)."""
        count = len(images)
        angle, zoom, right, down = torch.rand(4, count, generator=generator) * 2 - 1
        angle = angle * (self.degrees * math.pi / 180)
        zoom = 1 + zoom * self.scale
        cosine, sine = angle.cos() * zoom, angle.sin() * zoom
        top = torch.stack([cosine, -sine, right * 2 * self.shift], dim=1)
        bottom = torch.stack([sine, cosine, down * 2 * self.shift], dim=1)
        theta = torch.stack([top, bottom], dim=1).to(images)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images - self.fill, grid, align_corners=False) + self.fill
