"""Where operations are timed: at a site, between neighbours as in the network.

A block timed alone pays for what the network does not: converting its input's and output's memory layout, and the call
itself; and it does not pay for caches that its neighbours have filled. So an operation runs between the blocks that
come before and after, and what counts is the difference to the teacher's own block in the same place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...op_library.tensor_spec import TensorSpec
from ...transformer.ir.block import Block
from ...transformer.ir.graph import Graph

Contracts = tuple[tuple[TensorSpec, TensorSpec], ...]
"""(input, output) of every call of a block."""


@dataclass(frozen=True, eq=False)
class Site:
    """The place of all operations of one input and output: a block with the neighbours it has in the network."""

    block: Block
    """The block whose own operation is the reference."""
    before: Block | None
    after: Block | None

    def window(self, module: nn.Module) -> nn.Module:
        """Return ``module`` between the neighbours."""
        parts = [self.before.alone if self.before else None, module, self.after.alone if self.after else None]
        return nn.Sequential(*(part for part in parts if part is not None))

    def example(self, samples: int) -> Tensor:
        """Return a random input of the window, the same each time."""
        spec = self.before.input if self.before else self.block.input
        return spec.random(samples, torch.Generator().manual_seed(0))


def sites(graph: Graph) -> dict[Contracts, Site]:
    """Return a site for the contracts of the replaceable blocks, one with two neighbours if there is."""
    found: dict[Contracts, list[Site]] = {}
    for index, block in enumerate(graph.blocks):
        if block.replaceable:
            found.setdefault(block.contracts, []).append(Site(block, *_neighbours(graph.blocks, index)))
    return {key: _best(options) for key, options in found.items()}


def _neighbours(blocks: Sequence[Block], index: int) -> tuple[Block | None, Block | None]:
    """Return the blocks before and after, where their tensors agree with the block's."""
    block = blocks[index]
    before = blocks[index - 1] if index > 0 else None
    after = blocks[index + 1] if index + 1 < len(blocks) else None
    return (
        before if before is not None and before.output == block.input else None,
        after if after is not None and after.input == block.output else None,
    )


def _best(options: list[Site]) -> Site:
    """Return the middle one of those with most neighbours."""
    most = max(_count(site) for site in options)
    best = [site for site in options if _count(site) == most]
    return best[len(best) // 2]


def _count(site: Site) -> int:
    return (site.before is not None) + (site.after is not None)


def of_block(graph_sites: Mapping[Contracts, Site], block: Block) -> Site:
    """Return the site where the operations of ``block`` are timed."""
    return graph_sites[block.contracts]
