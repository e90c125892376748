"""Inverted residual blocks: MBConv (efn) and Fused-MBConv (efnv2).

The paper (HANT section 3) gives expansion, squeeze-and-excitation factor and kernel. Left open there and chosen as in
the sources:

1. efn is the MBConv of MobileNetV2 (Sandler et al. 2018, section 3.2) as EfficientNet uses it (Tan & Le 2019): 1x1
   expansion, depthwise kxk, squeeze-and-excitation, linear 1x1 projection; without the expansion layer where e = 1.
2. efnv2 is the Fused-MBConv of EfficientNetV2 (Tan & Le 2021, figure 2): one dense kxk for expansion and depthwise.
   Where e = 1 it keeps its projection, as efn does, so that the output stays linear.
3. The expansion counts from the input's channels; so does the squeeze factor (EfficientNet), at least one channel.
   A factor of 1.00 means no squeeze-and-excitation.
4. SiLU, and ReLU nowhere, as in both EfficientNets.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from torch import nn

from ..family import ACTIVATION, KERNEL, NUMBER, PatternFamily, odd
from ..geometry import Geometry
from ..layers import SqueezeExcite, conv_norm
from ..map_operation import MapOperation


@dataclass(frozen=True, kw_only=True)
class InvertedResidual(MapOperation):
    """What efn and efnv2 share: expand, filter, gate, project."""

    default_activation: ClassVar[str] = "silu"
    elastic: ClassVar[str] = "expansion"
    kernel: int
    expansion: float
    """Inner channels over input channels."""
    squeeze: float
    """Channels inside the squeeze-and-excitation over input channels; 1 for none."""

    @property
    def stem(self) -> str:
        """E.g. ``efn_3x3_e6_se0.25``."""
        squeeze = f"{self.squeeze:.2f}" if round(self.squeeze, 2) == self.squeeze else f"{self.squeeze:g}"
        return f"{self.family}_{self.kernel}x{self.kernel}_e{self.expansion:g}_se{squeeze}"

    @property
    def takes_tokens(self) -> bool:
        """Whether the kernel is 1x1."""
        return self.kernel == 1

    @abstractmethod
    def _expand(self, geometry: Geometry, inner: int) -> list[nn.Module]:
        """Make the layers from the input's channels to ``inner``, with the stride."""

    def _build_map(self, geometry: Geometry) -> nn.Module:
        inner = max(1, round(geometry.in_channels * self.expansion))
        layers = self._expand(geometry, inner)
        if self.squeeze != 1:
            squeezed = max(1, round(geometry.in_channels * self.squeeze))
            layers.append(SqueezeExcite(inner, squeezed, self._activation))
        layers.append(conv_norm(inner, geometry.out_channels, 1))
        return nn.Sequential(*layers)


@dataclass(frozen=True, kw_only=True)
class Efn(InvertedResidual):
    """MBConv: 1x1 expansion, depthwise kxk, squeeze-and-excitation, linear 1x1 projection."""

    family: ClassVar[str] = "efn"

    def _expand(self, geometry: Geometry, inner: int) -> list[nn.Module]:
        depthwise = conv_norm(
            inner, inner, self.kernel, stride=geometry.stride, groups=inner, activation=self._activation
        )
        if inner == geometry.in_channels:
            return [depthwise]
        return [conv_norm(geometry.in_channels, inner, 1, activation=self._activation), depthwise]


@dataclass(frozen=True, kw_only=True)
class Efnv2(InvertedResidual):
    """Fused-MBConv: dense kxk expansion, squeeze-and-excitation, linear 1x1 projection."""

    family: ClassVar[str] = "efnv2"

    def _expand(self, geometry: Geometry, inner: int) -> list[nn.Module]:
        return [
            conv_norm(geometry.in_channels, inner, self.kernel, stride=geometry.stride, activation=self._activation)
        ]


def _family(kind: type[InvertedResidual]) -> PatternFamily:
    def make(groups: tuple[str, ...]) -> InvertedResidual | None:
        kernel, expansion, squeeze = int(groups[0]), float(groups[1]), float(groups[2])
        if not odd(kernel) or expansion <= 0 or not 0 < squeeze <= 1:
            return None
        return kind(kernel=kernel, expansion=expansion, squeeze=squeeze, activation=groups[3])

    members = tuple(
        kind(kernel=kernel, expansion=expansion, squeeze=squeeze)
        for kernel, expansion, squeeze in product((1, 3, 5), (1, 3, 6), (1.0, 0.25, 0.04))
    )
    return PatternFamily(kind.family, members, f"{kind.family}_{KERNEL}_e{NUMBER}_se{NUMBER}{ACTIVATION}", make)


efn = _family(Efn)
efnv2 = _family(Efnv2)
