"""A residual network for 32x32 images: a stem, three stages of basic blocks, a linear head (He et al. 2015, 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y)) + self.shortcut(x)
        out: Tensor = self.relu(y)
        return out


class DigitsNet(nn.Module):
    """Nine residual blocks, 16 to 64 channels, ten classes."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64), depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.stages = nn.Sequential()
        inputs = widths[0]
        for stage, width in enumerate(widths):
            blocks = nn.Sequential()
            for index in range(depth):
                blocks.append(BasicBlock(inputs, width, stride=2 if stage and not index else 1))
                inputs = width
            self.stages.append(blocks)
        self.head = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, 32, 32) to logits (N, 10)."""
        x = self.stages(self.stem(x))
        logits: Tensor = self.head(torch.flatten(x.mean((2, 3)), 1))
        return logits


def digits_net() -> DigitsNet:
    """Return the untrained network."""
    return DigitsNet()
