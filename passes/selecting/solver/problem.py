"""What is selected, under which constraints, and what comes back. Plain data.

Minimise the sum of loss changes, one operation a block (multiple-choice knapsack, HANT section 2.2):

1. each limited cost, summed over the blocks, lies in its range;
2. pins, bans and ``allowed`` hold;
3. a selection differs from the one in ``near`` in at most its radius of blocks;
4. each selection shares at most ``overlap`` blocks with every earlier one.

Numbers are taken as the floats they are: a limit holds if the exact sum of the floats does not exceed it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Table = ArrayLike | Sequence[ArrayLike]
"""Shape (N, M), or N one-dimensional arrays where blocks have different numbers of operations."""
Limit = float | tuple[float | None, float | None]
"""At most a number, or a (low, high) range of which one side may be None."""


@dataclass(frozen=True, eq=False)
class SelectionProblem:
    """N blocks, up to M operations each; validated when it is solved."""

    loss: Table
    """Change of loss if operation j alone replaces block i, shape (N, M); may be negative."""
    cost: Table | Mapping[str, Table]
    """Cost of operation j in block i, shape (N, M); or several by name, such as ``{"ms": B, "params": C}``."""
    limits: Limit | Mapping[str, Limit] | None = None
    """Limit of the summed cost, in its unit; by name if costs have names. A cost without a limit is only reported."""
    solutions: int = 1
    """K, how many selections to return; fewer come back where fewer exist."""
    max_overlap: float = 0.7
    """Share of the N blocks that a selection may have in common with any earlier one."""
    pins: Mapping[int, int] = field(default_factory=dict)
    """Block index -> the one operation index that it must use."""
    bans: Iterable[tuple[int, int]] = ()
    """(block index, operation index) pairs that must not be used."""
    allowed: Any = None
    """Boolean table of the loss's shape, False where an operation must not be used; its numbers may then be NaN."""
    near: tuple[Sequence[int] | NDArray[np.int64], int] | None = None
    """(choice, radius): selections use another operation than ``choice``, one index a block, in at most ``radius``
    blocks."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bans", tuple((int(i), int(j)) for i, j in self.bans))

    @property
    def overlap(self) -> int:
        """Blocks that two selections may share: floor(max_overlap * N), and always less than N."""
        blocks = len(self.loss)  # type: ignore[arg-type]
        # 1e-9 lets 43 / 46 of 46 blocks mean 43, whatever the rounding of the share
        return min(math.floor(self.max_overlap * blocks + 1e-9), blocks - 1)


@dataclass(frozen=True, eq=False)
class Selection:
    """One operation per block, with its proof."""

    choice: NDArray[np.int64]
    """Operation index of each block, shape (N,), read-only."""
    objective: float
    """Sum of the chosen loss changes, correctly rounded."""
    bound: float
    """Proven lower bound on the objective of any selection under the same constraints, overlap included."""
    cost: float | dict[str, float]
    """Summed cost, by name if the problem's costs have names."""

    @property
    def gap(self) -> float:
        """How far from optimal at most: ``(objective - bound) / |bound|``, 0 if proven optimal."""
        difference = self.objective - self.bound
        if difference <= 0:
            return 0.0
        return difference / abs(self.bound) if self.bound else math.inf
