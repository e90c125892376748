"""Run only the part of a network that comes after a block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...transformer.ir.block import Block
from ...transformer.ir.graph import Graph


class SuffixError(Exception):
    """The rest of the network cannot be run by itself; the message says why."""


class Suffix:
    """The values that live when ``block`` is about to run, kept for one batch.

    Every run continues from the same values with another module in the block's place: what comes before is computed
    once. Exact: the same operations on the same values as in the whole network.
    """

    def __init__(self, graph: Graph, block: Block, images: Sequence[Tensor]) -> None:
        """Run the network on ``images`` up to the block.

        Raises:
            SuffixError: the block is not one node of a flat graph.
        """
        module, node = self._locate(graph, block)
        self._module, self._node, self._images = module, node, images
        before = fx.Interpreter(module, garbage_collect_values=False)
        before.env = {}
        before.args_iter = iter(images)
        nodes = list(module.graph.nodes)
        place = nodes.index(node)
        with torch.no_grad():
            for earlier in nodes[:place]:
                before.env[earlier] = before.run_node(earlier)
        self._block = block
        self._inputs: list[Tensor] = [before.env[argument] for argument in node.all_input_nodes]
        needed = {used for later in nodes[place:] for used in later.all_input_nodes}
        # The interpreter runs what is not in its environment, so finished nodes stay in, without their values.
        self._env: dict[fx.Node, Any] = {n: before.env[n] if n in needed else None for n in nodes[:place]}
        self._versions = self._changes()

    @staticmethod
    def _locate(graph: Graph, block: Block) -> tuple[fx.GraphModule, fx.Node]:
        if not isinstance(graph.module, fx.GraphModule):
            raise SuffixError(f"the network is a {type(graph.module).__name__}, not a graph module")
        nodes = [n for n in graph.module.graph.nodes if n.op == "call_module" and n.target == block.target]
        if len(nodes) != 1 or list(nodes[0].args) != nodes[0].all_input_nodes or nodes[0].kwargs:
            raise SuffixError(f"block {block.name} runs {len(nodes)} times in the flat graph, expected once")
        return graph.module, nodes[0]

    def run(self, candidate: nn.Module) -> Any:
        """Return the network's output with ``candidate`` in the block's place.

        Raises:
            SuffixError: the network writes into values that are kept.
        """
        with torch.no_grad():
            env = {**self._env, self._node: self._block.called(candidate)(*self._inputs)}
            output = fx.Interpreter(self._module).run(*self._images, initial_env=env)
        if self._changes() != self._versions:
            raise SuffixError("the network changes earlier values in place")
        return output

    def _changes(self) -> list[int]:
        """Return how often each kept value has been written into."""
        return [value._version for value in self._env.values() if isinstance(value, Tensor)]
