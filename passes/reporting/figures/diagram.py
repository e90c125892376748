"""Architectures drawn as columns of blocks, side by side (HANT figures 4 to 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .canvas import FAINT, INK, PALETTE, Canvas, short

_WIDTH, _HEIGHT, _GAP, _TOP, _LEFT = 150.0, 20.0, 8.0, 52.0, 150.0
_PLAIN = {"teacher": "#e8e8e8", "identity": "#ffffff"}


@dataclass(frozen=True)
class Row:
    """A block of the teacher."""

    block: str
    shape: str
    """Input and output of the block, for people."""
    downsamples: bool = False
    """Drawn with a line above it: resolution or width changes here."""


def diagrams(rows: Sequence[Row], columns: Mapping[str, Mapping[str, str]], title: str) -> str:
    """Return one column an architecture and one box a block, coloured by family of operation, as SVG.

    ``columns`` holds {block: operation} by the column's heading.
    """
    width = _LEFT + (_WIDTH + 16) * len(columns) + 16
    height = _TOP + (_HEIGHT + _GAP) * (len(rows) + 2) + 12
    canvas = Canvas(width, height)
    canvas.text(width / 2, 22, title, 14, "middle")
    families = _families(columns)
    for place, row in enumerate(rows):
        y = _y(place)
        canvas.text(_LEFT - 12, y + 14, short(row.block, 22), 11, "end")
        if row.downsamples:
            canvas.line([(8, y - _GAP / 2), (width - 8, y - _GAP / 2)], "#999999", 1, "3 3")
    for place, (name, choice) in enumerate(columns.items()):
        _column(canvas, _LEFT + (_WIDTH + 16) * place, name, rows, choice, families)
    return canvas.svg


def _column(
    canvas: Canvas, x: float, name: str, rows: Sequence[Row], choice: Mapping[str, str], families: Mapping[str, str]
) -> None:
    middle, last = x + _WIDTH / 2, _y(len(rows))
    canvas.text(middle, 42, name, 12, "middle")
    canvas.line([(middle, _y(-1) + 12), (middle, last + 4)], FAINT, 2)
    canvas.text(middle, last + 18, "output", 11, "middle")
    for place, row in enumerate(rows):
        operation, y = choice.get(row.block, "teacher"), _y(place)
        fill = families[_family(operation)]
        edge = FAINT if operation == "identity" else INK
        canvas.rectangle(x, y, _WIDTH, _HEIGHT, fill, edge, f"{row.block}: {operation}, {row.shape}")
        canvas.text(middle, y + 14, short(operation, 24), 10.5, "middle", "#888888" if operation == "identity" else INK)


def _y(place: int) -> float:
    return _TOP + (_HEIGHT + _GAP) * (place + 0.5)


def _family(operation: str) -> str:
    """Return the part of a name before its hyperparameters: ``cb_stack`` of ``cb_stack_3x3_ex0.5``."""
    parts = operation.split("_")
    kept = [part for part in parts if not part[:1].isdigit()]
    return "_".join(kept[: 1 if parts[0].startswith("ef") else 2]) or operation


def _families(columns: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return a pale colour for each family, by the families' names."""
    names = sorted({_family(op) for choice in columns.values() for op in choice.values()} - set(_PLAIN))
    pale = {name: _pale(PALETTE[i % len(PALETTE)]) for i, name in enumerate(names)}
    return {**_PLAIN, **pale}


def _pale(colour: str) -> str:
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - 0.35 * (255 - part)):02x}" for part in parts)
