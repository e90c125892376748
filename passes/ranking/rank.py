"""Evaluate the K selections as whole networks and take the best that is inside the budget when measured.

HANT section 2.2, "Candidate architecture evaluation": the linear proxy scores operations in isolation; the K networks
with their pretrained weights are evaluated on held-out training images (6,000 in the paper), the lowest loss wins.
Selections that can no longer win are not run to the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, ClassVar

from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult, Work, one_of
from ...transformer.contracts.task import Metric
from ...transformer.data.images import size
from ...transformer.data.splits import split
from ...transformer.errors import InfeasibleError, UsageError, nearest
from ..finetuning.align import AlignPass
from ..latency.measure import check_measured, measure_network
from ..latency.records import NetworkLatencyRecord
from ..networks.assemble import CandidateWeights
from ..networks.supernet import Statistics
from ..selecting.records import SelectionRecord
from ..selecting.select import SelectPass, used_share
from .finalists import short_alignment
from .judge import Entry, Judge, Protocol
from .measures import METRICS, measure_of
from .race import finishing_order
from .records import FinalistRecord, RankRecord, WinnerRecord

RACES: dict[str, float | None] = {"certain": None, "confident": 5.0, "off": None}
"""How losers are told -> standard errors that a loser's outcome may still improve by (``Totals.least``)."""


@dataclass(frozen=True)
class RankPass(Pass):
    """Write the loss of every selection and the winner."""

    name: ClassVar[str] = "rank"
    requires: ClassVar[tuple[str, ...]] = ("selection", "candidate")
    ensures: ClassVar[tuple[str, ...]] = ("rank", "winner")

    budget: Budget = Budget()
    samples: Count = 6000
    """Held-out training images to evaluate on, at most."""
    batch_size: Count = 256
    metric: Annotated[str, one_of(METRICS)] = "cross-entropy"
    """What decides: ``cross-entropy``, which stands for a task's own loss, ``accuracy``, ``kl`` (to the teacher) or
    ``feature-mse``."""
    statistics: Statistics = "batch"
    """What batch norms normalise by: ``batch``, the statistics of the images that are run, is what the training of the
    student starts from; ``running``, those of pretraining, what it is run with where it is not trained."""
    recalibrate: bool = False
    """Whether batch-norm statistics are estimated again on training images, for every selection; then they are
    ``running`` whatever was said."""
    race: Annotated[str, one_of(RACES)] = "certain"
    """When to stop a loser: ``certain`` has the same winner by proof, ``confident`` with 5 standard errors to spare,
    ``off`` runs all selections on all images."""
    finalists: Count = 1
    """How many of the best to align shortly before choosing among them; 1 takes the best as it is."""
    finalist_steps: Count = 150
    """Steps of that alignment."""
    align: AlignPass = field(default_factory=AlignPass, metadata={"decides": False})
    """How finalists are aligned, the number of steps aside: as the pipeline aligns the winner."""

    def check(self, context: Context) -> None:
        """Refuse a metric that the data's task does not have."""
        if context.data is not None:
            measure_of(self.metric, context.data.task)

    def work(self, context: Context) -> Work:
        """Count the images of the selections that there are or will be; losers stop early, on half of them."""
        images = min(self.samples, size(split(context.dataset, context.seed).held_out))
        networks = context.store.count(SelectionRecord.kind) or SelectPass.solutions
        return Work(
            f"{networks} networks at most x {images} images", macs=0.5 * networks * images * context.teacher.macs
        )

    def run(self, context: Context) -> PassResult:
        """Evaluate what is not yet evaluated, then choose.

        Raises:
            UnverifiedError: the device is not here; the winner is stored, its latency is estimated.
        """
        statistics: Statistics = "running" if self.recalibrate else self.statistics
        protocol = Protocol(self.samples, self.batch_size, self.recalibrate, statistics)
        judge = Judge(context, protocol, CandidateWeights(context.store, trained=True))
        selections = {record.index: record for record in context.store.all(SelectionRecord).values()}
        doubt = doubt_of(self.race)
        measure = measure_of(self.metric, judge.task)
        entries = [judge.entry(index, record.choice, measure, doubt) for index, record in selections.items()]
        with context.progress.task("rank", len(entries) * -(-judge.total // self.batch_size)) as task:
            for entry in entries:
                entry.watch(task)
            if self.race == "off":
                for entry in entries:
                    entry.finish()
            inside = self._inside(context, finishing_order(entries), len(entries))
        tuned = self._train(context, judge, inside)
        best = inside[0][0] if not tuned else min(tuned, key=lambda entry: (tuned[entry].loss, entry.index))
        measured = next(found for entry, found in inside if entry is best)
        with context.store.transaction():
            for entry in entries:
                context.store.put(f"{entry.index:03d}", rank_record(entry, tuned.get(entry)))
            context.store.put("winner", WinnerRecord.of(selections[best.index], measured))
        check_measured(context, f"selection {best.index}, the winner,", best.choice)
        return PassResult(notes=(_note(entries, best, context.metric),))

    def _inside(self, context: Context, order: Iterator[Entry], count: int) -> list[tuple[Entry, NetworkLatencyRecord]]:
        """Return the finalists: the first of ``order`` that are inside the budget when measured."""
        found = list(islice(inside_budget(context, order, self.budget), max(1, self.finalists)))
        if not found:
            raise none_inside(count, self.budget)
        return found

    def _train(
        self, context: Context, judge: Judge, inside: list[tuple[Entry, NetworkLatencyRecord]]
    ) -> dict[Entry, FinalistRecord]:
        """Align the finalists shortly, where there is more than one."""
        if len(inside) < 2:
            return {}
        with context.progress.task("finalists", len(inside)) as task:
            tuned = {}
            for entry, _ in inside:
                start = judge.key(entry.choice)
                tuned[entry] = short_alignment(context, entry.choice, start, self.align, self.finalist_steps)
                told = context.metric.text(tuned[entry].accuracy)
                task.advance(1, f"selection {entry.index}: {told} held out")
        return tuned


def inside_budget(
    context: Context, order: Iterable[Entry], budget: Budget
) -> Iterator[tuple[Entry, NetworkLatencyRecord]]:
    """Yield those of ``order`` whose networks are inside the budget when measured, each with its latency."""
    for entry in order:
        measured = measure_network(context, entry.choice)
        if used_share(measured, budget) <= 1:
            yield entry, measured


def none_inside(count: int, budget: Budget) -> InfeasibleError:
    """Return the error that says so of ``count`` selections."""
    return InfeasibleError(
        f"none of the {count} selections is inside budget {budget} when measured; "
        "the machine may be busy: give the same command again, or a larger --budget"
    )


def doubt_of(race: str) -> float | None:
    """Return the standard errors that ``Totals.least`` leaves a loser in a race of this kind.

    Raises:
        UsageError: no such race.
    """
    if race not in RACES:
        raise UsageError(f"unknown race {race!r}{nearest(race, RACES)}")
    return RACES[race]


def rank_record(entry: Entry, tuned: FinalistRecord | None = None) -> RankRecord:
    """Return what is known of a selection, fine-tuned shortly if it was a finalist."""
    totals = entry.totals
    return RankRecord(
        index=entry.index,
        loss=totals.mean("loss"),
        accuracy=totals.accuracy,
        samples=totals.samples,
        complete=entry.complete,
        kl=totals.mean("kl") if "kl" in totals.sums else None,
        feature_mse=totals.mean("feature_mse"),
        finetuned_accuracy=None if tuned is None else tuned.accuracy,
    )


def _note(entries: Sequence[Entry], best: Entry, metric: Metric) -> str:
    stopped = sum(not entry.complete for entry in entries)
    note = f"selection {best.index} of {len(entries)} wins: loss {best.totals.mean('loss'):.4f}, "
    note += f"{metric.text(best.totals.accuracy)} held out"
    return note + (f"; {stopped} stopped early" if stopped else "")
