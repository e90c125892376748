"""The blocks of a network as a picture."""

from __future__ import annotations

from ...passes.reporting.figures.canvas import FAINT, INK, PALETTE, Canvas
from ..ir.block import Block, BlockKind
from ..ir.graph import Graph
from .tables import number

_ROW, _GAP, _TOP = 22.0, 6.0, 64.0
_BOX, _BOX_WIDTH = 200.0, 190.0
_BAR, _BAR_WIDTH = 410.0, 150.0
_WIDTH = 700.0
_COLOURS = dict(zip(BlockKind, PALETTE, strict=False))


def picture(graph: Graph, title: str) -> str:
    """Return an SVG with one row a block, in order of execution.

    A box is coloured by kind and pale where the block is kept, a line leads into it where the whole flow of the network
    is in one tensor, and the bar is its share of the MACs.
    """
    canvas = Canvas(_WIDTH, _TOP + (_ROW + _GAP) * len(graph.blocks) + 40)
    canvas.text(16, 24, title, 15)
    canvas.text(16, 44, f"{number(graph.macs)} MACs, {number(graph.parameters)} parameters", 11)
    for heading, x in (("block", _BOX + 4), ("share of MACs", _BAR)):
        canvas.text(x, 56, heading, 10, colour="#888888")
    for place, block in enumerate(graph.blocks):
        _row(canvas, _TOP + (_ROW + _GAP) * place, block, block.macs / graph.macs if graph.macs else 0.0)
    x = 16.0
    for kind in dict.fromkeys(block.kind for block in graph.blocks):
        canvas.rectangle(x, canvas.height - 24, 12, 12, _COLOURS[kind])
        canvas.text(x + 17, canvas.height - 14, kind, 11)
        x += 110
    return canvas.svg


def _row(canvas: Canvas, y: float, block: Block, share: float) -> None:
    base = y + _ROW - 7
    notes = [f"x {block.calls}"] * (block.calls > 1) + ["kept"] * (not block.replaceable)
    notes += ["identity fits"] * (block.identity_allowed and block.replaceable)
    about = f"{block.name}: {block.kind} {block.class_name}, {block.input} -> {block.output}"
    canvas.text(16, base, f"{block.input} -> {block.output}", 10, colour="#666666")
    if block.trunk:
        middle = _BOX + _BOX_WIDTH / 2
        canvas.line([(middle, y - _GAP), (middle, y)], "#999999", 2)
    colour = _COLOURS[block.kind]
    canvas.rectangle(_BOX, y, _BOX_WIDTH, _ROW, colour if block.replaceable else FAINT, INK, about)
    canvas.text(_BOX + 8, base, _short(block.name), 11, colour="#ffffff" if block.replaceable else INK)
    canvas.rectangle(_BAR, y + 5, max(1.0, _BAR_WIDTH * share), _ROW - 10, colour)
    told = ", ".join([f"{100 * share:.1f} %", *notes])
    canvas.text(_BAR + _BAR_WIDTH * share + 6, base, told, 10)


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"...{name[-27:]}"
