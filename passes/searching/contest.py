"""What every search is given: the same candidates, the same limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..selecting.solver.problem import SelectionProblem
from ..selecting.solver.solve import solve
from ..selecting.table import Floats, SearchTable

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Contest:
    """Candidates with their costs, and limits of the costs' sums over the blocks."""

    table: SearchTable
    limits: Mapping[str, float]
    """At most, by name of the cost; ``ms`` is that of the lookup table."""

    def within(self, choice: Ints) -> bool:
        """Return whether the choice, one index a block, holds every limit."""
        return all(self.total(name, choice) <= limit for name, limit in self.limits.items())

    def total(self, name: str, choice: Ints) -> float:
        """Return the summed cost ``name`` of a choice."""
        return math.fsum(row[i] for row, i in zip(self.table.cost[name], choice, strict=True))

    def objective(self, choice: Ints) -> float:
        """Return the sum of the choice's loss changes, which integer programming minimises."""
        return math.fsum(row[i] for row, i in zip(self.table.loss, choice, strict=True))

    def excess(self, choice: Ints) -> float:
        """Return by which share of its limit the worst cost is above it; 0 within the limits."""
        return max(0.0, *(self.total(name, choice) / limit - 1 for name, limit in self.limits.items()))

    def most_probable(self, logarithms: tuple[Floats, ...]) -> Ints:
        """Return the choice within the limits that has the largest sum of ``logarithms``, one array a block.

        Raises:
            InfeasibleError: no choice holds the limits.
        """
        return self.best(tuple(-row for row in logarithms))

    def best(self, loss: Sequence[Floats], near: tuple[Ints, int] | None = None) -> Ints:
        """Return the choice within the limits of the least sum of ``loss``, one array a block.

        ``near`` is a choice and in how many blocks the result may differ from it.

        Raises:
            InfeasibleError: no choice holds the limits.
        """
        problem = SelectionProblem(
            loss=tuple(loss),
            cost={name: self.table.cost[name] for name in self.limits},
            limits=dict(self.limits),
            near=near,
        )
        return solve(problem)[0].choice
