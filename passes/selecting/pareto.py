"""The best network within each of several budgets, from one run: candidates are never trained again.

Selection and ranking are those of the ``select`` and ``rank`` stages (HANT section 2.2), without touching their
results: a front can be drawn before or after a budget is chosen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult, Share, one_of
from ...transformer.contracts.task import TOP1, Metric
from ...transformer.errors import InfeasibleError, UsageError
from ..latency.measure import measure_network
from ..latency.predict import predict
from ..latency.records import NetworkLatencyRecord
from ..networks.supernet import Statistics
from ..ranking.judge import Entry, Judge, Protocol
from ..ranking.measures import METRICS, measure_of
from ..ranking.race import finishing_order
from ..ranking.rank import RACES, doubt_of
from ..reporting.figures.charts import Series, scatter
from ..reporting.figures.diagram import diagrams
from ..reporting.figures.keep import keep
from ..reporting.figures.run import block_rows
from ..searching.search import Engine, SearchPass
from .records import ParetoRecord, SelectionRecord
from .select import SelectPass, used_share
from .solver.solve import ENGINES


@dataclass(frozen=True)
class ParetoPass(Pass):
    """Write a point for every budget, ``pareto.json`` and the drawings of front and architectures."""

    name: ClassVar[str] = "pareto"
    requires: ClassVar[tuple[str, ...]] = ("candidate", "latency", "network_latency")
    uses: ClassVar[tuple[str, ...]] = ("score",)
    ensures: ClassVar[tuple[str, ...]] = ("pareto",)

    budgets: tuple[str, ...] = ("0.3", "0.45", "0.6", "0.75")
    """As for ``--budget``: ratios of the teacher's latency, or times."""
    limits: tuple[str, ...] = ()
    """Further limits that hold at every budget, such as ``params=50%``."""
    search: Engine = "ilp"
    """How selections are found: ``ilp`` needs scores, ``linear`` does not."""
    solutions: Count = 100
    max_overlap: Share = 0.7
    engine: Annotated[str, one_of(ENGINES)] = "default"
    samples: Count = 6000
    """Held-out training images to evaluate on, at most."""
    batch_size: Count = 256
    statistics: Statistics = "batch"
    metric: Annotated[str, one_of(METRICS)] = "cross-entropy"
    race: Annotated[str, one_of(RACES)] = "certain"
    """As for ``rank``; ``off`` is ``certain`` here, since nothing is kept of networks that lose."""

    def run(self, context: Context) -> PassResult:
        """Find the point of each budget; networks that the run knows are not evaluated or measured again."""
        if not self.budgets:
            raise UsageError("no budgets given; give --budgets 0.3,0.45,0.6,0.75")
        budgets = [Budget.parse(text, self.limits, context.target.batch_size) for text in self.budgets]
        judge = Judge(context, Protocol(self.samples, self.batch_size, statistics=self.statistics))
        points = []
        with context.progress.task("pareto", len(budgets)) as task:
            for budget in budgets:
                points.append(self._point(context, judge, budget))
                task.advance(1, str(budget))
        points = mark_front(points)
        with context.store.transaction():
            for key, point in context.store.all(ParetoRecord).items():
                if point.target == context.target.name:
                    context.store.delete(ParetoRecord, key)
            for point in points:
                context.store.put(f"{point.target}/{point.budget}", point)
        self.draw(context)
        return PassResult(notes=tuple(describe(point, context.metric) for point in points))

    def draw(self, context: Context) -> None:
        """Write ``pareto.json`` and the drawings of every point that the run has, of whatever target."""
        points = list(context.store.all(ParetoRecord).values())
        figures = draw_front(context, points)
        content = {"version": 1, "points": [point.model_dump() for point in points], "figures": figures}
        context.store.write("pareto.json", json.dumps(content, indent=1))

    def _selections(self, context: Context, budget: Budget) -> list[SelectionRecord]:
        """Return the selections that the engine of the search makes."""
        if self.search == "linear":
            options = SearchPass(budget=budget, solutions=self.solutions, max_overlap=self.max_overlap)
            return options.select(context)[0]
        return SelectPass(budget, self.solutions, self.max_overlap, self.engine).select(context)[0]

    def _point(self, context: Context, judge: Judge, budget: Budget) -> ParetoRecord:
        """Return the best network within ``budget``, or why there is none."""
        try:
            selections = self._selections(context, budget)
        except InfeasibleError as error:
            return ParetoRecord(budget=str(budget), target=context.target.name, choice={}, reason=str(error))
        measure, doubt = measure_of(self.metric, judge.task), doubt_of(self.race)
        entries = [judge.entry(i, selection.choice, measure, doubt) for i, selection in enumerate(selections)]
        for entry in finishing_order(entries):
            measured = measure_network(context, entry.choice)
            if used_share(measured, budget) <= 1:
                return _record(context, budget, entry, selections, measured)
        reason = f"none of the {len(selections)} selections is inside the budget when measured"
        return ParetoRecord(budget=str(budget), target=context.target.name, choice={}, reason=reason)


def mark_front(points: Sequence[ParetoRecord]) -> list[ParetoRecord]:
    """Return the points with ``on_front`` set where no other is at least as fast and as good, and better in one."""
    met = [point for point in points if point.choice]

    def dominated(point: ParetoRecord) -> bool:
        ours = (point.ratio, point.loss)
        theirs = [(other.ratio, other.loss) for other in met]
        return any(r <= ours[0] and loss <= ours[1] and (r, loss) != ours for r, loss in theirs)

    return [point.model_copy(update={"on_front": bool(point.choice) and not dominated(point)}) for point in points]


def draw_front(context: Context, points: Sequence[ParetoRecord]) -> list[str]:
    """Draw latency against accuracy for each target, and the architectures side by side; return the files."""
    met = sorted((point for point in points if point.choice), key=lambda point: (point.target, point.ratio))
    if not met:
        return []
    targets = list(dict.fromkeys(point.target for point in met))
    title = f"Accuracy before fine-tuning on {', '.join(targets)}"
    front = front_svg(
        {target: [point for point in met if point.target == target] for target in targets}, title, context.metric
    )
    columns = {f"{p.budget} on {p.target}" if len(targets) > 1 else f"budget {p.budget}": p.choice for p in met}
    other = "Architectures by budget"
    drawings = [
        ("pareto", title, front),
        ("pareto-architectures", other, diagrams(block_rows(context.teacher), columns, other)),
    ]
    return [keep(context.store, *drawing).file for drawing in drawings]


def front_svg(fronts: dict[str, Sequence[ParetoRecord]], title: str, metric: Metric = TOP1) -> str:
    """Return the points of each target, joined by speed, as SVG."""
    series = []
    for target, points in fronts.items():
        met = sorted((point for point in points if point.choice), key=lambda point: point.ratio)
        series.append(
            Series(
                target,
                [(point.ratio, point.accuracy) for point in met],
                [f"budget {point.budget}: {point.measured_ms:.4g} ms, loss {point.loss:.4f}" for point in met],
                joined=True,
            )
        )
    kind = "estimated" if any(p.estimated for points in fronts.values() for p in points) else "measured"
    labels = (f"latency, share of the teacher's ({kind})", metric.label(" on held-out images"))
    return scatter(series, labels, title)


def describe(point: ParetoRecord, metric: Metric) -> str:
    """Return a point in one line."""
    if not point.choice:
        return f"budget {point.budget}: not met; {point.reason}"
    kind = "estimated" if point.estimated else "measured"
    return (
        f"budget {point.budget}: {point.measured_ms:.4g} ms, {point.ratio:.3f} of the teacher ({kind}), "
        f"loss {point.loss:.4f}, {metric.text(point.accuracy)} held out"
    )


def _record(
    context: Context,
    budget: Budget,
    entry: Entry,
    selections: Sequence[SelectionRecord],
    measured: NetworkLatencyRecord,
) -> ParetoRecord:
    selection = selections[entry.index]
    return ParetoRecord(
        budget=str(budget),
        target=context.target.name,
        choice=entry.choice,
        objective=selection.objective,
        bound=selection.bound,
        loss=entry.totals.mean("loss"),
        accuracy=entry.totals.accuracy,
        samples=entry.totals.samples,
        predicted_ms=predict(context.store, entry.choice),
        measured_ms=measured.timing.ms,
        teacher_ms=measured.teacher.ms,
        ratio=measured.timing.ms / measured.teacher.ms,
        estimated=measured.timing.estimated,
        selections=len(selections),
    )
