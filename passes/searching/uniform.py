"""Uniform sampling of the choices within limits, also where nearly no random choice is."""

from __future__ import annotations

import numpy as np

from ...transformer.errors import InfeasibleError
from ..selecting.table import Floats
from .contest import Contest, Ints

_BINS = 4000
"""Steps that the tightest limit is divided into; finer steps only make fewer samples be thrown away."""
_TRIES = 2000
"""Samples in a row that may break a limit."""


class UniformSampler:
    """Draws choices within the limits, each with the same probability.

    1. Costs of one limit are rounded down to steps, so the rounded problem holds every choice within the limit.
    2. Its choices are counted block by block from the last, for each sum that is left: dynamic programming.
    3. Going forward, each block's operation is drawn by how many choices are left after it.
    4. A sample that breaks the limit before rounding, or any further limit, is thrown away: what remains is uniform.
    """

    def __init__(self, contest: Contest, seed: int) -> None:
        self._contest = contest
        self._random = np.random.default_rng(seed)
        name = "ms" if "ms" in contest.limits else next(iter(contest.limits))
        limit = contest.limits[name]
        self._steps = [np.floor(row / limit * _BINS * (1 - 1e-9)).astype(np.int64) for row in contest.table.cost[name]]
        self._counts = _count(self._steps)

    def draw(self) -> Ints:
        """Return one choice, shape (N,).

        Raises:
            InfeasibleError: hardly any choice, or none, is within the limits.
        """
        for _ in range(_TRIES):
            choice = self._draw()
            if choice is None:
                break
            if self._contest.within(choice):
                return choice
        raise InfeasibleError("no random choice is within the limits; give a larger --budget")

    def distinct(self, count: int) -> list[Ints]:
        """Return up to ``count`` different choices; fewer where there are hardly more."""
        found: dict[tuple[int, ...], Ints] = {}
        for _ in range(20 * count):
            if len(found) >= count:
                break
            choice = self.draw()
            found.setdefault(tuple(choice.tolist()), choice)
        return list(found.values())

    def _draw(self) -> Ints | None:
        left, choice = _BINS, np.zeros(len(self._steps), dtype=np.int64)
        for block, steps in enumerate(self._steps):
            after = self._counts[block + 1]
            ways = np.where(steps <= left, after[np.maximum(left - steps, 0)], 0.0)
            total = ways.sum()
            if total <= 0:
                return None
            choice[block] = self._random.choice(len(ways), p=ways / total)
            left -= int(steps[choice[block]])
        return choice


def _count(steps: list[Ints]) -> list[Floats]:
    """Return for each block, and after the last, how many choices from it on fit into each number of steps.

    Each array is divided by its largest number, which leaves proportions alone and never overflows.
    """
    counts = [np.ones(_BINS + 1)]
    for row in reversed(steps):
        total = np.zeros(_BINS + 1)
        for step in row.tolist():
            if step <= _BINS:
                total[step:] += counts[0][: _BINS + 1 - step]
        counts.insert(0, total / max(total.max(), 1e-300))
    return counts
