"""The best network within each of several budgets, from one run: candidates are never trained again.

Selection and ranking are those of the ``select`` and ``rank`` stages (HANT section 2.2), without touching their
results: a front can be drawn before or after a budget is chosen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

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
from ..ranking.rank import RACES, doubt_of, inside_budget
from ..reporting.figures.charts import Series, scatter
from ..reporting.figures.diagram import diagrams
from ..reporting.figures.keep import keep
from ..reporting.figures.run import block_rows
from ..searching.prunet.prunet import PrunetPass
from ..searching.search import Engine, SearchPass
from .records import ParetoRecord, SelectionRecord
from .select import SelectPass
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
    alphas: tuple[str, ...] = ()
    """Prices of latency in place of budgets, with ``prunet``: one network of each, as the search ends."""
    search: Engine | Literal["columns", "prunet"] = "ilp"
    """How selections are found: ``ilp`` needs scores, the others do not; ``prunet`` trains for every point."""
    prunet: PrunetPass = field(default_factory=PrunetPass, metadata={"decides": False})
    """How it trains: as the pipeline's own pass."""
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
        prices = self._prices()
        if not self.budgets and not prices:
            raise UsageError("no budgets given; give --budgets 0.3,0.45,0.6,0.75")
        budgets = [Budget.parse(text, self.limits, context.target.batch_size) for text in self.budgets]
        points = []
        with context.progress.task("pareto", len(prices or budgets)) as task:
            if self.search == "prunet":
                for aim in prices or budgets:
                    points.append(self._trained(context, aim))
                    task.advance(1, points[-1].budget)
            else:
                judge = Judge(context, self._protocol)
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

    @property
    def _protocol(self) -> Protocol:
        return Protocol(self.samples, self.batch_size, statistics=self.statistics)

    def _prices(self) -> list[float]:
        """Return the prices.

        Raises:
            UsageError: one is no price, or the search has none.
        """
        if self.alphas and self.search != "prunet":
            raise UsageError("--alphas are prices of one search; give --search prunet too, or --budgets")
        if self.alphas and self.limits:
            raise UsageError(f"--limit {self.limits[0]} holds within budgets; give --budgets in place of --alphas")
        try:
            prices = [float(text) for text in self.alphas]
        except ValueError:
            prices = [0.0]
        if not all(0 < price < 1e6 for price in prices):
            raise UsageError(f"--alphas {','.join(self.alphas)}: expected numbers above 0, such as 0.2,0.4,0.8,1.2,2.0")
        return prices

    def _trained(self, context: Context, aim: float | Budget) -> ParetoRecord:
        """Return the network of one search at the price, or within the budget, with the weights that it trained."""
        label = str(aim) if isinstance(aim, Budget) else f"alpha={aim:g}"
        try:
            if isinstance(aim, Budget):
                way, selections = replace(self.prunet, budget=aim, solutions=self.solutions).found(context)[:2]
                choice, weights = selections[0].choice, way.weights
            else:
                choice, weights = self.prunet.at(context, aim)
        except InfeasibleError as error:
            return ParetoRecord(budget=label, target=context.target.name, choice={}, reason=str(error))
        entry = Judge(context, self._protocol, weights).entry(0, choice, "loss")
        entry.finish()
        return _record(context, label, entry, None, measure_network(context, choice))

    def _selections(self, context: Context, budget: Budget) -> list[SelectionRecord]:
        """Return the selections that the engine of the search makes."""
        if self.search in ("errors", "linear"):
            engine: Engine = "errors" if self.search == "errors" else "linear"
            options = SearchPass(budget, self.solutions, self.max_overlap, engine)
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
        for entry, measured in inside_budget(context, finishing_order(entries), budget):
            return _record(context, str(budget), entry, selections[entry.index], measured, len(selections))
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
    columns = {f"{p.budget} on {p.target}" if len(targets) > 1 else p.aim: p.choice for p in met}
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
                [f"{point.aim}: {point.measured_ms:.4g} ms, loss {point.loss:.4f}" for point in met],
                joined=True,
            )
        )
    kind = "estimated" if any(p.estimated for points in fronts.values() for p in points) else "measured"
    labels = (f"latency, share of the teacher's ({kind})", metric.label(" on held-out images"))
    return scatter(series, labels, title)


def describe(point: ParetoRecord, metric: Metric) -> str:
    """Return a point in one line."""
    if not point.choice:
        return f"{point.aim}: not met; {point.reason}"
    kind = "estimated" if point.estimated else "measured"
    return (
        f"{point.aim}: {point.measured_ms:.4g} ms, {point.ratio:.3f} of the teacher ({kind}), "
        f"loss {point.loss:.4f}, {metric.text(point.accuracy)} held out"
    )


def _record(
    context: Context,
    label: str,
    entry: Entry,
    selection: SelectionRecord | None,
    measured: NetworkLatencyRecord,
    selections: int = 1,
) -> ParetoRecord:
    loss = entry.totals.mean("loss")
    return ParetoRecord(
        budget=label,
        target=context.target.name,
        choice=entry.choice,
        objective=selection.objective if selection else loss,
        bound=selection.bound if selection else 0.0,
        loss=loss,
        accuracy=entry.totals.accuracy,
        samples=entry.totals.samples,
        predicted_ms=predict(context.store, entry.choice),
        measured_ms=measured.timing.ms,
        teacher_ms=measured.teacher.ms,
        ratio=measured.timing.ms / measured.teacher.ms,
        estimated=measured.timing.estimated,
        selections=selections,
    )
