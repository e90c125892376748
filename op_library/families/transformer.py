"""Transformer operations: vit and bot_trans.

The paper (HANT section 3) gives depth, width and heads of vit, heads and expansion of bot_trans. Left open there and
chosen as in the sources, or so that a block's map can be large:

1. vit (Dosovitskiy et al. 2020) cuts the map into square patches, the smallest that give at most 256 tokens (as ViT's
   16x16 on 256 pixels); a map of up to 16x16 positions has patches of one. They are embedded by a convolution with
   learned positions, go through pre-norm layers (MLP ratio 4, GELU) and a layer norm, and a linear layer makes each
   token a patch of the output. A stride is part of the patch. No class token.
2. bot_trans (Srinivas et al. 2021) is a ResNet bottleneck with relative self-attention in place of the 3x3
   convolution, with average pooling behind it where strided. Its inner channels count from the output's, as in
   cb_bottle, in multiples of the heads. Maps of more than 40x40 positions are refused: attention among all of them
   takes more than 40 MB per sample and layer.
3. vit fits tokens (N, L, C), class token included; bot_trans needs rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from torch import nn

from ..attention import EncoderLayer, RelativeAttention
from ..bottleneck import HEADS, bottleneck, inner_channels
from ..family import ACTIVATION, NUMBER, PatternFamily
from ..geometry import Geometry
from ..map_operation import MapOperation
from ..patches import MapTransformer, PatchGrid, TokenTransformer

MOST_TOKENS = 256
MOST_POSITIONS = 40 * 40


@dataclass(frozen=True, kw_only=True)
class Vit(MapOperation):
    """A small vision transformer between patches of the input and patches of the output."""

    family: ClassVar[str] = "vit"
    default_activation: ClassVar[str] = "gelu"
    depth: int
    width: int
    heads: int

    @property
    def stem(self) -> str:
        """E.g. ``vit_d1_w64_h4``."""
        return f"vit_d{self.depth}_w{self.width}_h{self.heads}"

    @property
    def takes_tokens(self) -> bool:
        """Always."""
        return True

    def _layers(self) -> list[nn.Module]:
        return [EncoderLayer(self.width, self.heads, self._activation) for _ in range(self.depth)]

    def _build_map(self, geometry: Geometry) -> nn.Module:
        return MapTransformer(geometry, PatchGrid.smallest(geometry, MOST_TOKENS), self.width, self._layers())

    def _build_tokens(self, geometry: Geometry) -> nn.Module:
        return TokenTransformer(
            geometry.in_channels, geometry.out_channels, geometry.in_size[0], self.width, self._layers()
        )


@dataclass(frozen=True, kw_only=True)
class BotTrans(MapOperation):
    """A bottleneck with relative self-attention among all positions of the map."""

    family: ClassVar[str] = "bot_trans"
    expansion: float
    """Inner channels over output channels."""

    @property
    def stem(self) -> str:
        """E.g. ``bot_trans_e0.25``."""
        return f"bot_trans_e{self.expansion:g}"

    def _unfit_map(self, geometry: Geometry) -> str | None:
        rows, columns = geometry.cropped
        if rows * columns <= MOST_POSITIONS:
            return None
        megabytes = 4 * HEADS * (rows * columns) ** 2 / 1e6
        return (
            f"attention among {rows}x{columns} = {rows * columns} positions takes {megabytes:.0f} MB per sample; "
            f"at most {MOST_POSITIONS} positions"
        )

    def _build_map(self, geometry: Geometry) -> nn.Module:
        inner = inner_channels(geometry, self.expansion)
        return bottleneck(geometry, inner, RelativeAttention(inner, HEADS, geometry.cropped), self._activation)


def _vit(groups: tuple[str, ...]) -> Vit | None:
    depth, width, heads = (int(group) for group in groups[:3])
    if min(depth, width, heads) < 1 or width % heads != 0:
        return None
    return Vit(depth=depth, width=width, heads=heads, activation=groups[3])


def _bot_trans(groups: tuple[str, ...]) -> BotTrans | None:
    expansion = float(groups[0])
    return BotTrans(expansion=expansion, activation=groups[1]) if expansion > 0 else None


vit = PatternFamily(
    "vit",
    tuple(
        Vit(depth=depth, width=width, heads=heads)
        for depth, width, heads in product((1, 2), (32, 64, 128, 256, 512, 1024), (4, 8, 16))
    ),
    rf"vit_d(\d+)_w(\d+)_h(\d+){ACTIVATION}",
    _vit,
)
bot_trans = PatternFamily(
    "bot_trans",
    tuple(BotTrans(expansion=expansion) for expansion in (0.25, 0.5, 1, 2, 3, 4)),
    f"bot_trans_e{NUMBER}{ACTIVATION}",
    _bot_trans,
)
