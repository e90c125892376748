"""The whole network as an fx graph in which every block is one call of a submodule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from ..ir.block import Block
from ..tools.nested import map_leaves
from .blocks.flow import Flow
from .blocks.region import Site
from .emit import Emitter
from .recording.steps import PerSample, Ref


def outline(flow: Flow, blocks: Mapping[Site, Block], name: str) -> fx.GraphModule:
    """Return a module that runs the network with one call per block; it shares the model's parameters."""
    recording = flow.recording
    emitter = Emitter(flow, recording.inputs[0])
    emitter.protected = frozenset(i for site in blocks for i in (site.region.entry, site.region.exit))
    emitter.arguments()
    inside = {index: site for site in blocks for index in site.region.steps}
    for index in flow.data:
        site = inside.get(index)
        if site is None:
            emitter.emit(index)
        elif index == site.region.exit:
            block = blocks[site]
            node = emitter.call_submodule(block.target, block.module, site.region)
            node.meta["block"] = block.name
            node.meta["shape"] = flow.steps[index].shape
            emitter.bind(index, node)
    emitter.graph.output(map_leaves(recording.output, lambda leaf: _returned(emitter, leaf)))
    return emitter.module(name)


def _returned(emitter: Emitter, leaf: Any) -> Any:
    return emitter.value(leaf) if isinstance(leaf, Ref | PerSample) else leaf
