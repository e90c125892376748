"""Local search for one selection: repair what breaks a limit, then improve by single and pair exchanges.

A candidate is an entry worth considering. All sums are kept for the blocks that have at least two candidates; the
other blocks are fixed and their part is taken off the limits beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .instance import Floats, Instance, Ints
from .relaxation import Point

SLACK = 1e-11
BATCH = 256
"""Pairs whose overlap is looked at in one go, best first."""
POTENTIAL = 3.0
"""Weight of the reduced cost against the loss when improving pairs are ranked: keeps room in what is scarce."""


@dataclass(frozen=True, eq=False)
class State:
    """A choice of candidates, shape (free blocks,), with its summed costs (C,) and overlaps (K,)."""

    choice: Ints
    cost: Floats
    shared: Ints


class Neighbourhood:
    """The candidates of one step and the moves between them."""

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
        self.room = instance.overlap - (earlier[:, instance.block[fixed]] == fixed).sum(axis=1)
        self.low = instance.low - instance.cost[:, fixed].sum(axis=1)
        self.high = instance.high - instance.cost[:, fixed].sum(axis=1)
        self.start = np.searchsorted(self.block, np.arange(len(self.free) + 1))
        spread = float(point.reduced[self.entry].mean()) if self.count else 0.0
        ranges = np.ptp(self.cost, axis=1) if self.count else np.zeros(len(self.high))
        self.price = 2 * np.maximum(point.price, spread / np.where(ranges > 0, ranges, 1.0))
        self.toll = 2 * np.maximum(point.cut_price, spread / 2) + SLACK

    def entries(self, choice: Ints) -> Ints:
        """Return the entries of the whole selection, shape (N,), in the order of the blocks."""
        chosen: Ints = np.sort(np.concatenate([self.fixed, self.entry[choice]]))
        return chosen

    def state(self, choice: Ints) -> State:
        """Sum up ``choice``, one candidate of each free block."""
        return State(choice, self.cost[:, choice].sum(axis=1), self.used[:, choice].sum(axis=1, dtype=np.int64))

    def repair(self, choice: Ints, most: int = 80) -> State | None:
        """Exchange single candidates until every limit and overlap holds; None if that does not come about."""
        choice = choice.copy()
        price, toll = self.price, self.toll
        for _ in range(most):
            state = self.state(choice)
            if (state.cost <= self.high).all() and (state.cost >= self.low).all() and (state.shared <= self.room).all():
                return state
            current = np.append(choice, self.count)[self.owner]
            change = self.loss - self.loss[current]
            for c in range(len(self.high)):
                cost = state.cost[c] + self.cost[c] - self.cost[c, current]
                change += price[c] * (self._excess(c, cost) - self._excess(c, state.cost[c]))
            full = np.flatnonzero(state.shared >= self.room)
            if len(full):
                used, rate = self.used[full].astype(np.float64), toll[full]
                change += np.einsum("k,kn->n", rate, used)
                change -= np.einsum("k,kn->n", rate * (state.shared > self.room)[full], used)[current]
            move = int(change[:-1].argmin()) if self.count else -1
            if move >= 0 and change[move] < -SLACK:
                choice[self.block[move]] = move
            else:
                price, toll = 2 * price, 2 * toll
        return None

    def _excess(self, c: int, cost: Floats) -> Floats:
        over: Floats = np.maximum(cost - self.high[c], 0.0) + np.maximum(self.low[c] - cost, 0.0)
        return over

    def descend(self, state: State) -> Ints:
        """Exchange pairs while that lowers the loss and breaks nothing; return the choice."""
        while True:
            current = np.append(state.choice, self.count)[self.owner]
            current[-1] = self.count
            lower = self.loss - self.loss[current]
            first = np.flatnonzero(lower < -SLACK)
            if not len(first):
                return state.choice
            second = np.flatnonzero(lower < -lower[first].min())
            moves = self._improving(state, current, lower, first, second)
            pair = self._first_that_fits(state, current, *moves)
            if pair is None:
                return state.choice
            choice = state.choice.copy()
            for move in pair:
                if move < self.count:
                    choice[self.block[move]] = move
            state = self.state(choice)

    def _improving(self, state: State, current: Ints, lower: Floats, first: Ints, second: Ints) -> tuple[Ints, Ints]:
        """Return pairs that lower the loss within the cost limits, the most promising first."""
        change = lower[first][:, None] + lower[second][None]
        good = (change < -SLACK) & (self.owner[first][:, None] != self.owner[second][None])
        for c in range(len(self.high)):
            dearer = self.cost[c] - self.cost[c, current]
            cost = dearer[first][:, None] + dearer[second][None]
            good &= cost <= self.high[c] - state.cost[c]
            if np.isfinite(self.low[c]):
                good &= cost >= self.low[c] - state.cost[c]
        at = np.flatnonzero(good)
        above = POTENTIAL * (self.potential - self.potential[current])
        rank = (lower[first] + above[first])[:, None] + (lower[second] + above[second])[None]
        at = at[np.argsort(rank.ravel()[at], kind="stable")]
        return first[at // len(second)], second[at % len(second)]

    def _first_that_fits(self, state: State, current: Ints, first: Ints, second: Ints) -> tuple[int, int] | None:
        tight = np.flatnonzero(state.shared >= self.room - 1)
        if not len(first):
            return None
        if not len(tight):
            return int(first[0]), int(second[0])
        used = self.used[tight]
        change = used - used[:, current]
        left = (self.room - state.shared)[tight][:, None]
        for begin in range(0, len(first), BATCH):
            one, two = first[begin : begin + BATCH], second[begin : begin + BATCH]
            fits = (change[:, one] + change[:, two] <= left).all(axis=0)
            if fits.any():
                at = int(fits.argmax())
                return int(one[at]), int(two[at])
        return None
