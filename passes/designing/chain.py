"""The exact program behind a design: a chain-structured multiple-choice knapsack.

One option stands at each place of a chain. What an option costs depends on the state that the option before it leaves:
a super-block's first basic block reads as many channels as the one before wrote. So ``hant.solve``, whose costs are a
block's own, is not exact here. States are few, and the best that can still come from a state for a cost is a short
front, found from the last place to the first. With it designs are put together from the first place on, in the order
of what they can still become.

Sums are taken from the first place to the last in double precision, which keeps order: the optimum is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ...transformer.errors import InfeasibleError, UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_BEAMS = (30, 1_000, 10_000, 100_000)
"""Partial designs that are kept at a place: few find a good one, more only where the proof needs them."""
_PIVOTS = 4096
"""Labels at most that others are compared with in all costs."""
_SLACK = 1e-9
"""Relative; sums from the last place and from the first differ in their rounding."""


@dataclass(frozen=True, eq=False)
class Limited:
    """A further cost that is limited: parameters, or multiply-accumulates."""

    name: str
    cost: Sequence[Floats]
    """As ``ChainProblem.cost``."""
    limit: float


@dataclass(frozen=True, eq=False)
class ChainProblem:
    """N places; validated when it is made."""

    loss: Sequence[Floats]
    """Of each option of a place, shape (options,); the sum is made least."""
    exits: Sequence[Ints]
    """State that each option of a place leaves, shape (options,)."""
    cost: Sequence[Floats]
    """Of each option after each state of the place before, shape (states, options); one state before the first."""
    limit: float
    """On the sum of costs."""
    solutions: int = 1
    """K, how many designs to return; fewer come back where fewer exist."""
    max_overlap: float = 0.7
    """Share of the places at which a design may have the option of any earlier one."""
    further: Sequence[Limited] = ()
    """Limits that hold as well."""

    def __post_init__(self) -> None:
        states = 1
        for place, (loss, exits, cost) in enumerate(zip(self.loss, self.exits, self.cost, strict=True)):
            if not (loss.shape == exits.shape and cost.shape == (states, len(loss)) and len(loss)):
                raise UsageError(
                    f"place {place} of the chain has losses {loss.shape}, exits {exits.shape} and costs {cost.shape}; "
                    f"expected costs of {states} states for each option, at least one"
                )
            if not (np.isfinite(loss).all() and np.isfinite(cost).all() and (cost >= 0).all() and (exits >= 0).all()):
                raise UsageError(f"place {place} of the chain has numbers that are not finite, or costs below 0")
            if any(one.cost[place].shape != cost.shape for one in self.further):
                raise UsageError(f"place {place} of the chain has further costs of another shape than {cost.shape}")
            states = int(exits.max()) + 1

    @property
    def overlap(self) -> int:
        """Places that two designs may share: as ``SelectionProblem.overlap``."""
        return min(math.floor(self.max_overlap * len(self.loss) + 1e-9), len(self.loss) - 1)


@dataclass(frozen=True)
class ChainDesign:
    """One option a place, with its proof."""

    choice: tuple[int, ...]
    objective: float
    """Sum of the losses."""
    bound: float
    """Proven lower bound on the objective of any design under the same constraints, overlap included."""
    cost: float
    """Summed cost."""


def sums(problem: ChainProblem, choice: Sequence[int]) -> tuple[float, float]:
    """Return loss and cost of one option a place, summed from the first place to the last."""
    loss = cost = 0.0
    state = 0
    for place, option in enumerate(choice):
        loss += float(problem.loss[place][option])
        cost += float(problem.cost[place][state, option])
        state = int(problem.exits[place][option])
    return loss, cost


def least_cost(problem: ChainProblem) -> float:
    """Return the least that any design costs."""
    return float(_rest(problem, problem.cost)[0][0])


def _rest(problem: ChainProblem, costs: Sequence[Floats]) -> list[Floats]:
    """Return the least that the places to come cost, of every state before each place, and behind the last."""
    rest = [np.zeros(int(problem.exits[-1].max()) + 1)]
    for exits, cost in reversed(list(zip(problem.exits, costs, strict=True))):
        rest.append((cost + rest[-1][exits]).min(axis=1))
    return rest[::-1]


def solve_chain(problem: ChainProblem) -> list[ChainDesign]:
    """Return up to K designs, the best first; the first is the optimum.

    Each later one shares at most ``overlap`` places with every earlier one and is the best such, as its bound says.

    Raises:
        InfeasibleError: no design is within the limit; the message says the least cost.
    """
    least = least_cost(problem)
    fronts = _fronts(problem)
    found: list[ChainDesign] = []
    while len(found) < problem.solutions:
        design = _next(problem, fronts, np.array([design.choice for design in found], dtype=np.int64))
        if design is None:
            break
        found.append(design)
    if not found:
        raise InfeasibleError(*_why(problem, least))
    return found


def _why(problem: ChainProblem, least: float) -> tuple[str, dict[str, float]]:
    """Return which limit no design keeps, and the least that it could be."""
    if least > problem.limit:
        return f"no design is within a cost of {problem.limit:.4g}; the least costs {least:.4g}", {"cost": least}
    for one in problem.further:
        most = float(_rest(problem, one.cost)[0][0])
        if most > one.limit:
            return f"no design is within {one.limit:.4g} {one.name}; the least has {most:.4g}", {one.name: most}
    names = " and ".join(one.name for one in problem.further)
    return f"no design is within the limits of {names} and of the cost at once", {}


@dataclass(frozen=True, eq=False)
class _Front:
    """What can come from a state: the least loss of the places to come for each cost, both strictly monotone."""

    cost: Floats
    """Rising."""
    loss: Floats
    """Falling."""

    def least_loss(self, room: Floats) -> Floats:
        """Return the least loss for costs of at most ``room``; infinite where there is none."""
        index = np.searchsorted(self.cost, room, side="right") - 1
        return np.where(index >= 0, self.loss[index], np.inf) if len(self.cost) else np.full(room.shape, np.inf)


def _fronts(problem: ChainProblem) -> list[list[_Front]]:
    """Return the fronts of every state before each place, and behind the last."""
    limit = problem.limit * (1 + _SLACK)
    last = int(problem.exits[-1].max()) + 1
    fronts = [[_Front(np.zeros(1), np.zeros(1))] * last]
    for loss, exits, cost in reversed(list(zip(problem.loss, problem.exits, problem.cost, strict=True))):
        after, before = fronts[-1], []
        for row in cost:
            parts = [_joined(row[exits == state], loss[exits == state], front) for state, front in enumerate(after)]
            costs, losses = (np.concatenate(side) for side in zip(*parts, strict=True))
            inside = costs <= limit
            before.append(_pareto(costs[inside], losses[inside]))
        fronts.append(before)
    return fronts[::-1]


def _joined(cost: Floats, loss: Floats, front: _Front) -> tuple[Floats, Floats]:
    """Return cost and loss of each option with each continuation; options that others dominate are left out."""
    best = _pareto(cost, loss)
    return (best.cost[:, None] + front.cost).ravel(), (best.loss[:, None] + front.loss).ravel()


def _pareto(cost: Floats, loss: Floats) -> _Front:
    order = np.lexsort((loss, cost))
    cost, loss = cost[order], loss[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(loss)[:-1]]) if len(loss) else loss
    better = loss < before
    return _Front(cost[better], loss[better])


@dataclass(frozen=True, eq=False)
class _Labels:
    """Partial designs up to a place."""

    cost: Floats
    loss: Floats
    state: Ints
    shared: Ints
    """Places in common with each earlier design, shape (labels, designs)."""
    choice: Ints
    """Shape (labels, places so far)."""
    becomes: Floats
    """Lower bound on the loss of any design that it can become."""
    more: Floats
    """Further costs, shape (labels, costs)."""

    def __len__(self) -> int:
        return len(self.cost)

    def at(self, index: Ints) -> _Labels:
        """Return those at ``index``, in that order."""
        return _Labels(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def _next(problem: ChainProblem, fronts: list[list[_Front]], earlier: Ints) -> ChainDesign | None:
    """Return the best design that shares few enough places with all ``earlier`` ones; None if there is none."""
    best: tuple[float, float, tuple[int, ...]] | None = None
    bound = math.inf
    for beam in _BEAMS:
        found, left_out = _search(problem, fronts, earlier, beam, math.inf if best is None else best[0])
        best = found or best
        bound = math.inf if best is None else best[0]
        if left_out >= bound:
            break
        bound = min(bound, left_out)
    if best is None:
        return None
    loss, cost, choice = best
    return ChainDesign(choice, loss, min(bound, loss), cost)


def _search(
    problem: ChainProblem, fronts: list[list[_Front]], earlier: Ints, beam: int, most: float
) -> tuple[tuple[float, float, tuple[int, ...]] | None, float]:
    """Return the best design below a loss of ``most`` (loss, cost, choice), and the least that a left-out one has."""
    labels = _Labels(
        np.zeros(1), np.zeros(1), np.zeros(1, np.int64), np.zeros((1, len(earlier)), np.int64),
        np.zeros((1, 0), np.int64), np.zeros(1), np.zeros((1, len(problem.further))),
    )  # fmt: skip
    left_out = math.inf
    rests = [_rest(problem, one.cost) for one in problem.further]
    for place in range(len(problem.loss)):
        rest = [one[place + 1] for one in rests]
        grown = list(_grown(problem, fronts[place + 1], rest, earlier, place, labels, most))
        if not grown:
            return None, left_out
        labels = _undominated(_together(grown), len(problem.loss) - place - 1, problem.overlap)
        if len(labels) > beam:
            left_out = min(left_out, float(labels.becomes[beam]))
            labels = labels.at(np.arange(beam))
    if not len(labels):
        return None, left_out
    first = int(np.lexsort((labels.cost, labels.loss))[0])
    return (float(labels.loss[first]), float(labels.cost[first]), tuple(labels.choice[first].tolist())), left_out


def _grown(
    problem: ChainProblem,
    after: list[_Front],
    rest: Sequence[Floats],
    earlier: Ints,
    place: int,
    labels: _Labels,
    most: float,
) -> Iterator[_Labels]:
    """Yield the labels with each option of the place that they can be completed with, by the state that it leaves.

    ``after`` is what can come from each state, ``rest`` the least of each further cost from there.
    """
    loss, exits, cost = problem.loss[place], problem.exits[place], problem.cost[place]
    last = place == len(problem.loss) - 1
    for before in np.unique(labels.state):
        here = labels.at(np.flatnonzero(labels.state == before))
        for state, front in enumerate(after):
            options = np.flatnonzero(exits == state)
            costs = here.cost[:, None] + cost[before, options]
            losses = here.loss[:, None] + loss[options]
            room = np.where(costs <= problem.limit, 0.0, -1.0) if last else problem.limit * (1 + _SLACK) - costs
            becomes = losses + front.least_loss(room)
            slack = _SLACK * (1 + np.abs(losses))
            fine = np.isfinite(becomes) & (becomes - slack < most)
            more = np.stack(
                [here.more[:, [i]] + one.cost[place][before, options] for i, one in enumerate(problem.further)], axis=-1
            ) if problem.further else np.zeros((*becomes.shape, 0))  # fmt: skip
            for i, one in enumerate(problem.further):
                room = one.limit if last else one.limit * (1 + _SLACK) - rest[i][state]
                fine &= more[..., i] <= room
            row, column = np.nonzero(fine)
            option = options[column]
            shared = here.shared[row] + (earlier[:, place] == option[:, None] if len(earlier) else 0)
            few = (shared <= problem.overlap).all(axis=1)
            row, column, option, shared = row[few], column[few], option[few], shared[few]
            choice = np.concatenate([here.choice[row], option[:, None]], axis=1)
            states = np.full(len(row), state, np.int64)
            yield _Labels(
                costs[row, column], losses[row, column], states, shared, choice, becomes[row, column], more[row, column]
            )


def _together(parts: Sequence[_Labels]) -> _Labels:
    names = [field.name for field in fields(_Labels)]
    return _Labels(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _undominated(labels: _Labels, to_come: int, overlap: int) -> _Labels:
    """Return the labels that no other of the same state and shares beats in costs and loss, by what they can become.

    Shares that can no longer be too many, however the design goes on, count as none.
    """
    shared = np.where(labels.shared + to_come <= overlap, 0, labels.shared)
    keys = np.concatenate([labels.state[:, None], shared], axis=1)
    group = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    order = np.lexsort((labels.loss, labels.cost, group))
    rank = np.unique(labels.loss, return_inverse=True)[1].ravel()
    falling = (rank - group * (len(rank) + 1))[order]  # every group lies below the one before it
    best = falling < np.concatenate([[len(rank)], np.minimum.accumulate(falling)[:-1]])
    index = order[best]
    if labels.more.shape[1]:
        others = order[~best]
        index = np.concatenate([index, others[~_beaten(labels, group, index, others)]])
    return labels.at(index[np.argsort(labels.becomes[index], kind="stable")])


def _beaten(labels: _Labels, group: Ints, best: Ints, others: Ints) -> NDArray[np.bool_]:
    """Return which of the ``others`` one of the ``best`` of their group beats in everything.

    The best are those that nothing beats in cost and loss. What only others would beat is kept, which costs time, not
    the optimum.
    """
    beaten = np.zeros(len(others), dtype=bool)
    for start in range(0, min(len(best), _PIVOTS), 256):
        some = best[start : start + 256, None]
        wins = (group[some] == group[others]) & (labels.cost[some] <= labels.cost[others])
        wins &= labels.loss[some] <= labels.loss[others]
        for i in range(labels.more.shape[1]):
            wins &= labels.more[some, i] <= labels.more[others, i]
        beaten |= wins.any(axis=0)
    return beaten
