"""Few blocks: the diverse selections by writing down every selection that could be one of them. Exact.

The relaxation is weak where few blocks decide, and branch and cut takes half a second for each selection. The
selections whose Lagrangian bound is near the optimum are so few there that they can all be listed and sorted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .instance import Floats, Instance, Ints
from .limits import holds
from .relaxation import Point

MOST_LISTED = 1_500_000
"""Most (part of a) selections to keep in memory at once; more, and enumeration gives up."""
ROUNDING = 1e-9
"""Sums nearer to a limit than this are decided in exact arithmetic. The instance is scaled."""


@dataclass(frozen=True, eq=False)
class Enumerated:
    """Optimal selections as entries, each the best of those that fit with the ones before it."""

    selections: list[Ints]
    complete: bool
    """Whether no other selection fits with these, or as many were found as were asked for."""


def enumerate_pool(instance: Instance, point: Point, first: Ints, most: int = MOST_LISTED) -> Enumerated:
    """Return the first selections of the diverse pool, all of them unless more than ``most`` have to be listed.

    Args:
        instance: scaled.
        point: the relaxation's optimum before any selection is excluded.
        first: an optimal selection, the first of the pool.
        most: selections, finished or not, that may be listed at once.
    """
    found = [first]
    slack = _first_slack(point)
    while True:
        everything = slack >= point.reduced.sum()
        listed = _within(instance, point, slack, most)
        if listed is None:
            return Enumerated(found, complete=False)
        found = _diverse(instance, listed, first, np.inf if everything else point.bound + slack)
        if everything or len(found) == instance.solutions:
            return Enumerated(found, complete=True)
        slack *= 2


def _first_slack(point: Point) -> float:
    """Return a small step above the bound: a tenth of the median entry's reduced cost."""
    positive = point.reduced[point.reduced > ROUNDING]
    return 0.1 * float(np.median(positive)) if len(positive) else 1.0


def _within(instance: Instance, point: Point, slack: float, most: int) -> Ints | None:
    """Return all selections whose reduced costs sum to at most ``slack`` and that can hold the limits, shape (S, N)."""
    starts = instance.start[:-1]
    least = np.minimum.reduceat(instance.cost, starts, axis=1)
    largest = np.maximum.reduceat(instance.cost, starts, axis=1)
    to_come, at_most = least.sum(axis=1), largest.sum(axis=1)
    parts = np.zeros((1, 0), dtype=np.int64)
    reduced, cost = np.zeros(1), np.zeros((len(instance.names), 1))
    for block in range(instance.blocks):
        entries = np.arange(instance.start[block], instance.start[block + 1])
        entries = entries[point.reduced[entries] <= slack + ROUNDING]
        if len(parts) * len(entries) > 20 * most:
            return None
        to_come, at_most = to_come - least[:, block], at_most - largest[:, block]
        sums = reduced[:, None] + point.reduced[entries][None]
        keep = sums <= slack + ROUNDING
        for c, row in enumerate(instance.cost):
            total = cost[c][:, None] + row[entries][None]
            keep &= total + to_come[c] <= instance.high[c] + ROUNDING
            keep &= total + at_most[c] >= instance.low[c] - ROUNDING
        part, entry = np.nonzero(keep)
        if len(part) > most:
            return None
        parts = np.column_stack([parts[part], entries[entry]])
        reduced, cost = sums[part, entry], cost[:, part] + instance.cost[:, entries[entry]]
    return parts[_holding(instance, parts, cost)]


def _holding(instance: Instance, selections: Ints, cost: Floats) -> NDArray[np.bool_]:
    """Return which selections hold the limits; those near one are added up exactly."""
    low, high = instance.low[:, None], instance.high[:, None]
    clear: NDArray[np.bool_] = np.logical_and.reduce((cost < high - ROUNDING) & (cost > low + ROUNDING), axis=0)
    for index in np.flatnonzero(~clear).tolist():
        clear[index] = holds(instance, selections[index])
    return clear


def _diverse(instance: Instance, listed: Ints, first: Ints, bound: float) -> list[Ints]:
    """Return, best first, the selections of loss at most ``bound`` that share few enough blocks with each before."""
    loss = instance.loss[listed].sum(axis=1)
    near = np.flatnonzero(loss <= bound)
    rest = listed[near[np.lexsort((*listed[near].T[::-1], loss[near]))]]
    found = [first]
    while True:
        rest = rest[(rest == found[-1]).sum(axis=1) <= instance.overlap]
        if not len(rest) or len(found) >= instance.solutions:
            return found
        found.append(rest[0].copy())
