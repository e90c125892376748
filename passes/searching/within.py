"""Passes that search whole networks: the result is measured, and searched again until it is inside the budget."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult, Share
from ...transformer.errors import InfeasibleError
from ..latency.measure import check_measured, measure_network
from ..latency.predict import predict, surprise
from ..networks.assemble import CandidateWeights
from ..selecting.records import SelectionRecord
from ..selecting.select import SelectPass, fastest_limit, further_limits, settle, store_selections, used_share
from ..selecting.solver.problem import SelectionProblem
from ..selecting.solver.solve import solve
from ..selecting.table import Floats, SearchTable, error_table
from .contest import Contest, Ints

_ATTEMPTS = 6
"""Results of a search that may be measured before one is inside the budget."""
_FULL = 0.98
"""A result that uses this share of the budget leaves no room worth filling."""
_FILLING = (1, 2, 4)
"""Blocks in which a selection that fills the room may differ from the result: few, so that the linear model holds."""


class Way(Protocol):
    """What a search came to."""

    @property
    def choices(self) -> list[dict[str, str]]:
        """Networks on its way, the result first."""
        ...

    @property
    def weights(self) -> CandidateWeights | None:
        """What its networks are judged with; None for the run's candidates."""
        ...

    @property
    def told(self) -> str:
        """How it went, for people."""
        ...

    def exchanges(self, choice: Ints) -> Sequence[Floats]:
        """Return for each block the loss with each of its operations, the others as in ``choice``, shape (M,)."""
        ...


@dataclass(frozen=True)
class WithinBudget(Pass):
    """Write K selections, the search's result first; its network has been measured inside the budget."""

    requires: ClassVar[tuple[str, ...]] = ("candidate", "latency", "network_latency")
    ensures: ClassVar[tuple[str, ...]] = ("selection",)

    budget: Budget = Budget()
    solutions: Count = 20
    """K: how many selections to hand to ranking, the search's own way among them."""
    max_overlap: Share = 0.7
    """Largest share of blocks that two selections may have in common; those on the search's way are closer."""

    @abstractmethod
    def find(self, context: Context, contest: Contest) -> Way:
        """Search within the limits of ``contest``."""

    def again(self, context: Context, way: Way, contest: Contest) -> Way:
        """Search with other limits than ``way`` was found within."""
        return self.find(context, contest)

    def keep(self, context: Context, way: Way, records: Sequence[SelectionRecord]) -> None:
        """Keep what else the search has made for its selections, which are stored."""

    def run(self, context: Context) -> PassResult:
        """Search, measure, correct the limit where the result is over the budget; then store the selections.

        Raises:
            UnverifiedError: the device is not here; the selections are stored, their latency is estimated.
        """
        way, records, notes = self.found(context)
        store_selections(context, self.name, records)
        self.keep(context, way, records)
        check_measured(context, "the result of the search", records[0].choice)
        return PassResult(notes=notes)

    def select(self, context: Context) -> tuple[list[SelectionRecord], tuple[str, ...]]:
        """Return the selections, the search's result first, and notes."""
        return self.found(context)[1:]

    def found(self, context: Context) -> tuple[Way, list[SelectionRecord], tuple[str, ...]]:
        """Return what the search came to, its selections, and notes."""
        table = error_table(context.store, context.teacher)
        limit, notes = settle(context, table, SelectPass(budget=self.budget))
        way, contest, used, more = self._inside(context, table, limit)
        records = self._records(context, contest, way, used)
        return way, records, (*notes, *more, f"{way.told}; {len(records)} selections")

    def _inside(self, context: Context, table: SearchTable, limit: float) -> tuple[Way, Contest, float, list[str]]:
        """Search until the result is inside the budget when measured, each time with a smaller limit (ms).

        Returns the way there, its limits, the share of the budget that the result uses, and notes.
        """
        further, notes = further_limits(self.budget, table, context.teacher), list[str]()
        way: Way | None = None
        for _ in range(_ATTEMPTS):
            contest = Contest(table, {"ms": limit, **further})
            way = self.find(context, contest) if way is None else self.again(context, way, contest)
            record = measure_network(context, way.choices[0])
            used = used_share(record, self.budget)
            how = "estimated" if record.timing.estimated else "measured"
            notes.append(f"result {how} {record.timing.ms:.3f} ms, {100 * used:.1f} % of the budget")
            if used <= 1:
                return way, contest, used, notes
            limit = max(
                limit / max(used, surprise(context.store, record), 1.002), fastest_limit(context, table, self.budget)
            )
        raise InfeasibleError(
            f"no result of {_ATTEMPTS} searches is inside budget {self.budget} when measured; "
            "the machine may be busy: give the same command again, or a larger --budget"
        )

    def _records(self, context: Context, contest: Contest, way: Way, used: float) -> list[SelectionRecord]:
        """Return the search's way, the result first, and diverse selections of its last linear model.

        Where the result ``used`` less of the budget than there is, the next ones are near it and fill what is left, by
        the table; ranking takes one of them if it is better and inside the budget when measured.
        """
        table, result = contest.table, contest.table.indices(way.choices[0])
        rows = way.exchanges(result)
        linear = tuple(row - row[i] for row, i in zip(rows, result, strict=True))
        problem = SelectionProblem(
            loss=linear,
            cost={name: table.cost[name] for name in contest.limits},
            limits=dict(contest.limits),
            solutions=self.solutions,
            max_overlap=self.max_overlap,
        )
        diverse = solve(problem)
        own = [choice for choice in way.choices if contest.within(table.indices(choice))]
        wider = Contest(table, {**contest.limits, "ms": contest.limits["ms"] / used})
        near = [wider.best(linear, (result, most)) for most in _FILLING] if used < _FULL else []
        ordered = [*own[:1], *map(table.choice, near), *own[1:], *(table.choice(found.choice) for found in diverse)]
        different = {tuple(choice.items()): choice for choice in ordered}
        chosen = list(different.values())[: self.solutions]
        return [
            _record(context, contest, index, choice, linear, diverse[0].bound) for index, choice in enumerate(chosen)
        ]


def _record(
    context: Context, contest: Contest, index: int, choice: dict[str, str], linear: Sequence[Floats], bound: float
) -> SelectionRecord:
    """Return the record of a selection; its objective is the change of loss that the linear model sums up."""
    objective = math.fsum(row[i] for row, i in zip(linear, contest.table.indices(choice), strict=True))
    return SelectionRecord(
        index=index,
        choice=choice,
        objective=objective,
        bound=min(bound, objective),
        cost={name: contest.total(name, contest.table.indices(choice)) for name in contest.table.cost},
        predicted_ms=predict(context.store, choice),
    )
