"""Tables on standard output: rich on a terminal, aligned plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .terminal import shown, shown_lines


def write_table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], right: int = 0) -> None:
    """Print rows under heads; the last ``right`` columns hold numbers and are set to the right."""
    if console.is_terminal:
        table = Table()
        for place, head in enumerate(heads):
            table.add_column(
                Text(shown(head)), justify="right" if place >= len(heads) - right else "left", overflow="fold"
            )
        for row in rows:
            table.add_row(*(Text(shown(cell)) for cell in row))
        console.print(table)
        return
    everything = [tuple(map(shown, row)) for row in (heads, *rows)]
    widths = [max(len(row[column]) for row in everything) for column in range(len(heads))]
    for row in everything:
        cells = [
            cell.rjust(width) if place >= len(heads) - right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        write_line(console, "  ".join(cells).rstrip())


def write_line(console: Console, line: str) -> None:
    """Print a line, or several, as they are, however long; nothing in it is taken for markup or a code."""
    console.print(Text(shown_lines(line)), soft_wrap=True)


def number(value: float) -> str:
    """Return a count for people: ``269.7k``, ``40.8M``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{unit}"
    return f"{value:.4g}"
