"""Lambda bottlenecks: content and position interactions without an attention map.

The paper (HANT section 3) gives the expansion. Left open there and chosen as in the source (Bello 2021,
"LambdaNetworks", sections 3 and 4): 4 heads, queries of depth 16, one intra-depth, positions as a convolution over the
values ("lambda convolution") of 23x23 or, on smaller maps, as far as the map reaches; batch norm on queries and values;
in a ResNet bottleneck in place of the 3x3 convolution, with average pooling behind it where strided. Inner channels
count from the output's, in multiples of the heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor, nn

from ..bottleneck import HEADS, bottleneck, inner_channels
from ..family import ACTIVATION, NUMBER, PatternFamily
from ..geometry import Geometry, Size
from ..map_operation import MapOperation

DEPTH = 16
REACH = 23


class LambdaConvolution(nn.Module):
    """Lambda layer on a map of a fixed size; linear in the number of positions."""

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        self.size = size
        self.depth = channels // HEADS
        self.query = nn.Sequential(nn.Conv2d(channels, HEADS * DEPTH, 1, bias=False), nn.BatchNorm2d(HEADS * DEPTH))
        self.key = nn.Conv2d(channels, DEPTH, 1, bias=False)
        self.value = nn.Sequential(nn.Conv2d(channels, self.depth, 1, bias=False), nn.BatchNorm2d(self.depth))
        reach = [min(REACH, 2 * length - 1) for length in size]
        margin = (reach[0] // 2, reach[1] // 2)
        self.positions = nn.Conv2d(1, DEPTH, (reach[0], reach[1]), padding=margin)
        nn.init.normal_(self.positions.weight, std=(reach[0] * reach[1]) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        query = self.query(x).flatten(2).unflatten(1, (HEADS, DEPTH)).permute(0, 3, 1, 2)
        key = self.key(x).flatten(2).softmax(2)
        value = self.value(x)
        content = key @ value.flatten(2).transpose(1, 2)
        # every channel of the values by itself: (N * V, 1, H, W) to (N * V, K, H, W)
        around = self.positions(value.flatten(0, 1).unsqueeze(1)).unflatten(0, (-1, self.depth))
        lambdas = around.flatten(3).permute(0, 3, 2, 1) + content.unsqueeze(1)
        mixed = (query @ lambdas).permute(0, 2, 3, 1)
        return cast(Tensor, mixed.flatten(1, 2).unflatten(2, self.size))


@dataclass(frozen=True, kw_only=True)
class Lambda(MapOperation):
    """A bottleneck with a lambda layer."""

    family: ClassVar[str] = "lambda"
    expansion: float
    """Inner channels over output channels."""

    @property
    def stem(self) -> str:
        """E.g. ``lambda_e0.25``."""
        return f"lambda_e{self.expansion:g}"

    def _build_map(self, geometry: Geometry) -> nn.Module:
        inner = inner_channels(geometry, self.expansion)
        return bottleneck(geometry, inner, LambdaConvolution(inner, geometry.cropped), self._activation)


def _parse(groups: tuple[str, ...]) -> Lambda | None:
    expansion = float(groups[0])
    return Lambda(expansion=expansion, activation=groups[1]) if expansion > 0 else None


lambda_ = PatternFamily(
    "lambda",
    tuple(Lambda(expansion=expansion) for expansion in (0.25, 0.5, 1, 2, 3, 4)),
    f"lambda_e{NUMBER}{ACTIVATION}",
    _parse,
)
