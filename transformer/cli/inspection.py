"""``hant-opt inspect``: the blocks of a network and why the rest is in no block."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from ..contracts.store import RunStore, write_atomically
from ..errors import StorageError
from ..ir.block import Block
from ..ir.graph import Graph
from ..pipeline.build import build_pipeline
from ..pipeline.config import Config
from ..pipeline.session import Materials, load_materials, make_context
from .picture import picture
from .resolve import resolve
from .streams import hush, result_only
from .tables import number, write_line, write_table


def run_inspect(flags: dict[str, Any]) -> int:
    """Capture the network and print its blocks."""
    job = resolve(flags)
    hush(flags["verbose"])
    with result_only():
        graph = captured(job.config, load_materials(job.config))
    if flags["svg"]:
        save_picture(graph, Path(flags["svg"]))
    if flags["as_json"]:
        sys.stdout.write(json.dumps(as_plain(graph), indent=1) + "\n")
        return 0
    console = Console()
    if flags["graph"]:
        write_line(console, str(graph))
    write_blocks(graph, console)
    return 0


def captured(config: Config, materials: Materials) -> Graph:
    """Return the captured network without making a run."""
    pipeline = build_pipeline(config)
    with tempfile.TemporaryDirectory(prefix="hant-") as folder, RunStore(Path(folder)) as store:
        context = pipeline.run(make_context(config, materials, store), only=("capture",))
    return context.teacher


def write_blocks(graph: Graph, console: Console) -> None:
    """Print blocks, coverage and diagnostics."""
    heads = ("block", "kind", "class", "input", "output", "identity", "replace", "MACs", "params", "share")
    rows = [
        (
            row["name"],
            row["kind"],
            row["class"],
            row["input"],
            row["output"],
            "yes" if row["identity"] else "no",
            "yes" if row["replaceable"] else "no",
            number(row["macs"]),
            number(row["parameters"]),
            f"{100 * row['share']:.1f} %",
        )
        for row in block_rows(graph)
    ]
    write_table(console, heads, rows, right=3)
    cover = coverage(graph)
    largest = max(graph.blocks, key=lambda block: block.macs, default=None)
    share = f"; the largest, {largest.name}, holds {100 * cover['largest']:.1f} %" if largest is not None else ""
    write_line(
        console,
        f"all blocks hold {100 * cover['all']:.1f} % of the MACs, the trunk's {100 * cover['trunk']:.1f} %{share}",
    )
    write_line(
        console,
        f"{len(graph.replaceable)} replaceable blocks of {len(graph.blocks)} hold {100 * cover['macs']:.1f} % of "
        f"{number(graph.macs)} MACs and {100 * cover['parameters']:.1f} % of {number(graph.parameters)} parameters",
    )
    for diagnostic in graph.diagnostics:
        write_line(console, f"note: {diagnostic}")


def block_rows(graph: Graph) -> list[dict[str, Any]]:
    """Return the blocks as plain data; ``share`` is of the network's MACs."""
    return [
        {
            "name": block.name,
            "kind": str(block.kind),
            "class": block.class_name,
            "input": str(block.input),
            "output": str(block.output),
            "macs": block.macs,
            "parameters": block.parameters,
            "share": block.macs / graph.macs if graph.macs else 0.0,
            "identity": block.identity_allowed,
            "replaceable": block.replaceable,
            "calls": block.calls,
            "trunk": block.trunk,
        }
        for block in graph.blocks
    ]


def coverage(graph: Graph) -> dict[str, float]:
    """Return shares of the network's MACs, and of its parameters.

    ``macs`` and ``parameters`` are those in replaceable blocks; ``all`` are MACs in any block, stems and heads too,
    ``trunk`` in blocks whose input and output hold the whole flow, ``largest`` in the largest block.
    """

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


def save_picture(graph: Graph, path: Path) -> None:
    """Draw the blocks into an SVG file.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        write_atomically(path, picture(graph, type(graph.module).__name__))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; give another --svg") from error


def as_plain(graph: Graph) -> dict[str, Any]:
    """Return everything that is known of the graph as plain data."""
    return {
        "inputs": [str(item) for item in graph.inputs],
        "macs": graph.macs,
        "parameters": graph.parameters,
        "coverage": coverage(graph),
        "blocks": block_rows(graph),
        "diagnostics": [
            {"where": item.where, "reason": item.reason, "source": item.source} for item in graph.diagnostics
        ],
    }
