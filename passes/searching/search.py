"""Choose one operation per block by a search that needs no scores, and keep the promise on the measured network.

The paper's way (``ilp``: every candidate scored alone, the sum of the scores minimised) says little of networks in
which many blocks are replaced, since errors act on each other; the linearised search looks at the networks themselves,
from the selection of least error on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, PassResult, Work
from ...transformer.data.images import size
from ...transformer.data.splits import split
from ..candidates.records import OperationRecord
from ..latency.measure import check_measured
from ..networks.supernet import Statistics
from ..selecting.records import SelectionRecord
from ..selecting.select import SelectPass, store_selections
from ..selecting.table import error_table
from ..selecting.weightings import stages, weighted
from .contest import Contest
from .linear import Linear, Trail, linear_search
from .linearise import TOP
from .propose import MOST
from .within import WithinBudget

Engine = Literal["errors", "linear", "ilp"]


@dataclass(frozen=True)
class SearchPass(WithinBudget):
    """Write K selections, the search's result first; its network has been measured inside the budget."""

    name: ClassVar[str] = "search"

    search: Engine = "linear"
    """``errors``: the integer program on pretraining's errors; ``linear``: from there on by linear steps; or ``ilp``:
    what the pass ``select`` does, which needs scores."""
    rounds: Count = 4
    """Linear steps at most."""
    images: Count = 120
    """Held-out training images to linearise on, other ones in each round."""
    race_images: Count = 600
    """Held-out training images to race proposals on, at most half of all; none of them is linearised on."""
    samples: Count = 6000
    """Held-out training images to take both from, at most."""
    batch_size: Count = 200
    statistics: Statistics = "batch"
    """What batch norms normalise by: ``batch`` is what training the student starts from; ``running`` is what it is run
    with where it is not trained at all."""

    def work(self, context: Context) -> Work:
        """Count the images of all rounds; of the proposals half drop out of the race in its middle."""
        if self.search != "linear":
            return Work()
        fitting = [record for record in context.store.all(OperationRecord).values() if record.fits]
        held_out = min(self.samples, size(split(context.dataset, context.seed).held_out))
        images, race = min(self.images, held_out), self.options.raced(held_out)
        macs: float = images * ((1 + TOP) * context.teacher.macs + sum(record.macs for record in fitting))
        macs += 0.75 * MOST * race * context.teacher.macs
        return Work(
            f"{self.rounds} rounds at most of {len(fitting)} candidates x {images} images "
            f"and {MOST} networks x {race} images",
            macs=self.rounds * macs,
        )

    def run(self, context: Context) -> PassResult:
        """Search, measure, correct the limit where the result is over the budget; then store the selections.

        Raises:
            UnverifiedError: the device is not here; the selections are stored, their latency is estimated.
        """
        if self.search == "linear":
            return super().run(context)
        if self.search == "ilp":
            return self._program.run(context)
        records, notes = self.select(context)
        store_selections(context, self.name, records)
        check_measured(context, "the best selection", records[0].choice)
        return PassResult(notes=(*notes, f"{len(records)} selections by the errors of pretraining"))

    def select(self, context: Context) -> tuple[list[SelectionRecord], tuple[str, ...]]:
        """Return the selections, the search's result first, and notes."""
        if self.search == "linear":
            return super().select(context)
        if self.search == "ilp":
            return self._program.select(context)
        table = error_table(context.store, context.teacher)
        return self._program.select(context, replace(table, loss=weighted(table.loss, stages(context.teacher))))

    @property
    def _program(self) -> SelectPass:
        return SelectPass(self.budget, self.solutions, self.max_overlap)

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
