"""The passes of every step of a shared training."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...transformer.tools.seeds import derived_seed
from ...transformer.tools.wildcards import matches
from .cost import TEACHING
from .schedule import Phase, Schedule

DRAWS = ("budget", "uniform")
_LEAST_EPSILON = 1e-4
_TIGHT = 60.0
"""Largest strength by which costs decide a draw, over the range of a block's costs."""


@dataclass(frozen=True)
class Turn:
    """One forward and backward pass."""

    choice: Mapping[str, str]
    full: bool
    """Whether it is the full network's."""
    weight: float = 1.0
    """Factor of its loss, so of its gradients (epsilon)."""


Choices = tuple[tuple[tuple[str, str], ...], ...]
"""Students, each as pairs of block and operation."""
Costs = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
"""Of each block its operations with their MACs for one image."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The passes of every step: from the seed and the number of the step alone, so that nothing else need be kept."""

    schedule: Schedule
    total: int
    """Steps of the training."""
    front: Choices
    """The students that were asked for."""
    operations: Costs
    outside: int
    """MACs of what is in no block that can change."""
    any: bool
    """Whether other students than those of the front are drawn, of all operations."""
    draw: str = "budget"
    """``budget``: first a cost between the least and the full network's, then a student near it; or ``uniform``."""
    seed: int = 0

    def phase(self, step: int) -> tuple[Phase, int, int]:
        """Return the phase of a step, with its first step and the first of the next."""
        place = min(bisect_right(self._ends, step), len(self._ends) - 1)
        first = self._ends[place - 1] if place else 0
        return self.schedule.phases[place], first, self._ends[place]

    def epsilon(self, step: int) -> float:
        """Return the factor of the students' gradients in a step."""
        first = self._ends[0] if len(self._ends) > 1 else 0
        ramp = round(self.schedule.ramp * (self.total - first))
        return min(1.0, max(_LEAST_EPSILON, (step - first + 1) / ramp)) if ramp else 1.0

    def turns(self, step: int) -> tuple[Turn, ...]:
        """Return the passes of a step: the full network first, then the least, then those that are drawn."""
        phase, epsilon = self.phase(step)[0], self.epsilon(step)
        found = [Turn({}, True)] if phase.full else []
        if phase.least:
            found.append(Turn(self.least, False, epsilon))
        drawn = [self._drawn(phase, step, index) for index in range(phase.draws)]
        return (*found, *(Turn(choice, False, epsilon) for choice in drawn))

    @cached_property
    def least(self) -> dict[str, str]:
        """The student with the fewest MACs."""
        if self.any:
            return {block: min(costs, key=lambda pair: pair[1])[0] for block, costs in self.operations}
        return dict(min(self.front, key=lambda choice: self.macs(dict(choice))))

    def macs(self, choice: Mapping[str, str]) -> int:
        """Return the MACs of a student for one image."""
        return self.outside + sum(dict(costs)[choice.get(block, "teacher")] for block, costs in self.operations)

    def passes(self, steps: int) -> float:
        """Return what so many steps cost, in passes of the full network; one of the teacher counts a third."""
        full = max(1, self.macs({}))
        taught = TEACHING if self.schedule.teach == "teacher" else 0.0
        return sum(
            taught + sum(self.macs(turn.choice) for turn in self.turns(step)) / full for step in range(self.total)
        )

    @cached_property
    def _ends(self) -> list[int]:
        shares = np.cumsum([phase.share for phase in self.schedule.phases])
        return [*(round(float(share) * self.total) for share in shares[:-1]), self.total]

    def _drawn(self, phase: Phase, step: int, index: int) -> dict[str, str]:
        if not self.any:  # in turn, so that each student is trained equally often
            return dict(self.front[(step * phase.draws + index) % len(self.front)])
        random = np.random.default_rng(derived_seed(self.seed, "shrink", str(step), str(index)))
        allowed = [(block, _allowed(costs, phase.operations)) for block, costs in self.operations]
        pull = self._pull(allowed, random.uniform()) if self.draw == "budget" else 0.0
        return {block: costs[random.choice(len(costs), p=_chances(costs, pull))][0] for block, costs in allowed}

    def _pull(self, allowed: Sequence[tuple[str, Sequence[tuple[str, int]]]], share: float) -> float:
        """Return how strongly costs have to decide for the mean student to cost a share of the range, by bisection."""
        ranges = [(min(c for _, c in costs), max(c for _, c in costs)) for _, costs in allowed]
        low, high = (sum(ends) for ends in zip(*ranges, strict=True))
        wanted, least, most = low + share * (high - low), -_TIGHT, _TIGHT
        for _ in range(40):
            pull = (least + most) / 2
            mean = sum(float(np.dot(_chances(costs, pull), [c for _, c in costs])) for _, costs in allowed)
            least, most = (pull, most) if mean > wanted else (least, pull)
        return (least + most) / 2


def _allowed(costs: Sequence[tuple[str, int]], patterns: Sequence[str]) -> list[tuple[str, int]]:
    return [pair for pair in costs if pair[0] == "teacher" or any(matches(pair[0], p) for p in patterns)]


def _chances(costs: Sequence[tuple[str, int]], pull: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the probability of each operation, shape (M,): the cheaper the likelier, by ``pull``."""
    values = np.array([cost for _, cost in costs], dtype=np.float64)
    values = (values - values.min()) / max(float(np.ptp(values)), math.ulp(1.0))
    weights = np.exp(-pull * values - np.max(-pull * values))
    return np.asarray(weights / weights.sum())
