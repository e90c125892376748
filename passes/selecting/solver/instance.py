"""A validated problem as flat arrays: one entry per allowed (block, operation) pair, block after block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....transformer.errors import UsageError, nearest
from .problem import Selection, SelectionProblem

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHANGES = "blocks that differ from near"
"""Name of the limited cost that counts them."""
LARGEST = 1e100
"""Larger magnitudes are refused: they are a stand-in for infinity, not a measurement."""


@dataclass(frozen=True, eq=False)
class Instance:
    """What the engines read. ``n`` is the number of allowed pairs, ``C`` the number of limited costs."""

    start: Ints
    """First entry of each block, shape (N + 1,)."""
    block: Ints
    """Shape (n,)."""
    operation: Ints
    """Operation index inside its block, shape (n,)."""
    loss: Floats
    """Shape (n,)."""
    cost: Floats
    """Limited costs, shape (C, n)."""
    low: Floats
    """Shape (C,), -inf where there is none."""
    high: Floats
    """Shape (C,), inf where there is none."""
    names: tuple[str, ...]
    """Names of the limited costs."""
    overlap: int
    solutions: int
    reported: dict[str, Floats]
    """Every cost of the user's, limited or not, shape (n,)."""
    named: bool
    """Whether a selection's cost is a dict."""

    @property
    def blocks(self) -> int:
        """N."""
        return len(self.start) - 1

    def selection(self, entries: Ints, bound: float, optimal: bool = False) -> Selection:
        """Return the selection that uses ``entries``, shape (N,), one of each block."""
        objective = math.fsum(self.loss[entries])
        choice = self.operation[entries].copy()
        choice.flags.writeable = False
        cost = {name: math.fsum(values[entries]) for name, values in self.reported.items()}
        return Selection(
            choice=choice,
            objective=objective,
            bound=objective if optimal else min(float(bound), objective),
            cost=cost if self.named else next(iter(cost.values())),
        )

    def scaled(self) -> Instance:
        """Return the instance with losses and each cost below 1 in magnitude, by powers of two: nothing is lost."""
        unit = np.array([_power(row) for row in self.cost], dtype=np.float64)
        return replace(
            self,
            loss=self.loss / _power(self.loss),
            cost=self.cost / unit[:, None],
            low=self.low / unit,
            high=self.high / unit,
        )

    @property
    def unit(self) -> float:
        """What the losses are divided by in ``scaled``."""
        return _power(self.loss)


def _power(values: Floats) -> float:
    """Return the least power of two above every magnitude of ``values``."""
    return math.ldexp(1.0, math.frexp(float(np.abs(values).max(initial=0.0)))[1]) if np.any(values) else 1.0


def build(problem: SelectionProblem) -> Instance:
    """Validate ``problem`` and flatten it.

    Raises:
        UsageError: wrong shapes, NaN or unbounded numbers, contradictory pins, unknown limits.
    """
    loss = _table(problem.loss, "loss")
    if not loss:
        raise UsageError("the selection problem has no blocks; expected loss of shape (blocks, operations)")
    _options(problem)
    allowed = _allowed(problem, loss)
    named = isinstance(problem.cost, Mapping)
    given: Any = problem.cost if named else {"cost": problem.cost}
    costs = {str(name): _table(values, f"cost {name!r}") for name, values in given.items()}
    if not costs:
        raise UsageError("the selection problem has no costs; give at least one, such as cost={'ms': table}")
    flat = {name: _flatten(table, loss, allowed, f"cost {name!r}") for name, table in costs.items()}
    ranges = _limits(problem, named, set(costs))
    if problem.near is not None:
        flat[CHANGES] = _flatten(_changes(problem.near, loss), loss, allowed, CHANGES)
        ranges[CHANGES] = (-math.inf, float(problem.near[1]))
    counts = [int(mask.sum()) for mask in allowed]
    entries = sum(counts)
    return Instance(
        start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        block=np.repeat(np.arange(len(loss)), counts).astype(np.int64),
        operation=np.concatenate([np.flatnonzero(mask) for mask in allowed]).astype(np.int64),
        loss=_flatten(loss, loss, allowed, "loss"),
        cost=np.array([flat[name] for name in ranges], dtype=np.float64).reshape(len(ranges), entries),
        low=np.array([low for low, _ in ranges.values()], dtype=np.float64),
        high=np.array([high for _, high in ranges.values()], dtype=np.float64),
        names=tuple(ranges),
        overlap=problem.overlap,
        solutions=problem.solutions,
        reported={name: flat[name] for name in costs},
        named=named,
    )


def _changes(near: Any, loss: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the cost of being unlike ``near``: 0 for the operation that it uses in a block, 1 for every other."""
    chosen: list[int] = []
    try:
        choice, radius = near
        chosen = [int(j) for j in choice]
        fits = len(chosen) == len(loss) and radius == int(radius) >= 0
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise UsageError(f"near is {near!r}; expected a choice of {len(loss)} operations and a whole number of changes")
    for block, operation in enumerate(chosen):
        _exists(loss, block, operation, "near")
    return [(np.arange(len(row)) != j).astype(np.float64) for row, j in zip(loss, chosen, strict=True)]


def _table(values: Any, what: str) -> list[NDArray[Any]]:
    try:
        rows = [np.asarray(row, dtype=np.float64) for row in values]
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} is not a table of numbers ({error}); expected shape (blocks, operations)") from None
    for index, row in enumerate(rows):
        if row.ndim != 1:
            raise UsageError(f"{what} of block {index} has shape {row.shape}; expected one number per operation")
    return rows


def _options(problem: SelectionProblem) -> None:
    count = problem.solutions
    if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
        raise UsageError(f"solutions is {count!r}; expected a whole number of at least 1")
    try:
        share = float(problem.max_overlap)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 <= share <= 1:
        raise UsageError(f"max_overlap is {problem.max_overlap!r}; expected a share of the blocks from 0 to 1")


def _allowed(problem: SelectionProblem, loss: list[NDArray[Any]]) -> list[NDArray[np.bool_]]:
    masks = [np.ones(len(row), dtype=np.bool_) for row in loss]
    if problem.allowed is not None:
        given = [np.asarray(row) for row in problem.allowed]
        if [row.shape for row in given] != [row.shape for row in loss] or any(row.dtype != np.bool_ for row in given):
            raise UsageError("allowed does not fit the loss; expected booleans of the same shape")
        masks = [row.copy() for row in given]
    for block, operation in problem.bans:
        _exists(loss, block, operation, "ban")
        masks[block][operation] = False
    for block, operation in problem.pins.items():
        _exists(loss, block, operation, "pin")
        if not masks[block][operation]:
            raise UsageError(
                f"block {block} is pinned to operation {operation}, which is banned there; drop one of both"
            )
        masks[block] = np.arange(len(masks[block])) == operation
    for block, mask in enumerate(masks):
        if not mask.any():
            raise UsageError(f"block {block} has no allowed operation; allow at least one")
    return masks


def _exists(loss: list[NDArray[Any]], block: int, operation: int, what: str) -> None:
    if not 0 <= block < len(loss) or not 0 <= operation < len(loss[block]):
        raise UsageError(
            f"{what} of block {block}, operation {operation} does not exist; there are {len(loss)} blocks"
            + (f" and block {block} has {len(loss[block])} operations" if 0 <= block < len(loss) else "")
        )


def _flatten(
    table: list[NDArray[Any]], loss: list[NDArray[Any]], allowed: list[NDArray[np.bool_]], what: str
) -> Floats:
    if [row.shape for row in table] != [row.shape for row in loss]:
        raise UsageError(f"{what} does not fit the loss; expected the same {len(loss)} blocks and operations")
    for index, (row, mask) in enumerate(zip(table, allowed, strict=True)):
        bad = np.flatnonzero(mask & ~(np.abs(row) <= LARGEST))
        if bad.size:
            raise UsageError(
                f"{what} of block {index}, operation {bad[0]} is {row[bad[0]]}; expected a finite number below "
                f"{LARGEST:g}, or allowed=False there"
            )
    return np.concatenate([row[mask] for row, mask in zip(table, allowed, strict=True)])


def _limits(problem: SelectionProblem, named: bool, costs: set[str]) -> dict[str, tuple[float, float]]:
    limits: Any = problem.limits
    if limits is None:
        return {}
    if named != isinstance(limits, Mapping):
        raise UsageError("cost and limits do not fit; expected names in both, or one table and one limit")
    result = {}
    for name, limit in (limits if named else {"cost": limits}).items():
        if name not in costs:
            raise UsageError(f"there is a limit on {name!r} but no such cost{nearest(str(name), costs)}")
        result[str(name)] = _range(name, limit)
    return result


def _range(name: str, limit: Any) -> tuple[float, float]:
    low = high = math.nan
    try:
        sides = tuple(limit) if isinstance(limit, tuple | list) else (None, float(limit))
        low, high = (
            -math.inf if sides[0] is None else float(sides[0]),
            math.inf if sides[1] is None else float(sides[1]),
        )
        fits = len(sides) == 2 and low <= high and low < math.inf and high > -math.inf
    except (TypeError, ValueError, IndexError):
        fits = False
    if not fits or (not isinstance(limit, tuple | list) and math.isinf(high)):
        raise UsageError(f"limit of {name!r} is {limit!r}; expected a finite number or a (low, high) range")
    return low, high
