"""Greedy exchange by ratio: the usual heuristic for knapsack problems."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...transformer.contracts.context import Context
from ...transformer.errors import InfeasibleError
from ..ranking.judge import Judge
from .base import BaselinePass, Found
from .contest import Contest, Ints


@dataclass(frozen=True)
class GreedyPass(BaselinePass):
    """From the teacher on, make the exchange that adds the least loss for the cost it saves, until within budget."""

    name: ClassVar[str] = "baseline-greedy"
    requires: ClassVar[tuple[str, ...]] = ("score", *BaselinePass.requires)

    def search(self, context: Context, contest: Contest, judge: Judge) -> Found:
        """Exchange; no network is run."""
        return Found(greedy(contest), 0, 0.0)


def greedy(contest: Contest) -> Ints:
    """Return the choice that greedy exchange comes to.

    With several limits, what an exchange saves is measured on the shares by which limits are exceeded, added up.

    Raises:
        InfeasibleError: no exchange saves anything more, and a limit is still broken.
    """
    table = contest.table
    choice = table.indices(table.teacher())
    while not contest.within(choice):
        exchanges = [(*_exchange(contest, choice, block), block) for block in range(len(table.blocks))]
        ratio, operation, block = min(exchanges)
        if math.isinf(ratio):
            least = {name: contest.total(name, choice) for name in contest.limits}
            raise InfeasibleError("greedy exchange does not reach the budget; give a larger --budget", least)
        choice[block] = operation
    return choice


def _exchange(contest: Contest, choice: Ints, block: int) -> tuple[float, int]:
    """Return the least loss added for what is saved, and the operation that does it; infinite if none saves."""
    now, saved = int(choice[block]), np.zeros(len(contest.table.loss[block]))
    for name, limit in contest.limits.items():
        row, total = contest.table.cost[name][block], contest.total(name, choice)
        changed = np.maximum(0.0, total - row[now] + row - limit)
        saved += (max(0.0, total - limit) - changed) / max(abs(limit), 1e-12)
    added = contest.table.loss[block] - contest.table.loss[block][now]
    useful = (saved > 1e-12) & (np.arange(len(saved)) != now)
    ratio = np.where(useful, np.where(added > 0, added / np.where(useful, saved, 1.0), added), np.inf)
    return float(ratio.min()), int(ratio.argmin())
