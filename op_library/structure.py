"""Networks of super-blocks as text, and built: the space in which GENet designs (GENet sections 3 and 4).

A structure is written as ``conv_3x3@32/2 xx_3x3_d1@128/2 ... conv_1x1@2560``: operation, ``@`` output channels, ``/``
stride where it is not 1. It begins with a convolution, the stem, and ends with one of kernel 1x1; average pooling and a
linear layer follow.
"""

from __future__ import annotations

import re
import tomllib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from torch import Tensor, nn

from ..transformer.errors import UsageError, nearest
from ..transformer.tools.files import shipped
from .families import superblock
from .families.superblock import SuperBlock, named_conv_norm

_MOST_CHANNELS, _MOST_ITEMS = 1 << 14, 100
"""Bounds on a structure's text, which may come from a file: no network of vision is near them."""


@dataclass(frozen=True)
class Item:
    """One part of a structure."""

    operation: str
    """``conv_KxK``, or the name of a super-block such as ``bl_3x3_r0.25_d7``."""
    width: int
    """Output channels."""
    stride: int = 1

    def __str__(self) -> str:
        return f"{self.operation}@{self.width}" + (f"/{self.stride}" if self.stride != 1 else "")

    @property
    def superblock(self) -> SuperBlock | None:
        """The super-block's operation; None for a convolution."""
        found = [family.parse(self.operation) for family in (superblock.xx, superblock.bl, superblock.dw)]
        return next((spec for spec in found if isinstance(spec, SuperBlock)), None)

    @property
    def kernel(self) -> int:
        """Kernel of a convolution; 0 for a super-block."""
        match = re.fullmatch(r"conv_(\d+)x\1", self.operation)
        return int(match.group(1)) if match else 0


@dataclass(frozen=True)
class Structure:
    """Stem, super-blocks and last convolution, in order."""

    items: tuple[Item, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.items))

    @property
    def normalised(self) -> Structure:
        """The same network with as few super-blocks as it can be written with.

        A super-block of stride 1 whose basic blocks and width are those of the one before only makes that one deeper.
        Eight pairs of the paper's 20 hand-made networks (table 6) are one network each.
        """
        merged = [self.items[0]]
        for before, item in pairwise(self.items):
            first, second, last = merged[-1].superblock, item.superblock, merged[-1]
            same = first is not None and second is not None and replace(first, depth=1) == replace(second, depth=1)
            if first is not None and second is not None and same and item.stride == 1 and item.width == before.width:
                deeper = replace(first, depth=first.depth + second.depth)
                merged[-1] = replace(last, operation=deeper.name)
            else:
                merged.append(item)
        return Structure(tuple(merged))

    @classmethod
    def parse(cls, text: str) -> Structure:
        """Read a structure's text, or take the published one of that name (``normal``, ``net1``).

        Raises:
            UsageError: it is neither; names the part that cannot be read and what was expected.
        """
        text = structures().get(text.strip(), text)
        words = text.split()
        if len(words) == 1 and "@" not in words[0]:
            raise UsageError(
                f"unknown structure {words[0]!r}{nearest(words[0], structures())}; expected a name or text such as "
                f"{structures()['digits']!r}"
            )
        if not 3 <= len(words) <= _MOST_ITEMS:
            raise UsageError(
                f"a structure of {len(words)} parts; expected a stem, super-blocks and a last convolution, at most "
                f"{_MOST_ITEMS}, such as {structures()['digits']!r}"
            )
        items = tuple(_item(word, place, len(words)) for place, word in enumerate(words))
        return cls(items)


def _item(word: str, place: int, count: int) -> Item:
    match = re.fullmatch(r"([a-z0-9_.]{1,64})@([1-9]\d{0,5})(?:/([1-4]))?", word)
    where = f"part {place + 1} of the structure, {word!r}"
    if match is None:
        raise UsageError(f"{where}: cannot be read; expected OPERATION@CHANNELS/STRIDE such as xx_3x3_d2@192/2")
    item = Item(match.group(1), int(match.group(2)), int(match.group(3) or 1))
    if item.width > _MOST_CHANNELS:
        raise UsageError(f"{where}: {item.width} channels; expected at most {_MOST_CHANNELS}")
    if place in (0, count - 1):
        if item.kernel % 2 == 0 or (place and item.kernel != 1):
            expected = "conv_1x1" if place else "a convolution of odd kernel such as conv_3x3"
            raise UsageError(f"{where}: expected {expected} there")
    elif item.superblock is None:
        raise UsageError(f"{where}: expected a super-block such as xx_3x3_d2, bl_3x3_r0.25_d2 or dw_3x3_r3_d2")
    elif item.superblock.depth > _MOST_ITEMS:
        raise UsageError(f"{where}: {item.superblock.depth} basic blocks; expected at most {_MOST_ITEMS}")
    return item


@cache
def structures() -> Mapping[str, str]:
    """Return the texts of the structures that come with hant, by name."""
    table = tomllib.loads(shipped(__name__, "structures.toml"))
    return {str(name): str(text) for name, text in table.items()}


class SuperBlockNetwork(nn.Module):
    """A network for images, (N, channels, H, W) to logits (N, classes).

    Its tensors have the names and the order of timm's ``gernet_*``; those of the authors' files are taken too.
    """

    def __init__(self, structure: Structure, classes: int = 1000, channels: int = 3) -> None:
        super().__init__()
        first, *middle, last = structure.items
        self.stem = named_conv_norm(
            channels, first.width, first.kernel, (first.stride, first.stride), activation="relu"
        )
        rows, before = [], first.width
        for item in middle:
            operation = item.superblock
            assert operation is not None, "parse lets nothing else through"
            rows.append(operation.blocks(before, item.width, (item.stride, item.stride), last=True))
            before = item.width
        self.stages = nn.Sequential(*rows)
        self.final_conv = named_conv_norm(before, last.width, 1, (last.stride, last.stride), activation="relu")
        layers = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(last.width, classes)}
        self.head = nn.Sequential(OrderedDict(layers))
        self.structure = str(structure)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, classes)."""
        logits: Tensor = self.head(self.final_conv(self.stages(self.stem(images))))
        return logits


def network(name: str, num_classes: int = 1000, in_chans: int = 3) -> SuperBlockNetwork:
    """Return the network of a structure's name or text, freshly initialised.

    Raises:
        UsageError: no such structure.
    """
    return SuperBlockNetwork(Structure.parse(name), num_classes, in_chans)


def published_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the authors' files under this module's names; others as they are.

    In the files ``module_list.0`` and ``.1`` are the stem's convolution and norm, the last two the last convolution's,
    those between the super-blocks: ``conv_list.J.0`` convolution, ``.1`` norm, ``.2`` ReLU of basic block J, and on.
    """
    if not any(name.startswith("module_list.") for name in weights):
        return dict(weights)
    last = max(int(name.split(".")[1]) for name in weights if name.startswith("module_list."))
    kinds = _layer_names(weights)
    return {_renamed(name, last, kinds): tensor for name, tensor in weights.items()}


def _layer_names(weights: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """Return the layer names of every super-block by its index in the file: three convolutions are a bottleneck."""
    most: dict[str, int] = {}
    for name in weights:
        match = re.match(r"module_list\.(\d+)\.conv_list\.\d+\.(\d+)\.", name)
        if match:
            most[match.group(1)] = max(most.get(match.group(1), 0), int(match.group(2)))
    bottle, pair = ("conv1_1x1", "conv2_kxk", "conv3_1x1"), ("conv1_kxk", "conv2_kxk")
    return {index: bottle if place >= 6 else pair for index, place in most.items()}


def _renamed(name: str, last: int, kinds: Mapping[str, tuple[str, ...]]) -> str:
    if name.startswith("fc_linear."):
        return "head.fc." + name.removeprefix("fc_linear.").removeprefix("netblock.")
    outer = re.fullmatch(r"module_list\.(\d+)\.netblock\.(\w+)", name)
    if outer:
        index, leaf = int(outer.group(1)), outer.group(2)
        part = "stem" if index < 2 else "final_conv"
        return f"{part}.{'conv' if index in (0, last - 1) else 'bn'}.{leaf}"
    inner = re.fullmatch(r"module_list\.(\d+)\.(conv_list|shortcut_list)\.(\d+)\.(\d+)\.(?:netblock\.)?(\w+)", name)
    if inner is None:
        return name
    index_text, kind, row, place, leaf = inner.groups()
    stage = int(index_text) - 3
    if kind == "shortcut_list":
        return f"stages.{stage}.{row}.shortcut.{('conv', 'bn')[int(place)]}.{leaf}"
    layer = kinds[index_text][int(place) // 3]
    return f"stages.{stage}.{row}.{layer}.{('conv', 'bn')[int(place) % 3]}.{leaf}"
