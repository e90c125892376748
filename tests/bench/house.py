"""Draw the house: floors, rooms and who uses whom, from the imports.

    python tests/bench/house.py docs/house.svg

A room is a folder; its line says what its ``__init__.py`` says. The floors are those of ``tests/test_layering.py``. A
line leads from a room to each room of its own floor that it uses; every floor below may be used, which goes without.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

from hant.passes.reporting.figures.canvas import FAINT, INK, PALETTE, Canvas
from hant.tests.test_layering import FILES, FLOORS, ROOT, imports, room

WIDTH, HEIGHT, GAP, LEFT, COLUMNS = 232.0, 58.0, 16.0, 16.0, 5
LINE = 36
"""Characters that fit into a room."""


def rooms() -> dict[str, tuple[str, int]]:
    """Return the first sentence and the number of lines of every folder, by its dotted name."""
    found: dict[str, tuple[str, int]] = {}
    for path in FILES:
        folder = ".".join(path.parent.parts)
        text, lines = found.get(folder, ("", 0))
        source = (ROOT / path).read_text()
        if path.name == "__init__.py":
            text = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        found[folder] = text, lines + source.count("\n")
    return {name: facts for name, facts in found.items() if facts[1] > 1}


def uses(names: dict[str, tuple[str, int]]) -> dict[tuple[str, str], int]:
    """Return how many imports lead from one room to another of the same floor."""
    counted: dict[tuple[str, str], int] = defaultdict(int)
    for path in FILES:
        own = ".".join(path.parent.parts)
        for _, module in imports((ROOT / path).read_text(), path):
            parts = module.split(".")
            there = next((n for k in range(len(parts), 0, -1) if (n := ".".join(parts[:k])) in names), "")
            if own in names and there not in ("", own) and FLOORS[room(own)] == FLOORS[room(there)]:
                counted[own, there] += 1
    return counted


def floors(names: dict[str, tuple[str, int]]) -> list[tuple[str, list[str]]]:
    """Return the rooms of every floor, the top floor first; a floor is called as its entry of ``FLOORS``."""
    on: dict[int, list[str]] = defaultdict(list)
    for name in names:
        on[FLOORS[room(name)]].append(name)
    return [(str(level), sorted(on[level])) for level in sorted(on, reverse=True)]


def wrapped(text: str) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > LINE:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines[:2]


def drawing() -> str:
    names = rooms()
    storeys = floors(names)
    rows = sum(-(-len(group) // COLUMNS) for _, group in storeys)
    canvas = Canvas(LEFT * 2 + COLUMNS * (WIDTH + GAP), 48 + rows * (HEIGHT + GAP) + len(storeys) * GAP)
    canvas.text(LEFT, 26, "The house: a floor may use its own and all below it", 15)
    middle: dict[str, tuple[float, float]] = {}
    boxes = []
    y = 44.0
    for place, (_, group) in enumerate(storeys):
        for start in range(0, len(group), COLUMNS):
            for column, name in enumerate(group[start : start + COLUMNS]):
                x = LEFT + column * (WIDTH + GAP)
                middle[name] = (x + WIDTH / 2, y + HEIGHT / 2)
                boxes.append((x, y, name, PALETTE[place % len(PALETTE)]))
            y += HEIGHT + GAP
        canvas.line([(LEFT, y - GAP / 2 + 4), (canvas.width - LEFT, y - GAP / 2 + 4)], FAINT)
        y += GAP
    for a, b in uses(names):
        canvas.line([middle[a], middle[b]], FAINT)
    for x, top, name, colour in boxes:
        text, lines = names[name]
        canvas.rectangle(x, top, WIDTH, HEIGHT, "#ffffff", colour, f"{name}: {text}")
        canvas.text(x + 8, top + 18, name.replace(".", "/"), 12, colour=colour)
        canvas.text(x + WIDTH - 8, top + 18, f"{lines} lines", 9, "end")
        for place, line in enumerate(wrapped(text)):
            canvas.text(x + 8, top + 34 + 14 * place, line, 10, colour=INK)
    return canvas.svg


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(drawing())
