"""Candidates of one step of the pool: the entries worth considering, and what exchanging them changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .instance import Instance, Ints
from .relaxation import Point

SLACK = 1e-11


class Neighbourhood:
    """Candidates, block after block, of the blocks that have at least two.

    The other blocks are fixed; their part is taken off the limits.
    """

    def __init__(self, instance: Instance, earlier: NDArray[np.int64], point: Point, entries: Ints) -> None:
        """Take candidate ``entries``, sorted, at least one of each block; ``earlier`` selections, shape (K, N)."""
        counts = np.bincount(instance.block[entries], minlength=instance.blocks)
        alone = counts[instance.block[entries]] == 1
        fixed = entries[alone]
        self.fixed = fixed
        self.free = np.flatnonzero(counts > 1)
        self.entry = entries[~alone]
        self.block = np.searchsorted(self.free, instance.block[self.entry])
        self.count = len(self.entry)
        # one candidate more, which changes nothing, makes a single exchange a pair
        null = np.append(self.entry, entries[0])
        self.owner = np.concatenate([self.block, [-1]])
        self.loss, self.cost = instance.loss[null], instance.cost[:, null]
        self.potential = point.reduced[null]
        self.used = (earlier[:, instance.block[null]] == null).astype(np.int8)
        self.used[:, -1:] = 0
        self.tolls_of = self.used.astype(np.float64)
        self.room = instance.overlap - (earlier[:, instance.block[fixed]] == fixed).sum(axis=1)
        self.low = instance.low - instance.cost[:, fixed].sum(axis=1)
        self.high = instance.high - instance.cost[:, fixed].sum(axis=1)
        self.start = np.searchsorted(self.block, np.arange(len(self.free) + 1))
        spread = float(point.reduced[self.entry].mean()) if self.count else 0.0
        ranges = np.ptp(self.cost, axis=1) if self.count else np.zeros(len(self.high))
        self.price = np.maximum(point.price, spread / np.where(ranges > 0, ranges, 1.0))
        self.toll = np.maximum(point.cut_price, spread / 2) + SLACK

    def entries(self, choice: Ints) -> Ints:
        """Return the entries of the whole selection, shape (N,), in the order of the blocks."""
        chosen: Ints = np.sort(np.concatenate([self.fixed, self.entry[choice]]))
        return chosen
