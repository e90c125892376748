"""Exact optimum under one budget: dynamic programming over Pareto states, on the few entries that can matter.

1. An entry whose reduced cost exceeds the gap between incumbent and dual bound is in no better selection.
2. A partial selection whose reduced costs sum to more than the gap leads to no better selection.
3. Of two partial selections of the same blocks, one that is no cheaper and has no less loss is dropped.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dual import Dual, solve_dual
from .instance import Floats, Instance, Ints
from .limits import holds
from .relaxation import Point

SLACK = 1e-11
"""Room for rounding in comparisons of sums of numbers below 1, so that no optimum is pruned."""
MOST_STATES = 400_000


class TooManyStatesError(Exception):
    """The instance is one of the rare hard ones; branch and bound is the better way."""


def optimum_under_budget(instance: Instance) -> Ints:
    """Return the entries, shape (N,), of an optimal selection under one upper limit.

    Args:
        instance: scaled, with exactly one limited cost, an upper limit that can be held.

    Raises:
        TooManyStatesError: more Pareto states than fit.
    """
    dual = solve_dual(instance)
    incumbent = _improve(instance, dual)
    within = max(float(instance.loss[incumbent].sum()) - dual.bound, 0.0)
    tried = within / 32
    while True:
        best = _search(instance, dual, tried)
        if best is not None:
            above = float(instance.loss[best].sum()) - dual.bound
            if above < within:
                incumbent, within = best, above
        # everything within ``tried`` of the bound was seen, what the budget leaves unspent counts too
        if within <= tried:
            return incumbent
        tried = min(4 * tried, within)


def optimum_near(instance: Instance, point: Point) -> Ints | None:
    """Return the entries of an optimal selection under upper limits on one cost and on the number of changes.

    As ``optimum_under_budget``, with the relaxation's reduced costs, and states compared only among those with as many
    changes. None if no selection holds the limits.

    Args:
        instance: scaled, with two limited costs of which the second is a multiple of 0 and 1.
        point: the relaxation's optimum.

    Raises:
        TooManyStatesError: more Pareto states than fit.
    """
    dual = Dual(0.0, point.bound, point.reduced, np.zeros(0, dtype=np.int64))
    everything = float(np.maximum.reduceat(point.reduced, instance.start[:-1]).sum())
    tried = everything / 2**16
    while True:
        best = _search(instance, dual, tried)
        # whatever loses at most ``tried`` more than the bound was seen
        if tried >= everything or (best is not None and float(instance.loss[best].sum()) - dual.bound <= tried):
            return best
        tried = min(4 * tried, everything)


def _improve(instance: Instance, dual: Dual) -> Ints:
    """Spend what the budget has left on the single changes that lower the loss most; exactly feasible."""
    chosen = dual.holding.copy()
    if not holds(instance, chosen):
        cost, loss = instance.cost[0], instance.loss
        starts = zip(instance.start[:-1], instance.start[1:], strict=True)
        chosen = np.array([b + np.lexsort((loss[b:e], cost[b:e]))[0] for b, e in starts], dtype=np.int64)
    for _ in range(4 * instance.blocks):
        room = float(instance.high[0]) - instance.cost[0, chosen].sum()
        lower = instance.loss - instance.loss[chosen][instance.block]
        dearer = instance.cost[0] - instance.cost[0, chosen][instance.block]
        move = int(np.where(dearer <= room, lower, np.inf).argmin())
        if lower[move] >= -SLACK:
            break
        changed = chosen.copy()
        changed[instance.block[move]] = move
        if not holds(instance, changed):
            break
        chosen = changed
    return chosen


def _search(instance: Instance, dual: Dual, gap: float) -> Ints | None:
    """Return the best selection within ``gap`` of the dual bound, None if there is none.

    A second limited cost counts changes: it is added up exactly, and states are compared where it is the same.
    """
    kept = np.flatnonzero(dual.reduced <= gap + SLACK)
    limit = float(instance.high[0])
    entries = _states(instance, dual, kept, gap, instance.cost[0], limit + SLACK * (1 + abs(limit)))
    if entries is None or holds(instance, entries):
        return entries
    # the best one holds the budget only within rounding: count in integers, which are exact
    shares = [Fraction(float(v)) for v in instance.cost[0]]
    unit = max(s.denominator for s in [*shares, Fraction(limit)])
    whole = np.array([int(s * unit) for s in shares], dtype=object)
    return _states(instance, dual, kept, gap, whole, int(Fraction(limit) * unit))


def _states(instance: Instance, dual: Dual, kept: Ints, gap: float, cost: NDArray[Any], limit: Any) -> Ints | None:
    """Run the program over ``kept`` entries; ``cost`` and ``limit`` are floats, or integers for exactness."""
    start = np.searchsorted(instance.block[kept], np.arange(instance.blocks + 1))
    order = np.argsort(np.diff(start), kind="stable")
    groups = [kept[start[i] : start[i + 1]] for i in order]
    cheapest = [cost[group].min() for group in groups]
    rest = [limit] * (len(groups) + 1)
    for step in range(len(groups) - 1, -1, -1):
        rest[step] = rest[step + 1] - cheapest[step]
    counted = instance.cost[1] if len(instance.names) > 1 else np.zeros(len(instance.block))
    most = float(instance.high[1]) if len(instance.names) > 1 else 0.0
    spent, lost, above, changed = cost[:1] * 0, np.zeros(1), np.zeros(1), np.zeros(1)
    trail: list[tuple[Ints, Ints]] = []
    for step, group in enumerate(groups):
        spent = (spent[:, None] + cost[group][None]).ravel()
        lost = (lost[:, None] + instance.loss[group][None]).ravel()
        above = (above[:, None] + dual.reduced[group][None]).ravel()
        changed = (changed[:, None] + counted[group][None]).ravel()
        within = (above <= gap + SLACK) & (changed <= most)
        alive = np.flatnonzero(within & (spent <= rest[step + 1]).astype(np.bool_))
        alive = np.concatenate(
            [_alive(alive, changed, count, spent, lost) for count in np.unique(changed[alive])] or [alive]
        )
        if not len(alive):
            return None
        if len(alive) > MOST_STATES:
            raise TooManyStatesError
        spent, lost, above, changed = spent[alive], lost[alive], above[alive], changed[alive]
        trail.append((alive // len(group), group[alive % len(group)]))
    return _backtrack(instance, trail, int(lost.argmin()))


def _alive(states: Ints, changed: Floats, count: float, spent: NDArray[Any], lost: Floats) -> Ints:
    """Return the Pareto states among those of ``states`` with ``count`` changes."""
    same = states[changed[states] == count]
    front: Ints = same[_front(spent[same], lost[same])]
    return front


def _front(spent: NDArray[Any], lost: Floats) -> Ints:
    """Return positions of the Pareto states, cheapest first."""
    if not len(spent):
        return np.zeros(0, dtype=np.int64)
    order = np.argsort(lost, kind="stable")
    order = order[np.argsort(spent[order], kind="stable")]
    ranked = lost[order]
    better = np.ones(len(order), dtype=np.bool_)
    better[1:] = ranked[1:] < np.minimum.accumulate(ranked)[:-1]
    front: Ints = order[better]
    return front


def _backtrack(instance: Instance, trail: list[tuple[Ints, Ints]], state: int) -> Ints:
    entries = np.empty(instance.blocks, dtype=np.int64)
    for parents, used in reversed(trail):
        entry = int(used[state])
        entries[instance.block[entry]] = entry
        state = int(parents[state])
    return entries
