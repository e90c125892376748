"""Choose one operation per block by a search that needs no scores, and keep the promise on the measured network.

The paper's way (``ilp``: every candidate scored alone, the sum of the scores minimised) says little of networks in
which many blocks are replaced, since errors act on each other; the linearised search looks at the networks themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Pass, PassResult
from ...transformer.errors import InfeasibleError
from ..latency.measure import check_measured, measure_network
from ..latency.predict import predict, surprise
from ..networks.supernet import Statistics
from ..selecting.records import SelectionRecord
from ..selecting.select import SelectPass, fastest_limit, further_limits, settle, store_selections, used_share
from ..selecting.solver.problem import SelectionProblem
from ..selecting.solver.solve import solve
from ..selecting.table import Floats, SearchTable, error_table
from .contest import Contest
from .linear import Linear, Trail, linear_search

Engine = Literal["linear", "ilp"]

_ATTEMPTS = 6
"""Results of a search that may be measured before one is inside the budget."""


@dataclass(frozen=True)
class SearchPass(Pass):
    """Write K selections, the search's result first; its network has been measured inside the budget."""

    name: ClassVar[str] = "search"
    requires: ClassVar[tuple[str, ...]] = ("candidate", "latency", "network_latency")
    uses: ClassVar[tuple[str, ...]] = ("score",)
    ensures: ClassVar[tuple[str, ...]] = ("selection",)

    engine: Engine = "linear"
    """``linear``, or ``ilp``: what the pass ``select`` does, which needs scores."""
    budget: Budget = Budget()
    solutions: int = 20
    """K: how many selections to hand to ranking, the search's own way among them."""
    max_overlap: float = 0.7
    """Largest share of blocks that two selections may have in common; those on the search's way are closer."""
    rounds: int = 4
    """Linear steps at most; 0 takes the best selection by pretraining's errors."""
    images: int = 120
    """Held-out training images to linearise on, other ones in each round."""
    race_images: int = 600
    """Held-out training images to race proposals on, at most half of all; none of them is linearised on."""
    samples: int = 6000
    """Held-out training images to take both from, at most."""
    batch_size: int = 200
    statistics: Statistics = "batch"
    """What batch norms normalise by: ``batch`` is what training the student starts from; ``running`` is what it is run
    with where it is not trained at all."""

    def run(self, context: Context) -> PassResult:
        """Search, measure, correct the limit where the result is over the budget; then store the selections.

        Raises:
            UnverifiedError: the device is not here; the selections are stored, their latency is estimated.
        """
        if self.engine == "ilp":
            return SelectPass(self.budget, self.solutions, self.max_overlap).run(context)
        records, notes = self.select(context)
        store_selections(context, self.name, records)
        check_measured(context, "the result of the search", records[0].choice)
        return PassResult(notes=notes)

    def select(self, context: Context) -> tuple[list[SelectionRecord], tuple[str, ...]]:
        """Return the selections, the search's result first, and notes."""
        table = error_table(context.store, context.teacher)
        limit, notes = settle(context, table, SelectPass(budget=self.budget))
        trail, contest, more = self._inside(context, table, limit)
        records = self._records(context, contest, trail)
        way = " -> ".join(f"{record.loss:.4f}" for record in trail.records)
        seconds = sum(record.seconds for record in trail.records)
        found = f"loss {way} in {seconds:.0f} CPU-seconds; {len(records)} selections"
        return records, (*notes, *more, found)

    def find(self, context: Context, contest: Contest) -> Trail:
        """Search within the limits of ``contest``."""
        return linear_search(context, contest, str(self.budget), self.options)

    @property
    def options(self) -> Linear:
        """The options of the linearised search."""
        return Linear(
            rounds=self.rounds,
            images=self.images,
            race_images=self.race_images,
            samples=self.samples,
            batch_size=self.batch_size,
            statistics=self.statistics,
        )

    def _inside(self, context: Context, table: SearchTable, limit: float) -> tuple[Trail, Contest, list[str]]:
        """Search until the result is inside the budget when measured, each time with a smaller limit (ms)."""
        further, notes = further_limits(self.budget, table, context.teacher), list[str]()
        for _ in range(_ATTEMPTS):
            contest = Contest(table, {"ms": limit, **further})
            trail = self.find(context, contest)
            record = measure_network(context, trail.choices[0])
            used = used_share(record, self.budget)
            how = "estimated" if record.timing.estimated else "measured"
            notes.append(f"result {how} {record.timing.ms:.3f} ms, {100 * used:.1f} % of the budget")
            if used <= 1:
                return trail, contest, notes
            limit = max(
                limit / max(used, surprise(context.store, record), 1.002), fastest_limit(context, table, self.budget)
            )
        raise InfeasibleError(
            f"no result of {_ATTEMPTS} searches is inside budget {self.budget} when measured; "
            "the machine may be busy: give the same command again, or a larger --budget"
        )

    def _records(self, context: Context, contest: Contest, trail: Trail) -> list[SelectionRecord]:
        """Return the search's way, the result first, and diverse selections of its last linear model."""
        table, result = contest.table, contest.table.indices(trail.choices[0])
        effects = trail.model()
        now = effects.of(result)
        linear = tuple(row - now for row in effects.exchanges(result))
        problem = SelectionProblem(
            loss=linear,
            cost={name: table.cost[name] for name in contest.limits},
            limits=dict(contest.limits),
            solutions=self.solutions,
            max_overlap=self.max_overlap,
        )
        diverse = solve(problem)
        way = [choice for choice in trail.choices if contest.within(table.indices(choice))][: self.solutions]
        rest = [choice for choice in map(table.choice, (s.choice for s in diverse)) if choice not in way]
        chosen = [*way, *rest][: max(self.solutions, 1)]
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
