"""Small random problems of every awkward kind, and their brute-force answer in exact arithmetic."""

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
from hant import SelectionProblem

Exact = tuple[Fraction | int, tuple[int, ...]]
"""The exact objective of a choice, and the choice."""

KINDS = (
    "uniform",
    "ties",
    "zero cost",
    "duplicates",
    "negative",
    "tight",
    "infeasible",
    "decimal",
    "two costs",
    "range",
)


def random_problem(seed: int, most_blocks: int = 4, most_operations: int = 5, solutions: int = 4) -> SelectionProblem:
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    blocks, operations = int(rng.integers(1, most_blocks + 1)), int(rng.integers(1, most_operations + 1))
    loss, cost = rng.random((blocks, operations)), rng.random((blocks, operations))
    share = rng.uniform(0.2, 1.0)
    if kind in ("ties", "tight"):
        loss, cost = rng.integers(0, 4, loss.shape) / 4, rng.integers(0, 4, loss.shape) / 4
    elif kind == "zero cost":
        cost = np.where(rng.random(cost.shape) < 0.5, 0.0, cost)
    elif kind == "duplicates":
        pick = rng.integers(0, operations, operations)
        loss, cost = loss[:, pick], cost[:, pick]
    elif kind == "negative":
        loss = loss - 0.5
    elif kind == "decimal":
        tenth = np.float64(0.1)
        loss, cost = rng.integers(0, 9, loss.shape) * tenth, rng.integers(0, 9, loss.shape) * tenth
    least, most = cost.min(1).sum(), cost.max(1).sum()
    limit = float(least if kind == "tight" else least + share * (most - least))
    options: dict[str, Any] = {"solutions": solutions, "max_overlap": float(rng.choice([0.0, 0.3, 0.5, 0.7, 1.0]))}
    if kind == "infeasible":
        limit = float(least) - 0.01 if seed % 20 < 10 else limit
    if kind == "decimal":
        limit = round(limit, 1)
    if kind == "two costs":
        other = rng.random(cost.shape)
        limits = {"ms": limit, "params": float(other.min(1).sum() + rng.uniform(0, 0.7) * np.ptp(other, axis=1).sum())}
        return SelectionProblem(loss=loss, cost={"ms": cost, "params": other}, limits=limits, **options)
    if kind == "range":
        return SelectionProblem(loss=loss, cost=cost, limits=(limit, limit + 0.3 * (most - least)), **options)
    return SelectionProblem(loss=loss, cost=cost, limits=limit, **options)


def feasible_choices(problem: SelectionProblem) -> list[Exact]:
    """Every choice that holds the limits exactly, with its exact objective, best first."""
    costs: dict[str, Any] = problem.cost if isinstance(problem.cost, dict) else {"": problem.cost}
    limits: dict[str, Any] = problem.limits if isinstance(problem.limits, dict) else {"": problem.limits}
    table: Any = problem.loss
    loss = [[Fraction(float(v)) for v in row] for row in table]
    exact = {name: [[Fraction(float(v)) for v in row] for row in costs[name]] for name in limits}
    bounds = {
        name: limit if isinstance(limit, tuple) else (float("-inf"), float(limit)) for name, limit in limits.items()
    }
    found = []
    for choice in itertools.product(*(range(len(row)) for row in loss)):
        totals = {name: sum(table[i][j] for i, j in enumerate(choice)) for name, table in exact.items()}
        if all(bounds[name][0] <= total <= bounds[name][1] for name, total in totals.items()):
            found.append((sum(loss[i][j] for i, j in enumerate(choice)), choice))
    return sorted(found)


def best_given(problem: SelectionProblem, feasible: list[Exact], earlier: list[tuple[int, ...]]) -> float | None:
    """The exact optimum under the overlap with ``earlier``; None if there is none."""
    for objective, choice in feasible:
        if all(sum(a == b for a, b in zip(choice, other, strict=True)) <= problem.overlap for other in earlier):
            return float(objective)
    return None
