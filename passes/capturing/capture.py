"""Capture: the teacher becomes a graph with blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...transformer.capture.blocks.choose import Granularity
from ...transformer.capture.trace import trace
from ...transformer.capture.verify import verify_same
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Pass, PassResult
from .inspection import FILE, inspect_graph


@dataclass(frozen=True)
class CapturePass(Pass):
    """Trace the teacher, find its blocks, and compare both on random data. Runs each time: a graph is in memory."""

    name: ClassVar[str] = "capture"
    ensures: ClassVar[tuple[str, ...]] = ("graph",)
    durable: ClassVar[bool] = False

    granularity: Granularity = "block"
    """``fine``, ``block`` or ``stage``."""
    include: tuple[str, ...] = ()
    """Patterns of the blocks that may be replaced; all if empty."""
    exclude: tuple[str, ...] = ()
    """Patterns of blocks that stay as they are."""

    def run(self, context: Context) -> PassResult:
        """Return the captured teacher."""
        graph = trace(
            context.model,
            context.example_inputs,
            granularity=self.granularity,
            include=self.include,
            exclude=self.exclude,
        )
        verify_same(context.model, graph.module, context.example_inputs, "keep that part out with --submodule")
        covered = sum(block.macs for block in graph.replaceable) / max(1, graph.macs)
        note = f"{len(graph.replaceable)} replaceable blocks of {len(graph.blocks)}, {covered:.0%} of all MACs"
        text = inspect_graph(graph).model_dump_json(indent=1, by_alias=True)
        path = context.store.path(FILE)
        if not path.is_file() or path.read_bytes() != text.encode():
            context.store.write(FILE, text)
        return PassResult(graph=graph, notes=(note,))
