"""Parameters and multiply-accumulates of structures, put together from their basic blocks, each counted once."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from ...op_library.cost import macs, parameters
from ...op_library.families.superblock import named_conv_norm
from ...op_library.structure import Item, Structure
from ...op_library.tensor_spec import TensorSpec
from ..networks.resolution import Size
from .space import shapes_of


def counts(structure: Structure, classes: int, channels: int, size: Size) -> tuple[int, int]:
    """Return parameters and MACs of a structure's network for images of this size."""
    shapes = shapes_of(structure, channels, size)
    rows = [
        option_counts(item, before, (height, width), after[1:])
        for item, (before, height, width), after in zip(structure.items, shapes[:-1], shapes[1:], strict=True)
    ]
    features = structure.items[-1].width
    return sum(row[0] for row in rows) + features * classes + classes, sum(row[1] for row in rows) + features * classes


def option_counts(item: Item, before: int, entering: Size, leaving: Size) -> tuple[int, int]:
    """Return parameters and MACs of an item behind so many channels."""
    block = item.superblock
    if block is None:
        return _counted(item.operation, before, item.width, item.stride, entering)
    first = _counted(f"{block.kind}_d1", before, item.width, item.stride, entering)
    if block.depth == 1:
        return first
    more = _counted(f"{block.kind}_d1", item.width, item.width, 1, leaving)
    return first[0] + (block.depth - 1) * more[0], first[1] + (block.depth - 1) * more[1]


@cache
def _counted(operation: str, before: int, after: int, stride: int, size: Size) -> tuple[int, int]:
    item = Item(operation, after, stride)
    with torch.device("meta"):
        part: nn.Module
        if item.superblock is None:
            part = named_conv_norm(before, after, item.kernel, (stride, stride), activation="relu")
        else:
            part = item.superblock.blocks(before, after, (stride, stride), last=True)
    return parameters(part), macs(part, TensorSpec((before, *size)))
