"""Bottlenecks around a layer that mixes positions by content (BoTNet, LambdaResNet)."""

from __future__ import annotations

from torch import nn

from .activations import activation as make_activation
from .geometry import Geometry
from .layers import conv_norm

HEADS = 4


def inner_channels(geometry: Geometry, expansion: float) -> int:
    """Return ``expansion`` times the output's channels, rounded to the nearest multiple of the heads, at least one."""
    return HEADS * max(1, round(geometry.out_channels * expansion / HEADS))


def bottleneck(geometry: Geometry, inner: int, mixer: nn.Module, activation: str) -> nn.Sequential:
    """Return 1x1 convolution, ``mixer`` on (N, inner, H, W), average pooling where strided, 1x1 convolution.

    As in BoTNet (Srinivas et al. 2021, appendix), the stride is pooled behind the mixer, which takes the place of a
    ResNet bottleneck's 3x3 convolution, batch norm and activation following.
    """
    layers: list[nn.Module] = [conv_norm(geometry.in_channels, inner, 1, activation=activation), mixer]
    if geometry.strided:
        divides = all(size % step == 0 for size, step in zip(geometry.cropped, geometry.stride, strict=True))
        layers.append(nn.AvgPool2d(geometry.stride, geometry.stride, ceil_mode=not divides, count_include_pad=False))
    layers += [nn.BatchNorm2d(inner), make_activation(activation), conv_norm(inner, geometry.out_channels, 1)]
    return nn.Sequential(*layers)
