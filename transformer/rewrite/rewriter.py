"""The only code that makes a new graph out of an old one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from ..errors import UsageError, nearest
from ..ir.block import Block
from ..ir.graph import Graph
from ..ir.sides import MainInput
from ..tools.submodules import holds, with_submodules
from .events import BlockReplaced, EagerKept, EagerLost, emit
from .probe import probe


def replace_blocks(graph: Graph, modules: Mapping[str, nn.Module]) -> Graph:
    """Return a graph in which the named blocks run ``modules``; ``graph`` is unchanged and all else is shared.

    Each module is tried once, on a batch of 2 of the block's input contract: it must return the output contract.
    The eager network is kept where every block is a plain submodule of it.

    Raises:
        UsageError: no block of that name, with the nearest.
        UnfitError: a module that does not map the block's input contract to its output contract.
    """
    known = {block.name: block for block in graph.blocks}
    for name in modules:
        if name not in known:
            raise UsageError(f"no block {name!r}{nearest(name, known)}")
    if not modules:
        return graph
    modules = {name: known[name].called(module) for name, module in modules.items()}
    blocks = {name: _renewed(known[name], module) for name, module in modules.items()}
    for name, block in blocks.items():
        emit(BlockReplaced(name, known[name].class_name, block.class_name))
    change = {known[name].target: module for name, module in modules.items()}
    old = [known[name] for name in modules]
    new = list(blocks.values())
    return replace(
        graph,
        module=with_submodules(graph.module, change),
        eager=_eager(graph, {known[name].target: (known[name], module) for name, module in modules.items()}),
        blocks=tuple(blocks.get(block.name, block) for block in graph.blocks),
        macs=graph.macs + sum(b.macs for b in new) - sum(b.macs for b in old),
        parameters=graph.parameters + sum(b.parameters for b in new) - sum(b.parameters for b in old),
    )


def _renewed(block: Block, module: nn.Module) -> Block:
    """Return the block with another module in it."""
    found = probe(block, module)
    return replace(
        block,
        class_name=type(module.module if isinstance(module, MainInput) else module).__name__,
        module=module,
        macs=found.macs,
        parameters=sum(p.numel() for p in module.parameters()),
        signature=found.signature,
    )


def _eager(graph: Graph, change: Mapping[str, tuple[Block, nn.Module]]) -> nn.Module | None:
    """Return the eager network with the modules in place, or None where a block is no submodule of it."""
    if graph.eager is None:
        return None
    for target, (block, _) in change.items():
        if not holds(graph.eager, target, block.module):
            emit(EagerLost(block.name))
            return None
    emit(EagerKept(len(change)))
    return with_submodules(graph.eager, {target: module for target, (_, module) in change.items()})
