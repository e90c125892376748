"""The linear relaxation, kept between selections: one cut more, a few dual simplex steps (HiGHS), a new bound.

Only promising entries are columns; after each solve every entry is priced and those that could help come in. The bound
is not HiGHS' word: it is the Lagrangian function of the duals over all entries, a lower bound for any multipliers.
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray

from .highs import quiet_highs
from .instance import Floats, Instance, Ints

TOLERANCE = 1e-9
ALL_BELOW = 600
"""Instances with fewer entries have all of them as columns from the start."""


@dataclass(frozen=True, eq=False)
class Point:
    """An optimum of the relaxation."""

    bound: float
    """Proven lower bound on the objective of any selection."""
    share: Floats
    """How much of each entry the relaxation uses, shape (n,)."""
    reduced: Floats
    """Reduced cost of each entry, at least 0, shape (n,)."""
    price: Floats
    """What a unit of each limited cost is worth, not negative, shape (C,)."""
    cut_price: Floats
    """What a shared block with each earlier selection is worth, shape (K,)."""


class Relaxation:
    """Selections so far and the linear program that excludes them. The instance is scaled."""

    def __init__(self, instance: Instance, promising: Ints) -> None:
        self.instance = instance
        self.earlier: NDArray[np.int64] = np.zeros((0, instance.blocks), dtype=np.int64)
        self._row_of_cut: list[int] = []
        self._cut_of_row: list[int] = []
        self._column = np.full(len(instance.block), -1, dtype=np.int64)
        self._entry = np.zeros(0, dtype=np.int64)
        self._highs = quiet_highs()
        options = {"threads": 1, "presolve": "off", "small_matrix_value": 1e-12}
        for name, value in options.items():
            self._highs.setOptionValue(name, value)
        for _ in range(instance.blocks):
            self._highs.addRow(1.0, 1.0, 0, np.zeros(0, dtype=np.int32), np.zeros(0))
        for low, high in zip(instance.low, instance.high, strict=True):
            self._highs.addRow(float(low), float(high), 0, np.zeros(0, dtype=np.int32), np.zeros(0))
        few = len(instance.block) <= ALL_BELOW
        self._activate(np.arange(len(instance.block)) if few else np.unique(promising))

    def exclude(self, entries: Ints) -> None:
        """Demand that later selections share at most ``overlap`` blocks with ``entries``, shape (N,)."""
        self.earlier = np.vstack([self.earlier, entries[None]])
        self._row_of_cut.append(-1)

    def solve(self) -> Point | None:
        """Return the optimum, None if the relaxation has no solution: then there is no selection either."""
        while True:
            self._highs.run()
            if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
                missing = np.flatnonzero(self._column < 0)
                if not len(missing):
                    return None
                self._activate(missing)
                continue
            solution = self._highs.getSolution()
            share = np.zeros(len(self.instance.block))
            share[self._entry] = solution.col_value
            if self._add_broken_cuts(share):
                continue
            duals = np.array(solution.row_dual)
            point, floor = self._price(share, duals)
            helpful = (point.reduced + floor < duals[self.instance.block] - TOLERANCE) & (self._column < 0)
            if not helpful.any():
                return point
            self._activate(np.flatnonzero(helpful))

    def _price(self, share: Floats, duals: Floats) -> tuple[Point, Floats]:
        """Return the point that ``duals`` prove and the least priced loss of each entry's block, shape (n,)."""
        instance = self.instance
        limits = duals[instance.blocks : instance.blocks + len(instance.names)]
        # a dual of the wrong sign is rounding; only one whose limit exists may enter the bound
        limits = np.where(np.isfinite(np.where(limits > 0, instance.low, instance.high)), limits, 0.0)
        cuts = np.zeros(len(self.earlier))
        cuts[self._cut_of_row] = np.maximum(-duals[instance.blocks + len(instance.names) :], 0.0)
        priced = instance.loss - np.einsum("c,cn->n", limits, instance.cost)
        used = np.flatnonzero(cuts)
        if len(used):
            weights = np.repeat(cuts[used], instance.blocks)
            priced += np.bincount(self.earlier[used].ravel(), weights=weights, minlength=len(priced))
        floor = np.minimum.reduceat(priced, instance.start[:-1])
        sides = np.where(limits > 0, instance.low, instance.high)
        bound = floor.sum() + (limits[limits != 0] * sides[limits != 0]).sum() - instance.overlap * cuts.sum()
        above = floor[instance.block]
        # rounding of the sums above is far below this
        bound = float(bound) - 1e-13 * instance.blocks
        return Point(bound, share, priced - above, np.abs(limits), cuts), above

    def _add_broken_cuts(self, share: Floats) -> bool:
        """Make rows of the cuts that ``share`` breaks; most never bind, so they stay out of the program."""
        shared = share[self.earlier].sum(axis=1)
        added = False
        for cut in np.flatnonzero(shared > self.instance.overlap + TOLERANCE).tolist():
            if self._row_of_cut[cut] >= 0:
                continue
            columns = self._column[self.earlier[cut]]
            if (columns < 0).any():
                self._activate(self.earlier[cut][columns < 0])
                columns = self._column[self.earlier[cut]]
            self._row_of_cut[cut] = self._highs.getNumRow()
            self._cut_of_row.append(cut)
            values = np.ones(self.instance.blocks)
            limit = float(self.instance.overlap)
            self._highs.addRow(-highspy.kHighsInf, limit, len(values), columns.astype(np.int32), values)
            added = True
        return added

    def _activate(self, entries: Ints) -> None:
        """Make columns of ``entries``: a 1 in the block's row, the costs, a 1 in each cut that uses the entry."""
        instance = self.instance
        rows, limited = len(entries), len(instance.names)
        self._column[entries] = len(self._entry) + np.arange(rows)
        self._entry = np.concatenate([self._entry, entries])
        index = [np.concatenate([[instance.block[e]], instance.blocks + np.arange(limited)]) for e in entries]
        value = [np.concatenate([[1.0], instance.cost[:, e]]) for e in entries]
        if self._cut_of_row:
            using = self.earlier[self._cut_of_row]
            for k, entry in enumerate(entries.tolist()):
                hits = np.flatnonzero((using[:, instance.block[entry]]) == entry)
                index[k] = np.concatenate([index[k], instance.blocks + limited + hits])
                value[k] = np.concatenate([value[k], np.ones(len(hits))])
        starts = np.concatenate([[0], np.cumsum([len(i) for i in index])]).astype(np.int32)
        self._highs.addCols(
            rows,
            instance.loss[entries],
            np.zeros(rows),
            np.ones(rows),
            int(starts[-1]),
            starts[:-1],
            np.concatenate(index).astype(np.int32),
            np.concatenate(value),
        )
