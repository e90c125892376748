"""The residual networks for CIFAR-10 of He et al. (2015, section 4.2), with shortcuts that have no parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Shortcut(nn.Module):
    """Option A: every second pixel, new channels filled with zeros on both sides."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.extra = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / 2, W / 2)."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if inputs == outputs else Shortcut(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H', W')."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """A stem, three stages of ``depth`` basic blocks with 16, 32 and 64 channels, a linear head."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, depth)
        self.layer2 = self._stage(16, 32, depth)
        self.layer3 = self._stage(32, 64, depth)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(inputs: int, outputs: int, depth: int) -> nn.Sequential:
        return nn.Sequential(*(BasicBlock(outputs if index else inputs, outputs) for index in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, 10)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


def resnet20() -> CifarResNet:
    """Return ResNet-20."""
    return CifarResNet(3)


def resnet32() -> CifarResNet:
    """Return ResNet-32."""
    return CifarResNet(5)


def resnet44() -> CifarResNet:
    """Return ResNet-44."""
    return CifarResNet(7)


def resnet56() -> CifarResNet:
    """Return ResNet-56."""
    return CifarResNet(9)
