"""The passes of every step of a shared training."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...transformer.tools.seeds import derived_seed
from ...transformer.tools.wildcards import matches
from .cost import TEACHING
from .schedule import Phase, Schedule

DRAWS = ("budget", "uniform")
_LEAST_EPSILON = 1e-4
_TIGHT = 60.0
"""Largest strength by which costs decide a draw, over the range of a block's costs; ..."""
_GRID = 129
"""... and at how many strengths the mean cost is known."""
Floats = NDArray[np.float64]


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
_PROBES = {"quarter": 0.25, "half": 0.5, "three quarters": 0.75}
"""Students by which a training of any is watched, by where between the least and the full network's cost they are."""


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
        ours = sum(self.macs(turn.choice) for step in range(steps) for turn in self.turns(step))
        return taught * steps + ours / full

    @cached_property
    def _ends(self) -> list[int]:
        shares = np.cumsum([phase.share for phase in self.schedule.phases])
        return [*(round(float(share) * self.total) for share in shares[:-1]), self.total]

    def _drawn(self, phase: Phase, step: int, index: int) -> dict[str, str]:
        if not self.any:  # in turn, so that each student is trained equally often
            return dict(self.front[(step * phase.draws + index) % len(self.front)])
        random = np.random.default_rng(derived_seed(self.seed, "shrink", str(step), str(index)))
        if phase.operations not in self._draws:
            self._draws[phase.operations] = Draws(self.operations, phase.operations)
        draws = self._draws[phase.operations]
        return draws.choice(draws.pull(random.uniform()) if self.draw == "budget" else 0.0, random)

    @cached_property
    def _draws(self) -> dict[tuple[str, ...], Draws]:
        return {}


class Draws:
    """Students of some operations at random, around any cost."""

    def __init__(self, operations: Costs, patterns: Sequence[str]) -> None:
        """Take the operations that are as one of the patterns; a block's ``teacher`` always is."""
        allowed = {
            block: [pair for pair in costs if pair[0] == "teacher" or any(matches(pair[0], p) for p in patterns)]
            for block, costs in operations
        }
        self._names = {block: [name for name, _ in pairs] for block, pairs in allowed.items()}
        widest = max(map(len, allowed.values()), default=0)
        costs = np.array([[c for _, c in pairs] + [np.nan] * (widest - len(pairs)) for pairs in allowed.values()])
        self._least, self._range = np.nanmin(costs, 1), np.nanmax(costs, 1) - np.nanmin(costs, 1)
        self._scaled = (costs - self._least[:, None]) / np.maximum(self._range, 1.0)[:, None]
        self._pulls = np.sinh(np.linspace(-np.arcsinh(_TIGHT), np.arcsinh(_TIGHT), _GRID))
        self._shares = np.array([self._share(pull) for pull in self._pulls])

    def pull(self, share: float) -> float:
        """Return how strongly costs have to decide for the mean student to cost this share of the range."""
        return float(np.interp(-share, -self._shares, self._pulls))

    def choice(self, pull: float, random: np.random.Generator) -> dict[str, str]:
        """Return a student: of each block the cheaper operations the likelier, by ``pull``."""
        below = np.cumsum(self._chances(pull), 1)
        places = (below < random.uniform(size=(len(below), 1))).sum(1)
        pairs = zip(self._names.items(), places.tolist(), strict=True)
        return {block: names[min(place, len(names) - 1)] for (block, names), place in pairs}

    def _chances(self, pull: float) -> Floats:
        """Return the probability of each operation, shape (N, M)."""
        logits = np.where(np.isnan(self._scaled), -np.inf, -pull * self._scaled)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(weights / weights.sum(1, keepdims=True))

    def _share(self, pull: float) -> float:
        mean = (self._chances(pull) * np.nan_to_num(self._scaled)).sum(1)
        return float((mean * self._range).sum() / max(self._range.sum(), 1.0))


def pairs(costs: Mapping[str, Mapping[str, int]]) -> Costs:
    """Return block -> operation -> MACs as a plan holds them."""
    return tuple((block, tuple(operations.items())) for block, operations in costs.items())


def probes(operations: Costs, full: bool) -> dict[str, dict[str, str]]:
    """Return students from the least to the full network, always the same; the last only where it is trained."""
    draws = Draws(operations, ("*",))
    least = {block: min(costs, key=lambda pair: pair[1])[0] for block, costs in operations}
    drawn = {
        name: draws.choice(draws.pull(share), np.random.default_rng(place))
        for place, (name, share) in enumerate(_PROBES.items())
    }
    return {"least": least, **drawn, **({"full": {}} if full else {})}
