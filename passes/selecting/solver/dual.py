"""The Lagrangian dual of one budget: min over lambda of a lower bound, found exactly by intersecting its pieces.

The dual function is ``sum_i min_j (loss_ij + lambda * cost_ij) - lambda * limit``: concave, piecewise linear. Between a
solution that breaks the budget and one that holds it, the maximum is where their two lines meet; a better solution at
that lambda replaces one of the two, and after finitely many steps there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .instance import Floats, Instance, Ints


@dataclass(frozen=True, eq=False)
class Dual:
    """The best multiplier of the budget and what it proves."""

    multiplier: float
    bound: float
    """Lower bound on the objective."""
    reduced: Floats
    """Reduced cost of each entry, shape (n,): choosing it costs at least this much above ``bound``."""
    holding: Ints
    """Entries of the selection, shape (N,), that holds the budget and is optimal for the multiplier."""


class Grid:
    """Entries as an (N, M) table, padded where blocks have fewer operations."""

    def __init__(self, instance: Instance) -> None:
        counts = np.diff(instance.start)
        self.start = instance.start[:-1]
        self.full = bool((counts == counts[0]).all())
        self.shape = (len(counts), int(counts.max()))
        self.slot = instance.block * self.shape[1] + (np.arange(len(instance.block)) - self.start[instance.block])

    def table(self, values: Floats) -> Floats:
        """Spread flat ``values`` (n,) to (N, M), infinity where there is no operation."""
        if self.full:
            return values.reshape(self.shape)
        table = np.full(self.shape[0] * self.shape[1], np.inf)
        table[self.slot] = values
        return table.reshape(self.shape)

    def best(self, values: Floats) -> Ints:
        """Return the entry of least value in each block, the first where several are equal."""
        chosen: Ints = self.start + self.table(values).argmin(axis=1)
        return chosen


def solve_dual(instance: Instance, steps: int = 200) -> Dual:
    """Return the dual optimum of an instance with one upper limit that can be held.

    Fixed point of the intersection of two lines, HANT section 2.2's program relaxed as in multiple-choice knapsack.
    """
    loss, cost, limit = instance.loss, instance.cost[0], float(instance.high[0])
    grid = Grid(instance)
    least = np.minimum.reduceat(loss, instance.start[:-1])
    breaking = grid.best(np.where(loss == least[instance.block], cost, np.inf))
    cheapest = np.minimum.reduceat(cost, instance.start[:-1])
    holding = grid.best(np.where(cost == cheapest[instance.block], loss, np.inf))
    multiplier = 0.0
    if cost[breaking].sum() <= limit:
        holding = breaking
    else:
        for _ in range(steps):
            saved = cost[breaking].sum() - cost[holding].sum()
            if saved <= 0:
                break
            crossing = (loss[holding].sum() - loss[breaking].sum()) / saved
            chosen = grid.best(loss + crossing * cost)
            value = (loss + crossing * cost)[chosen].sum()
            multiplier = crossing
            if value >= (loss + crossing * cost)[holding].sum() - 1e-13 * (1 + abs(value)):
                break
            if cost[chosen].sum() > limit:
                breaking = chosen
            else:
                holding = chosen
    priced = loss + multiplier * cost
    floor = np.minimum.reduceat(priced, instance.start[:-1])
    return Dual(multiplier, float(floor.sum() - multiplier * limit), priced - floor[instance.block], holding)
