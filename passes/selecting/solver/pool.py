"""The default engine: the first selection exact, later ones near-optimal, each with a proven bound.

1. One budget: Lagrangian dual, reduced-cost fixing, dynamic programming; with a largest number of changes the same on
   the relaxation's reduced costs. Several: relaxation, local search, branch and cut on what reduced costs leave.
2. Few blocks: all selections near the optimum are listed, as many of the pool taken from them as are certain.
3. Each later selection: the relaxation gives a bound and reduced costs, local search from rounded shares and from
   exchanged parts of the best gives the selection. Local optima are kept for the selections after it.
4. Where no selection was found, branch and cut decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....transformer.errors import InfeasibleError
from .branch import branch
from .dual import Grid, solve_dual
from .dynamic import TooManyStatesError, optimum_near, optimum_under_budget
from .enumeration import Enumerated, enumerate_pool
from .instance import CHANGES, Floats, Instance, Ints
from .limits import alone_infeasible, holds, jointly_infeasible
from .local import local_optimum
from .neighbourhood import Neighbourhood
from .problem import Selection
from .reduce import undominated
from .reference import least_with_others
from .relaxation import Point, Relaxation


@dataclass(frozen=True)
class Effort:
    """How hard to search; counts, not times, so that the same input always gives the same output."""

    starts: int = 10
    """Local searches for each selection, ..."""
    most_starts: int = 40
    """... and at most this many ..."""
    content: float = 0.005
    """... while its relative gap is above this."""
    early: int = 10
    """The first selections matter most; each of these ..."""
    early_starts: int = 80
    """... gets this many."""
    candidates: float = 4.6
    """Entries that local search may use, per block."""
    enough: float = 1e-4
    """Relative gap at which a search stops."""
    few: int = 16
    """Instances with at most this many blocks are enumerated as far as that goes, ..."""
    small: int = 200
    """... and those with at most this many entries left to branch and cut after a few local searches, ..."""
    nodes: int = 500
    """... with this many nodes at most, as where local search found no selection."""
    archive: int = 1000
    """Local optima kept."""


def pool_selections(instance: Instance, effort: Effort | None = None) -> Iterator[Selection]:
    """Yield up to ``instance.solutions`` selections.

    Raises:
        InfeasibleError: not even a first selection exists.
    """
    effort = effort or Effort()
    error = alone_infeasible(instance)
    if error is not None:
        raise error
    scaled = instance.scaled()
    entries = _first(scaled, effort)
    if entries is None:
        raise jointly_infeasible(instance, lambda c: least_with_others(instance, c))
    yield instance.selection(entries, bound=0.0, optimal=True)
    if instance.solutions == 1:
        return
    search = _Search(scaled, _relaxation(scaled), effort, float(scaled.loss[entries].sum()))
    listed = Enumerated([entries], complete=False)
    if instance.blocks <= effort.few:
        listed = enumerate_pool(scaled, search.start(), entries)
    for entries in listed.selections[1:]:
        yield instance.selection(entries, bound=0.0, optimal=True)
    if listed.complete:
        return
    for before in listed.selections[:-1]:
        search.exclude(before)
    for _ in range(len(listed.selections), instance.solutions):
        entries = search.next_after(entries)
        if entries is None:
            return
        yield instance.selection(entries, bound=search.bound * instance.unit)


def _relaxation(instance: Instance) -> Relaxation:
    """Begin with the entries of least reduced cost and the extremes of each block; others come in when they matter."""
    grid = Grid(instance)
    extremes = [grid.best(instance.loss), *(grid.best(row) for row in instance.cost)]
    if len(instance.names) == 1 and np.isfinite(instance.high[0]):
        reduced = solve_dual(instance).reduced
        extremes.append(np.argsort(reduced, kind="stable")[: 6 * instance.blocks])
    return Relaxation(instance, np.concatenate(extremes))


def _first(instance: Instance, effort: Effort) -> Ints | None:
    """Return an optimal selection, None if there is none."""
    if not len(instance.names):
        return Grid(instance).best(instance.loss)
    if len(instance.names) == 1 and np.isneginf(instance.low[0]):
        try:
            return optimum_under_budget(instance)
        except TooManyStatesError:
            pass
    relaxation = _relaxation(instance)
    point = relaxation.solve()
    if point is None:
        return None
    if len(instance.names) == 2 and instance.names[1] == CHANGES and np.isneginf(instance.low[0]):
        try:
            return optimum_near(instance, point)
        except TooManyStatesError:
            pass
    search = _Search(instance, relaxation, effort, point.bound)
    search.improve(point, effort.starts)
    search.ask_branch(point, gap=0.0)
    return search.best


class _Search:
    """What is known while the pool grows."""

    def __init__(self, instance: Instance, relaxation: Relaxation, effort: Effort, bound: float) -> None:
        self.instance, self.relaxation, self.effort = instance, relaxation, effort
        self.bound = bound
        self.best: Ints | None = None
        self.best_loss = np.inf
        self.archive: NDArray[np.int64] = np.zeros((0, instance.blocks), dtype=np.int64)
        self.archive_loss: Floats = np.zeros(0)

    def start(self) -> Point:
        """Return the relaxation's optimum; before any selection is excluded there is one."""
        point = self.relaxation.solve()
        assert point is not None, "a selection exists"
        return point

    def exclude(self, entries: Ints) -> None:
        """Exclude ``entries`` without asking for the next."""
        self.relaxation.exclude(entries)
        self.bound = max(self.bound, float(self.instance.loss[entries].sum()))

    def next_after(self, entries: Ints) -> Ints | None:
        """Exclude ``entries`` and return the next selection, None if there is none; ``bound`` is then its bound."""
        self.relaxation.exclude(entries)
        point = self.relaxation.solve()
        if point is None:
            return None
        self.bound = max(self.bound, point.bound)
        self._keep_compatible(entries)
        effort = self.effort
        if len(self.instance.block) <= effort.small:
            self.improve(point, 4)
            if self._gap() > effort.enough:
                self.ask_branch(point, gap=0.0, nodes=effort.nodes)
            return self.best
        early = len(self.relaxation.earlier) < effort.early
        self.improve(point, effort.early_starts if early else effort.starts, effort.most_starts)
        if self.best is None:
            self.ask_branch(point, gap=effort.content, nodes=effort.nodes)
        return self.best

    def improve(self, point: Point, starts: int, most: int = 0) -> None:
        """Run ``starts`` local searches, up to ``most`` if the gap is wide; keep the best and every local optimum."""
        instance, earlier = self.instance, self.relaxation.earlier
        moves = Neighbourhood(instance, earlier, point, self._candidates(point))
        share = point.share[moves.entry]
        share = np.maximum(share, 1e-9)
        total = np.concatenate([[0.0], np.cumsum(share)])
        begin, width = total[moves.start[:-1]], np.diff(total[moves.start])
        random = np.random.default_rng(len(earlier))
        fractional = _fractional(share, moves)
        found = []
        for start in range(max(starts, most)):
            if self._gap() <= (self.effort.enough if start < starts else self.effort.content):
                break
            at = begin + width * random.random(len(begin))
            choice = np.clip(np.searchsorted(total, at, side="right") - 1, moves.start[:-1], moves.start[1:] - 1)
            if start == 0:
                choice = _largest(share, moves)
            elif self.best is not None and start > starts // 2 and len(fractional):
                choice = self._exchange_part(moves, choice, fractional, random)
            optimum = local_optimum(moves, choice)
            if optimum is not None:
                found.append(moves.entries(optimum))
                self._offer(found[-1])
        self._store(found)

    def _candidates(self, point: Point) -> Ints:
        """Return the entries of least reduced cost that no other makes useless, and those in use; sorted."""
        instance = self.instance
        count = min(int(self.effort.candidates * instance.blocks) + 8, len(instance.block))
        count = min(count, instance.blocks + 400)
        near = np.argpartition(point.reduced, count - 1)[:count]
        near = near[np.argsort(near)]
        near = undominated(instance, self.relaxation.earlier, near)
        using = [near, np.flatnonzero(point.share > 1e-9), np.flatnonzero(point.reduced <= 0)]
        if self.best is not None:
            using.append(self.best)
        return np.unique(np.concatenate(using))

    def _exchange_part(self, moves: Neighbourhood, drawn: Ints, fractional: Ints, random: np.random.Generator) -> Ints:
        """Return the best selection with some blocks redrawn."""
        assert self.best is not None
        choice = np.searchsorted(moves.entry, self.best[moves.free])
        chosen = random.choice(fractional, min(10, len(fractional)), replace=False)
        choice[chosen] = drawn[chosen]
        return choice

    def _gap(self) -> float:
        """Relative gap of the best selection."""
        if self.best is None:
            return np.inf
        return max(self.best_loss - self.bound, 0.0) / max(abs(self.bound), 1e-300)

    def _offer(self, entries: Ints) -> None:
        loss = float(self.instance.loss[entries].sum())
        if loss < self.best_loss and holds(self.instance, entries):
            self.best, self.best_loss = entries, loss

    def ask_branch(self, point: Point, gap: float, nodes: int | None = None) -> None:
        """Let branch and cut find a selection, whatever it takes, then a better one and a better bound."""
        instance, earlier = self.instance, self.relaxation.earlier
        try:
            if self.best is None and nodes is not None:
                answer = branch(instance, earlier, np.arange(len(instance.block)), any_will_do=True)
                if answer.entries is None:
                    return
                self._offer(answer.entries)
            kept = np.flatnonzero(point.reduced <= self.best_loss - point.bound + 1e-9)
            answer = branch(instance, earlier, kept, gap, nodes)
        except InfeasibleError:
            if not len(earlier):
                raise
            return
        if answer.entries is not None:
            self._offer(answer.entries)
        self.bound = max(self.bound, min(answer.bound, self.best_loss))

    def _keep_compatible(self, entries: Ints) -> None:
        """Drop from the archive what shares too much with ``entries``; the best of the rest is where to begin."""
        fits = (self.archive == entries).sum(axis=1) <= self.instance.overlap
        self.archive, self.archive_loss = self.archive[fits], self.archive_loss[fits]
        self.best, self.best_loss = None, np.inf
        for entry in self.archive[:1]:
            self._offer(entry)

    def _store(self, found: list[Ints]) -> None:
        if not found:
            return
        every = np.unique(np.vstack([self.archive, *found]), axis=0)
        loss = self.instance.loss[every].sum(axis=1)
        order = np.argsort(loss, kind="stable")[: self.effort.archive]
        self.archive, self.archive_loss = every[order], loss[order]


def _largest(share: Floats, moves: Neighbourhood) -> Ints:
    """Return the candidate of largest share in each free block."""
    order = np.lexsort((-share, moves.block))
    largest: Ints = order[moves.start[:-1]]
    return largest


def _fractional(share: Floats, moves: Neighbourhood) -> Ints:
    """Return the free blocks of which the relaxation uses more than one candidate."""
    if not moves.count:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(np.maximum.reduceat(share, moves.start[:-1]) < 1 - 1e-6)
