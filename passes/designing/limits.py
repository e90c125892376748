"""A budget's further limits as costs of the chain: parameters, their memory, multiply-accumulates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ..networks.resolution import Size, size_of
from ..selecting.select import whole_costs
from .chain import Limited
from .counts import option_counts
from .space import Place, shapes_of, structure_of
from .timing import shape_of

_BYTES = 4
"""Of a parameter."""


def further_limits(context: Context, budget: Budget, found: Sequence[Place], size: Size | None = None) -> list[Limited]:
    """Return the limits besides latency, shares being of the teacher's, with what each option costs exactly."""
    whole = whole_costs(context.teacher)
    if not budget.limits:
        return []
    tables = list(_tables(context, found, size or size_of(context)))
    unit = {"params": (0, 1), "macs": (1, 1), "memory": (0, _BYTES)}
    return [
        Limited(name, [table[unit[name][0]] * unit[name][1] for table in tables], limit.absolute(whole[name]))
        for name, limit in budget.limits
    ]


def _tables(context: Context, found: Sequence[Place], size: Size) -> Iterator[np.ndarray]:
    """Yield of each place the parameters and MACs of its options, shape (2, widths before, options).

    The head reads what the last place writes, and is counted there.
    """
    classes, channels = shape_of(context)
    maps = [shape[1:] for shape in shapes_of(structure_of([place.own for place in found]), channels, size)]
    before: tuple[int, ...] = (channels,)
    for place, entering, leaving in zip(found, maps[:-1], maps[1:], strict=True):
        rows = [[option_counts(option.item, width, entering, leaving) for option in place.options] for width in before]
        table = np.array(rows, dtype=float).transpose(2, 0, 1)
        if place is found[-1]:
            widths = np.array([option.item.width for option in place.options], dtype=float)
            table += np.stack([widths * classes + classes, widths * classes])[:, None]
        yield table
        before = place.widths
