"""Small modules that the families are built of.

Leaves are ``torch.nn`` layers and all control flow is decided when the module is made, so every operation can be
traced by ``torch.fx``, captured by ``torch.export`` with a dynamic batch, and lowered by any runtime.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from .activations import activation as make_activation
from .geometry import Size


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: Size = (1, 1),
    groups: int = 1,
    activation: str = "",
) -> nn.Sequential:
    """Return convolution, batch norm and, if named, activation: (N, C, H, W) to (N, C', ceil(H/s), ceil(W/s)).

    Initialised as the ResNet family is: normal with variance 2 / fan-out, no bias before the norm, gain 1.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    fan_out = kernel * kernel * out_channels // groups
    nn.init.normal_(conv.weight, std=(2 / fan_out) ** 0.5)
    layers: list[nn.Module] = [conv, nn.BatchNorm2d(out_channels)]
    if activation:
        layers.append(make_activation(activation))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """Adds its input to what ``body`` makes of it; shapes agree."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x + cast(Tensor, self.body(x))


class SqueezeExcite(nn.Module):
    """Scales every channel by a gate computed from the map's mean (Hu et al. 2018; MobileNetV3, EfficientNet)."""

    def __init__(self, channels: int, squeezed: int, activation: str) -> None:
        super().__init__()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = make_activation(activation)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        squeezed = self.activation(self.reduce(self.mean(x)))
        return x * cast(Tensor, self.gate(self.expand(squeezed)))


class Crop(nn.Module):
    """Keeps the centre of a map."""

    def __init__(self, before: Size, after: Size) -> None:
        super().__init__()
        self.top = (before[0] - after[0]) // 2
        self.left = (before[1] - after[1]) // 2
        self.bottom = self.top + after[0]
        self.right = self.left + after[1]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return x[:, :, self.top : self.bottom, self.left : self.right]


class OnChannelsLast(nn.Module):
    """Runs an operation on maps (N, C, H, W) on channels-last maps (N, H, W, C)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H', W', C')."""
        return cast(Tensor, self.body(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)


class OnTokens(nn.Module):
    """Runs an operation on maps, every position by itself, on tokens (N, L, C)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, C) to (N, L, C')."""
        return cast(Tensor, self.body(x.transpose(1, 2).unsqueeze(3))).squeeze(3).transpose(1, 2)
