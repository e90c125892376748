"""Choose a student in the shared weights: each operation scored there, the best of K compared there as whole networks.

After a training of all students at once (DepS, OFA) the teacher's scores say little: its blocks, stem and head have
gone on. So selections are found and ranked in what they will be cut out of, without a step of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from ...op_library.pools import operation as find_operation
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, PassResult
from ...transformer.ir.block import Block
from ..candidates.build import build_candidate
from ..latency.measure import check_measured
from ..networks.assemble import CandidateWeights
from ..ranking.judge import Judge, Protocol
from ..ranking.race import finishing_order
from ..ranking.rank import inside_budget, none_inside
from ..selecting.records import SelectionRecord
from ..selecting.select import SelectPass, store_selections
from ..selecting.table import SearchTable, table_of
from .extract import shared_network
from .network import SharedNetwork
from .records import SharedRecord


class SharedWeights(CandidateWeights):
    """The operations of a shared network as candidates: copies, in eval mode."""

    def __init__(self, context: Context, shared: SharedNetwork, record: SharedRecord) -> None:
        """Take the trained network and what is known of it."""
        super().__init__(context.store)
        self._shared, self._record = shared, record

    @property
    def recipes(self) -> dict[str, str]:
        """Digest of the shared weights, by ``block/operation``."""
        known = self._record.operations.items()
        return {f"{block}/{name}": self._record.digest for block, names in known for name in names}

    def _load(self, block: Block, operation: str) -> nn.Module:
        module = block.called(build_candidate(block, find_operation(operation), seed=0))
        self._shared.blocks[block.name].write(operation, module)
        return module.eval()


@dataclass(frozen=True)
class ChoosePass(SelectPass):
    """Write the best of K selections in the shared weights; it has been measured inside the budget.

    What was evaluated is durable, and known to all students: the second one scores nothing anew.
    """

    name: ClassVar[str] = "choose"
    requires: ClassVar[tuple[str, ...]] = ("shared", "candidate", "latency", "network_latency")

    samples: Count = 2000
    """Held-out training images to score and compare on, at most."""
    batch_size: Count = 256

    def run(self, context: Context) -> PassResult:
        """Score what is not yet scored, solve under the budget, compare, measure.

        Raises:
            InfeasibleError: no selection is inside the budget when measured.
            UnverifiedError: the device is not here; the selection is stored, its latency is estimated.
        """
        record = context.store.get(SharedRecord, "shared")
        assert record is not None, "required by the pass contract"
        shared = shared_network(context, record)
        there = replace(context, graph=shared.student({}))  # the full network, in which the others are looked at
        protocol = Protocol(self.samples, self.batch_size, statistics="batch")
        judge = Judge(there, protocol, SharedWeights(context, shared, record))
        table = scored(context, judge, record)
        selections, notes = self.select(context, table)
        best, loss = self._best(context, judge, selections)
        store_selections(context, self.name, [best.model_copy(update={"index": 0})])
        check_measured(context, "the selection", best.choice)
        found = f"selection {best.index} of {len(selections)} in the shared weights: loss {loss:.4f}"
        return PassResult(notes=(*notes, found))

    def _best(
        self, context: Context, judge: Judge, selections: Sequence[SelectionRecord]
    ) -> tuple[SelectionRecord, float]:
        """Return the selection of the least loss that is inside the budget when measured, and its loss."""
        entries = [judge.entry(record.index, record.choice, "loss") for record in selections]
        for entry, _ in inside_budget(context, finishing_order(entries), self.budget):
            return selections[entry.index], entry.totals.mean("loss")
        raise none_inside(len(selections), self.budget)


def scored(context: Context, judge: Judge, record: SharedRecord) -> SearchTable:
    """Return the table of what was trained: its loss in the full network alone, that of the full network taken off.

    Raises:
        UsageError: nothing that was trained can be chosen on this target.
    """
    blocks = [block.name for block in context.teacher.replaceable]
    full = dict.fromkeys(blocks, "teacher")
    trained = [(block, name) for block in blocks for name in record.operations.get(block, ["teacher"])]
    losses: dict[str, float] = {}
    start = judge.totals(full).mean("loss")
    with context.progress.task("choose", len(trained)) as task:
        for block, name in trained:
            own = name == "teacher"
            losses[f"{block}/{name}"] = 0.0 if own else judge.totals(full | {block: name}).mean("loss") - start
            task.advance(1, "" if own else f"{block} {name}")
    return table_of(context.store, context.teacher, losses, "nothing was trained; run: hant-opt shrink RUN --anew")
