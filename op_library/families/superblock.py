"""Super-blocks of GENet: xx, bl and dw, each a row of basic residual blocks of one kind and width (GENet section 3.1).

Decided where the paper is silent or at odds with its authors' code:

1. A basic block ends in ReLU(body + shortcut); the last convolution of the body and the projection have none of their
   own (section 3.1 says that every convolution has one; the published networks do not).
2. The shortcut is the input, or where stride or width change a 1x1 convolution with batch norm.
3. The stride is in the first convolution larger than 1x1: xx the first, bl and dw the second.
4. ``r`` counts inner channels from the block's *output* channels, in dw too, rounded as Python does, at least one.
5. As a replacement the last ReLU is left out: a block's output may be negative. Where the teacher's block ends in one,
   the candidate gets it back.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, cast

from torch import Tensor, nn

from ..activations import activation as make_activation
from ..family import ACTIVATION, KERNEL, NUMBER, PatternFamily, odd
from ..geometry import Geometry, Size
from ..layers import conv_norm
from ..map_operation import MapOperation

KERNELS, DEPTHS = (3, 5), (1, 2, 3)
BOTTLENECKS, EXPANSIONS = (0.5, 0.25), (3.0, 6.0, 9.0)
"""Inner over output channels of bl and dw in the published search (section 5)."""


class BasicBlock(nn.Module):
    """Adds what the body makes to the shortcut, (N, C, H, W) to (N, C', H/s, W/s), then the activation.

    The shortcut's tensors stand before the body's, and layers are called as in timm's ``gernet_*``, so that weights
    of those load by name.
    """

    def __init__(self, body: dict[str, nn.Module], shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut
        for name, layer in body.items():
            self.add_module(name, layer)
        self.activation = activation
        self._body = tuple(body)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/s, W/s)."""
        y = x
        for name in self._body:
            y = cast(Tensor, getattr(self, name)(y))
        return cast(Tensor, self.activation(y + cast(Tensor, self.shortcut(x))))


def named_conv_norm(
    before: int, after: int, kernel: int, stride: Size = (1, 1), groups: int = 1, activation: str = ""
) -> nn.Sequential:
    """Return ``conv_norm`` with its layers called ``conv``, ``bn`` and ``act``."""
    layers = conv_norm(before, after, kernel, stride=stride, groups=groups, activation=activation)
    return nn.Sequential(OrderedDict(zip(("conv", "bn", "act"), layers, strict=False)))


@dataclass(frozen=True, kw_only=True)
class SuperBlock(MapOperation):
    """``depth`` basic blocks: the first changes width and resolution, the others keep them."""

    adds_input: ClassVar[bool] = False
    kernel: int
    depth: int

    @property
    def stem(self) -> str:
        """E.g. ``bl_3x3_r0.25_d2``."""
        return f"{self.kind}_d{self.depth}"

    @property
    def kind(self) -> str:
        """The name without the depth: what all basic blocks have in common."""
        return f"{self.family}_{self.kernel}x{self.kernel}"

    def _build_map(self, geometry: Geometry) -> nn.Module:
        return self.blocks(geometry.in_channels, geometry.out_channels, geometry.stride, last=False)

    def blocks(self, before: int, after: int, stride: Size, *, last: bool) -> nn.Sequential:
        """Return the row of basic blocks, (N, before, H, W) to (N, after, H/s, W/s).

        ``last`` says whether the last one has its final activation.
        """
        rows = [
            self._basic(after if place else before, after, (1, 1) if place else stride, last or place < self.depth - 1)
            for place in range(self.depth)
        ]
        return nn.Sequential(*rows)

    def _basic(self, before: int, after: int, stride: Size, activated: bool) -> BasicBlock:
        plain = before == after and stride == (1, 1)
        shortcut = nn.Identity() if plain else named_conv_norm(before, after, 1, stride)
        activation = make_activation(self._activation) if activated else nn.Identity()
        return BasicBlock(self._body(before, after, stride), shortcut, activation)

    @abstractmethod
    def _body(self, before: int, after: int, stride: Size) -> dict[str, nn.Module]:
        """Return the layers of one basic block's body, in order."""


@dataclass(frozen=True, kw_only=True)
class XX(SuperBlock):
    """Two full convolutions of one kernel, as in ResNet-18."""

    family: ClassVar[str] = "xx"

    def _body(self, before: int, after: int, stride: Size) -> dict[str, nn.Module]:
        return {
            "conv1_kxk": named_conv_norm(before, after, self.kernel, stride, activation=self._activation),
            "conv2_kxk": named_conv_norm(after, after, self.kernel),
        }


@dataclass(frozen=True, kw_only=True)
class _Bottle(SuperBlock):
    """1x1 to the inner channels, kxk among them, 1x1 to the output's."""

    depthwise: ClassVar[bool]
    ratio: float
    """Inner channels over output channels."""

    @property
    def kind(self) -> str:
        """E.g. ``bl_3x3_r0.25``."""
        return f"{self.family}_{self.kernel}x{self.kernel}_r{self.ratio:g}"

    def _body(self, before: int, after: int, stride: Size) -> dict[str, nn.Module]:
        inner = max(1, round(after * self.ratio))
        groups = inner if self.depthwise else 1
        return {
            "conv1_1x1": named_conv_norm(before, inner, 1, activation=self._activation),
            "conv2_kxk": named_conv_norm(inner, inner, self.kernel, stride, groups, self._activation),
            "conv3_1x1": named_conv_norm(inner, after, 1),
        }


@dataclass(frozen=True, kw_only=True)
class BL(_Bottle):
    """Bottleneck blocks (r at most 1)."""

    family: ClassVar[str] = "bl"
    depthwise: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class DW(_Bottle):
    """Depthwise blocks (r at least 1)."""

    family: ClassVar[str] = "dw"
    depthwise: ClassVar[bool] = True


def _bottles(kind: type[_Bottle], ratios: tuple[float, ...]) -> PatternFamily:
    def make(groups: tuple[str, ...]) -> _Bottle | None:
        kernel, ratio, depth = int(groups[0]), float(groups[1]), int(groups[2])
        good = odd(kernel) and ratio > 0 and depth > 0
        return kind(kernel=kernel, ratio=ratio, depth=depth, activation=groups[3]) if good else None

    members = tuple(kind(kernel=k, ratio=r, depth=d) for k, r, d in product(KERNELS, ratios, DEPTHS))
    return PatternFamily(kind.family, members, rf"{kind.family}_{KERNEL}_r{NUMBER}_d(\d+){ACTIVATION}", make)


def _make_xx(groups: tuple[str, ...]) -> XX | None:
    kernel, depth = int(groups[0]), int(groups[1])
    return XX(kernel=kernel, depth=depth, activation=groups[2]) if odd(kernel) and depth > 0 else None


xx = PatternFamily(
    "xx",
    tuple(XX(kernel=k, depth=d) for k, d in product(KERNELS, DEPTHS)),
    rf"xx_{KERNEL}_d(\d+){ACTIVATION}",
    _make_xx,
)
bl = _bottles(BL, BOTTLENECKS)
dw = _bottles(DW, EXPANSIONS)
