"""The search as a pass, and as one baseline among others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ....transformer.contracts.context import Context
from ...latency.predict import predict
from ...pretraining.records import TrainedRecord
from ...ranking.judge import Judge
from ...selecting.records import SelectionRecord
from ...selecting.table import Floats, error_table
from ..base import BaselinePass, Found
from ..contest import Contest, Ints
from ..records import PrunetRecord
from ..within import Way, WithinBudget
from .drawing import draw, ways
from .loop import PrunetSearch
from .options import Prunet
from .outcome import Outcome, TrainedCandidates, exchanges, keep, outcome_of


@dataclass(frozen=True)
class Trained:
    """The way of a search that has trained its operations: its result is the best within the contest's limits."""

    outcome: Outcome
    choices: list[dict[str, str]]
    """The one network that it comes to within the limits."""

    @classmethod
    def within(cls, contest: Contest, outcome: Outcome) -> Trained:
        """Choose among what was trained."""
        return cls(outcome, [contest.table.choice(contest.best(outcome.rows))])

    @property
    def weights(self) -> TrainedCandidates:
        """What the search has trained, and the run's candidates where it has let them go."""
        return TrainedCandidates(self.outcome)

    @property
    def told(self) -> str:
        """What was left, and the time that it took."""
        search, left = self.outcome.search, self.outcome.preferred
        skipped = sum(name == "identity" for name in left.values())
        clock = search.state.clock
        return (
            f"loss {self.outcome.loss:.4f} after {search.steps} steps at price {clock.alpha:.3g}, {skipped} of "
            f"{len(left)} blocks skipped, {clock.runs:.0f} operations run in {clock.seconds:.0f} CPU-seconds"
        )

    def exchanges(self, choice: Ints) -> tuple[Floats, ...]:
        """Return for each block the loss with each of its operations, the others as in ``choice``, shape (M,)."""
        return exchanges(self.outcome, choice)


@dataclass(frozen=True)
class PrunetPass(Prunet, WithinBudget):
    """Train the operations together, choose among them, and write K selections with the weights that were trained."""

    name: ClassVar[str] = "prunet"

    def check(self, context: Context) -> None:
        """Refuse options that do not go together."""
        self.checked()

    def find(self, context: Context, contest: Contest) -> Trained:
        """Train within the limits of ``contest``, and choose."""
        return Trained.within(contest, trained(context, contest, self, self.name))

    def at(self, context: Context, alpha: float) -> tuple[dict[str, str], TrainedCandidates]:
        """Return the network that the search ends in at a price of latency, without any limit, and its weights."""
        table = error_table(context.store, context.teacher)
        contest = Contest(table, {"ms": table.total("ms", table.teacher())})
        outcome = trained(context, contest, replace(self, alpha=alpha), self.name)
        return outcome.preferred, TrainedCandidates(outcome)

    def again(self, context: Context, way: Way, contest: Contest) -> Way:
        """Choose anew among what was trained."""
        assert isinstance(way, Trained), "it is what find returned"
        return Trained.within(contest, way.outcome)

    def keep(self, context: Context, way: Way, records: Sequence[SelectionRecord]) -> None:
        """Keep the weights that were trained of the operations in the selections, and how the search went."""
        assert isinstance(way, Trained), "it is what find returned"
        if not self.scratch:
            keep(way.outcome, records)
        record = _record(context, way.outcome, str(self.budget))
        context.store.put("search", record)
        draw(context.store, record)

    def lost(self, context: Context) -> str:
        """Return which of the trained weights are missing."""
        gone = [
            key
            for key, record in context.store.all(TrainedRecord).items()
            if not context.store.path(record.file).is_file()
        ]
        return f"the weights that the search trained of {gone[0]} are missing" if gone else ""


def _record(context: Context, outcome: Outcome, budget: str) -> PrunetRecord:
    search = outcome.search
    clock, places = search.state.clock, search.supernet.places
    shares, middles = ways(outcome)
    return PrunetRecord(
        budget=budget,
        preferred=outcome.preferred,
        loss=outcome.loss,
        predicted_ms=predict(context.store, outcome.preferred),
        price=clock.alpha,
        left=tuple((places[layer].name, places[layer].told(choice), step) for layer, choice, step in search.state.left),
        steps=search.steps,
        runs=round(clock.runs),
        probabilities=shares,
        widths=middles,
        seconds=clock.seconds,
        recipe=search.recipe,
    )


def trained(context: Context, contest: Contest, options: Prunet, name: str) -> Outcome:
    """Search within the limits of ``contest``; one that was stopped goes on, one that is finished is only read."""
    search = PrunetSearch(context, contest, options)
    search.run(name)
    return outcome_of(search)


@dataclass(frozen=True)
class BaselinePrunetPass(Prunet, BaselinePass):
    """The same search among the others: what it finds is judged with the candidates as pretrained, like theirs."""

    name: ClassVar[str] = "baseline-prunet"

    def check(self, context: Context) -> None:
        """Refuse options that do not go together."""
        self.checked()

    def search(self, context: Context, contest: Contest, judge: Judge) -> Found:
        """Search on images that the judge does not see, then choose within the limits."""
        started = time.process_time()
        outcome = trained(context, contest, self, self.name)
        before = outcome.search.state.clock.seconds - (time.process_time() - started)
        return Found(contest.best(outcome.rows), 0, max(0.0, before))
