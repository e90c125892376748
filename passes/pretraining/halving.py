"""Candidates that no good network would use are not trained to the end.

Rungs after 1/2, 1/4, ... of the steps as in successive halving (Jamieson & Talwalkar 2016). But candidates do not
compete one by one: a slower one is chosen for its smaller error, and a block's error counts beside those of all others.
So the integer program says who goes on: the candidates that occur in one of its best selections at some budget.

Nor do they learn equally fast: what adds little to its input is good at once and stays as it is, a bottleneck needs
its time. So one candidate of each operation and stage goes ahead to the end, and the errors of the others are judged by
what became of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...transformer.errors import InfeasibleError
from ..selecting.solver.problem import SelectionProblem
from ..selecting.solver.solve import solve
from ..selecting.weightings import Floats, weightings
from .unit import Pair

BUDGETS = (0.2, 0.3, 0.45, 0.6, 0.75)
"""Shares of the summed latency of the teacher's blocks: whoever asks for another budget later finds neighbours of its
best selections trained."""
SELECTIONS = 10
"""Diverse selections at each budget and for each weighting of the errors."""


_FEW = 3
"""Candidates of an operation of which none goes ahead: it would be too large a share of them."""


def stops(steps: int, rungs: int) -> list[int]:
    """Return the steps after which candidates are measured: ``rungs`` on the way, and the last."""
    return sorted({steps // 2**rung for rung in range(rungs + 1)} - {0})


def ahead(pairs: Sequence[Pair], stage: Mapping[str, int]) -> list[Pair]:
    """Return who goes ahead: of each operation in each stage (of blocks, by name) the candidate of the middle block.

    Where an operation has too few candidates in every stage, that in the middle of all.
    """
    found = list[Pair]()
    operations = dict.fromkeys(spec.name for _, spec in pairs)
    for name in operations:
        mine = [pair for pair in pairs if pair[1].name == name]
        groups = [[pair for pair in mine if stage[pair[0]] == each] for each in sorted(set(stage.values()))]
        large = [group for group in groups if len(group) > _FEW] or ([mine] if len(mine) > _FEW else [])
        found += [group[len(group) // 2] for group in large]
    return found


def expected(errors: Mapping[str, float], ends: Mapping[str, float], stage: Mapping[str, int]) -> dict[str, float]:
    """Return what errors on the way become by the end: the share of them that is left to the same operation elsewhere.

    Args:
        errors: NMSE after some steps, by key ``block/operation``.
        ends: NMSE after all steps of those that are there.
        stage: of each block; shares are those of the stage, otherwise those of all stages.
    """
    left: dict[tuple[str, int | None], list[float]] = {}
    for key, end in ends.items():
        if errors.get(key, 0.0) > 0 and end > 0:
            block, _, name = key.rpartition("/")
            for place in (stage[block], None):
                left.setdefault((name, place), []).append(math.log(end / errors[key]))
    found = dict[str, float]()
    for key, error in errors.items():
        block, _, name = key.rpartition("/")
        shares = left.get((name, stage[block])) or left.get((name, None)) or [0.0]
        found[key] = ends.get(key, error * math.exp(sum(shares) / len(shares)))
    return found


def used(rivals: Mapping[str, tuple[float, float]], latency: Mapping[str, float], stage: Mapping[str, int]) -> set[str]:
    """Return which of the ``rivals`` occur in near-optimal selections.

    Args:
        rivals: (ms, NMSE) of candidates, by key ``block/operation``.
        latency: in ms by key; a block of whose own operation it says nothing is left out.
        stage: of each block, in order of execution.
    """
    rows: dict[str, dict[str, tuple[float, float]]] = {}
    for block in stage:
        own, begin = latency.get(f"{block}/teacher"), f"{block}/"
        here = {key: pair for key, pair in rivals.items() if key.startswith(begin) and "/" not in key[len(begin) :]}
        if own is not None and here:
            rows[block] = {f"{block}/teacher": (own, 0.0), **here}
    return selected(list(rows.values()), [stage[block] for block in rows])


def selected(blocks: Sequence[Mapping[str, tuple[float, float]]], stage: Sequence[int]) -> set[str]:
    """Return the keys of the candidates that occur in near-optimal selections of at least one budget.

    Args:
        blocks: (ms, NMSE on held-out images) of the candidates of each block by key, the teacher's own first.
        stage: the stage of each block; errors of early stages weigh more (``selecting/weightings.py``).
    """
    keys = [list(block) for block in blocks]
    ms, errors = ([np.array([pair[part] for pair in block.values()]) for block in blocks] for part in (0, 1))
    whole = sum(float(row[0]) for row in ms)
    found: set[str] = set()
    for budget in BUDGETS if blocks else ():
        for loss in weightings(errors, stage):
            choices = _choices(loss, ms, budget * whole)
            found |= {names[i] for choice in choices for names, i in zip(keys, choice, strict=True)}
    return found


def _choices(loss: Sequence[Floats], ms: Sequence[Floats], limit: float) -> list[list[int]]:
    """Return the best selections under ``limit`` ms; none where the fastest operations are too slow for it."""
    problem = SelectionProblem(loss=tuple(loss), cost=tuple(ms), limits=limit, solutions=SELECTIONS)
    try:
        return [selection.choice.tolist() for selection in solve(problem)]
    except InfeasibleError:
        return []
