"""Local search for one selection: repair what breaks a limit, then improve by exchanging one or two candidates."""

from __future__ import annotations

import numpy as np

from .instance import Floats, Ints
from .neighbourhood import SLACK, Neighbourhood

BATCH = 256
"""Pairs whose overlap is looked at in one go, best first."""
POTENTIAL = 3.0
"""Weight of the reduced cost against the loss when improving pairs are ranked: keeps room in what is scarce."""
MOST_REPAIRS = 200
HARDER = 1.5
"""Factor on the prices of broken limits when no exchange lessens them; at first they are the relaxation's."""


def local_optimum(moves: Neighbourhood, choice: Ints) -> Ints | None:
    """Return a choice, one candidate of each free block, that holds everything and that no exchange improves.

    None if ``choice`` could not be repaired.
    """
    walk = _Walk(moves, choice)
    if not walk.repair():
        return None
    while walk.improve():
        pass
    return walk.choice


class _Walk:
    """A choice and, for each candidate, what exchanging it in changes; kept up to date move by move."""

    def __init__(self, moves: Neighbourhood, choice: Ints) -> None:
        self.moves = moves
        self.choice = choice.copy()
        self.current = np.append(choice, moves.count)[moves.owner]
        self.lower = moves.loss - moves.loss[self.current]
        self.dearer = moves.cost - moves.cost[:, self.current]
        self.above = self.lower + POTENTIAL * (moves.potential - moves.potential[self.current])
        self.spent = moves.cost[:, choice].sum(axis=1)
        self.shared = moves.used[:, choice].sum(axis=1, dtype=np.int64)

    def take(self, move: int) -> None:
        """Exchange the candidate ``move`` in."""
        moves = self.moves
        block = int(moves.owner[move])
        mine = slice(int(moves.start[block]), int(moves.start[block + 1]))
        self.shared += moves.used[:, move] - moves.used[:, self.choice[block]]
        self.choice[block] = move
        self.current[mine] = move
        self.lower[mine] = moves.loss[mine] - moves.loss[move]
        self.dearer[:, mine] = moves.cost[:, mine] - moves.cost[:, move, None]
        self.above[mine] = self.lower[mine] + POTENTIAL * (moves.potential[mine] - moves.potential[move])
        self.spent = moves.cost[:, self.choice].sum(axis=1)

    def repair(self) -> bool:
        """Exchange single candidates, breaking limits less and less, until every limit and overlap holds."""
        moves, price, toll = self.moves, self.moves.price, self.moves.toll
        for _ in range(MOST_REPAIRS):
            over = self.shared > moves.room
            if not over.any() and (self.spent <= moves.high).all() and (self.spent >= moves.low).all():
                return True
            if not moves.count:
                return False
            change = self.lower.copy()
            for c in range(len(price)):
                change += price[c] * self._excess(c)
            full = np.flatnonzero(self.shared >= moves.room)
            if len(full):
                used, rate = moves.tolls_of[full], toll[full]
                change += np.einsum("k,kn->n", rate, used)
                change -= np.einsum("k,kn->n", rate * over[full], used)[self.current]
            move = int(change[:-1].argmin())
            if change[move] < -SLACK:
                self.take(move)
            else:
                price, toll = HARDER * price, HARDER * toll
        return False

    def _excess(self, c: int) -> Floats:
        """Return how much more of cost ``c`` each exchange would put out of its range."""
        spent, low, high = float(self.spent[c]), float(self.moves.low[c]), float(self.moves.high[c])
        more: Floats = np.maximum(self.dearer[c] + (spent - high), 0.0)
        if low > -np.inf:
            more += np.maximum((low - spent) - self.dearer[c], 0.0)
        return more - max(spent - high, 0.0) - max(low - spent, 0.0)

    def improve(self) -> bool:
        """Make the best exchange of one or two candidates that lowers the loss and breaks nothing; False if none."""
        first = np.flatnonzero(self.lower < -SLACK)
        if not len(first):
            return False
        second = np.flatnonzero(self.lower < -self.lower[first].min())
        pair = self._first_that_fits(*self._improving(first, second))
        if pair is None:
            return False
        for move in pair:
            if move < self.moves.count:
                self.take(move)
        return True

    def _improving(self, first: Ints, second: Ints) -> tuple[Ints, Ints]:
        """Return pairs that lower the loss within the cost limits, the most promising first."""
        moves = self.moves
        good = (self.lower[first][:, None] + self.lower[second]) < -SLACK
        good &= moves.owner[first][:, None] != moves.owner[second]
        for c in range(len(moves.high)):
            cost = self.dearer[c, first][:, None] + self.dearer[c, second]
            good &= cost <= moves.high[c] - self.spent[c]
            if moves.low[c] > -np.inf:
                good &= cost >= moves.low[c] - self.spent[c]
        at = np.flatnonzero(good)
        one, two = first[at // len(second)], second[at % len(second)]
        order = np.argsort(self.above[one] + self.above[two], kind="stable")
        return one[order], two[order]

    def _first_that_fits(self, first: Ints, second: Ints) -> tuple[int, int] | None:
        moves = self.moves
        if not len(first):
            return None
        tight = np.flatnonzero(self.shared >= moves.room - 1)
        if not len(tight):
            return int(first[0]), int(second[0])
        used = moves.used[tight]
        change = used - used[:, self.current]
        left = (moves.room - self.shared)[tight][:, None]
        for begin in range(0, len(first), BATCH):
            one, two = first[begin : begin + BATCH], second[begin : begin + BATCH]
            fits = (change[:, one] + change[:, two] <= left).all(axis=0)
            if fits.any():
                at = int(fits.argmax())
                return int(one[at]), int(two[at])
        return None
