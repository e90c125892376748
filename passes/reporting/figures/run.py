"""Draw what a run selected, and what other searches found (HANT figures 2 to 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ....transformer.contracts.context import Context
from ....transformer.contracts.pass_ import Pass, PassResult
from ....transformer.contracts.store import Store
from ....transformer.contracts.task import Metric
from ....transformer.ir.graph import Graph
from ...ranking.records import RankRecord, WinnerRecord
from ...searching.records import BaselineRecord
from ...selecting.records import SelectionRecord
from ..records import FigureRecord
from .charts import Box, Series, bars, box_plot, scatter
from .diagram import Row, diagrams
from .keep import keep


@dataclass(frozen=True)
class FiguresPass(Pass):
    """Write the run's figures as SVG: operations, architectures, objective against loss, searches by budget."""

    name: ClassVar[str] = "figures"
    requires: ClassVar[tuple[str, ...]] = ("selection",)
    ensures: ClassVar[tuple[str, ...]] = ("figure",)

    columns: int = 4
    """Architectures to draw side by side."""

    def run(self, context: Context) -> PassResult:
        """Draw what there is."""
        store = context.store
        found = [draw_operations(store), draw_architectures(store, context.teacher, self.columns)]
        if store.count(RankRecord.kind):
            found.append(draw_ranking(store, context.metric))
        if store.count(BaselineRecord.kind):
            found.append(draw_searches(store))
        return PassResult(notes=(", ".join(record.file for record in found),))


def draw_operations(store: Store) -> FigureRecord:
    """Draw the share of each operation over all blocks of the K selections (HANT figure 3)."""
    selections = list(store.all(SelectionRecord).values())
    title = f"Operations of the {len(selections)} selections"
    svg = bars({"selections": operation_shares([s.choice for s in selections])}, "share of all blocks", title)
    return keep(store, "operations", title, svg)


def operation_shares(choices: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Return the share of each operation over the blocks of all choices, the most frequent first."""
    counts = Counter(operation for choice in choices for operation in choice.values())
    total = max(1, counts.total())
    return {name: count / total for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}


def draw_architectures(store: Store, graph: Graph, columns: int) -> FigureRecord:
    """Draw the winner and the next best, side by side (HANT figure 4)."""
    selections = {record.index: record for record in store.all(SelectionRecord).values()}
    ranked = sorted(store.all(RankRecord).values(), key=lambda rank: (not rank.complete, rank.loss, rank.index))
    winner = store.get(WinnerRecord, "winner")
    order = [rank.index for rank in ranked] or sorted(selections)
    if winner is not None:
        order = [winner.index, *(index for index in order if index != winner.index)]
    names = {i: f"selection {i}" + (" (winner)" if winner and i == winner.index else "") for i in order[:columns]}
    title = "Selected architectures"
    svg = diagrams(block_rows(graph), {names[i]: selections[i].choice for i in names}, title)
    return keep(store, "architectures", title, svg)


def block_rows(graph: Graph) -> list[Row]:
    """Return the replaceable blocks as rows of a diagram."""
    return [
        Row(block.name, f"{block.input} -> {block.output}", downsamples=block.input != block.output)
        for block in graph.replaceable
    ]


def draw_ranking(store: Store, metric: Metric) -> FigureRecord:
    """Draw the objective of each selection against its real loss (HANT figure 2a)."""
    selections = {record.index: record for record in store.all(SelectionRecord).values()}
    ranks = list(store.all(RankRecord).values())
    series = []
    for name, complete in (("all images", True), ("stopped early", False)):
        rows = [rank for rank in ranks if rank.complete is complete]
        if rows:
            points = [(selections[rank.index].objective, rank.loss) for rank in rows]
            titles = [f"selection {rank.index}: {metric.text(rank.accuracy)} on {rank.samples} images" for rank in rows]
            series.append(Series(name, points, titles, filled=complete))
    title = "Objective against real loss"
    svg = scatter(series, ("sum of loss changes", "loss before fine-tuning"), title)
    return keep(store, "ranking", title, svg)


def draw_searches(store: Store) -> FigureRecord:
    """Draw what each search found by budget, beside the distribution of random networks (HANT figure 2b)."""
    records = list(store.all(BaselineRecord).values())
    budgets = sorted({record.budget for record in records}, key=lambda text: (len(text), text))
    boxes = []
    for budget in budgets:
        here = [record for record in records if record.budget == budget]
        random = next((record.losses for record in here if record.method == "random"), ())
        boxes.append(Box(budget, random, {record.method: record.loss for record in here}))
    title = "Searches within the same budget"
    svg = box_plot(boxes, ("budget", "loss before fine-tuning"), title, log_y=True)
    return keep(store, "searches", title, svg)
