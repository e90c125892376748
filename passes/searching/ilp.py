"""Integer programming as one search among others: the same rules for its cost and its evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...transformer.contracts.context import Context
from ..ranking.judge import Judge
from ..selecting.solver.problem import SelectionProblem
from ..selecting.solver.solve import solve
from .base import BaselinePass, Found, best_of
from .contest import Contest


@dataclass(frozen=True)
class IlpPass(BaselinePass):
    """Solve for K diverse selections and take the best when evaluated: HANT's own search (section 2.2)."""

    name: ClassVar[str] = "baseline-ilp"
    requires: ClassVar[tuple[str, ...]] = ("score", *BaselinePass.requires)

    solutions: int = 100
    max_overlap: float = 0.7
    engine: str = "default"

    @property
    def method(self) -> str:
        """Name under which results are kept."""
        return f"ilp-{self.solutions}"

    def search(self, context: Context, contest: Contest, judge: Judge) -> Found:
        """Solve, then evaluate; losers are stopped early."""
        problem = SelectionProblem(
            loss=contest.table.loss,
            cost={name: contest.table.cost[name] for name in contest.limits},
            limits=dict(contest.limits),
            solutions=self.solutions,
            max_overlap=self.max_overlap,
        )
        choices = [selection.choice for selection in solve(problem, engine=self.engine)]
        if len(choices) == 1:
            return Found(choices[0], 0, 0.0)
        return best_of(contest, judge, choices, all_images=False)
