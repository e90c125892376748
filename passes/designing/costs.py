"""What super-blocks take on the target: a few are timed, and terms of their widths fitted to them.

A convolution's time is a fixed part, parts by what it reads and writes, and a part by its products. A first basic block
of ``before`` to ``after`` channels then has the terms 1, before, after, before*after and after*after, a further one 1,
after and after*after, none of which can be negative. They hold for one place, since each place has its own resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ...op_library.structure import Structure
from ..networks.resolution import Size
from .records import CostRecord
from .space import Place, mark, option_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A part that is timed: ``depth`` basic blocks from ``before`` to ``after`` channels."""

    type: str
    depth: int
    before: int
    after: int


def rows(place: Place, before: Sequence[int], kind: str) -> list[Row]:
    """Return what is timed for a type: the least, the own and the largest width after each such width before.

    Of super-blocks a second basic block is timed at the three widths, behind the middle one.
    """
    entering, leaving = _three(before), _three(place.widths, place.own.item.width)
    found = [Row(kind, 1, first, after) for first in entering for after in leaving]
    if place.own.item.superblock is not None:
        found += [Row(kind, 2, entering[len(entering) // 2], after) for after in leaving]
    return found


def _three(widths: Sequence[int], own: int = 0) -> list[int]:
    middle = own or widths[len(widths) // 2]
    return sorted({widths[0], middle, widths[-1]})


def entry_terms(before: Floats, after: Floats) -> Floats:
    """Return the terms of first basic blocks, shape (..., 5)."""
    before, after = np.broadcast_arrays(before, after)
    return np.stack([np.ones(before.shape), before, after, before * after, after * after], axis=-1)


def body_terms(after: Floats) -> Floats:
    """Return the terms of further basic blocks, shape (..., 3)."""
    return np.stack([np.ones(after.shape), after, after * after], axis=-1)


def fitted(timed: Sequence[tuple[Row, float]]) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Return the coefficients of entries and bodies (ms), and the largest relative deviation of a row.

    Rows weigh by the inverse of what they take, so that small ones are met as well as large ones.
    """
    x = np.array([_terms(row) for row, _ in timed])
    y = np.maximum(np.array([ms for _, ms in timed]), 1e-6)
    scale = np.maximum(x.max(axis=0), 1e-9)
    coefficients = nnls(x / scale / y[:, None], np.ones(len(y)))[0] / scale
    error = float(np.abs(x @ coefficients / y - 1).max())
    has_body = any(row.depth > 1 for row, _ in timed)
    return tuple(coefficients[:5].tolist()), tuple(coefficients[5:].tolist()) if has_body else (), error


def _terms(row: Row) -> Floats:
    before, after = np.array(float(row.before)), np.array(float(row.after))
    return np.concatenate([entry_terms(before, after), (row.depth - 1) * body_terms(after)])


def cost_table(
    place: Place, before: Sequence[int], costs: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
) -> Floats:
    """Return what each option of a place takes (ms) after each width before it, shape (widths, options)."""
    widths = np.array(before, dtype=float)[:, None]
    table = np.empty((len(before), len(place.options)))
    for kind in place.types:
        column = [index for index, option in enumerate(place.options) if option.type == kind]
        after = np.array([place.options[index].item.width for index in column], dtype=float)
        depth = np.array([place.options[index].depth for index in column], dtype=float)
        entry, body = costs[kind]
        more = body_terms(after) @ np.array(body) * (depth - 1) if body else np.zeros(len(column))
        table[:, column] = entry_terms(widths, after) @ np.array(entry) + more
    return table


def cost_key(place: int, kind: str, size: Size | None = None) -> str:
    """Return the key of what a type takes at a place, for images of this size."""
    return f"{place}/{kind}" if size is None else f"{mark(size)}/{place}/{kind}"


def parts_ms(
    structure: Structure, channels: int, costs: Mapping[str, CostRecord], size: Size | None = None
) -> list[float]:
    """Return what each part of a structure takes alone by the fits (ms), for images of this size."""
    before = [channels, *(item.width for item in structure.items)]
    found = []
    for place, item in enumerate(structure.items):
        option = option_of(item)
        alone = Place(place, option, (option,))
        record = costs[cost_key(place, option.type, size)]
        found.append(
            float(cost_table(alone, before[place : place + 1], {option.type: (record.entry, record.body)})[0, 0])
        )
    return found
