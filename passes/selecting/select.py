"""Choose one operation per block under the budget, and keep the promise on the measured network.

HANT section 2.2, equation 3: K diverse selections by integer programming. The paper selects on the lookup table
alone and reports that the real latency differs (appendix A.1); here the best selection is assembled and measured,
the table's prediction is corrected, and the program is solved again until the measured network is inside the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from ...backends.measuring.statistics import ratio_interval
from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult, Share, one_of
from ...transformer.errors import InfeasibleError
from ...transformer.ir.graph import Graph
from ...transformer.runs.records import PassRecord
from ..latency.measure import check_measured, measure_network
from ..latency.predict import calibrated, limit_for, predict, refit, surprise
from ..latency.records import NetworkLatencyRecord
from ..pretraining.records import TrainedRecord
from ..ranking.records import RankRecord, WinnerRecord
from .records import MAKERS, SelectionRecord
from .solver.problem import Selection, SelectionProblem
from .solver.solve import ENGINES, solve
from .table import SearchTable, search_table

MARGIN = 0.015
"""Least share of a latency budget that is kept free for the noise of the last measurement."""
_MOST_MARGIN = 0.05
"""A network that is known less well than this was measured on a busy machine; verification will tell."""


@dataclass(frozen=True)
class SelectPass(Pass):
    """Write the K selections, the best first; the first one's network has been measured inside the budget."""

    name: ClassVar[str] = "select"
    requires: ClassVar[tuple[str, ...]] = ("score", "latency", "network_latency")
    ensures: ClassVar[tuple[str, ...]] = ("selection",)

    budget: Budget = Budget()
    solutions: Count = 100
    """K: how many diverse selections to hand to ranking."""
    max_overlap: Share = 0.7
    """Largest share of blocks that two selections may have in common (O = 0.7 N in the paper)."""
    engine: Annotated[str, one_of(ENGINES)] = "default"
    fill: Share = 0.995
    """Stop correcting when the measured network uses at least this share of the budget."""
    attempts: Count = 6
    """Networks to assemble and measure at most."""

    def run(self, context: Context) -> PassResult:
        """Solve, measure, correct, solve again; then store the diverse selections.

        Raises:
            UnverifiedError: the device is not here; the selections are stored, their latency is estimated.
        """
        records, notes = self.select(context)
        store_selections(context, self.name, records)
        best = records[0]
        check_measured(context, "the best selection", best.choice)
        found = f"{len(records)} selections; predicted loss change {best.objective:.4f}, bound {best.bound:.4f}"
        return PassResult(notes=(*notes, found))

    def select(
        self, context: Context, table: SearchTable | None = None
    ) -> tuple[list[SelectionRecord], tuple[str, ...]]:
        """Return the selections, the best first, whose network was measured inside the budget; and notes.

        ``table`` says what operations lose, by default that of the scores.
        """
        table = search_table(context.store, context.teacher) if table is None else table
        limit, notes = settle(context, table, self)
        selections = self.solve(table, context.teacher, limit, self.solutions)
        return [_record(context, table, index, selection) for index, selection in enumerate(selections)], notes

    def solve(self, table: SearchTable, graph: Graph, limit: float, solutions: int) -> list[Selection]:
        """Solve the program with ``limit`` (ms) on the table's sum and the budget's further limits."""
        limits = {"ms": limit, **further_limits(self.budget, table, graph)}
        problem = SelectionProblem(
            loss=table.loss,
            cost={name: table.cost[name] for name in limits},
            limits=limits,
            solutions=solutions,
            max_overlap=self.max_overlap,
        )
        return solve(problem, engine=self.engine)


def store_selections(context: Context, maker: str, records: Sequence[SelectionRecord]) -> None:
    """Put selections in the place of those before; what was made of these is forgotten.

    Of the passes that make selections the others than ``maker`` are no longer up to date.
    """
    with context.store.transaction():
        for stale in (SelectionRecord, RankRecord, WinnerRecord, TrainedRecord):
            context.store.delete(stale)
        for record in records:
            context.store.put(f"{record.index:03d}", record)
        for other in MAKERS:
            if other != maker:
                context.store.delete(PassRecord, other)


def settle(context: Context, table: SearchTable, options: SelectPass) -> tuple[float, tuple[str, ...]]:
    """Return the limit (ms on the table's sum) whose best selection was measured inside the budget.

    Measured networks are durable and never measured twice. Only those on the way here teach the model, so a run that
    was stopped goes the same way again.

    Raises:
        InfeasibleError: even the fastest network misses the budget; names the least that was measured.
    """
    fastest = table.choice(table.fastest())
    inside: float | None = None
    scale, kept_free, notes = 1.0, MARGIN, []
    tried: list[dict[str, str]] = []
    refit(context.store)
    for _ in range(options.attempts):
        limit = limit_for(context.store, allowed_ms(context, options.budget, kept_free) / scale)
        try:
            choice = table.choice(options.solve(table, context.teacher, limit, 1)[0].choice)
        except InfeasibleError as error:
            if "ms" not in error.least:
                raise
            choice = fastest
        if choice in tried:
            break
        tried.append(choice)
        record = measure_network(context, choice)
        used = used_share(record, options.budget)
        notes.append(_told(record, options.budget))
        if used <= 1:
            inside = max(inside or 0.0, limit if choice is not fastest else table.total("ms", fastest))
            if used >= options.fill:
                break
        elif choice is fastest:
            break
        refit(context.store, tried)
        scale, kept_free = surprise(context.store, record), margin(record, options.budget)
    if inside is None:
        inside = fastest_limit(context, table, options.budget)
    return inside, tuple(notes)


def allowed_ms(context: Context, budget: Budget, kept_free: float = MARGIN) -> float:
    """Return the latency that a selection may have (ms), the margin taken off."""
    teacher = context.store.get(NetworkLatencyRecord, "teacher")
    assert teacher is not None, "required by the pass contract"
    return budget.latency.absolute(teacher.timing.ms) * (1 - kept_free)


def margin(record: NetworkLatencyRecord, budget: Budget) -> float:
    """Return the share of the budget that a measured network leaves free: what its own measurement may be wrong by."""
    timing, teacher = record.timing, record.teacher
    if timing.estimated:
        return MARGIN
    high = ratio_interval(timing, teacher).high * teacher.ms if budget.latency.relative else timing.high
    return min(max(MARGIN, 1 - timing.ms / high), _MOST_MARGIN)


def used_share(record: NetworkLatencyRecord, budget: Budget) -> float:
    """Return how much of the budget, margin taken off, a measured network uses; its teacher was timed beside it."""
    return record.timing.ms / (budget.latency.absolute(record.teacher.ms) * (1 - margin(record, budget)))


def further_limits(budget: Budget, table: SearchTable, graph: Graph) -> dict[str, float]:
    """Return the budget's other limits as limits on the blocks' sum: what is outside the blocks is taken off.

    Raises:
        InfeasibleError: no network of the table meets one of them even alone; names the least that can be.
    """
    whole, limits = whole_costs(graph), {}
    for name, limit in budget.limits:
        outside = whole[name] - table.total(name, table.teacher())
        least = float(sum(row.min() for row in table.cost[name]))
        limits[name] = limit.absolute(whole[name]) - outside
        if least > limits[name]:
            raise InfeasibleError(
                f"limit {name}={limit} ({limit.absolute(whole[name]):.6g}) cannot be met: the least that can be is "
                f"{least + outside:.6g}, {(least + outside) / whole[name]:.3f} of the teacher's {whole[name]:.6g}; "
                "raise the limit, or give a --pool with smaller operations",
                least={name: least + outside},
            )
    return limits


def whole_costs(graph: Graph) -> dict[str, float]:
    """Return what a whole network costs, by the names of a budget's further limits; memory is that of its weights."""
    return {"params": float(graph.parameters), "macs": float(graph.macs), "memory": 4.0 * graph.parameters}


def fastest_limit(context: Context, table: SearchTable, budget: Budget) -> float:
    """Return the least sum (ms) of a network that is inside the budget when measured: the fastest, or one of profile's.

    Raises:
        InfeasibleError: none is; names the least that was measured.
    """
    fastest = table.choice(table.fastest())
    known = [record for record in calibrated(context.store).values() if table.holds(record.selection)]
    measured = [
        (fastest, measure_network(context, fastest)),
        *((table.teacher() | record.selection, record) for record in known),
    ]
    inside = [table.total("ms", choice) for choice, record in measured if used_share(record, budget) <= 1]
    if inside:
        return min(inside)
    record = min((record for _, record in measured), key=lambda record: used_share(record, budget))
    ratio = record.timing.ms / record.teacher.ms
    how = "estimated" if record.timing.estimated else "measured"
    raise InfeasibleError(
        f"budget {budget} cannot be met on {context.target.name}: the least that can be is {record.timing.ms:.4g} ms, "
        f"{ratio:.3f} of the teacher's {record.teacher.ms:.4g} ms ({how}); give a larger --budget, "
        "or a --pool with faster operations such as hant-197",
        least={"ms": record.timing.ms, "ratio": ratio},
    )


def _told(record: NetworkLatencyRecord, budget: Budget) -> str:
    """Return what a network takes against what it may, both relative to the teacher that was timed beside it."""
    how = "estimated" if record.timing.estimated else "measured"
    ratio = record.timing.ms / record.teacher.ms
    allowed = budget.latency.absolute(record.teacher.ms) / record.teacher.ms
    free = 100 * margin(record, budget)
    return f"{how} at {ratio:.3f} of the teacher, the budget is {allowed:.3f} less {free:.1f} % for noise"


def _record(context: Context, table: SearchTable, index: int, selection: Selection) -> SelectionRecord:
    choice = table.choice(selection.choice)
    return SelectionRecord(
        index=index,
        choice=choice,
        objective=selection.objective,
        bound=selection.bound,
        cost={name: table.total(name, choice) for name in table.cost},
        predicted_ms=predict(context.store, choice),
    )
