"""What is known of a captured network as plain data: ``network.json`` of a run tells it without loading a model."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from ...transformer.ir.block import Block, Diagnostic
from ...transformer.ir.graph import Graph

FILE = "network.json"


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BlockPart(_Plain):
    """A block of the network."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    kind: str
    class_name: str = Field(validation_alias="class", serialization_alias="class")
    input: str
    output: str
    macs: int
    parameters: int
    share: float
    """Of the network's MACs."""
    identity: bool
    replaceable: bool
    calls: int
    trunk: bool


class Finding(_Plain):
    """Why a part of the network is in no block (``Diagnostic``)."""

    where: str
    reason: str
    source: str


class Inspection(_Plain):
    """A captured network. Fields are added, never renamed."""

    inputs: tuple[str, ...]
    macs: int
    parameters: int
    coverage: dict[str, float]
    """Shares of the network's MACs, and of its parameters.

    ``macs`` and ``parameters`` are those in replaceable blocks; ``all`` are MACs in any block, stems and heads too,
    ``trunk`` in blocks whose input and output hold the whole flow, ``largest`` in the largest block.
    """
    blocks: tuple[BlockPart, ...]
    diagnostics: tuple[Finding, ...]


def inspect_graph(graph: Graph) -> Inspection:
    """Return everything that is known of the graph as plain data."""
    return Inspection(
        inputs=tuple(str(item) for item in graph.inputs),
        macs=graph.macs,
        parameters=graph.parameters,
        coverage=_coverage(graph),
        blocks=tuple(_block(block, graph) for block in graph.blocks),
        diagnostics=tuple(_finding(item) for item in graph.diagnostics),
    )


def _block(block: Block, graph: Graph) -> BlockPart:
    return BlockPart(
        name=block.name,
        kind=str(block.kind),
        class_name=block.class_name,
        input=str(block.input),
        output=str(block.output),
        macs=block.macs,
        parameters=block.parameters,
        share=block.macs / graph.macs if graph.macs else 0.0,
        identity=block.identity_allowed,
        replaceable=block.replaceable,
        calls=block.calls,
        trunk=block.trunk,
    )


def _finding(item: Diagnostic) -> Finding:
    return Finding(where=item.where, reason=item.reason, source=item.source)


def _coverage(graph: Graph) -> dict[str, float]:
    def share(blocks: Iterable[Block]) -> float:
        return sum(block.macs for block in blocks) / graph.macs if graph.macs else 0.0

    inside = graph.replaceable
    return {
        "macs": share(inside),
        "parameters": sum(block.parameters for block in inside) / graph.parameters if graph.parameters else 0.0,
        "all": share(graph.blocks),
        "trunk": share(block for block in graph.blocks if block.trunk),
        "largest": max((share([block]) for block in graph.blocks), default=0.0),
    }
