"""Where a Prunode stands on its ladder of widths: two of them at a time (PruNet section 3.2.1, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Corner = Literal["reset", "paper"]
"""At the lowest width the algorithm as printed keeps its weight, which then runs away, so that the two never part from
there again; ``reset`` puts it back to 0, as it is done everywhere else."""


@dataclass(frozen=True)
class Walk:
    """Two rungs of a ladder, counted from 1, which is the narrowest; shares are of the ladder's length."""

    rungs: int
    """How many widths there are; with one there is nothing to walk."""
    weight: float = 0.0
    """The only parameter: the logit of the larger width, that of the smaller one is 0."""
    update: float = 0.0
    low: float = 0.5
    """Share at which the smaller width stands."""
    high: float = 1.0
    """Share at which the larger width stands."""
    corner: Corner = "reset"
    clip: float = 0.8
    """The smaller width stays this share of the distance below the top (c in the paper)."""
    distance: float = 0.6
    """Of the two at the beginning; it falls with the square of what is left of the search."""
    momentum: float = 0.4

    @property
    def small(self) -> int:
        """The smaller width's rung."""
        return min(max(_rounded(self.low * self.rungs), 1), max(1, self.rungs - 1))

    @property
    def large(self) -> int:
        """The larger width's rung."""
        return min(max(_rounded(self.high * self.rungs), self.small + 1), self.rungs)

    @property
    def settled(self) -> bool:
        """Whether the two stay where they are, and ``weight`` alone decides between them."""
        return self.rungs < 3 or (self.high - self.low) * self.rungs <= 1

    @property
    def best(self) -> int:
        """The rung that the search prefers."""
        return self.large if self.weight > 0 or self.rungs == 1 else self.small

    def advance(self, weight: float, progress: float) -> Walk:
        """Return the walk after ``weight`` has been learned, at ``progress`` (0 to 1) of the search."""
        if self.settled:
            return replace(self, weight=weight)
        update = self.momentum * self.update + weight
        distance = self.distance * (1 - progress) ** 2
        low = self.low + update
        if low > 0:
            weight, low = 0.0, min(low, 1 - self.clip * distance)
        else:
            weight, low = 0.0 if self.corner == "reset" else weight, 0.0
        return replace(self, weight=weight, update=update, low=low, high=low + distance)


def _rounded(value: float) -> int:
    return int(value + 0.5)
