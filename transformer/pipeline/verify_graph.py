"""What must hold of a graph after every pass that returns one."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from torch import fx

from ..errors import CaptureError
from ..ir.graph import Graph


def verify(graph: Graph) -> None:
    """Check that the blocks' names are unique, that each is a submodule, and that they are in the order of execution.

    Raises:
        CaptureError: names the block that breaks a rule.
    """
    for name, count in Counter(block.name for block in graph.blocks).items():
        if count > 1:
            raise CaptureError(f"graph is broken: {count} blocks are named {name!r}; names must be unique")
    modules = dict(graph.module.named_modules(remove_duplicate=False))
    for block in graph.blocks:
        if block.target not in modules:
            raise CaptureError(
                f"graph is broken: block {block.name!r} points to {block.target!r}, which is no submodule"
            )
    if isinstance(graph.module, fx.GraphModule):
        _verify_order(graph, graph.module)


def _verify_order(graph: Graph, module: fx.GraphModule) -> None:
    first: dict[str, int] = {}
    for position, node in enumerate(module.graph.nodes):
        if node.op == "call_module":
            first.setdefault(str(node.target), position)
    placed = [(block, first[block.target]) for block in graph.blocks if block.target in first]
    for (before, at), (after, then) in pairwise(placed):
        if then < at:
            raise CaptureError(
                f"graph is broken: block {before.name!r} is listed before {after.name!r} but runs after it"
            )
