"""What may stand at each place of a design, around a MasterNet (GENet section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from ...op_library.families.superblock import BL, DW, XX, SuperBlock
from ...op_library.structure import Item, Structure
from ...transformer.errors import UsageError
from ..networks.resolution import Size

TYPES = ("own", "all")


@dataclass(frozen=True)
class Box:
    """How far a design may be from the MasterNet."""

    kernels: tuple[int, ...] = (3, 5)
    bottlenecks: tuple[float, ...] = (0.25, 0.5)
    expansions: tuple[float, ...] = (3.0, 6.0)
    widths: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    """Factors of the MasterNet's width."""
    depth: int = 2
    """Basic blocks more or less."""
    multiple: int = 8
    """Widths are multiples of it, save the MasterNet's own."""
    types: str = "own"
    """``own``: the MasterNet's basic type at each place, as all published designs ended; or ``all``."""


@dataclass(frozen=True)
class Option:
    """One item at one place."""

    item: Item
    type: str
    depth: int


@dataclass(frozen=True)
class Place:
    """A place with the MasterNet's own item and what may stand there."""

    index: int
    own: Option
    options: tuple[Option, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """Types in the order of the options."""
        return tuple(dict.fromkeys(option.type for option in self.options))

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths in order; a state of the chain is an index into it."""
        return tuple(sorted({option.item.width for option in self.options}))

    def of_type(self, kind: str) -> tuple[Option, ...]:
        """Return the options of one type."""
        return tuple(option for option in self.options if option.type == kind)

    def moves(self, option: Option) -> tuple[float, float]:
        """Return what the regression sees of an option: basic blocks more than the own, log of width over the own."""
        return float(option.depth - self.own.depth), math.log(option.item.width / self.own.item.width)

    def on_border(self, option: Option) -> int:
        """Return how many of the option's decisions (depth, width) are the most or the least of its type."""
        mine = self.of_type(option.type)
        depths, widths = sorted({o.depth for o in mine}), self.widths
        border = len(depths) > 1 and option.depth in (depths[0], depths[-1])
        return border + (len(widths) > 1 and option.item.width in (widths[0], widths[-1]))


def places(master: Structure, box: Box) -> tuple[Place, ...]:
    """Return what may stand at each place, the MasterNet's own item among it.

    Raises:
        UsageError: the box says something that no super-block can be.
    """
    if box.types not in TYPES or not box.widths or min(box.widths) <= 0 or box.multiple < 1 or box.depth < 0:
        raise UsageError(
            f"the space of designs cannot be {box}; expected types 'own' or 'all', widths above 0, depth of at least 0"
        )
    return tuple(_place(index, item, box) for index, item in enumerate(master.items))


def option_of(item: Item) -> Option:
    """Return an item as an option."""
    block = item.superblock
    return Option(item, item.operation, 1) if block is None else Option(item, block.kind, block.depth)


def structure_of(found: Sequence[Option]) -> Structure:
    """Return the structure of one option a place."""
    return Structure(tuple(option.item for option in found))


def choice_of(structure: Structure, size: Size | None = None) -> dict[str, str]:
    """Return the items by the names of their parts in the network, as selections are written.

    Where the images have another size than the teacher's, that is a part of the choice, too: ``input``.
    """
    seen = {} if size is None else {"input": mark(size)}
    return seen | dict(zip(part_names(structure), map(str, structure.items), strict=True))


def mark(size: Size) -> str:
    """Return the size of images as it is written: ``24x24``."""
    return "x".join(map(str, size))


def part_names(structure: Structure) -> list[str]:
    """Return the submodule of ``SuperBlockNetwork`` at each place."""
    return ["stem", *(f"stages.{place}" for place in range(len(structure.items) - 2)), "final_conv"]


def shapes_of(structure: Structure, channels: int, size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Return (C, H, W) of what each place reads for images of this size, and of what the last one writes."""
    shapes = [(channels, *size)]
    for item in structure.items:
        _, height, width = shapes[-1]
        shapes.append((item.width, -(-height // item.stride), -(-width // item.stride)))
    return shapes


def _place(index: int, item: Item, box: Box) -> Place:
    own = option_of(item)
    widths = sorted({_rounded(item.width * factor, box.multiple) for factor in box.widths} | {item.width})
    block = item.superblock
    if block is None:
        options = [option_of(replace(item, width=width)) for width in widths]
        return Place(index, own, tuple(options))
    depths = range(max(1, block.depth - box.depth), block.depth + box.depth + 1)
    kinds = list(dict.fromkeys([replace(block, depth=1), *_types(block, box)]))
    options = [
        option_of(Item(replace(kind, depth=depth).name, width, item.stride))
        for kind, depth, width in product(kinds, depths, widths)
    ]
    return Place(index, own, tuple(options))


def _types(own: SuperBlock, box: Box) -> Iterator[SuperBlock]:
    makers: Mapping[str, list[SuperBlock]] = {
        "xx": [XX(kernel=kernel, depth=1) for kernel in box.kernels],
        "bl": [BL(kernel=kernel, ratio=ratio, depth=1) for kernel, ratio in product(box.kernels, box.bottlenecks)],
        "dw": [DW(kernel=kernel, ratio=ratio, depth=1) for kernel, ratio in product(box.kernels, box.expansions)],
    }
    for family, blocks in makers.items():
        if box.types == "all" or family == own.family:
            yield from blocks


def _rounded(width: float, multiple: int) -> int:
    return max(multiple, round(width / multiple) * multiple)
