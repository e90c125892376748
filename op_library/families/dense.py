"""Dense convolution blocks: cb_stack, cb_bottle, cb_res, conv_cs, and conv, which is one layer.

The paper (HANT section 3) names the layers (C convolution, B batch norm, R ReLU), the kernels and the widths. Left
open there and chosen as in the sources:

1. The width counts from the output's channels, as in ResNet (He et al. 2016), at least one channel.
2. The stride is in the first kxk convolution (ResNet, and its bottleneck as revised in practice).
3. cb_res is one convolution with batch norm, added to the input.
4. conv_cs, "CBR pairs with perturbations", has no further source; it is taken as two convolutions of four groups (two
   or one where the channels do not divide) with the channel shuffle of ShuffleNet (Zhang et al. 2018) between them.
   The second one's ReLU is left out: a block's output may be negative, as after cb_stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from torch import nn

from ..family import ACTIVATION, KERNEL, NUMBER, PatternFamily, odd
from ..geometry import Geometry
from ..layers import conv_norm
from ..map_operation import MapOperation

KERNELS = (1, 3, 5, 7)
WIDTHS = (0.0625, 0.1, 0.125, 0.2, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0)
MOST_GROUPS = 4


@dataclass(frozen=True, kw_only=True)
class Kernelled(MapOperation):
    """An operation named by its kernel alone."""

    kernel: int

    @property
    def stem(self) -> str:
        """E.g. ``cb_res_3x3``."""
        return f"{self.family}_{self.kernel}x{self.kernel}"

    @property
    def takes_tokens(self) -> bool:
        """Whether the kernel is 1x1."""
        return self.kernel == 1


@dataclass(frozen=True, kw_only=True)
class Widened(Kernelled):
    """An operation with inner channels of another number."""

    elastic: ClassVar[str] = "width"
    width: float
    """Inner channels over output channels."""

    @property
    def stem(self) -> str:
        """E.g. ``cb_stack_3x3_ex0.5``."""
        return f"{self.family}_{self.kernel}x{self.kernel}_ex{self.width}"

    def _inner(self, geometry: Geometry) -> int:
        return max(1, round(geometry.out_channels * self.width))


@dataclass(frozen=True, kw_only=True)
class CbStack(Widened):
    """Two stacked convolutions, CBRCB: kxk to the inner channels, kxk to the output's."""

    family: ClassVar[str] = "cb_stack"

    def _build_map(self, geometry: Geometry) -> nn.Module:
        inner = self._inner(geometry)
        return nn.Sequential(
            conv_norm(geometry.in_channels, inner, self.kernel, stride=geometry.stride, activation=self._activation),
            conv_norm(inner, geometry.out_channels, self.kernel),
        )


@dataclass(frozen=True, kw_only=True)
class CbBottle(Widened):
    """Bottleneck, CBR-CBR-CB: 1x1 to the inner channels, kxk among them, 1x1 to the output's."""

    family: ClassVar[str] = "cb_bottle"

    def _build_map(self, geometry: Geometry) -> nn.Module:
        inner = self._inner(geometry)
        return nn.Sequential(
            conv_norm(geometry.in_channels, inner, 1, activation=self._activation),
            conv_norm(inner, inner, self.kernel, stride=geometry.stride, activation=self._activation),
            conv_norm(inner, geometry.out_channels, 1),
        )


@dataclass(frozen=True, kw_only=True)
class _OneConvolution(Kernelled):
    def _build_map(self, geometry: Geometry) -> nn.Module:
        return conv_norm(
            geometry.in_channels,
            geometry.out_channels,
            self.kernel,
            stride=geometry.stride,
            activation=self._activation,
        )


@dataclass(frozen=True, kw_only=True)
class CbRes(_OneConvolution):
    """One convolution with batch norm."""

    family: ClassVar[str] = "cb_res"
    default_activation: ClassVar[str] = ""


@dataclass(frozen=True, kw_only=True)
class Conv(_OneConvolution):
    """One convolution with batch norm and activation, to which no input is added: a layer of GPUNets."""

    family: ClassVar[str] = "conv"
    adds_input: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class ConvCs(Kernelled):
    """Two grouped convolutions with a channel shuffle between them: CBR, shuffle, CB."""

    family: ClassVar[str] = "conv_cs"

    def _build_map(self, geometry: Geometry) -> nn.Module:
        before, after = geometry.in_channels, geometry.out_channels
        groups = next(g for g in (MOST_GROUPS, 2, 1) if before % g == 0 and after % g == 0)
        return nn.Sequential(
            conv_norm(before, after, self.kernel, stride=geometry.stride, groups=groups, activation=self._activation),
            nn.ChannelShuffle(groups),
            conv_norm(after, after, self.kernel, groups=groups),
        )


def _widened(kind: type[Widened]) -> PatternFamily:
    def make(groups: tuple[str, ...]) -> Widened | None:
        kernel, width = int(groups[0]), float(groups[1])
        return kind(kernel=kernel, width=width, activation=groups[2]) if odd(kernel) and width > 0 else None

    members = tuple(kind(kernel=kernel, width=width) for kernel, width in product(KERNELS, WIDTHS))
    return PatternFamily(kind.family, members, f"{kind.family}_{KERNEL}_ex{NUMBER}{ACTIVATION}", make)


def _kernelled(kind: type[Kernelled], kernels: Sequence[int] = KERNELS) -> PatternFamily:
    def make(groups: tuple[str, ...]) -> Kernelled | None:
        return kind(kernel=int(groups[0]), activation=groups[1]) if odd(int(groups[0])) else None

    members = tuple(kind(kernel=kernel) for kernel in kernels)
    return PatternFamily(kind.family, members, f"{kind.family}_{KERNEL}{ACTIVATION}", make)


cb_stack = _widened(CbStack)
cb_bottle = _widened(CbBottle)
cb_res = _kernelled(CbRes)
conv_cs = _kernelled(ConvCs)
conv = _kernelled(Conv, ())  # in no pool but those of spaces
