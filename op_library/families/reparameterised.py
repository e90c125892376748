"""Blocks that train with several branches and run as one convolution: repvgg and dbb.

The paper (HANT section 3) names RepVGG with kernels 1, 3, 5 and 7; dbb_1x1 is in its figure 7. Left open there and
chosen as in the sources:

1. repvgg sums a kxk and a 1x1 convolution, each with batch norm, and the input where the shapes agree (Ding et al.
   2021, "RepVGG", section 3.3). The input is added as it is, as in all families, where RepVGG norms it too: on two
   blocks of a CIFAR ResNet-20 that start was worse by 4 to 18 % in error (docs/operations.md).
2. dbb_1x1 sums a 1x1 convolution and a 1x1-1x1 chain whose first layer starts as the identity (Ding et al. 2021,
   "Diverse Branch Block", section 3.3), and the input where the shapes agree. The branch with average pooling is left
   out: a window of one pixel repeats the first branch. The branches start with gains that give their sum variance 1.
3. Neither has an activation behind the sum, which their sources put between layers of a chain: here the sum is the
   block's output, which may be negative (HANT appendix A.2). ``repvgg_3x3_relu`` puts it back.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..activations import activation
from ..family import ACTIVATION, KERNEL, PatternFamily, odd
from ..geometry import Geometry
from ..layers import conv_norm
from ..map_operation import MapOperation
from ..reparameterise import Branches


@dataclass(frozen=True, kw_only=True)
class Reparameterised(MapOperation):
    """Branches that are one convolution wherever they are timed and exported (``transformer/rewrite/deploy.py``)."""

    default_activation: ClassVar[str] = ""
    adds_input: ClassVar[bool] = False
    kernel: int

    @property
    def stem(self) -> str:
        """E.g. ``repvgg_3x3``."""
        return f"{self.family}_{self.kernel}x{self.kernel}"

    @property
    def takes_tokens(self) -> bool:
        """Whether the kernel is 1x1."""
        return self.kernel == 1

    @abstractmethod
    def _branches(self, geometry: Geometry) -> list[nn.Sequential]:
        """Make the branches, without the input's own."""

    def _build_map(self, geometry: Geometry) -> nn.Module:
        branches = self._branches(geometry)
        for branch in branches:
            norm = branch[-1]
            assert isinstance(norm, nn.BatchNorm2d)
            nn.init.constant_(norm.weight, len(branches) ** -0.5)
        if geometry.residual:
            branches.append(nn.Sequential())
        module = Branches(geometry.in_channels, geometry.stride, branches)
        return nn.Sequential(module, activation(self.activation)) if self.activation else module


@dataclass(frozen=True, kw_only=True)
class RepVgg(Reparameterised):
    """A kxk and a 1x1 convolution, each with batch norm, and the input as it is, summed."""

    family: ClassVar[str] = "repvgg"

    def _branches(self, geometry: Geometry) -> list[nn.Sequential]:
        return [
            conv_norm(geometry.in_channels, geometry.out_channels, kernel, stride=geometry.stride)
            for kernel in (self.kernel, 1)
        ]


@dataclass(frozen=True, kw_only=True)
class DiverseBranch(Reparameterised):
    """A 1x1 convolution and a chain of two, each with batch norm, and the input as it is, summed."""

    family: ClassVar[str] = "dbb"
    kernel: int = 1

    def _branches(self, geometry: Geometry) -> list[nn.Sequential]:
        before, after = geometry.in_channels, geometry.out_channels
        first = conv_norm(before, before, 1, stride=geometry.stride)
        conv = first[0]
        assert isinstance(conv, nn.Conv2d)
        nn.init.dirac_(conv.weight)
        return [
            conv_norm(before, after, 1, stride=geometry.stride),
            nn.Sequential(*first, *conv_norm(before, after, 1)),
        ]


def _repvgg(groups: tuple[str, ...]) -> RepVgg | None:
    return RepVgg(kernel=int(groups[0]), activation=groups[1]) if odd(int(groups[0])) else None


repvgg = PatternFamily(
    "repvgg", tuple(RepVgg(kernel=kernel) for kernel in (1, 3, 5, 7)), f"repvgg_{KERNEL}{ACTIVATION}", _repvgg
)
dbb = PatternFamily(
    "dbb", (DiverseBranch(),), f"dbb_1x1{ACTIVATION}", lambda groups: DiverseBranch(activation=groups[0])
)
