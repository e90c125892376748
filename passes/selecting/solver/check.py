"""The independent check: every constraint of a selection, in exact rational arithmetic.

It reads the user's problem, not the engines' arrays, and shares no code with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from .problem import Selection, SelectionProblem


def violations(problem: SelectionProblem, selections: Sequence[Selection]) -> list[str]:
    """Return what is wrong with ``selections``, in order; empty if nothing is."""
    found = []
    loss: Any = problem.loss
    choices = np.full((len(selections), len(loss)), -1, dtype=np.int64)
    for index, selection in enumerate(selections):
        choice = [int(j) for j in selection.choice]
        wrong = _choice(problem, choice)
        if not wrong:
            wrong = _sums(problem, selection, choice)
            choices[index] = choice
            shared = (choices[:index] == choices[index]).sum(axis=1)
            for earlier in np.flatnonzero(shared > problem.overlap):
                wrong.append(
                    f"shares {shared[earlier]} blocks with selection {earlier}, at most {problem.overlap} are allowed"
                )
        found += [f"selection {index} {text}" for text in wrong]
    if len(selections) > problem.solutions:
        found.append(f"{len(selections)} selections, {problem.solutions} were asked for")
    return found


def exact_sum(table: Any, choice: Sequence[int]) -> Fraction:
    """Return the exact sum of ``table[i][choice[i]]``."""
    return sum((Fraction(float(table[i][j])) for i, j in enumerate(choice)), Fraction(0))


def _choice(problem: SelectionProblem, choice: list[int]) -> list[str]:
    loss: Any = problem.loss
    if len(choice) != len(loss):
        return [f"has {len(choice)} choices for {len(loss)} blocks"]
    banned = set(problem.bans)
    wrong = []
    for i, j in enumerate(choice):
        if not 0 <= j < len(loss[i]):
            wrong.append(f"uses operation {j} in block {i}, which does not exist")
        elif (i, j) in banned or (problem.allowed is not None and not problem.allowed[i][j]):
            wrong.append(f"uses operation {j} in block {i}, which is banned")
        elif problem.pins.get(i, j) != j:
            wrong.append(f"uses operation {j} in block {i}, which is pinned to {problem.pins[i]}")
    if problem.near is not None:
        changed = sum(j != int(k) for j, k in zip(choice, problem.near[0], strict=True))
        if changed > problem.near[1]:
            wrong.append(f"differs from near in {changed} blocks, at most {problem.near[1]} are allowed")
    return wrong


def _sums(problem: SelectionProblem, selection: Selection, choice: list[int]) -> list[str]:
    wrong = []
    objective = exact_sum(problem.loss, choice)
    if float(objective) != selection.objective:
        wrong.append(f"says objective {selection.objective!r}, it is {float(objective)!r}")
    if not selection.bound <= selection.objective:
        wrong.append(f"has bound {selection.bound!r} above its objective {selection.objective!r}")
    named = isinstance(problem.cost, Mapping)
    costs: Any = problem.cost if named else {"cost": problem.cost}
    limits: Any = {} if problem.limits is None else (problem.limits if named else {"cost": problem.limits})
    for name, table in costs.items():
        total = exact_sum(table, choice)
        said: Any = selection.cost[name] if named else selection.cost  # type: ignore[index]
        if float(total) != said:
            wrong.append(f"says {name} {said!r}, it is {float(total)!r}")
        if name not in limits:
            continue
        limit = limits[name]
        low, high = limit if isinstance(limit, tuple | list) else (None, limit)
        if high is not None and not (math.isinf(high) and high > 0) and total > Fraction(float(high)):
            wrong.append(f"has {name} {float(total)!r} above the limit {high!r}")
        if low is not None and not (math.isinf(low) and low < 0) and total < Fraction(float(low)):
            wrong.append(f"has {name} {float(total)!r} below the limit {low!r}")
    return wrong
